"""When a server is asked what its last session left behind, and that nothing else becomes of it."""

import logging

import pytest

from proxy.audit import PROBE
from proxy.pool import states
from proxy.pool.units import SECOND
from proxy.reasons import ServerClosed
from tests.support import messages as m
from tests.support.playbook import Playbook, fatal

OK = ("C X", "Z I")
ASKED = f"Q {PROBE.decode()}"
PLAIN = ("u u none", "public", "0", "0", "0", "0", "0")
WITH_PATH = ("u u none", "other", "0", "0", "0", "0", "0")
WITH_LOCK = ("u u none", "public", "0", "1", "0", "0", "0")


def answers(book: Playbook, *values: str, on: int = 1) -> None:
    """The server has been asked, and answers."""
    book.to_server(ASKED, on=on)
    book.server("T", m.data_row(values), "C SELECT 1", "Z I", on=on)


def audited(pool_mode: str = "transaction") -> Playbook:
    """A pool with one server, of which it is known what a fresh session has there."""
    book = Playbook(audit_release=True, pool_mode=pool_mode, server_check_delay=30)
    assert book.state() == "tested"
    answers(book, *PLAIN)
    assert book.state() == "idle"
    return book


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was warned of, without the prefix of the first server."""
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [line.removeprefix("S-0x1: app/alice@127.0.0.1:5432 ") for line in lines]


def test_nothing_is_asked_unless_it_is_wanted() -> None:
    book = Playbook()
    book.client("Q a")
    book.server(*OK)
    book.to_server("Q a")
    assert book.state() == "idle"


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_server_is_asked_at_each_release_before_the_next_client_has_it(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    book = audited(pool_mode=mode)
    book.enter("a", application_name="").session.user = "bob"
    book.client("Q a")
    book.client("Q b", by="b")
    book.to_server("Q a")
    book.server(*OK)
    book.to_client(*OK)
    assert book.state() == "tested"
    answers(book, *WITH_PATH)
    book.to_server("Q b")
    book.server(*OK)
    book.to_client(*OK, by="b")
    answers(book, *WITH_PATH)
    assert book.state() == "idle"
    assert told(caplog) == ["C-0x1 (user bob, application unnamed) left behind session state: search_path"]
    assert book.manager.stats_of("app").query_count == 2


def test_the_application_that_left_something_is_named_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    book = audited()
    book.client("Q a")
    book.to_server("Q a")
    book.server("S application_name=psql", *OK)
    answers(book, *WITH_LOCK)
    assert book.leaks.counts == {("advisory_lock", "psql"): 1}
    assert "application psql" in told(caplog)[0]


def test_in_session_mode_a_server_is_asked_after_it_was_reset(caplog: pytest.LogCaptureFixture) -> None:
    book = audited(pool_mode="session")
    book.client("Q a")
    book.server("S application_name=psql", *OK)
    book.client("Q b")
    book.server(*OK)
    book.to_server("Q a", "Q b")
    book.client_leaves()
    book.to_server("Q DISCARD ALL")
    book.server("S application_name=", "C DISCARD ALL", "Z I")
    answers(book, *WITH_LOCK)
    assert book.state() == "idle"
    assert told(caplog) == ["C-0x1 (user , application psql) left behind session state: advisory_lock"]


def test_what_the_pooler_undoes_by_itself_is_undone_before() -> None:
    book = audited()
    book.client("Q a")
    book.to_server("Q a")
    book.server("C LISTEN", "Z I")
    book.to_server("Q UNLISTEN *")
    book.server("C UNLISTEN", "Z I")
    answers(book, *PLAIN)
    assert book.state() == "idle"


def test_what_a_client_asked_for_at_login_is_no_leak(caplog: pytest.LogCaptureFixture) -> None:
    book = audited()
    book.enter("a", applied=((b"search_path", b"other"),))
    book.client("Q a")
    book.to_server("Q SELECT pg_catalog.set_config('search_path','other',false)")
    book.server(*OK)
    book.to_server("Q a")
    book.server(*OK)
    answers(book, *WITH_PATH)
    assert not told(caplog)


def test_a_cancel_is_waited_for_first() -> None:
    book = audited()
    book.client("Q a")
    book.cancel()
    book.to_server("Q a")
    book.server(*OK)
    assert book.state() == "being_canceled"
    book.cancel_over()
    answers(book, *PLAIN)
    assert book.state() == "idle"


def test_a_client_that_leaves_in_the_middle_is_judged_when_its_query_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    book = audited()
    book.client("Q a")
    book.client_leaves()
    book.to_server("Q a")
    book.cancel_over()
    book.server(*OK)
    answers(book, *WITH_LOCK)
    assert "C-0x1 " in told(caplog)[0]
    assert book.state() == "idle"


def test_it_may_be_switched_on_and_off_while_running(caplog: pytest.LogCaptureFixture) -> None:
    book = Playbook()
    book.client("Q a")
    book.pool.apply(book.pool.common.with_value("audit_release", "1"))
    book.to_server("Q a")
    book.server(*OK)
    answers(book, *WITH_PATH)
    book.client("Q a")
    book.to_server("Q a")
    book.server(*OK)
    answers(book, "u u none", "other", "0", "0", "0", "0", "1")
    assert [line.partition(": ")[2] for line in told(caplog)] == ["cursor"]
    book.pool.apply(book.pool.common.with_value("audit_release", "0"))
    book.client("Q a")
    book.server(*OK)
    book.to_server("Q a")
    assert book.state() == "idle"


def test_a_server_that_will_be_closed_is_not_asked() -> None:
    book = audited()
    book.client("Q a")
    book.now = book.server_at().expires_at
    book.server(*OK)
    book.to_server("Q a", "X")
    assert book.closed == [ServerClosed.LIFETIME]


def test_a_server_for_one_use_is_asked_when_it_is_new_and_still_used() -> None:
    book = Playbook(audit_release=True, server_lifetime=0, open=0)
    book.client("Q a")
    server = book.opens()
    server.expires_at = book.now
    answers(book, *PLAIN)
    book.to_server("Q a")


def test_a_test_of_a_server_that_nobody_had_is_no_release() -> None:
    book = audited()
    book.now += 31 * SECOND
    book.client("Q a")
    book.to_server("Q ")
    book.server("I", "Z I")
    book.to_server("Q a")


@pytest.mark.parametrize("reply", [("E 57014 too slow", "Z I"), ("T", "D x", "C SELECT 1", "Z I"), OK])
def test_without_an_answer_the_server_is_lent_all_the_same(
    reply: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    book = audited()
    book.client("Q a")
    book.server(*OK)
    book.to_server("Q a", ASKED)
    book.server(*reply)
    assert book.state() == "idle"
    assert told(caplog)[0].startswith("audit_release failed: ")


def test_a_new_server_without_an_answer_is_lent_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    book = Playbook(audit_release=True)
    book.server("E 57014 too slow", "Z I")
    assert book.state() == "idle"
    assert told(caplog) == ['audit_release failed: B 36 ErrorResponse V "ERROR" C "57014"']
    book.pool.move(book.server_at(), states.TESTED)
    book.pool.tested(book.server_at(), book.now)
    assert book.state() == "idle"


def test_a_server_that_goes_while_it_is_asked_costs_no_client_anything() -> None:
    book = audited()
    book.client("Q a")
    book.server(*OK)
    book.client("Q b", by="b")
    book.server(fatal("57P01", "bye"))
    book.server_closes()
    book.opens()
    answers(book, *PLAIN, on=2)
    book.to_server("Q b", on=2)
    assert not book.stage("b").ends

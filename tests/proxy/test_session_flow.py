"""Back-pressure: each direction is paused by itself, and by nobody for longer than need be."""

import pytest

from proxy.connection import Connection
from tests.support.playbook import Playbook

OK = ("C X", "Z I")


def full(connection: Connection) -> None:
    """The transport holds more than it should."""
    connection.pause_writing()


def drained(connection: Connection) -> None:
    connection.resume_writing()


def linked() -> Playbook:
    book = Playbook()
    book.client("Q a")
    return book


def test_a_slow_client_pauses_its_server_and_only_that() -> None:
    book = linked()
    full(book.stage().connection)
    assert not book.wire().reading
    assert book.stage().transport.reading
    drained(book.stage().connection)
    assert book.wire().reading


def test_a_slow_server_pauses_its_client_and_only_that() -> None:
    book = linked()
    full(book.server_at().connection)
    assert not book.stage().transport.reading
    assert book.wire().reading
    drained(book.server_at().connection)
    assert book.stage().transport.reading


def test_both_directions_may_be_paused_at_once() -> None:
    book = linked()
    full(book.stage().connection)
    full(book.server_at().connection)
    drained(book.stage().connection)
    assert book.wire().reading
    assert not book.stage().transport.reading
    drained(book.server_at().connection)
    assert book.stage().transport.reading


def test_a_server_released_to_a_slow_client_is_read_again() -> None:
    book = linked()
    book.server("T", "D " + "x" * 70_000)
    full(book.stage().connection)
    # What was received already is delivered once reading was paused.
    book.server("C SELECT 1", "Z I")
    assert book.state() == "idle"
    assert book.wire().reading
    drained(book.stage().connection)
    assert book.wire().reading


def test_a_slow_client_that_gets_a_server_has_it_paused_from_the_beginning() -> None:
    book = Playbook()
    book.enter("a")
    full(book.stage().connection)
    book.client("Q a")
    assert not book.wire().reading
    drained(book.stage().connection)
    assert book.wire().reading


def test_the_next_session_does_not_inherit_the_pause() -> None:
    book = linked()
    book.client("Q b", by="b")
    full(book.stage().connection)
    book.server(*OK)
    assert book.session("b").server is book.server_at()
    assert book.wire().reading


def test_a_client_paused_for_its_server_is_read_again_when_that_is_released() -> None:
    book = Playbook(pool_mode="session", server_reset_query="")
    book.client("Q a")
    full(book.server_at().connection)
    assert not book.stage().transport.reading
    book.server(*OK)
    book.client_leaves()
    book.client("Q b", by="b")
    assert book.stage("b").transport.reading


@pytest.mark.parametrize("pausing", ["server full", "held"])
def test_two_reasons_to_pause_a_client_end_one_by_one(pausing: str) -> None:
    book = Playbook()
    book.client("Q a")
    book.client("Q b", by="b")
    book.client("Q " + "x" * 70_000, by="b")
    assert not book.stage("b").transport.reading
    if pausing == "server full":
        full(book.server_at().connection)
        book.server_at().connection.paused_since = 0
        assert not book.stage().transport.reading
    book.server(*OK)
    assert book.stage("b").transport.reading
    assert book.stage().transport.reading


def test_a_server_that_is_full_at_its_release_is_not_clean() -> None:
    book = linked()
    full(book.server_at().connection)
    book.wire().unsent = 70_000
    book.server(*OK)
    assert book.state() == "closing"
    assert book.stage().transport.reading


def test_an_abandoned_server_is_read_to_the_end_of_its_reply() -> None:
    book = linked()
    full(book.stage().connection)
    book.client_leaves()
    assert book.wire().reading
    book.cancel_over()
    book.server(*OK)
    assert book.state() == "idle"


def test_a_closing_server_is_read_to_its_end() -> None:
    book = Playbook()
    book.client("Q begin")
    book.server("C BEGIN", "Z T")
    full(book.stage().connection)
    assert not book.wire().reading
    book.client_leaves()
    assert book.state() == "closing"
    assert book.wire().reading


def test_the_time_for_which_a_client_takes_nothing_is_known() -> None:
    book = linked()
    assert book.session().unable_to_write_since() == 0
    full(book.stage().connection)
    assert book.session().unable_to_write_since() > 0
    drained(book.stage().connection)
    assert book.session().unable_to_write_since() == 0


def test_pausing_and_resuming_without_a_server_is_nothing() -> None:
    book = Playbook()
    book.enter("a")
    full(book.stage().connection)
    drained(book.stage().connection)
    assert book.stage().transport.reading

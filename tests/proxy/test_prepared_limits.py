"""Limits on what clients may have prepared: error 53400, which names the setting, and no more than that."""

from typing import Any

import pytest

from protocol.looks import NAMED_MOST
from proxy.pool.statements import OVERHEAD
from tests.support import messages as m
from tests.support.named import prepare, run, taken, unknown, use
from tests.support.playbook import Playbook

FAILING = "p howdah_0 howdah"
"""A Parse that PostgreSQL refuses, sent for one that is one too many."""
SYNTAX = 'E 42601 syntax error at or near "howdah"'
ONE = OVERHEAD + len("x") + len("select 1\0\0\0")
"""Bytes that are counted for a client's statement."""
SHARED = OVERHEAD + len("select 1\0\0\0")
"""Bytes that are counted for its text."""


def too_many(setting: str) -> str:
    return f"E 53400 too many prepared statements (see {setting})"


def limited(setting: str, value: int) -> Playbook:
    settings: dict[str, Any] = {setting: value}
    return Playbook(**settings)


def refused(book: Playbook, said: str, setting: str, *, by: str = "a") -> None:
    """A Parse is answered by error 53400."""
    book.client(said, "S", by=by)
    book.to_server(FAILING, "S")
    book.server(SYNTAX, "Z I")
    book.to_client(too_many(setting), "Z I", by=by)


@pytest.mark.parametrize(
    ("setting", "value"), [("max_client_prepared_statements", 1), ("max_client_prepared_bytes", 2 * ONE - 1)]
)
def test_a_client_may_have_so_much_prepared_and_no_more(setting: str, value: int) -> None:
    book = limited(setting, value)
    prepare(book)
    refused(book, "p y select 1", setting)
    refused(book, "p y select 2", setting)
    use(book)
    assert not book.stage().ends
    book.client("C x", "p y select 1", "S")
    book.to_server("C x", FAILING, "S")
    book.server("3", SYNTAX, "Z I")
    book.to_client("3", too_many(setting), "Z I")
    book.client("p y select 1", "S")
    book.to_server("C howdah_0", "S")
    book.server("3", "Z I")
    book.to_client("1", "Z I")
    use(book, "y")


def test_the_limit_of_one_client_is_not_another_s() -> None:
    book = Playbook(max_client_prepared_statements=1)
    prepare(book)
    prepare(book, "y", "select 2", at="howdah_2", by="b")
    refused(book, "p y select 3", "max_client_prepared_statements")


@pytest.mark.parametrize(
    ("setting", "value"), [("max_shared_statements", 1), ("max_shared_statement_bytes", 2 * SHARED - 1)]
)
def test_all_clients_may_have_so_many_texts_and_no_more(setting: str, value: int) -> None:
    book = limited(setting, value)
    prepare(book)
    refused(book, "p y select 2", "max_shared_statements or max_shared_statement_bytes", by="b")
    book.client("p y select 1", "S", by="b")
    book.to_server("C howdah_0", "S")
    book.server("3", "Z I")
    book.to_client("1", "Z I", by="b")


def test_a_text_nobody_has_a_name_for_makes_room() -> None:
    book = Playbook(max_shared_statements=1)
    prepare(book)
    run(book, "deallocate all", "DEALLOCATE ALL", by="a")
    prepare(book, "y", "select 2", at="howdah_2", by="b")


@pytest.mark.parametrize(
    "setting",
    [
        "max_client_prepared_statements",
        "max_client_prepared_bytes",
        "max_shared_statements",
        "max_shared_statement_bytes",
        "max_server_prepared_bytes",
    ],
)
def test_a_limit_of_0_is_none(setting: str) -> None:
    book = limited(setting, 0)
    for number in range(1, 50):
        prepare(book, f"x{number}", f"select {number}", at=f"howdah_{number}")


def test_a_limit_that_is_changed_holds_at_once() -> None:
    book = Playbook()
    prepare(book)
    book.manager.apply(book.settings.model_copy(update={"max_client_prepared_statements": 1}))
    refused(book, "p y select 2", "max_client_prepared_statements")
    book.manager.apply(book.settings)
    prepare(book, "y", "select 2", at="howdah_2")


def test_what_follows_in_the_group_is_discarded_as_after_any_error() -> None:
    book = Playbook(max_client_prepared_statements=1)
    prepare(book)
    book.client("p y select 2", "B y", "E", "S", "B y", "S")
    book.to_server(FAILING, "B howdah_0", "E", "S", "B howdah_0", "S")
    book.server(SYNTAX, "Z I", unknown("howdah_0"), "Z I")
    setting = "max_client_prepared_statements"
    book.to_client(too_many(setting), "Z I", unknown("y"), "Z I")
    assert book.state() == "idle"


def test_a_name_that_is_taken_is_that_also_at_the_limit() -> None:
    book = Playbook(max_client_prepared_statements=1)
    prepare(book)
    book.client("p x select 2", "S")
    book.to_server("p howdah_1 select 2", "S")
    book.server(taken("howdah_1"), "Z I")
    book.to_client(taken("x"), "Z I")


def test_an_error_that_is_not_all_there_passes() -> None:
    book = Playbook(max_client_prepared_statements=1)
    prepare(book)
    book.client("p y select 2", "S")
    error = m.error_response("42601", "x" * 5000)
    book.server(error[:3000])
    book.server(error[3000:], "Z I")
    book.to_client(error, "Z I")


@pytest.mark.parametrize("ready", ["I", "T"])
def test_a_text_of_more_than_anybody_writes_is_refused_and_its_rest_dropped(ready: str) -> None:
    book = Playbook()
    run(book, "x", "X", by="a", ready=ready)
    parse = m.parse("x", "y" * NAMED_MOST)
    step = 4 << 20
    for at in range(0, len(parse), step):
        book.client(parse[at : at + step])
    book.client("S", "Q next")
    book.to_server(FAILING, "S", "Q next")
    book.server(SYNTAX, f"Z {ready}", "C NEXT", f"Z {ready}")
    book.to_client(too_many("max_client_prepared_bytes"), f"Z {ready}", "C NEXT", f"Z {ready}")
    assert book.pool.statements.size == 0


def test_the_rest_of_a_refused_text_is_dropped_in_however_many_pieces_it_waited() -> None:
    book = Playbook()
    book.enter("a", timezone="Asia/Tokyo")
    parse = m.parse("x", "y" * NAMED_MOST)
    step = 4 << 20
    for at in range(0, len(parse), step):
        book.client(parse[at : at + step])
    book.client("S", "Q next")
    book.to_server("Q SET TimeZone='Asia/Tokyo'")
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I")
    book.to_server(FAILING, "S", "Q next")


def test_a_name_that_is_too_long_to_have_an_end_is_refused_too() -> None:
    book = Playbook()
    parse = m.parse("x" * 40_000, "y" * NAMED_MOST)
    book.client(parse[:20_000])
    book.to_server(FAILING)
    book.client(parse[20_000:], "S")
    book.to_server("S")
    book.server(SYNTAX, "Z I")
    book.to_client(too_many("max_client_prepared_bytes"), "Z I")


def test_the_rest_of_a_refused_text_may_come_behind_its_error() -> None:
    book = Playbook()
    parse = m.parse("x", "y" * NAMED_MOST)
    book.client(parse[:20_000])
    book.to_server(FAILING)
    book.server(SYNTAX)
    book.to_client(too_many("max_client_prepared_bytes"))
    book.client(parse[20_000:], "S")
    book.to_server("S")
    book.server("Z I")
    book.to_client("Z I")
    assert book.state() == "idle"

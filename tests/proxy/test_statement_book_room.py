"""Above its limits a server has the least recently used statements closed, between transactions only."""

from typing import Any

import pytest

from proxy.pool import states
from proxy.pool.statements import OVERHEAD
from tests.support.named import NOTHING, give_back, prepare, run, take, two_servers, use
from tests.support.playbook import Playbook

ROW = ("2", "D 1", "C SELECT 1")
ONE = OVERHEAD + len("select 1\0\0\0")
LIMITS: list[dict[str, Any]] = [{"max_prepared_statements": 2}, {"max_server_prepared_bytes": 3 * ONE - 1}]


def later(book: Playbook) -> None:
    book.now += 1000


def crowded(**settings: Any) -> Playbook:
    """The only server has `x1` and `x3`, and is to close `x2`, which was used before them."""
    book = Playbook(**settings)
    prepare(book, "x1", "select 1")
    later(book)
    prepare(book, "x2", "select 2", at="howdah_2")
    later(book)
    use(book, "x1")
    later(book)
    prepare(book, "x3", "select 3", at="howdah_3")
    later(book)
    return book


@pytest.mark.parametrize("settings", LIMITS)
def test_the_least_recently_used_is_closed_ahead_of_the_next_transaction(settings: dict[str, Any]) -> None:
    book = crowded(**settings)
    book.client("B x1", "E", "S")
    book.to_server("C howdah_2", "B howdah_1", "E", "S")
    book.server("3", *ROW, "Z I")
    book.to_client(*ROW, "Z I")
    use(book, "x3", at="howdah_3")
    assert book.pool.statements.evicted == 1


@pytest.mark.parametrize("settings", LIMITS)
def test_a_statement_that_was_closed_is_prepared_again(settings: dict[str, Any]) -> None:
    book = crowded(**settings)
    book.client("B x2", "E", "S")
    book.to_server("C howdah_2", "p howdah_4 select 2", "B howdah_4", "E", "S")
    book.server("3", "1", *ROW, "Z I")
    book.to_client(*ROW, "Z I")
    later(book)
    book.client("B x3", "S")
    book.to_server("C howdah_1", "B howdah_3", "S")
    book.server("3", "2", "Z I")
    book.to_client("2", "Z I")


def test_a_simple_query_comes_behind_the_close_too() -> None:
    book = crowded(max_prepared_statements=2)
    book.client("Q x", by="b")
    book.to_server("C howdah_2", "Q x")
    book.server("3", "C X", "Z I")
    book.to_client("C X", "Z I", by="b")


def test_nothing_is_closed_within_a_transaction() -> None:
    book = Playbook(max_prepared_statements=1)
    take(book, by="a")
    for number in range(1, 5):
        name = f"howdah_{number}"
        book.client(f"p x{number} select {number}", f"B x{number}", "S")
        book.to_server(f"p {name} select {number}", f"s {name}", f"B {name}", "S")
        book.server("1", "t", "T", "2", "Z T")
        book.to_client("1", "2", "Z T")
        later(book)
    for number in range(1, 5):
        book.client(f"B x{number}", "S")
        book.to_server(f"B howdah_{number}", "S")
        book.server("2", "Z T")
        book.to_client("2", "Z T")
        later(book)
    give_back(book, by="a")
    book.client("Q x")
    book.to_server("C howdah_1", "C howdah_2", "C howdah_3", "Q x")
    book.server("3", "3", "3", "C X", "Z I")
    book.to_client("C X", "Z I")
    use(book, "x4", at="howdah_4")


def test_nothing_is_closed_while_something_is_owed() -> None:
    book = Playbook(max_prepared_statements=1)
    book.client("p x1 select 1", "p x2 select 2", "S", "p x3 select 3", "S")
    book.wire().take()
    book.client("B x1", "S")
    book.to_server()
    book.server("1", "t", "T", "1", "t", "T")
    book.to_server("B howdah_1", "S")


def test_a_close_that_was_not_executed_is_sent_again() -> None:
    book = crowded(max_prepared_statements=2)
    book.client("B x1", "E", "S")
    book.to_server("C howdah_2", "B howdah_1", "E", "S")
    book.server("E 57014 canceled", "Z I")
    book.to_client("E 57014 canceled", "Z I")
    book.client("B x1", "E", "S")
    book.to_server("C howdah_2", "B howdah_1", "E", "S")
    book.server("3", *ROW, "Z I")
    book.to_client(*ROW, "Z I")
    use(book, "x1")


def test_the_reply_to_the_close_is_seen_by_nobody_wherever_it_ends() -> None:
    book = crowded(max_prepared_statements=2)
    book.client("B x1", "H")
    book.to_server("C howdah_2", "B howdah_1", "H")
    book.server("3")
    book.to_client()
    book.server("2")
    book.to_client("2")


def test_a_client_that_waited_meets_the_close_too() -> None:
    book = crowded(max_prepared_statements=2)
    book.client("p x4 select 4", "S")
    book.to_server("C howdah_2", "p howdah_4 select 4", "s howdah_4", "S")
    book.client("p y select 4", "S", by="b")
    later(book)
    book.server("3", "1", "t", "T", "Z I")
    book.to_server("C howdah_1", NOTHING, "S")
    book.server("3", "3", "Z I")
    book.to_client("1", "Z I", by="b")


def test_every_server_has_room_of_its_own() -> None:
    book = two_servers(max_prepared_statements=1)
    prepare(book, "x1", "select 1")
    take(book)
    book.client("p x2 select 2", "S")
    book.opens()
    book.to_server("p howdah_2 select 2", "s howdah_2", "S", on=2)
    book.server("1", "t", "T", "Z I", on=2)
    book.to_client("1", "Z I")
    use(book, "x2", at="howdah_2", on=2)
    give_back(book)
    assert [len(book.server_at(on).statements) for on in (1, 2)] == [1, 1]


def test_a_limit_that_is_lowered_holds_when_the_next_statement_comes() -> None:
    book = Playbook()
    for number in range(1, 4):
        prepare(book, f"x{number}", f"select {number}", at=f"howdah_{number}")
        later(book)
    book.manager.apply(book.settings.model_copy(update={"max_prepared_statements": 1}))
    prepare(book, "x4", "select 4", at="howdah_4")
    book.client("Q x")
    book.to_server("C howdah_1", "C howdah_2", "C howdah_3", "Q x")


def test_a_limit_that_is_raised_spares_what_was_to_be_closed() -> None:
    book = crowded(max_prepared_statements=2)
    book.manager.apply(book.settings.model_copy(update={"max_prepared_statements": 3}))
    use(book, "x2", at="howdah_2")


# Queries of ours.


@pytest.mark.parametrize(("reset", "known"), [("DISCARD ALL", False), ("select reset()", False), ("", True)])
def test_after_a_reset_by_us_nothing_is_taken_for_prepared(reset: str, known: bool) -> None:
    book = Playbook(server_reset_query=reset, server_reset_query_always=1)
    book.client("p x select 1", "S")
    book.server("1", "t", "T", "Z I")
    book.to_server("p howdah_1 select 1", "s howdah_1", "S", *((f"Q {reset}",) if reset else ()))
    if reset:
        assert book.state() == states.SERVER_STATES[states.TESTED]
        book.server("C X", "Z I")
    book.client("B x", "S")
    book.to_server(*("B howdah_1",) if known else ("C howdah_1", "p howdah_2 select 1", "B howdah_2"), "S")


def test_a_server_that_is_only_checked_keeps_what_it_has() -> None:
    book = Playbook()
    prepare(book)
    server = book.server_at()
    book.pool.move(server, states.TESTED)
    server.check("<empty>", book.now)
    book.to_server("Q ")
    book.server("I", "Z I")
    run(book, "x", "X", by="b")
    use(book)

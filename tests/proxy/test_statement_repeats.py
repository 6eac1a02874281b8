"""A text is parsed again under the settings of its first Parse, ahead of the group that needs it or in it."""

import pytest

from proxy.pool.parameters import TRACKED, Values
from proxy.reasons import ServerClosed
from proxy.statement_settings import changed, restored
from tests.support import messages as m
from tests.support.named import (
    TOKYO,
    elsewhere,
    give_back,
    moved_to_tokyo,
    prepare,
    take,
    texts,
    two_servers,
    use,
)
from tests.support.playbook import Playbook, fatal

ROW = ("2", "D 1", "C SELECT 1")
SET = ("1", "2", "C SELECT 0")
"""Replies to a change of settings of ours."""
UTC = (b"UTF8", b"ISO, MDY", b"UTC", b"on", None, b"postgres")
TOKYO_VALUES = (*UTC[:2], b"Asia/Tokyo", *UTC[3:])
NAMES = (*(name.encode() for name in TRACKED), b"IntervalStyle")


def execute(name: str, text: bytes) -> bytes:
    """A statement of ours in the middle of a client's group of messages."""
    return m.parse(name, text.decode()) + m.bind(name, name) + m.execute(name)


def there(name: str, have: Values | None = TOKYO_VALUES) -> bytes:
    """Settings are changed for a Parse; `have` is what is known of them."""
    return execute(name, changed(NAMES, have, UTC))


def back(name: str, have: Values | None = TOKYO_VALUES) -> bytes:
    """And given back."""
    return execute(name, restored(NAMES, have, UTC))


def apart(name: str) -> bytes:
    """They are changed in a transaction of ours."""
    return execute(name, changed(NAMES, None, UTC, kept=False))


def tokyo() -> Playbook:
    """The first server has `x`, which was parsed under UTC; the client has moved to Tokyo and is lent the
    second server.
    """
    book = two_servers()
    prepare(book)
    elsewhere(book)
    moved_to_tokyo(book)
    return book


# Ahead of the group that needs it.


@pytest.mark.parametrize("group", [("B x", "E", "S"), ("s x", "S"), ("P y", "B", "E", "B x", "E", "S")])
def test_a_text_is_parsed_again_as_it_was_in_a_transaction_of_its_own(
    group: tuple[str, ...],
) -> None:
    book = tokyo()
    book.client(*group)
    book.to_server(apart("howdah_2"), "p howdah_3 select 1", "S", on=2)
    book.server(*SET, "1", "Z I", on=2)
    book.to_client()
    sent = [message.replace(" x", " howdah_3") for message in group]
    book.to_server("C howdah_2", *sent, on=2)
    assert texts(book) == [(b"UTC", 1)]


def test_such_a_transaction_is_for_all_that_a_group_calls_and_for_that_once() -> None:
    book = two_servers()
    prepare(book)
    prepare(book, "y", "select 2", at="howdah_2")
    elsewhere(book)
    moved_to_tokyo(book)
    book.client("B x", "B y", "B x", "S", "B x", "S")
    first = (apart("howdah_3"), "p howdah_4 select 1")
    book.to_server(*first, apart("howdah_5"), "p howdah_6 select 2", "S", on=2)
    book.server(*SET, "1", *SET, "1", "Z I", on=2)
    closed = ("C howdah_3", "C howdah_5")
    book.to_server(*closed, "B howdah_4", "B howdah_6", "B howdah_4", "S", "B howdah_4", "S", on=2)
    book.server("3", "3", "2", "2", "2", "Z I", "2", "Z I", on=2)
    book.to_client("2", "2", "2", "Z I", "2", "Z I")


def test_what_comes_meanwhile_waits_behind_the_group() -> None:
    book = tokyo()
    book.client("B x")
    book.client("H")
    book.client("E", "S")
    book.to_server(apart("howdah_2"), "p howdah_3 select 1", "S", on=2)
    book.server(*SET, "1", on=2)
    book.server("Z I", on=2)
    book.to_server("C howdah_2", "B howdah_3", "H", "E", "S", on=2)
    book.server("3", *ROW, "Z I", on=2)
    book.to_client(*ROW, "Z I")


def test_what_fails_in_it_is_tried_again_where_it_is_needed() -> None:
    """There it may be possible by then; if not, the client is told at the right moment."""
    book = tokyo()
    book.client("P create", "B", "E", "B x", "S")
    book.to_server(apart("howdah_2"), "p howdah_3 select 1", "S", on=2)
    book.server(*SET, "E 42P01 no such table", "Z I", on=2)
    book.to_client()
    repeated = there("howdah_4", None), "p howdah_5 select 1", back("howdah_6", None)
    book.to_server("C howdah_2", "P create", "B", "E", *repeated, "B howdah_5", "S", on=2)
    book.server("3", "1", "2", "C CREATE TABLE", *SET, "1", *SET, "2", "Z I", on=2)
    book.to_client("1", "2", "C CREATE TABLE", "2", "Z I")


def test_the_last_word_of_a_server_is_passed_on_in_the_middle_of_it() -> None:
    book = tokyo()
    book.client("B x", "S")
    book.server(*SET, fatal("57P01", "terminating"), on=2)
    book.server_closes(2)
    book.to_client(fatal("57P01", "terminating"))


def test_an_error_in_it_that_is_too_long_to_be_kept_back_costs_the_server() -> None:
    book = tokyo()
    book.client("B x", "S")
    error = m.error_response("42601", "x" * 200_000)
    book.server(*SET, error[:150_000], on=2)
    assert book.server_at(2).close_reason is ServerClosed.PROTOCOL


@pytest.mark.parametrize("before", ["Q x", "S", "F"])
def test_what_needs_other_settings_waits_for_the_groups_before_it(before: str) -> None:
    replies = {"Q x": ("C X", "Z I"), "S": ("Z I",), "F": ("V", "Z I")}[before]
    book = tokyo()
    book.client(before, "B x", "S")
    book.to_server(before, on=2)
    book.server(*replies, on=2)
    book.to_server(apart("howdah_2"), "p howdah_3 select 1", "S", on=2)


def test_one_look_is_enough_where_all_was_parsed_under_the_settings_that_are() -> None:
    book = Playbook()
    prepare(book)
    prepare(book, "y", "select 2", at="howdah_2")
    use(book)
    prepared, server = book.session().prepared, book.server_at(1)
    assert prepared is not None
    assert prepared.seen is server.values


# Within the group.


def test_in_a_transaction_settings_are_changed_and_given_back() -> None:
    """For the transaction only: it may have been the client that changed them for the transaction only."""
    book = tokyo()
    take(book, by="a", on=2)
    book.client("B x", "E", "S")
    repeated = there("howdah_2"), "p howdah_3 select 1", back("howdah_4")
    book.to_server(*repeated, "B howdah_3", "E", "S", on=2)
    book.server(*SET, "1", *SET, *ROW, "Z T", on=2)
    book.to_client(*ROW, "Z T")
    give_back(book, by="a", on=2)
    book.client("B x", "S")
    book.to_server("C howdah_2", "C howdah_4", "B howdah_3", "S", on=2)
    assert texts(book) == [(b"UTC", 1)]


@pytest.mark.parametrize("split", [True, False])
def test_what_is_executed_may_change_settings_so_that_all_are_set(split: bool) -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("P set timezone to tokyo", "B", "E", *(("H",) if split else ("B x", "S")))
    if split:
        book.server("1", "2", "C SET", on=2)
        book.client("B x", "S")
    repeated = there("howdah_2", None), "p howdah_3 select 1", back("howdah_4", None)
    head = ("P set timezone to tokyo", "B", "E", *(("H",) if split else ()))
    book.to_server(*head, *repeated, "B howdah_3", "S", on=2)
    book.server(*(() if split else ("1", "2", "C SET")), *SET, "1", *SET, "2", TOKYO, "Z I", on=2)
    book.to_client("1", "2", "C SET", "2", TOKYO, "Z I")
    assert texts(book) == [(b"UTC", 1)]


@pytest.mark.parametrize("sent", ["Q x", "F"])
@pytest.mark.parametrize("early", [True, False])
def test_a_query_is_not_in_a_transaction_that_only_we_have_begun(sent: str, early: bool) -> None:
    """It would be told that it is in one, and at the next Sync PostgreSQL would lose it."""
    book = tokyo()
    book.client("P y", "H")
    book.server("1", on=2)
    book.client("B x", *((sent,) if early else ("H",)))
    repeated = there("howdah_2"), "p howdah_3 select 1", back("howdah_4")
    book.to_server("P y", "H", *repeated, "B howdah_3", "H", on=2)
    book.server(*SET, "1", *SET, "2", on=2)
    if not early:
        book.client(sent)
    book.to_server("S", sent, on=2)
    reply = "C X" if sent == "Q x" else "V"
    book.server("Z I", reply, "Z I", on=2)
    book.to_client("1", "2", reply, "Z I")
    assert not book.server_at(2).closing


def test_a_query_behind_what_the_client_has_executed_itself_is_left_where_it_is() -> None:
    book = tokyo()
    book.client("P y", "B", "E", "H")
    book.server("1", "2", "C Y", on=2)
    book.client("B x", "Q x")
    repeated = there("howdah_2", None), "p howdah_3 select 1", back("howdah_4", None)
    book.to_server("P y", "B", "E", "H", *repeated, "B howdah_3", "Q x", on=2)


def test_in_a_failed_transaction_no_settings_are_changed() -> None:
    book = tokyo()
    book.client("Q begin", "Q bad")
    book.server("C BEGIN", "Z T", "E 42601 bad", "Z E", on=2)
    book.wire(2).take()
    book.client("B x", "S")
    book.to_server("p howdah_2 select 1", "B howdah_2", "S", on=2)

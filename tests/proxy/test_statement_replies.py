"""Errors about statements: in the client's words, and unseen where a group can be sent once more."""

import pytest

from proxy.reasons import ClientClosed, ServerClosed
from tests.support import messages as m
from tests.support.named import STALE, elsewhere, prepare, run, take, two_servers, unknown, use
from tests.support.playbook import Playbook, from_backend

ROW = ("2", "D 1", "C SELECT 1")
GONE = unknown("howdah_1")
CALL = ("B x", "E", "S")
CALLED = ("B howdah_1", "E", "S")
ANEW = ("p howdah_2 select 1", "B howdah_2", "E", "S")
FRESH = ("p howdah_2 select 1", "s howdah_2")
"""A text of which nobody knows yet what its rows look like."""
OTHER_WORDS = m.error_response("0A000", "cached plan must not change result type")
LOOKUP = m.error_response("XX000", "cache lookup failed for type 16400")
NO_TYPE = m.error_response("42704", "type with OID 16400 does not exist")


def prepared() -> Playbook:
    book = Playbook()
    prepare(book)
    return book


# In the client's words.


@pytest.mark.parametrize("name", ["x", "a" * 63, "größe", 'with "quotes"'])
def test_an_error_has_the_client_s_name_in_it(name: str) -> None:
    book = Playbook()
    book.client(m.bind("", name), "S")
    book.server(unknown("howdah_0"), "Z I")
    book.to_client(unknown(name), "Z I")


def test_an_error_without_a_name_of_ours_passes_as_it_came() -> None:
    book = prepared()
    book.client(*CALL)
    received = book.server("E 08P01 bind message supplies 0 parameters", "Z I")
    assert book.stage().transport.parts[-1] == [received]


def test_a_long_error_has_the_client_s_name_where_its_message_is() -> None:
    book = Playbook()
    book.client("B x", "S")
    text = 'prepared statement "{}" does not exist' + " " * 5000
    error = m.error_response("26000", text.format("howdah_0"))
    for at in range(0, len(error), 2100):
        book.server(error[at : at + 2100])
    book.server("Z I")
    book.to_client(m.error_response("26000", text.format("x")), "Z I")


def test_words_of_others_that_look_like_a_name_of_ours_are_left_alone() -> None:
    book = prepared()
    text = 'E 42P01 relation "howdah_1" does not exist'
    book.client("Q select * from howdah_1")
    book.server(text, "Z I")
    book.to_client(text, "Z I")


# A statement of ours that is not where it should be.


def test_a_statement_that_is_missing_is_prepared_and_the_group_sent_once_more() -> None:
    book = prepared()
    book.client(*CALL)
    book.to_server(*CALLED)
    book.server(GONE)
    book.to_server()
    book.server("Z I")
    book.to_client()
    book.to_server(*ANEW)
    book.server("1", *ROW, "Z I")
    book.to_client(*ROW, "Z I")
    assert book.state() == "idle"
    use(book, at="howdah_2")


def test_error_and_ready_may_come_in_any_pieces() -> None:
    replies = from_backend(GONE, "Z I")
    for cut in range(1, len(replies)):
        book = prepared()
        book.client(*CALL)
        book.server(replies[:cut])
        book.server(replies[cut:])
        book.to_server(*CALLED, *ANEW)
        book.to_client()


def test_what_the_client_sends_meanwhile_comes_behind_the_group() -> None:
    book = prepared()
    book.client(*CALL)
    book.to_server(*CALLED)
    book.server(GONE)
    book.client("B x", "S")
    book.client("Q last")
    book.to_server()
    book.server("Z I")
    book.to_server(*ANEW)
    book.server("1", *ROW, "Z I")
    book.to_server("B howdah_2", "S", "Q last")
    book.server("2", "Z I", "C LAST", "Z I")
    book.to_client(*ROW, "Z I", "2", "Z I", "C LAST", "Z I")
    assert book.state() == "idle"


def test_a_group_is_sent_once_more_and_not_a_third_time() -> None:
    book = prepared()
    book.client(*CALL)
    book.server(GONE, "Z I")
    book.to_server(*CALLED, *ANEW)
    book.server("1", unknown("howdah_2"), "Z I")
    book.to_client(unknown("x"), "Z I")
    book.client(*CALL)
    book.to_server("p howdah_3 select 1", "B howdah_3", "E", "S")


def test_requests_of_ours_ahead_of_the_group_do_not_count() -> None:
    book = Playbook(max_prepared_statements=1)
    prepare(book, "y", "select 2")
    prepare(book, at="howdah_2")
    book.client(*CALL)
    book.to_server("C howdah_1", "B howdah_2", "E", "S")
    book.server("3", unknown("howdah_2"), "Z I")
    book.to_client()
    book.to_server("p howdah_3 select 1", "B howdah_3", "E", "S")


def test_a_statement_of_ours_may_be_missing_that_was_sent_just_before() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client(*CALL)
    book.server("1", unknown("howdah_2"), "Z I", on=2)
    book.to_client()
    book.to_server(*ANEW, "p howdah_3 select 1", "B howdah_3", "E", "S", on=2)


def test_a_server_may_be_lost_before_the_group_is_sent_once_more() -> None:
    book = prepared()
    book.client(*CALL)
    book.server(GONE)
    book.server_closes()
    book.error_to_client("08006", "server conn crashed?")


@pytest.mark.parametrize("too_much", [("Z I", "N odd"), ("Z T",), ("Z E",), ("Z I", "Z I")])
def test_a_server_that_says_anything_else_behind_the_error_ends_its_client(too_much: tuple[str, ...]) -> None:
    book = prepared()
    book.client(*CALL)
    book.server(GONE, *too_much)
    assert book.closed == [ServerClosed.PROTOCOL]
    assert book.stage().ends == [ClientClosed.SERVER_LOST]


def test_a_client_that_leaves_before_the_group_is_sent_once_more_is_forgotten() -> None:
    book = prepared()
    book.client(*CALL)
    book.server(GONE)
    book.client_leaves()
    book.server("Z I")
    book.cancel_over()
    assert book.state() == "idle"
    book.to_server(*CALLED)


# A plan that no longer fits.


@pytest.mark.parametrize("error", [STALE, OTHER_WORDS])
@pytest.mark.parametrize("describe", ["s x", "D"])
def test_a_group_that_asks_what_its_rows_look_like_is_sent_once_more(describe: str, error: bytes) -> None:
    book = prepared()
    book.client("B x", describe, "E", "S")
    book.to_server("B howdah_1", describe.replace("x", "howdah_1"), "E", "S")
    book.server(error, "Z I")
    book.to_client()
    book.to_server(*FRESH, "B howdah_2", describe.replace("x", "howdah_2"), "E", "S")
    replies = "2", "T", "D 1", "C SELECT 1", "Z I"
    book.server("1", "t", "T", *replies)
    book.to_client(*replies)
    use(book, at="howdah_2")


@pytest.mark.parametrize("error", [STALE, OTHER_WORDS, LOOKUP, NO_TYPE])
def test_who_does_not_ask_is_told_and_finds_a_fresh_plan_the_next_time(error: bytes) -> None:
    book = prepared()
    book.client(*CALL)
    book.server(error, "Z I")
    book.to_server(*CALLED)
    book.to_client(error, "Z I")
    book.client(*CALL)
    book.to_server(*FRESH, "B howdah_2", "E", "S")
    book.server("1", "t", "T", *ROW, "Z I")
    book.to_client(*ROW, "Z I")


@pytest.mark.parametrize("error", [LOOKUP, NO_TYPE])
def test_an_error_that_only_hints_at_the_plan_is_never_hidden(error: bytes) -> None:
    book = prepared()
    book.client("B x", "D", "E", "S")
    book.server(error, "Z I")
    book.to_client(error, "Z I")


def test_every_client_is_told_of_its_own_plan() -> None:
    book = prepared()
    book.client("p y select 1", "S", by="b")
    book.server("3", "Z I")
    book.client(*CALL)
    book.server(STALE, "Z I")
    book.client(*CALL)
    book.server("1", "t", "T", *ROW, "Z I")
    book.wire().take()
    book.to_client("1", "Z I", by="b")
    book.client("B y", "E", "S", by="b")
    book.to_server("B howdah_1", "E", "S")
    book.server(STALE, "Z I")
    book.to_client(STALE, "Z I", by="b")
    use(book, "y", at="howdah_2", by="b")


def test_who_prepares_after_such_an_error_gets_a_fresh_plan() -> None:
    book = prepared()
    book.client(*CALL)
    book.server(STALE, "Z I")
    book.wire().take()
    prepare(book, "y", at="howdah_2", by="b")


@pytest.mark.parametrize(
    "error",
    [
        m.error_response("0A000", "cross-database references are not implemented"),
        m.error_response("XX000", "something else"),
        m.error_response("42704", 'type "t" does not exist'),
        m.error_response("22012", "division by zero"),
    ],
)
def test_other_errors_say_nothing_about_the_plan(error: bytes) -> None:
    book = prepared()
    book.client("B x", "D", "E", "S")
    book.server(error, "Z I")
    book.to_client(error, "Z I")
    book.wire().take()
    use(book)


# Where a group cannot be sent once more unseen.


def passes(book: Playbook, *, on: int = 1, ready: str = "I") -> None:
    """The error reaches the client, and the next group finds the statement prepared."""
    book.wire(on).take()
    book.stage().transport.take()
    book.server(GONE, f"Z {ready}", on=on)
    book.to_client(unknown("x"), f"Z {ready}")
    book.to_server(on=on)


def test_in_a_transaction() -> None:
    book = prepared()
    take(book, by="a")
    book.client(*CALL)
    passes(book, ready="E")
    run(book, "rollback", "ROLLBACK", by="a")
    book.client(*CALL)
    book.to_server(*ANEW)


def test_behind_another_reply() -> None:
    book = prepared()
    book.client("D", *CALL)
    book.server("n")
    passes(book)


def test_behind_another_request() -> None:
    book = prepared()
    book.client("Q x", *CALL)
    book.server("C X", "Z I")
    passes(book)


def test_in_several_chunks() -> None:
    book = prepared()
    book.client("B x", "E")
    book.client("S")
    passes(book)


def test_without_its_sync() -> None:
    book = prepared()
    book.client("B x", "E", "H")
    book.wire().take()
    book.server(GONE)
    book.to_client(unknown("x"))
    book.client("S")
    book.server("Z I")
    book.to_client("Z I")


def test_with_another_group_in_the_same_chunk() -> None:
    book = prepared()
    book.client(*CALL, *CALL)
    book.wire().take()
    book.server(GONE, "Z I", GONE, "Z I")
    book.to_client(unknown("x"), "Z I", unknown("x"), "Z I")


def test_with_a_part_of_the_next_group_in_the_same_chunk() -> None:
    book = prepared()
    book.client(*CALL, "B x")
    passes(book)


def test_of_more_than_64_kib() -> None:
    book = prepared()
    book.client(m.bind("", "x", ["y" * 65_536]), "E", "S")
    passes(book)


def test_behind_the_rest_of_an_earlier_message() -> None:
    book = prepared()
    bind = m.bind("", "x", ["y" * 20_000])
    book.client(bind[:19_000])
    book.client(bind[19_000:], *CALL[1:])
    passes(book)


def test_with_an_error_that_is_not_all_there() -> None:
    book = prepared()
    book.client(*CALL)
    text = 'prepared statement "{}" does not exist' + " " * 5000
    error = m.error_response("26000", text.format("howdah_1"))
    book.server(error[:3000])
    book.server(error[3000:], "Z I")
    book.to_client(m.error_response("26000", text.format("x")), "Z I")


def test_where_a_part_of_the_group_had_to_wait() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("Q x", "B x", "E", "S")
    book.server("C X", "Z I", on=2)
    book.wire(2).take()
    book.to_client("C X", "Z I")
    book.server("1", unknown("howdah_2"), "Z I", on=2)
    book.to_client()
    book.to_server("p howdah_3 select 1", "B howdah_3", "E", "S", on=2)


def test_a_name_that_was_closed_or_replaced_meanwhile_is_not_renewed() -> None:
    book = prepared()
    book.client("B x", "C x", "S")
    book.to_server("B howdah_1", "C x", "S")
    book.server(GONE, "Z I")
    book.to_client()
    book.to_server("p howdah_2 select 1", "B howdah_2", "C x", "S")
    book.server("1", "2", "3", "Z I")
    book.to_client("2", "3", "Z I")


def test_a_reply_that_no_deallocate_has_is_passed_on_and_means_nothing() -> None:
    book = prepared()
    book.client("Q deallocate x")
    book.to_server("p howdah_2 COMMIT", "Q DEALLOCATE howdah_2")
    book.server("1", "I", "Z I")
    book.to_client("I", "Z I")
    book.client(*CALL)
    book.to_server("C howdah_2", "B howdah_1", "E", "S")


def test_an_error_without_a_code_is_passed_on() -> None:
    book = prepared()
    odd = m.message(b"E", b"Modd\0\0")
    book.client(*CALL)
    book.server(odd, "Z I")
    book.to_client(odd, "Z I")

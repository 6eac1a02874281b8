"""The unnamed statement: PostgreSQL keeps it per server, a client keeps its own."""

import pytest

from tests.support import messages as m
from tests.support.named import NO_UNNAMED, elsewhere, give_back, run, two_servers, unknown
from tests.support.playbook import Playbook

BAD = "E 42601 syntax error"
ROW = ("2", "D 1", "C SELECT 1")
MISSING = unknown("howdah_0")


def parsed(text: str = "select 1", book: Playbook | None = None, *, by: str = "a") -> Playbook:
    """The client has this text as its unnamed statement, on the first server."""
    book = book or two_servers()
    book.client(f"P {text}", "S", by=by)
    book.to_server(f"P {text}", "S")
    book.server("1", "Z I")
    book.to_client("1", "Z I", by=by)
    return book


def has(book: Playbook, text: str | None, *, on: int = 1, there: bool = True) -> None:
    """This is the client's unnamed statement, if any; `there`: the server has it already."""
    book.client("B", "S")
    if text is None:
        book.to_server("B howdah_0", "S", on=on)
        book.server(MISSING, "Z I", on=on)
        book.to_client(NO_UNNAMED, "Z I")
        return
    book.to_server(*() if there else (f"P {text}",), "B", "S", on=on)
    book.server(*() if there else ("1",), "2", "Z I", on=on)
    book.to_client("2", "Z I")


def test_it_is_used_where_it_was_parsed() -> None:
    has(parsed(), "select 1")


def test_nobody_has_one_to_begin_with() -> None:
    has(Playbook(), None)


@pytest.mark.parametrize(
    ("said", "replies"), [("B", ("2",)), ("s ", ("t", "T")), (m.bind("portal", ""), ("2",))]
)
def test_another_server_is_given_it_first(said: str | bytes, replies: tuple[str, ...]) -> None:
    book = parsed()
    elsewhere(book)
    book.client(said, "S")
    book.to_server("P select 1", said, "S", on=2)
    book.server("1", *replies, "Z I", on=2)
    book.to_client(*replies, "Z I")
    has(book, "select 1", on=2)


def test_a_server_that_has_another_client_s_is_given_it_anew() -> None:
    book = parsed()
    parsed("select 2", book, by="b")
    has(book, "select 1", there=False)
    book.client("B", "S", by="b")
    book.to_server("P select 2", "B", "S")


def test_a_server_that_was_asked_by_us_meanwhile_is_given_it_anew() -> None:
    book = parsed()
    book.enter("b", timezone="Asia/Tokyo")
    book.client("S", by="b")
    book.to_server("Q SET TimeZone='Asia/Tokyo'")
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I")
    book.server("Z I")
    book.to_server("S")
    book.client("B", "S")
    book.to_server("Q SET TimeZone='UTC'")
    book.server("S TimeZone=UTC", "C SET", "Z I")
    book.to_server("P select 1", "B", "S")


def test_a_server_that_had_a_client_without_names_of_ours_meanwhile_is_given_it_anew() -> None:
    book = parsed()
    book.manager.apply(book.settings.model_copy(update={"max_prepared_statements": 0}))
    parsed("another", book, by="b")
    book.manager.apply(book.settings)
    has(book, "select 1", there=False)


@pytest.mark.parametrize("padding", [10, 3_000, 60_000])
def test_a_text_of_some_length_is_kept_whichever_way_it_came(padding: int) -> None:
    text = "select 1" + " " * padding
    book = parsed(text)
    elsewhere(book)
    has(book, text, on=2, there=False)


def test_a_text_that_comes_in_one_chunk_with_others_is_kept() -> None:
    book = two_servers()
    book.client("p x first", "P select 1", "B", "S")
    book.to_server("p howdah_1 first", "s howdah_1", "P select 1", "B", "S")
    book.server("1", "t", "n", "1", "2", "Z I")
    book.to_client("1", "1", "2", "Z I")
    elsewhere(book)
    has(book, "select 1", on=2, there=False)


def test_a_very_long_text_is_lost_with_its_server() -> None:
    book = parsed("select " + "x" * 70_000)
    has(book, "")
    elsewhere(book)
    has(book, None, on=2)


def test_a_text_that_is_forwarded_in_pieces_is_lost_with_its_server() -> None:
    book = two_servers()
    parse = m.parse("", "select " + "x" * 30_000)
    book.client(parse[:20_000])
    book.to_server(parse[:20_000])
    book.client(parse[20_000:], "B", "S")
    book.to_server(parse[20_000:], "B", "S")
    book.server("1", "2", "Z I")
    book.to_client("1", "2", "Z I")
    elsewhere(book)
    has(book, None, on=2)


# What does away with it.


def test_a_simple_query_does() -> None:
    book = parsed()
    run(book, "x", "X", by="a")
    has(book, None)


def test_a_simple_query_among_other_messages_does() -> None:
    book = parsed()
    book.client("S", "Q x")
    book.to_server("S", "Q x")
    book.server("Z I", "C X", "Z I")
    book.to_client("Z I", "C X", "Z I")
    has(book, None)


def test_a_close_of_it_does() -> None:
    book = parsed()
    book.client("C ", "S")
    book.to_server("C ", "S")
    book.server("3", "Z I")
    book.to_client("3", "Z I")
    has(book, None)


def test_another_text_takes_its_place() -> None:
    book = parsed()
    parsed("select 2", book)
    elsewhere(book)
    has(book, "select 2", on=2, there=False)


def test_a_parse_that_fails_does() -> None:
    book = parsed()
    book.client("P bad", "S")
    book.server(BAD, "Z I")
    book.to_server("P bad", "S")
    book.to_client(BAD, "Z I")
    has(book, None)
    elsewhere(book)
    has(book, None, on=2)


# What PostgreSQL discards.


@pytest.mark.parametrize("discarded", ["P other", "Q x", "C "])
def test_what_is_discarded_after_an_error_changes_nothing(discarded: str) -> None:
    book = parsed()
    book.client("E", discarded, "S")
    book.server("E 34000 no portal", "Z I")
    book.to_server("E", discarded, "S")
    book.to_client("E 34000 no portal", "Z I")
    has(book, "select 1")
    elsewhere(book)
    has(book, "select 1", on=2, there=False)


def test_what_is_sent_while_everything_is_discarded_changes_nothing() -> None:
    book = parsed()
    book.client("E", "H")
    book.server("E 34000 no portal")
    book.client("P other", "C ", "Q x", "S")
    book.server("Z I")
    book.to_server("E", "H", "P other", "C ", "Q x", "S")
    book.to_client("E 34000 no portal", "Z I")
    has(book, "select 1")


def test_of_several_changes_those_before_the_error_hold() -> None:
    book = parsed()
    book.client("P one", "P two", "E", "P three", "C ", "S")
    book.to_server("P one", "P two", "E", "P three", "C ", "S")
    book.server("1", "1", "E 34000 no portal", "Z I")
    book.to_client("1", "1", "E 34000 no portal", "Z I")
    has(book, "two")


def test_an_error_ahead_of_all_changes_undoes_them_all() -> None:
    book = parsed()
    book.client("E", "P one", "C ", "P two", "S")
    book.to_server("E", "P one", "C ", "P two", "S")
    book.server("E 34000 no portal", "Z I")
    book.to_client("E 34000 no portal", "Z I")
    has(book, "select 1")


def test_changes_in_the_next_group_hold() -> None:
    book = parsed()
    book.client("E", "P one", "S", "P two", "P three", "S")
    book.to_server("E", "P one", "S", "P two", "P three", "S")
    book.server("E 34000 no portal", "Z I", "1", "1", "Z I")
    book.to_client("E 34000 no portal", "Z I", "1", "1", "Z I")
    has(book, "three")


def test_errors_in_two_groups_lead_back_to_the_beginning() -> None:
    book = parsed()
    book.client("E", "P one", "S", "E", "P two", "P three", "S")
    book.to_server("E", "P one", "S", "E", "P two", "P three", "S")
    book.server("E 34000 no portal", "Z I", "E 34000 no portal", "Z I")
    book.to_client("E 34000 no portal", "Z I", "E 34000 no portal", "Z I")
    has(book, "select 1")


def test_an_error_behind_all_changes_undoes_none() -> None:
    book = parsed()
    book.client("Q begin", "P one", "S")
    book.server("C BEGIN", "Z T", "1", "Z T")
    book.client("B", "E", "S")
    book.server("2", "E 22012 division by zero", "Z E")
    book.client("B", "S")
    book.to_server("Q begin", "P one", "S", "B", "E", "S", "B", "S")


def test_a_parse_that_fails_lets_go_of_it_also_where_others_follow() -> None:
    book = parsed()
    book.client("P bad", "P two", "S", "S")
    book.to_server("P bad", "P two", "S", "S")
    book.server(BAD, "Z I", "Z I")
    book.to_client(BAD, "Z I", "Z I")
    has(book, None)


def test_an_error_at_the_sync_leaves_it() -> None:
    book = parsed()
    book.client("P one", "S")
    book.to_server("P one", "S")
    book.server("1", "E 23503 deferred constraint", "Z I")
    book.to_client("1", "E 23503 deferred constraint", "Z I")
    has(book, "one")


def test_a_parse_of_ours_that_fails_says_so_and_is_tried_again() -> None:
    book = parsed()
    elsewhere(book)
    for _ in range(2):
        book.client("B", "E", "S")
        book.to_server("P select 1", "B", "E", "S", on=2)
        book.server("E 42P01 no such table", "Z I", on=2)
        book.to_client("E 42P01 no such table", "Z I")
    give_back(book)


def test_a_parse_of_ours_that_was_discarded_is_not_there_for_what_is_undone_later() -> None:
    book = parsed(book=two_servers())
    elsewhere(book)
    book.client("B y", "B", "S", "B y", "P select 2", "S")
    book.wire(2).take()
    book.server(unknown("howdah_0"), "Z I", on=2)
    book.server(unknown("howdah_0"), "Z I", on=2)
    book.wire(2).take()
    book.client("s ", "S")
    book.to_server("P select 1", "s ", "S", on=2)


# What waits.


def test_a_bind_behind_a_change_in_an_earlier_group_waits_for_that() -> None:
    book = parsed()
    book.client("P two", "S", "B", "E", "S")
    book.to_server("P two", "S")
    book.server("1", "Z I")
    book.to_server("B", "E", "S")
    book.server(*ROW, "Z I")
    book.to_client("1", "Z I", *ROW, "Z I")


@pytest.mark.parametrize(("reply", "told"), [((BAD,), BAD), (("E 25P02 aborted",), "E 25P02 aborted")])
def test_a_bind_finds_what_an_earlier_group_has_left(reply: tuple[str, ...], told: str) -> None:
    book = parsed()
    book.client("P two", "S", "B", "E", "S")
    book.to_server("P two", "S")
    book.server(*reply, "Z I")
    book.to_server("B howdah_0", "E", "S")
    book.server(MISSING, "Z I")
    book.to_client(told, "Z I", NO_UNNAMED, "Z I")


def test_a_bind_behind_a_query_waits_and_finds_none() -> None:
    book = parsed()
    book.client("Q x", "B", "S")
    book.to_server("Q x")
    book.server("C X", "Z I")
    book.to_server("B howdah_0", "S")


def test_a_whole_conversation_in_one_group_waits_for_nothing() -> None:
    book = parsed()
    book.client("P two", "B", "E", "S", "P three", "B", "E", "S")
    book.to_server("P two", "B", "E", "S", "P three", "B", "E", "S")

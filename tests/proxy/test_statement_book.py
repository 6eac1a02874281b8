"""What was taken down of a message is undone when PostgreSQL throws it away; who leaves, leaves nothing."""

import pytest

from tests.support.named import NOTHING, elsewhere, prepare, taken, two_servers, unknown, use
from tests.support.playbook import Playbook, from_frontend

BAD = "E 42601 syntax error"
NO_PORTAL = "E 34000 portal does not exist"
ROW = ("2", "D 1", "C SELECT 1")


def names(book: Playbook, by: str = "a") -> list[bytes]:
    prepared = book.session(by).prepared
    assert prepared is not None
    return list(prepared.names)


def is_unknown(book: Playbook, name: str = "x", *, on: int = 1) -> None:
    book.client(f"B {name}", "S")
    book.to_server("B howdah_0", "S", on=on)
    book.server(unknown("howdah_0"), "Z I", on=on)
    book.to_client(unknown(name), "Z I")


def fails(book: Playbook, *said: str) -> None:
    """A group of messages fails at its first, which is put in front."""
    book.client("E", *said, "S")
    book.wire().take()
    book.server(NO_PORTAL, "Z I")
    book.to_client(NO_PORTAL, "Z I")


# Parse.


def test_a_name_is_free_whose_parse_failed() -> None:
    book = Playbook()
    book.client("p x bad", "B x", "S")
    book.to_server("p howdah_1 bad", "s howdah_1", "B howdah_1", "S")
    book.server(BAD, "Z I")
    book.to_client(BAD, "Z I")
    is_unknown(book)
    prepare(book, "x", "select 1", at="howdah_2")


def test_a_text_that_failed_is_not_taken_for_prepared() -> None:
    book = Playbook()
    book.client("p x select 1", "S")
    book.server("E 42P01 no such table", "Z I")
    book.to_server("p howdah_1 select 1", "s howdah_1", "S")
    prepare(book, "y", "select 1", at="howdah_2", by="b")


def test_a_name_is_free_whose_parse_was_discarded() -> None:
    book = Playbook()
    fails(book, "p x select 1", "B x")
    is_unknown(book)
    prepare(book, "x", "select 1", at="howdah_2")


def test_a_name_is_free_whose_parse_was_discarded_unsent_to_the_books() -> None:
    book = Playbook()
    book.client("E", "H")
    book.server(NO_PORTAL)
    book.client("p x select 1", "B x", "C x", "S")
    book.to_server("E", "H", "p x select 1", "B x", "C x", "S")
    book.server("Z I")
    book.to_client(NO_PORTAL, "Z I")
    is_unknown(book)


def test_a_name_for_what_is_there_already_is_free_when_it_is_discarded() -> None:
    book = Playbook()
    prepare(book)
    book.client("B y", "p y select 1", "S")
    book.to_server("B howdah_0", NOTHING, "S")
    book.server(unknown("howdah_0"), "Z I")
    book.to_client(unknown("y"), "Z I")
    is_unknown(book, "y")
    use(book)


def test_a_parse_that_succeeded_ahead_of_an_error_stays() -> None:
    book = Playbook()
    book.client("p x select 1", "p y bad", "S")
    book.to_server("p howdah_1 select 1", "s howdah_1", "p howdah_2 bad", "s howdah_2", "S")
    book.server("1", "t", "T", BAD, "Z I")
    book.to_client("1", BAD, "Z I")
    use(book)
    is_unknown(book, "y")


def test_a_taken_name_keeps_its_statement_when_the_second_parse_is_discarded() -> None:
    book = Playbook()
    prepare(book)
    fails(book, "p x select 2")
    use(book)


def test_a_name_that_is_in_the_way_is_closed_later_though_its_parse_was_discarded() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("E", "p x select 2", "S")
    book.to_server("E", "p howdah_2 COMMIT", "p howdah_2 select 2", "S", on=2)
    book.server(NO_PORTAL, "Z I", on=2)
    book.client("B x", "S")
    book.to_server("C howdah_2", "p howdah_3 select 1", "B howdah_3", "S", on=2)


# Close.


def test_a_name_stays_whose_close_was_discarded() -> None:
    book = Playbook()
    prepare(book)
    fails(book, "C x", "C x")
    use(book)
    book.client("p x select 2", "S")
    book.to_server("p howdah_1 select 2", "S")


def test_a_name_whose_parse_fails_is_free_though_its_close_was_discarded() -> None:
    book = Playbook()
    book.client("p x bad", "C x", "S")
    book.to_server("p howdah_1 bad", "s howdah_1", "C x", "S")
    book.server(BAD, "Z I")
    book.to_client(BAD, "Z I")
    is_unknown(book)
    assert names(book) == []


def test_a_name_that_is_prepared_and_closed_in_one_group_is_free() -> None:
    book = Playbook()
    book.client("p x select 1", "C x", "S")
    book.to_server("p howdah_1 select 1", "s howdah_1", "C x", "S")
    book.server("1", "t", "T", "3", "Z I")
    book.to_client("1", "3", "Z I")
    is_unknown(book)
    assert names(book) == []


def test_a_name_stays_that_is_prepared_in_a_group_that_fails_before_its_close() -> None:
    book = Playbook()
    book.client("p x select 1", "E", "C x", "S")
    book.to_server("p howdah_1 select 1", "s howdah_1", "E", "C x", "S")
    book.server("1", "t", "T", NO_PORTAL, "Z I")
    book.to_client("1", NO_PORTAL, "Z I")
    use(book)


# Close and Parse.


def test_a_name_keeps_its_statement_when_all_that_was_to_replace_it_is_discarded() -> None:
    book = Playbook()
    prepare(book)
    fails(book, "C x", "p x select 2", "B x", "C x", "p x select 3")
    use(book)
    assert names(book) == [b"x"]


def test_a_name_is_free_that_was_closed_and_whose_new_parse_failed() -> None:
    book = Playbook()
    prepare(book)
    book.client("C x", "p x bad", "S")
    book.to_server("C x", "p howdah_2 bad", "s howdah_2", "S")
    book.server("3", BAD, "Z I")
    book.to_client("3", BAD, "Z I")
    is_unknown(book)
    assert names(book) == []
    assert [text.clients for text in book.pool.statements.statements.values()] == [0, 0]


def test_the_last_of_several_statements_in_one_group_stays() -> None:
    book = Playbook()
    book.client("p x one", "C x", "p x two", "C x", "p x three", "S")
    book.server("1", "t", "n", "3", "1", "t", "n", "3", "1", "t", "n", "Z I")
    book.to_client("1", "3", "1", "3", "1", "Z I")
    book.wire().take()
    use(book, at="howdah_3")
    assert [text.clients for text in book.pool.statements.statements.values()] == [0, 0, 1]


@pytest.mark.parametrize(
    ("replies", "stays"),
    [
        (("1", "t", "n"), "howdah_1"),
        (("1", "t", "n", "3"), None),
        (("1", "t", "n", "3", "1", "t", "n"), "howdah_2"),
        (("1", "t", "n", "3", "1", "t", "n", "3"), None),
        ((), None),
    ],
)
def test_an_error_among_several_statements_leaves_what_was_reached(
    replies: tuple[str, ...], stays: str | None
) -> None:
    book = Playbook()
    book.client("p x one", "C x", "p x two", "C x", "p x three", "S")
    book.wire().take()
    book.server(*replies, "E 57014 canceled", "Z I")
    told = [one for one in replies if one in "13"]
    book.to_client(*told, "E 57014 canceled", "Z I")
    if stays is None:
        is_unknown(book)
        assert names(book) == []
    else:
        use(book, at=stays)
    used = sum(text.clients for text in book.pool.statements.statements.values())
    assert used == (stays is not None)


# Statements of ours.


def test_what_was_to_be_repeated_and_was_discarded_is_repeated_again() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("D", "B x", "S")
    book.to_server("D", "p howdah_2 select 1", "B howdah_2", "S", on=2)
    book.server(NO_PORTAL, "Z I", on=2)
    book.to_client(NO_PORTAL, "Z I")
    use_again(book)


def use_again(book: Playbook) -> None:
    book.client("B x", "E", "S")
    book.to_server("p howdah_3 select 1", "B howdah_3", "E", "S", on=2)
    book.server("1", *ROW, "Z I", on=2)
    book.to_client(*ROW, "Z I")


def test_what_rows_look_like_is_asked_again_if_the_question_was_discarded() -> None:
    book = Playbook()
    book.client("p x select 1", "S")
    book.server("1", "E 57014 canceled", "Z I")
    book.to_server("p howdah_1 select 1", "s howdah_1", "S")
    book.to_client("1", "E 57014 canceled", "Z I")
    use(book)
    book.client("S", "p y select 1", "S", by="b")
    book.to_server("S", "p howdah_2 select 1", "s howdah_2", "S")


# A client that leaves.


def test_a_client_that_leaves_keeps_no_names() -> None:
    book = Playbook()
    prepare(book)
    book.client("p y select 1", "S", by="b")
    book.server("3", "Z I")
    book.wire().take()
    (statement,) = book.pool.statements.statements.values()
    assert statement.clients == 2
    book.client("X")
    assert statement.clients == 1
    book.client_leaves("b")
    assert statement.clients == 0
    assert len(book.server_at().statements) == 1


@pytest.mark.parametrize("answered", [False, True])
def test_what_a_client_that_leaves_was_preparing_is_closed(answered: bool) -> None:
    book = Playbook()
    book.client("p x select 1", "B x", "E", "S")
    if answered:
        book.server("1", "t")
    book.client("X")
    assert book.state() == "being_canceled"
    book.server(*(() if answered else ("1", "t")), "T", "2", "E 57014 canceled", "Z I")
    book.cancel_over()
    assert book.state() == "idle"
    book.to_server("p howdah_1 select 1", "s howdah_1", "B howdah_1", "E", "S")
    book.client("p y select 1", "S", by="b")
    if answered:
        book.to_server(NOTHING, "S")
    else:
        book.to_server("C howdah_1", "p howdah_2 select 1", "s howdah_2", "S")


def test_a_client_that_leaves_before_its_settings_are_known_leaves_nothing() -> None:
    book = Playbook()
    book.client("Q set timezone to tokyo", "p x select 1", "S")
    book.client_leaves()
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I", "1", "t", "T", "Z I")
    book.cancel_over()
    assert book.state() == "idle"
    assert len(book.server_at().statements) == 0


def test_a_client_that_leaves_in_the_middle_of_replacing_a_name_leaves_nothing() -> None:
    book = Playbook()
    prepare(book)
    book.client("C x", "p x two", "C x", "p x three")
    assert [text.clients for text in book.pool.statements.statements.values()] == [1, 1, 1]
    book.client("X")
    assert [text.clients for text in book.pool.statements.statements.values()] == [0, 0, 0]


def test_a_client_that_leaves_when_the_old_statement_of_a_name_is_closed_leaves_nothing() -> None:
    book = Playbook()
    prepare(book)
    book.client("C x", "p x two")
    book.server("3")
    book.client("X")
    assert [text.clients for text in book.pool.statements.statements.values()] == [0, 0]


def test_a_server_that_is_closed_with_statements_pending_troubles_nobody() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("B x")
    book.to_server("p howdah_2 select 1", "B howdah_2", on=2)
    book.client("X")
    assert book.state(2) == "closing"
    book.client("B x", "S", by="b")
    assert book.wire().take() == from_frontend()


def test_what_is_answered_after_the_client_left_is_counted_as_ever() -> None:
    book = Playbook()
    prepare(book)
    book.client("B y", "p z select 1", "C x", "S")
    book.client_leaves()
    book.server(unknown("howdah_0"), "Z I")
    book.cancel_over()
    assert book.state() == "idle"
    assert [text.clients for text in book.pool.statements.statements.values()] == [0]


def test_a_name_in_the_way_is_told_when_all_is_over() -> None:
    book = Playbook()
    prepare(book)
    book.client("B x", "E", "p x select 2", "S")
    book.to_server("B howdah_1", "E", "p howdah_1 select 2", "S")
    book.server(*ROW, taken("howdah_1"), "Z I")
    book.to_client(*ROW, taken("x"), "Z I")

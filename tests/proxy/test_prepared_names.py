"""Names that a server lacks, that the client lacks, that are taken or closed."""

import pytest

from tests.support.named import (
    NOTHING,
    STALE,
    elsewhere,
    give_back,
    prepare,
    taken,
    two_servers,
    unknown,
    use,
)
from tests.support.playbook import Playbook

BAD = "E 42601 syntax error"
ROW = ("2", "D 1", "C SELECT 1")


# Another server.


def test_another_server_is_given_the_text_first() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("B x", "E", "S")
    book.to_server("p howdah_2 select 1", "B howdah_2", "E", "S", on=2)
    book.server("1", *ROW, "Z I", on=2)
    book.to_client(*ROW, "Z I")
    use(book, at="howdah_2", on=2)
    give_back(book)
    assert book.pool.stats.server_parse_count == 2
    assert book.pool.stats.client_parse_count == 1
    assert book.pool.stats.bind_count == 2


def test_another_server_is_given_the_text_for_a_describe_and_once_only() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("s x", "H", "B x", "B x", "S")
    asked = ("s howdah_2", "s howdah_2", "H")
    book.to_server("p howdah_2 select 1", *asked, "B howdah_2", "B howdah_2", "S", on=2)
    book.server("1", "t", "T", on=2)
    book.to_client()
    book.server("t", "T", "2", "2", "Z I", on=2)
    book.to_client("t", "T", "2", "2", "Z I")


def test_another_server_needs_nothing_for_a_close() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("C x", "B x", "S")
    book.to_server("C x", "B howdah_0", "S", on=2)
    book.server("3", unknown("howdah_0"), "Z I", on=2)
    book.to_client("3", unknown("x"), "Z I")


def test_another_server_prepares_for_whoever_asks_first() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("p y select 1", "S", by="b")
    book.to_server("p howdah_2 select 1", "S", on=2)
    book.server("1", "Z I", on=2)
    book.to_client("1", "Z I", by="b")
    use(book, at="howdah_2", on=2)


def test_a_notice_about_a_text_that_is_repeated_is_old_news() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("B x", "E", "S")
    book.server("N identifier will be truncated", "1", "N hello", *ROW, "Z I", on=2)
    book.to_client("N hello", *ROW, "Z I")


def test_an_error_in_the_text_that_another_server_finds_reaches_the_client() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("B x", "E", "S")
    book.to_server("p howdah_2 select 1", "B howdah_2", "E", "S", on=2)
    book.server("E 42P01 no such table", "Z I", on=2)
    book.to_client("E 42P01 no such table", "Z I")
    book.client("B x", "E", "S")
    book.to_server("p howdah_3 select 1", "B howdah_3", "E", "S", on=2)


# A name that is not there, or is there already.


@pytest.mark.parametrize("said", ["B x", "s x"])
def test_an_unknown_name_is_an_error_of_postgresql_with_the_client_s_name(said: str) -> None:
    book = Playbook()
    book.client(said, "E", "S")
    book.to_server(f"{said[0]} howdah_0", "E", "S")
    book.server(unknown("howdah_0"), "Z I")
    book.to_client(unknown("x"), "Z I")
    assert book.state() == "idle"
    assert not book.stage().ends


def test_nobody_reaches_a_statement_of_others_by_our_name_for_it() -> None:
    book = Playbook()
    prepare(book)
    book.client("B howdah_1", "S", by="b")
    book.to_server("B howdah_0", "S")
    book.server(unknown("howdah_0"), "Z I")
    book.to_client(unknown("howdah_1"), "Z I", by="b")
    book.client("C howdah_1", "S", by="b")
    book.to_server(NOTHING, "S")
    book.server("3", "Z I")
    book.to_client("3", "Z I", by="b")
    use(book)


def test_a_client_may_use_names_like_ours() -> None:
    book = Playbook()
    prepare(book, "howdah_7")
    use(book, "howdah_7")
    book.client("C howdah_7", "S")
    book.to_server(NOTHING, "S")
    book.server("3", "Z I")
    book.to_client("3", "Z I")
    book.client("B howdah_7", "S")
    book.to_server("B howdah_0", "S")


def test_a_name_that_is_taken_is_an_error_of_postgresql_with_the_client_s_name() -> None:
    book = Playbook()
    prepare(book)
    book.client("p x select 2", "S")
    book.to_server("p howdah_1 select 2", "S")
    book.server(taken("howdah_1"), "Z I")
    book.to_client(taken("x"), "Z I")
    use(book)


def test_a_text_that_is_wrong_comes_before_the_name_that_is_taken() -> None:
    book = Playbook()
    prepare(book)
    book.client("p x selec", "S")
    book.to_server("p howdah_1 selec", "S")
    book.server(BAD, "Z I")
    book.to_client(BAD, "Z I")
    use(book)


def test_a_name_that_is_taken_is_taken_on_a_server_that_lacks_it() -> None:
    """What stands in its way there is what PostgreSQL parses even in a failed transaction."""
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("p x select 2", "S")
    book.to_server("p howdah_2 COMMIT", "p howdah_2 select 2", "S", on=2)
    book.server("1", taken("howdah_2"), "Z I", on=2)
    book.to_client(taken("x"), "Z I")
    book.client("Q x", by="b")
    book.to_server("C howdah_2", "Q x", on=2)
    book.server("3", "C X", "Z I", on=2)
    book.to_client("C X", "Z I", by="b")


def test_a_name_taken_in_the_same_group_is_taken() -> None:
    book = Playbook()
    book.client("p x select 1", "p x select 2", "S")
    book.to_server("p howdah_1 select 1", "s howdah_1", "p howdah_1 select 2", "S")
    book.server("1", "t", "T", taken("howdah_1"), "Z I")
    book.to_client("1", taken("x"), "Z I")
    use(book)


# Names longer than PostgreSQL compares.


LONG = "x" * 70


@pytest.mark.parametrize("name", [LONG, LONG[:63]])
def test_errors_tell_a_name_as_the_client_writes_it(name: str) -> None:
    book = Playbook()
    prepare(book, LONG)
    requires = 'E 08P01 bind message supplies 1 parameters, but prepared statement "{}" requires 0'
    book.client(f"B {name}", "S", f"p {name} select 2", "S", f"s {name}", "S")
    book.to_server("B howdah_1", "S")
    book.server(requires.format("howdah_1"), "Z I")
    book.to_server("p howdah_1 select 2", "S", "s howdah_1", "S")
    book.server(taken("howdah_1"), "Z I", "t", "T", "Z I")
    book.to_client(requires.format(name), "Z I", taken(name), "Z I", "t", "T", "Z I")
    use(book, name)


def test_a_long_name_is_healed_as_any_other() -> None:
    book = Playbook()
    prepare(book, LONG)
    book.client(f"B {LONG}", "D", "E", "S")
    book.to_server("B howdah_1", "D", "E", "S")
    book.server(STALE, "Z I")
    book.to_client()
    book.to_server("p howdah_2 select 1", "s howdah_2", "B howdah_2", "D", "E", "S")


def test_a_long_name_of_which_the_client_has_been_told_is_not() -> None:
    book = Playbook()
    prepare(book, LONG)
    book.client(f"s {LONG}", "S")
    book.to_server("s howdah_1", "S")
    book.server("t")
    book.server(STALE, "Z I")
    book.to_client("t", STALE, "Z I")


# Close.


def test_a_closed_name_is_unknown_and_free() -> None:
    book = Playbook()
    prepare(book)
    book.client("C x", "S")
    book.to_server("C x", "S")
    book.server("3", "Z I")
    book.to_client("3", "Z I")
    book.client("B x", "S")
    book.to_server("B howdah_0", "S")
    book.server(unknown("howdah_0"), "Z I")
    book.to_client(unknown("x"), "Z I")
    prepare(book, "x", "select 2", at="howdah_2")
    use(book, at="howdah_2")


def test_a_name_is_closed_and_taken_anew_in_one_group() -> None:
    book = Playbook()
    prepare(book)
    book.client("C x", "s x", "p x select 2", "B x", "S")
    book.to_server("C x", "s howdah_0", "p howdah_2 select 2", "s howdah_2", "B howdah_2", "S")
    book.server("3", unknown("howdah_0"), "Z I")
    book.to_client("3", unknown("x"), "Z I")
    book.client("C x", "p x select 2", "B x", "S")
    book.to_server("C x", "p howdah_3 select 2", "s howdah_3", "B howdah_3", "S")


@pytest.mark.parametrize("name", ["x", "y"])
def test_the_close_of_an_unknown_name_succeeds(name: str) -> None:
    book = Playbook()
    prepare(book)
    book.client("C x", f"C {name}", "S")
    book.to_server("C x", f"C {name}", "S")
    book.server("3", "3", "Z I")
    book.to_client("3", "3", "Z I")
    assert book.state() == "idle"

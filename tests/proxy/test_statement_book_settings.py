"""Settings change how PostgreSQL reads a text: under other settings it is another statement."""

import pytest

from tests.support import messages as m
from tests.support.named import NOTHING, elsewhere, prepare, two_servers, unknown, use
from tests.support.playbook import Playbook

TOKYO = "S TimeZone=Asia/Tokyo"
ROW = ("2", "D 1", "C SELECT 1")
SET = ("1", "2", "C SET")
"""Replies to a SET of ours."""


def setting(name: str, value: str) -> bytes:
    """A SET of ours in the middle of a client's group of messages."""
    return m.parse(name, f"SET TimeZone='{value}'") + m.bind(name, name) + m.execute(name)


def texts(book: Playbook) -> list[tuple[bytes | None, int]]:
    """The time zone of each shared statement, and how many names stand for it."""
    at = book.pool.tracked.index(b"TimeZone")
    return [(text.values[at], text.clients) for text in book.pool.statements.statements.values()]


def moved_to_tokyo(book: Playbook) -> None:
    """The client changes its time zone."""
    on = book.session().server
    book.client("Q set timezone to tokyo")
    server = book.session().server
    assert on is None
    assert server is not None
    book.to_server("Q set timezone to tokyo", on=server.id)
    book.server(TOKYO, "C SET", "Z I", on=server.id)
    book.to_client(TOKYO, "C SET", "Z I")


# Clients with different settings.


def test_clients_with_different_settings_share_no_statement() -> None:
    book = Playbook()
    prepare(book)
    book.enter("b", timezone="Asia/Tokyo")
    book.client("p x select 1", "S", by="b")
    book.to_server("Q SET TimeZone='Asia/Tokyo'")
    book.server(TOKYO, "C SET", "Z I")
    book.to_server("p howdah_2 select 1", "s howdah_2", "S")
    book.server("1", "t", "T", "Z I")
    book.to_client("1", "Z I", by="b")
    assert texts(book) == [(b"UTC", 1), (b"Asia/Tokyo", 1)]


def test_clients_that_only_call_themselves_differently_share_their_statements() -> None:
    book = Playbook()
    prepare(book)
    book.enter("b", application_name="b")
    book.client("p x select 1", "S", by="b")
    book.to_server("Q SET application_name='b'")
    book.server("S application_name=b", "C SET", "Z I")
    book.to_server(NOTHING, "S")


def test_clients_that_asked_for_other_settings_at_login_share_no_statement() -> None:
    book = Playbook()
    prepare(book)
    book.enter("b", applied=((b"search_path", b"s"),))
    book.client("p x select 1", "S", by="b")
    book.to_server("Q SELECT pg_catalog.set_config('search_path','s',false)")
    book.server("T", "D s", "C SELECT 1", "Z I")
    book.to_server("p howdah_2 select 1", "s howdah_2", "S")


# A client that changes its settings.


def test_under_other_settings_a_client_prepares_another_statement() -> None:
    book = Playbook()
    prepare(book)
    moved_to_tokyo(book)
    prepare(book, "y", at="howdah_2")
    assert texts(book) == [(b"UTC", 1), (b"Asia/Tokyo", 1)]
    use(book)
    use(book, "y", at="howdah_2")


def test_a_name_is_repeated_elsewhere_under_the_settings_of_its_parse() -> None:
    """Both ways within one transaction: PostgreSQL reports none of it."""
    book = two_servers()
    prepare(book)
    elsewhere(book)
    moved_to_tokyo(book)
    book.client("B x", "E", "S")
    book.to_server(
        setting("howdah_2", "UTC"),
        "p howdah_3 select 1",
        setting("howdah_4", "Asia/Tokyo"),
        *("B howdah_3", "E", "S"),
        on=2,
    )
    book.server(*SET, "1", *SET, *ROW, "Z I", on=2)
    book.to_client(*ROW, "Z I")
    book.client("B x", "S")
    book.to_server("C howdah_2", "C howdah_4", "B howdah_3", "S", on=2)
    book.server("3", "3", "2", "Z I", on=2)
    book.to_client("2", "Z I")
    assert texts(book) == [(b"UTC", 1)]


@pytest.mark.parametrize("tail", ["H", "D", "E"])
def test_settings_are_changed_for_a_group_whose_end_is_yet_to_come(tail: str) -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    moved_to_tokyo(book)
    book.client("B x", tail)
    there, back = setting("howdah_2", "UTC"), setting("howdah_4", "Asia/Tokyo")
    book.to_server(there, "p howdah_3 select 1", back, "B howdah_3", tail, on=2)


@pytest.mark.parametrize("before", ["Q x", "S", "F"])
def test_what_needs_other_settings_waits_until_they_can_be_changed(before: str) -> None:
    replies = {"Q x": ("C X", "Z I"), "S": ("Z I",), "F": ("V", "Z I")}[before]
    book = two_servers()
    prepare(book)
    elsewhere(book)
    moved_to_tokyo(book)
    book.client(before, "B x", "S")
    book.to_server(before, on=2)
    book.server(*replies, on=2)
    there, back = setting("howdah_2", "UTC"), setting("howdah_4", "Asia/Tokyo")
    book.to_server(there, "p howdah_3 select 1", back, "B howdah_3", "S", on=2)


@pytest.mark.parametrize("tail", ["Q x", "F"])
def test_where_settings_cannot_be_changed_unseen_the_name_stands_for_a_statement_under_these(
    tail: str,
) -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    moved_to_tokyo(book)
    book.client("B x", tail)
    book.to_server("p howdah_2 select 1", "s howdah_2", "B howdah_2", tail, on=2)
    assert texts(book) == [(b"UTC", 0), (b"Asia/Tokyo", 1)]


def test_a_statement_under_these_settings_may_be_there_already() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    moved_to_tokyo(book)
    prepare(book, "y", at="howdah_2", on=2)
    book.client("B x", "Q x")
    book.to_server("B howdah_2", "Q x", on=2)
    assert texts(book) == [(b"UTC", 0), (b"Asia/Tokyo", 2)]


def test_without_room_for_it_such_a_statement_is_one_s_own() -> None:
    book = two_servers(max_shared_statements=1)
    prepare(book)
    elsewhere(book)
    moved_to_tokyo(book)
    book.client("p y select 1", "S", by="rival")
    book.to_server(NOTHING, "S")
    book.server("3", "Z T")
    book.client("B x", "Q x")
    book.to_server("p howdah_2 select 1", "s howdah_2", "B howdah_2", "Q x", on=2)
    book.server("1", "t", "T", "2", on=2)
    book.to_client("2")
    assert texts(book) == [(b"UTC", 1)]


def test_a_setting_that_is_a_list_cannot_be_changed_unseen() -> None:
    """It would be set by SELECT, whose rows the client would see."""
    book = two_servers(track_extra_parameters="search_path")
    prepare(book)
    elsewhere(book)
    book.client("Q set search_path to s")
    book.server("S search_path=s", "C SET", "Z I", on=2)
    book.to_server("Q set search_path to s", on=2)
    book.client("B x", "S")
    book.to_server("p howdah_2 select 1", "s howdah_2", "B howdah_2", "S", on=2)
    assert [text.clients for text in book.pool.statements.statements.values()] == [0, 1]


# A text that is parsed behind the change.


def test_a_statement_is_what_the_settings_were_that_postgresql_read_it_under() -> None:
    book = Playbook()
    book.client("Q set timezone to tokyo", "p x select 1", "B x", "S")
    book.to_server("Q set timezone to tokyo", "p howdah_1 select 1", "s howdah_1", "B howdah_1", "S")
    book.server(TOKYO, "C SET", "Z I", "1", "t", "T", "2", "Z I")
    book.to_client(TOKYO, "C SET", "Z I", "1", "2", "Z I")
    assert texts(book) == [(b"UTC", 0), (b"Asia/Tokyo", 1)]
    use(book)
    book.enter("c", timezone="Asia/Tokyo")
    book.client("p y select 1", "S", by="c")
    book.to_server(NOTHING, "S")


def test_a_text_that_was_read_under_other_settings_is_not_taken_for_another_client_s() -> None:
    book = Playbook()
    book.client("Q set timezone to tokyo", "p x select 1", "S")
    book.to_server("Q set timezone to tokyo", "p howdah_1 select 1", "s howdah_1", "S")
    book.server(TOKYO, "C SET", "Z I", "1", "t", "T", "Z I")
    book.enter("b", timezone="UTC")
    book.client("p y select 1", "S", by="b")
    book.to_server("Q SET TimeZone='UTC'")
    book.server("S TimeZone=UTC", "C SET", "Z I")
    book.to_server("p howdah_2 select 1", "S")


def test_a_name_that_was_closed_in_the_meantime_is_not_counted_again() -> None:
    book = Playbook()
    book.client("Q set timezone to tokyo", "p x select 1", "C x", "S")
    book.server(TOKYO, "C SET", "Z I", "1", "t", "T", "3", "Z I")
    assert texts(book) == [(b"UTC", 0), (b"Asia/Tokyo", 0)]


def test_one_client_cannot_fill_the_registry_for_ever() -> None:
    book = Playbook(max_shared_statements=10)
    for number in range(10):
        zone = ("Asia/Tokyo", "UTC")[number % 2]
        book.client("Q set", f"p x select {number}", "C x", "S")
        book.server(f"S TimeZone={zone}", "C SET", "Z I", "1", "t", "T", "3", "Z I")
    book.client("X")
    book.wire().take()
    prepare(book, "y", "something else", at="howdah_11", by="b")


def test_what_another_server_has_is_not_touched_by_what_was_unsure_on_the_first() -> None:
    book = two_servers()
    book.client("Q set timezone to tokyo", "p x select 1", "S")
    book.server(TOKYO, "C SET", "Z I", "1", "t", "T", "Z I")
    book.client("Q begin", by="rival")
    book.server("S TimeZone=UTC", "C SET", "Z I")
    book.server("C BEGIN", "Z T")
    book.client("B y", "S")
    book.opens()
    book.server(TOKYO, "C SET", "Z I", on=2)
    book.server(unknown("howdah_0"), "Z I", on=2)
    assert len(book.server_at(1).statements) == 1
    assert len(book.server_at(2).statements) == 0


def test_a_statement_is_what_it_was_taken_for_where_nothing_was_changed() -> None:
    book = Playbook()
    book.client("Q x", "p x select 1", "S")
    book.server("C X", "Z I", "1", "t", "T", "Z I")
    book.to_server("Q x", "p howdah_1 select 1", "s howdah_1", "S")
    book.to_client("C X", "Z I", "1", "Z I")
    assert texts(book) == [(b"UTC", 1)]
    use(book)


def test_another_name_of_the_application_is_no_other_statement() -> None:
    book = Playbook()
    book.client("Q set application_name to b", "p x select 1", "S")
    book.server("S application_name=b", "C SET", "Z I", "1", "t", "T", "Z I")
    book.to_server("Q set application_name to b", "p howdah_1 select 1", "s howdah_1", "S")
    book.to_client("S application_name=b", "C SET", "Z I", "1", "Z I")
    assert texts(book) == [(b"UTC", 1)]
    use(book)


def test_a_statement_whose_parse_failed_is_none_under_any_settings() -> None:
    book = Playbook()
    book.client("Q set timezone to tokyo", "p x bad", "S")
    book.server(TOKYO, "C SET", "Z I", "E 42601 bad", "Z I")
    assert texts(book) == [(b"UTC", 0)]


def test_a_statement_that_is_repeated_behind_a_change_is_known_for_what_it_is() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("P set timezone to tokyo", "B", "E", "B x", "S")
    book.to_server("P set timezone to tokyo", "B", "E", "p howdah_2 select 1", "B howdah_2", "S", on=2)
    book.server("1", "2", "C SET", "1", "2", TOKYO, "Z I", on=2)
    book.to_client("1", "2", "C SET", "2", TOKYO, "Z I")
    assert texts(book) == [(b"UTC", 0), (b"Asia/Tokyo", 1)]
    use(book, at="howdah_2", on=2)

"""Settings change how PostgreSQL reads a text: under other settings it is another statement."""

from tests.support.named import (
    NOTHING,
    TOKYO,
    elsewhere,
    moved_to_tokyo,
    prepare,
    texts,
    two_servers,
    unknown,
    use,
)
from tests.support.playbook import Playbook

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
    book.to_server("p howdah_2 select 1", "s howdah_2", "S")


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


def test_a_text_is_what_it_was_read_under_although_settings_change_later_in_its_group() -> None:
    book = Playbook()
    book.client("Q set timezone to tokyo", "p x select 1", "H")
    book.server(TOKYO, "C SET", "Z I", "1", "t", "T")
    book.client("P set timezone to utc", "B", "E", "S")
    book.server("1", "2", "C SET", "S TimeZone=UTC", "Z I")
    assert texts(book) == [(b"UTC", 0), (b"Asia/Tokyo", 1)]


def test_a_text_that_may_have_been_read_before_or_behind_the_change_is_nobody_else_s() -> None:
    book = Playbook()
    book.client("P set timezone to tokyo", "B", "E", "p x select 1", "S")
    book.server("1", "2", "C SET", "1", "t", "T", TOKYO, "Z I")
    assert texts(book) == [(b"UTC", 0)]
    use_it = ("P set timezone to tokyo", "B", "E", "p howdah_1 select 1", "s howdah_1", "S")
    book.to_server(*use_it)
    book.to_client("1", "2", "C SET", "1", TOKYO, "Z I")
    use(book)


def test_until_that_is_known_each_is_of_its_own() -> None:
    book = Playbook()
    book.client("Q set timezone to tokyo", "p x select 1", "D", "p y select 1", "S")
    first = ("p howdah_1 select 1", "s howdah_1", "D", "p howdah_2 select 1", "s howdah_2")
    book.to_server("Q set timezone to tokyo", *first, "S")
    book.server(TOKYO, "C SET", "Z I", "1", "t", "T", "E 34000 no portal", "Z I")
    book.to_client(TOKYO, "C SET", "Z I", "1", "E 34000 no portal", "Z I")
    book.client("B x", "E", "S")
    book.to_server("B howdah_1", "E", "S")


def test_another_name_for_the_text_is_not_called_by_what_may_have_been_read_otherwise() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("Q set timezone to tokyo", "p y select 1", "B x", "S")
    book.to_server("Q set timezone to tokyo", "p howdah_2 select 1", on=2)
    book.server(TOKYO, "C SET", "Z I", "1", on=2)
    sent = book.wire(2).take()
    assert b"'UTC'" in sent
    assert b"howdah_4\0select 1" in sent
    assert b"\0howdah_4\0" in sent

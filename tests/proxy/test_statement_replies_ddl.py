"""Changes of the schema: who prepares then gets a fresh plan, who prepared before is not deceived."""

import pytest

from proxy.reasons import ServerClosed
from tests.support import messages as m
from tests.support.named import (
    NOTHING,
    STALE,
    UNPLANNABLE,
    altered,
    elsewhere,
    give_back,
    prepare,
    run,
    stale,
    two_servers,
    unknown,
    use,
)
from tests.support.playbook import Playbook

ROW = ("2", "D 1", "C SELECT 1")
CALL = ("B x", "E", "S")
VERIFY = ("p howdah_2 select 1", "s howdah_2", "H")
"""What finds out whether rows still look as the client was told."""
WIDER = m.row_description(["c0", "c1"])


# Who prepares.


@pytest.mark.parametrize(
    "command",
    ["CREATE TABLE", "ALTER TABLE", "DROP VIEW", "DO", "IMPORT FOREIGN SCHEMA", "CREATE INDEX", "DROP TYPE"],
)
def test_a_text_is_prepared_afresh_after_a_change(command: str) -> None:
    book = Playbook()
    prepare(book)
    run(book, "change", command)
    prepare(book, "y", at="howdah_2", by="b")
    book.client("p z select 1", "S", by="c")
    book.to_server(NOTHING, "S")


@pytest.mark.parametrize(
    "command", ["INSERT 0 1", "SELECT 1", "DELETE 3", "COPY 7", "DECLARE CURSOR", "LOCK TABLE", "LOAD"]
)
def test_what_changes_no_schema_changes_nothing(command: str) -> None:
    book = Playbook()
    prepare(book)
    run(book, "x", command)
    book.client("p y select 1", "S", by="b")
    book.to_server(NOTHING, "S")


def test_a_change_by_the_extended_protocol_counts_too() -> None:
    book = Playbook()
    prepare(book)
    book.client("P alter table t", "B", "E", "S", by="b")
    book.server("1", "2", "C ALTER TABLE", "Z I")
    book.wire().take()
    prepare(book, "y", at="howdah_2")


def test_a_change_in_a_transaction_counts_once_more_at_its_end() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("Q alter table t", by="rival")
    book.server("C ALTER TABLE", "Z T")
    book.to_server("Q alter table t")
    book.to_client("C ALTER TABLE", "Z T", by="rival")
    prepare(book, "y", at="howdah_2", on=2)
    give_back(book)
    prepare(book, "z", at="howdah_3", on=1)


def test_a_change_of_one_database_is_none_of_another() -> None:
    book = Playbook(databases={"app": {"host": "127.0.0.1"}, "other": {"host": "127.0.0.1"}})
    prepare(book)
    other = book.manager.database("other", book.now)
    other.ddl += 1
    book.client("p y select 1", "S", by="b")
    book.to_server(NOTHING, "S")


def test_a_change_after_its_client_left_counts_too() -> None:
    book = Playbook()
    prepare(book)
    book.client("Q alter table t", by="b")
    book.client_leaves("b")
    book.server("C ALTER TABLE", "Z I")
    book.cancel_over()
    book.wire().take()
    prepare(book, "y", at="howdah_2")


# Who has prepared before, on the server that has it: PostgreSQL decides.


def test_where_the_statement_is_postgresql_tells_what_becomes_of_it() -> None:
    book = Playbook()
    prepare(book)
    run(book, "alter table t", "ALTER TABLE")
    use(book)
    book.client(*CALL)
    book.server(STALE, "Z I")
    book.to_server("B howdah_1", "E", "S")
    book.to_client(STALE, "Z I")


# On a server that lacks it: the pooler looks first.


def test_rows_that_still_look_the_same_are_none_the_wiser() -> None:
    book = altered()
    book.client(*CALL)
    book.to_server(*VERIFY, on=2)
    book.server("1", "t", "T", on=2)
    book.to_client()
    book.to_server("B howdah_2", "E", "S", on=2)
    book.server(*ROW, "Z I", on=2)
    book.to_client(*ROW, "Z I")
    use(book, at="howdah_2", on=2)
    give_back(book)


def test_rows_are_looked_at_once_for_each_change() -> None:
    book = altered()
    book.client("p y select 1", "S")
    book.to_server("p howdah_2 select 1", "s howdah_2", "S", on=2)
    book.server("1", "t", "T", "Z I", on=2)
    book.client(*CALL)
    book.to_server("p howdah_3 select 1", "s howdah_3", "H", on=2)
    book.server("1", "t", "T", on=2)
    book.to_server("B howdah_3", "E", "S", on=2)
    book.server(*ROW, "Z I", on=2)
    book.server_at(2).close(ServerClosed.LIFETIME)
    book.server_closes(2)
    book.client(*CALL)
    book.opens()
    book.to_server("p howdah_4 select 1", "B howdah_4", "E", "S", on=3)


def test_the_table_a_column_comes_from_makes_no_difference() -> None:
    book = altered()
    column = (
        m.string("c0") + m.int32(16400) + m.int16(7) + m.int32(25) + m.int16(-1) + m.int32(-1) + m.int16(0)
    )
    book.client(*CALL)
    book.to_server(*VERIFY, on=2)
    book.server("1", "t", m.message(b"T", m.int16(1) + column), on=2)
    book.to_server("B howdah_2", "E", "S", on=2)


@pytest.mark.parametrize("rows", [WIDER, "n", "T other"])
def test_who_would_get_other_rows_is_told_once_as_by_postgresql(rows: bytes | str) -> None:
    book = altered()
    book.client(*CALL)
    book.to_server(*VERIFY, on=2)
    book.server("1", "t", rows, on=2)
    book.to_server(*stale(), "E", "S", on=2)
    book.server("1", UNPLANNABLE, "Z I", on=2)
    book.to_client(STALE, "Z I")
    book.client(*CALL)
    book.to_server("C howdah_3", "B howdah_2", "E", "S", on=2)
    book.server("3", *ROW, "Z I", on=2)
    book.to_client(*ROW, "Z I")
    give_back(book)
    book.client("s x", "S")
    assert b"howdah_1" not in book.wire(2).take()


@pytest.mark.parametrize("wrong", ["42P03", "22P02", "08P01"])
def test_what_else_is_wrong_with_a_bind_comes_before_that(wrong: str) -> None:
    book = altered()
    book.client(*CALL)
    book.server("1", "t", WIDER, on=2)
    book.server("1", f"E {wrong} of howdah", "Z I", on=2)
    book.to_client(f"E {wrong} of howdah", "Z I")


def test_a_describe_of_what_would_have_other_rows_is_of_nothing() -> None:
    book = altered()
    book.client("s x", "H")
    book.wire(2).take()
    book.server("1", "t", WIDER, on=2)
    book.to_server("s howdah_0", "H", on=2)
    book.server(unknown("howdah_0"), on=2)
    book.to_client(STALE)


def test_a_name_whose_rows_differ_is_closed_and_taken_anew() -> None:
    book = altered()
    book.client(*CALL)
    book.server("1", "t", WIDER, on=2)
    book.server("1", UNPLANNABLE, "Z I", on=2)
    book.to_client(STALE, "Z I")
    book.wire(2).take()
    book.client("C x", "p x select 1", "S")
    book.to_server("C howdah_3", "C x", NOTHING, "S", on=2)
    book.server("3", "3", "3", "Z I", on=2)
    book.to_client("3", "1", "Z I")
    use(book, at="howdah_2", on=2)


def test_other_statements_of_the_client_are_not_concerned() -> None:
    book = two_servers()
    prepare(book, "y", "select 2")
    prepare(book, at="howdah_2")
    run(book, "alter table t", "ALTER TABLE")
    elsewhere(book)
    book.client("B x", "S")
    book.wire(2).take()
    book.server("1", "t", WIDER, on=2)
    book.to_server(*stale(4), "S", on=2)
    book.server("1", UNPLANNABLE, "Z I", on=2)
    book.to_client(STALE, "Z I")
    book.client("B y", "S")
    book.wire(2).take()
    book.server("3", "1", "t", "T", on=2)
    book.to_server("B howdah_5", "S", on=2)
    book.server("2", "Z I", on=2)
    book.to_client("2", "Z I")


def test_every_client_that_knows_the_old_rows_is_told() -> None:
    book = two_servers()
    prepare(book)
    book.client("p y select 1", "S", by="b")
    book.server("3", "Z I")
    book.to_server(NOTHING, "S")
    book.to_client("1", "Z I", by="b")
    run(book, "alter table t", "ALTER TABLE")
    elsewhere(book)
    for by, name, closed, number in (("a", "x", (), 3), ("b", "y", ("3",), 5)):
        book.client(f"B {name}", "E", "S", by=by)
        book.wire(2).take()
        book.server(*closed, "1", "t", WIDER, on=2)
        book.to_server(*stale(number), "E", "S", on=2)
        book.server("1", UNPLANNABLE, "Z I", on=2)
        book.to_client(STALE, "Z I", by=by)


def test_an_error_in_the_text_reaches_the_client_at_once() -> None:
    book = altered()
    book.client(*CALL)
    book.to_server(*VERIFY, on=2)
    book.server("E 42P01 no such table", on=2)
    book.to_client("E 42P01 no such table")
    book.to_server("B x", "E", "S", on=2)
    book.server("Z I", on=2)
    book.to_client("Z I")
    book.client(*CALL)
    book.to_server("C howdah_2", "p howdah_3 select 1", "s howdah_3", "H", on=2)


def test_a_look_that_is_cut_short_is_taken_again() -> None:
    book = altered()
    book.client(*CALL)
    book.to_server(*VERIFY, on=2)
    book.server("1", "E 57014 canceled", on=2)
    book.to_client("E 57014 canceled")
    book.to_server("B x", "E", "S", on=2)
    book.server("Z I", on=2)
    book.to_client("Z I")
    book.client(*CALL)
    book.to_server("C howdah_2", "p howdah_3 select 1", "s howdah_3", "H", on=2)


def test_a_client_that_leaves_meanwhile_leaves_nothing_to_rely_on() -> None:
    book = altered()
    book.client(*CALL)
    book.to_server(*VERIFY, on=2)
    book.client_leaves()
    assert book.state(2) == "closing"


def test_whoever_prepares_the_text_meanwhile_does_so_itself() -> None:
    book = altered()
    book.client("B x", "p y select 1", "S")
    book.to_server(*VERIFY, on=2)
    book.server("1", "t", on=2)
    book.to_server(on=2)
    book.server("T", on=2)
    book.to_server("B howdah_2", "p howdah_3 select 1", "s howdah_3", "S", on=2)


def test_a_text_whose_rows_nobody_knows_is_repeated_and_looked_at() -> None:
    book = two_servers()
    book.client("p x select 1", "S")
    book.to_server("p howdah_1 select 1", "s howdah_1", "S")
    book.server("1", "E 57014 canceled", "Z I")
    run(book, "alter table t", "ALTER TABLE")
    elsewhere(book)
    book.client(*CALL)
    book.to_server("p howdah_2 select 1", "s howdah_2", "B howdah_2", "E", "S", on=2)


def test_rows_are_compared_with_what_was_first_seen_of_them() -> None:
    book = two_servers()
    book.client("p x select 1", "S")
    book.client("p y select 1", "S", by="b")
    book.opens()
    book.to_server("p howdah_2 select 1", "s howdah_2", "S", on=2)
    book.server("1", "t", "T", "Z I")
    (statement,) = book.pool.statements.statements.values()
    seen = statement.shape
    book.server("1", "t", WIDER, "Z I", on=2)
    assert statement.shape == seen
    assert seen


# What is not asked for is not sent before its time.


def test_replies_that_the_look_brings_too_early_are_withheld_until_they_are_asked_for() -> None:
    book = altered()
    book.client("P other", "D", "B x", "E")
    book.to_server("P other", "D", *VERIFY, on=2)
    book.server("1", "n", "1", "t", "T", on=2)
    book.to_server("B howdah_2", "E", on=2)
    book.to_client()
    book.client("H")
    book.to_client("1", "n")
    book.server("2", "D 1", "C SELECT 1", on=2)
    book.to_client("2", "D 1", "C SELECT 1")
    book.client("S")
    book.server("Z I", on=2)
    book.to_client("Z I")


def test_replies_that_are_asked_for_in_the_same_chunk_are_sent_when_the_rest_is() -> None:
    book = altered()
    book.client("P other", "B x", "E", "S")
    book.to_server("P other", *VERIFY, on=2)
    book.server("1", "1", "t", on=2)
    book.to_client()
    book.server("T", on=2)
    book.to_server("B howdah_2", "E", "S", on=2)
    book.to_client("1")
    book.server(*ROW, "Z I", on=2)
    book.to_client(*ROW, "Z I")


@pytest.mark.parametrize("at_once", ["E 57014 canceled", "N hello", m.message(b"G", b"\0\0\0")])
def test_what_postgresql_sends_at_once_comes_behind_what_was_withheld(at_once: str | bytes) -> None:
    book = altered()
    book.client("P copy", "B", "B x")
    book.server("1", "2", "1", "t", "T", on=2)
    book.to_client()
    book.client("E")
    book.server("2", on=2)
    book.to_client()
    book.server(at_once, on=2)
    book.to_client("1", "2", "2", at_once)


def test_a_client_that_goes_without_asking_is_sent_nothing() -> None:
    book = altered()
    book.client("P other", "B x")
    book.server("1", "1", "t", "T", on=2)
    book.client("X")
    book.to_client()
    assert book.state(2) == "closing"

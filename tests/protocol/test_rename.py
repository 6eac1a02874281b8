from collections.abc import Callable

import pytest

from protocol import rename
from tests.support import messages as m

FIELDS = (0, 0, 25, -1, -1, 0)
"""A column of type text: table, its column, type, size, modifier, format."""


def description(*columns: tuple[str, tuple[int, int, int, int, int, int]]) -> bytes:
    """The body of a RowDescription."""
    body = m.int16(len(columns))
    for name, (table, column, kind, size, modifier, form) in columns:
        body += m.string(name) + m.int32(table) + m.int16(column) + m.int32(kind) + m.int16(size)
        body += m.int32(modifier) + m.int16(form)
    return body


# Where the name is.


@pytest.mark.parametrize(
    ("message", "at"),
    [
        (m.bind("", "one"), 6),
        (m.bind("portal", "one"), 12),
        (m.bind("portal", ""), 12),
        (m.describe(b"S", "one"), 6),
        (m.close(b"S", "one"), 6),
        (m.close(b"S", ""), 6),
    ],
)
def test_the_name_of_a_statement_is_found(message: bytes, at: int) -> None:
    assert rename.name_at(message, 0, len(message)) == at
    assert rename.name_at(b"before" + message + b"behind", 6, 6 + len(message)) == 6 + at


@pytest.mark.parametrize(
    "message",
    [
        m.describe(b"P", "portal"),
        m.close(b"P", "portal"),
        m.message(b"D"),
        m.message(b"C", b"\0"),
        m.message(b"B", b"a portal without an end"),
        m.message(b"B"),
    ],
)
def test_a_message_without_the_name_of_a_statement_has_none(message: bytes) -> None:
    assert rename.name_at(message + m.string("Snext"), 0, len(message)) == -1


# Another name in its place.


@pytest.mark.parametrize("new", ["howdah_1", "", "x" * 300])
@pytest.mark.parametrize(
    ("message", "old"),
    [
        (lambda name: m.bind("portal", name, ["1", None]), "old"),
        (lambda name: m.bind("", name), "old"),
        (lambda name: m.describe(b"S", name), "a longer one"),
        (lambda name: m.close(b"S", name), "o"),
    ],
)
def test_a_message_with_another_name_is_as_if_it_had_been_written_so(
    message: Callable[[str], bytes], old: str, new: str
) -> None:
    received = b"before" + message(old) + b"behind"
    stop = len(received) - 6
    at = rename.name_at(received, 6, stop)
    head = rename.renamed(received, 6, stop, at, at + len(old), new.encode())
    assert head + received[at + len(old) : stop] == message(new)


def test_the_beginning_of_a_long_message_is_renamed_before_the_rest_is_there() -> None:
    whole = m.bind("", "old", ["x" * 5000])
    start = whole[:100]
    head = rename.renamed(start, 0, len(whole), 6, 9, b"another")
    assert head + whole[9:] == m.bind("", "another", ["x" * 5000])


def test_a_parse_is_renamed_like_the_others() -> None:
    whole = m.parse("old", "select $1", [23])
    head = rename.renamed(whole, 0, len(whole), 5, 8, b"howdah_1")
    assert head + whole[8:] == m.parse("howdah_1", "select $1", [23])


# Messages of ours.


def test_messages_of_ours_are_those_of_the_manual() -> None:
    assert rename.parse(b"one", b"select 1\0\0\0") == m.parse("one", "select 1")
    assert rename.close(b"one") == m.close(b"S", "one")
    assert rename.describe(b"one") == m.describe(b"S", "one")
    assert rename.query(b"select 1") == m.query("select 1")
    assert rename.run(b"one") == m.bind("one", "one") + m.execute("one")


# Errors.


@pytest.mark.parametrize("new", [b'"x"', b"", b'"' + b"x" * 63 + b'"'])
def test_a_name_in_an_error_is_replaced_wherever_it_stands(new: bytes) -> None:
    text = 'prepared statement "howdah_1" does not exist; "howdah_1"'
    error = b"before" + m.error_response("26000", text) + b"behind"
    replaced = rename.replaced_in_error(error, 6, len(error) - 6, len(error), b'"howdah_1"', new)
    assert replaced == m.error_response("26000", text.replace('"howdah_1"', new.decode()))


def test_a_name_is_replaced_in_the_part_of_an_error_that_is_there() -> None:
    text = '"howdah_1" ' + "x" * 5000
    error = m.error_response("26000", text)
    replaced = rename.replaced_in_error(error[:2000], 0, len(error), 2000, b'"howdah_1"', b'"mine"')
    assert replaced + error[2000:] == m.error_response("26000", text.replace("howdah_1", "mine"))


# What PostgreSQL compares of rows.


def test_rows_look_alike_whichever_table_they_come_from() -> None:
    table = (("a", (16400, 1, 25, -1, -1, 0)), ("b", (16400, 2, 23, 4, -1, 1)))
    other = (("a", (16500, 2, 25, -1, -1, 1)), ("b", (0, 0, 23, 4, -1, 0)))
    assert rename.shape(description(*table)) == rename.shape(description(*other))


@pytest.mark.parametrize(
    "columns",
    [
        [],
        [("b", FIELDS)],
        [("a", FIELDS), ("a", FIELDS)],
        [("a", (0, 0, 1043, -1, -1, 0))],
        [("a", (0, 0, 25, 4, -1, 0))],
        [("a", (0, 0, 25, -1, 14, 0))],
    ],
)
def test_rows_look_different_by_number_names_and_types_of_columns(
    columns: list[tuple[str, tuple[int, int, int, int, int, int]]],
) -> None:
    assert rename.shape(description(*columns)) != rename.shape(description(("a", FIELDS)))


@pytest.mark.parametrize("cut", [1, 5, 18])
def test_what_is_no_description_of_rows_looks_like_itself(cut: int) -> None:
    whole = description(("a", FIELDS), ("b", FIELDS))
    assert rename.shape(b"") == b""
    assert rename.shape(whole[:-cut]) == whole[:-cut]
    assert rename.shape(whole + b"x" * cut) == whole + b"x" * cut

"""Expected bytes come from PostgreSQL's documentation and its own send functions, not from our encoders."""

import os
import time
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from psycopg.adapt import Transformer
from psycopg.pq import Format

from protocol.backend import DataRow, RowDescription
from proxy.admin.parser import CommandError
from proxy.admin.table import (
    BYTEA,
    INT4,
    INT8,
    NUMERIC,
    TEXT,
    TIME,
    Column,
    ColumnType,
    result_formats,
    row_description,
    row_encoder,
)

COLUMNS = (Column("name", TEXT), Column("count", INT4))


@pytest.fixture
def utc() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize(
    ("kind", "value", "text", "binary"),
    [
        (TEXT, "größe", "größe".encode(), "größe".encode()),
        (TEXT, "", b"", b""),
        (TEXT, "lost \udcff", b"lost \\udcff", b"lost \\udcff"),
        (INT4, 0, b"0", bytes(4)),
        (INT4, -2, b"-2", b"\xff\xff\xff\xfe"),
        (INT4, 1 << 40, b"2147483647", b"\x7f\xff\xff\xff"),
        (INT4, True, b"1", b"\0\0\0\1"),
        (INT8, 1 << 40, b"1099511627776", b"\0\0\1\0\0\0\0\0"),
        (INT8, -(1 << 70), b"-9223372036854775808", b"\x80\0\0\0\0\0\0\0"),
        (NUMERIC, 0, b"0", bytes(8)),
        (NUMERIC, 7, b"7", b"\0\1\0\0\0\0\0\0\0\7"),
        (NUMERIC, 10_000, b"10000", b"\0\2\0\1\0\0\0\0\0\1\0\0"),
        (NUMERIC, -12_345, b"-12345", b"\0\2\0\1\x40\0\0\0\0\1\x09\x29"),
        (BYTEA, b"\0\xff", b"\\x00ff", b"\0\xff"),
    ],
)
def test_values_are_written_in_both_formats(
    kind: ColumnType, value: str | int, text: bytes, binary: bytes
) -> None:
    assert (kind.text(value), kind.binary(value)) == (text, binary)


@pytest.mark.parametrize("number", [0, 1, 9_999, 10_000, 123_456_789_012_345_678_901_234, -40_000_000])
def test_a_driver_reads_our_binary_numeric(number: int) -> None:
    reader = Transformer().get_loader(psycopg.adapters.types["numeric"].oid, Format.BINARY)
    assert reader.load(NUMERIC.binary(number)) == Decimal(number)


def test_times_are_local_time_with_its_zone(utc: None) -> None:
    assert TIME.text(1_750_000_000.9) == TIME.binary(1_750_000_000) == b"2025-06-15 15:06:40 UTC"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [([], (0, 0)), ([0], (0, 0)), ([1], (1, 1)), ([0, 1], (0, 1))],
)
def test_none_or_one_format_code_is_for_all_columns(asked: list[int], expected: tuple[int, ...]) -> None:
    assert result_formats(asked, COLUMNS) == expected


@pytest.mark.parametrize(
    ("asked", "sqlstate", "message"),
    [
        ([0, 1, 0], "08P01", "bind message has 3 result formats but query has 2 columns"),
        ([2], "22023", "unsupported format code: 2"),
        ([0, -1], "22023", "unsupported format code: -1"),
    ],
)
def test_impossible_format_codes_are_refused(asked: list[int], sqlstate: str, message: str) -> None:
    with pytest.raises(CommandError) as error:
        result_formats(asked, COLUMNS)
    assert (error.value.sqlstate, error.value.message) == (sqlstate, message)


def test_the_row_description_has_type_size_and_format() -> None:
    fields = RowDescription.decode(row_description(COLUMNS, (0, 1))[5:]).fields
    assert [(f.name, f.type_oid, f.type_size, f.type_modifier, f.format) for f in fields] == [
        (b"name", 25, -1, -1, 0),
        (b"count", 23, 4, -1, 1),
    ]


def test_a_row_is_written_column_by_column_and_null_stays_null() -> None:
    encode = row_encoder(COLUMNS, (0, 1))
    assert DataRow.decode(encode(("a", 5))[5:]).values == [b"a", b"\0\0\0\5"]
    assert DataRow.decode(encode((None, None))[5:]).values == [None, None]


def test_a_row_with_too_few_values_is_an_error_and_not_a_short_row() -> None:
    with pytest.raises(ValueError, match="zip"):
        row_encoder(COLUMNS, (0, 0))(("a",))

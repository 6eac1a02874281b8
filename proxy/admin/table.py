"""Columns and rows -> RowDescription and DataRow, in the text or the binary format a client asks for.

Some drivers ask for binary results of every type they know, so each type can be written in both formats.
Sources: PostgreSQL manual, "Message Formats"; catalogue pg_type for object ids and sizes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from protocol import sqlstate as codes
from protocol.backend import DataRow, FieldDescription, RowDescription
from proxy.admin.parser import CommandError

Value = str | int | float | bytes | None
Row = Sequence[Value]
Encode = Callable[[Value], bytes]

TEXT_FORMAT: Final = 0
BINARY_FORMAT: Final = 1

_INT4: Final = Struct("!i")
_INT8: Final = Struct("!q")
_NUMERIC: Final = Struct("!hhHh")
_NEGATIVE: Final = 0x4000


def _text(value: Value) -> bytes:
    return str(value).encode("utf-8", "backslashreplace")


def _integer(value: Value, limit: int) -> int:
    """Column widths are PgBouncer's; a value that has outgrown its column shows the largest that fits."""
    return max(-limit - 1, min(int(value or 0), limit))


def _int4(value: Value) -> int:
    return _integer(value, 0x7FFFFFFF)


def _int8(value: Value) -> int:
    return _integer(value, 0x7FFFFFFFFFFFFFFF)


def _binary_numeric(value: Value) -> bytes:
    """A whole number as PostgreSQL's numeric: groups of four decimal digits, the highest first."""
    number = int(value or 0)
    rest, groups = abs(number), list[int]()
    while rest:
        rest, group = divmod(rest, 10_000)
        groups.insert(0, group)
    weight = max(len(groups) - 1, 0)
    header = _NUMERIC.pack(len(groups), weight, _NEGATIVE if number < 0 else 0, 0)
    return header + b"".join(group.to_bytes(2, "big") for group in groups)


def _timestamp(value: Value) -> bytes:
    """`YYYY-MM-DD HH:MM:SS TZ` in local time."""
    return _text(time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(float(value or 0))))


def _hex(value: Value) -> bytes:
    return b"\\x" + bytes(value if isinstance(value, bytes) else b"").hex().encode()


def _raw(value: Value) -> bytes:
    return value if isinstance(value, bytes) else b""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A type of PostgreSQL and how its values are written; `size` is -1 where it varies."""

    oid: int
    size: int
    text: Encode
    binary: Encode


TEXT: Final = ColumnType(25, -1, _text, _text)
INT4: Final = ColumnType(23, 4, lambda value: _text(_int4(value)), lambda value: _INT4.pack(_int4(value)))
INT8: Final = ColumnType(20, 8, lambda value: _text(_int8(value)), lambda value: _INT8.pack(_int8(value)))
NUMERIC: Final = ColumnType(1700, -1, lambda value: _text(int(value or 0)), _binary_numeric)
BYTEA: Final = ColumnType(17, -1, _hex, _raw)
TIME: Final = ColumnType(25, -1, _timestamp, _timestamp)
"""A wall-clock time in seconds since 1970, shown as text."""


class Column(NamedTuple):
    """A column of a result."""

    name: str
    type: ColumnType


Columns = tuple[Column, ...]
Formats = tuple[int, ...]


def result_formats(asked: Sequence[int], columns: Columns) -> Formats:
    """One format code per column from those of a Bind: none means text, one is for all columns.

    Raises CommandError for a code other than 0 and 1, and for a wrong number of them.
    """
    for code in asked:
        if code not in (TEXT_FORMAT, BINARY_FORMAT):
            raise CommandError(f"unsupported format code: {code}", codes.INVALID_PARAMETER_VALUE)
    if len(asked) <= 1:
        return tuple(asked or [TEXT_FORMAT]) * len(columns)
    if len(asked) != len(columns):
        raise CommandError(
            f"bind message has {len(asked)} result formats but query has {len(columns)} columns"
        )
    return tuple(asked)


def row_description(columns: Columns, formats: Formats) -> bytes:
    """The RowDescription of a result."""
    fields = [
        FieldDescription(_text(name), type_oid=kind.oid, type_size=kind.size, format=code)
        for (name, kind), code in zip(columns, formats, strict=True)
    ]
    return RowDescription(fields).encode()


def row_encoder(columns: Columns, formats: Formats) -> Callable[[Row], bytes]:
    """A function that makes a DataRow of a row of this result."""
    encoders = [
        kind.binary if code == BINARY_FORMAT else kind.text
        for (_, kind), code in zip(columns, formats, strict=True)
    ]

    def encode(row: Row) -> bytes:
        values = [
            None if value is None else encoder(value) for value, encoder in zip(row, encoders, strict=True)
        ]
        return DataRow(values).encode()

    return encode

"""The SQL texts that clients prepare, the tables they ask, and what PostgreSQL makes of them.

Law: what a text answers tells which text it is, so that one client's statement is never taken for another's.
"""

import re
from dataclasses import dataclass, field

INT4, INT8, TEXT, VARCHAR = 23, 20, 25, 1043
TYPE_NAMES = {INT4: "integer", INT8: "bigint", TEXT: "text", VARCHAR: "character varying"}

Column = tuple[str, int]
Columns = tuple[Column, ...]
Row = tuple[str, ...]

CELLS = {"n": "1", "word": "7", "more": "more"}
"""The only row of every table, by column; as text it is the same whatever its type."""
TABLES = ("shape_0", "shape_1", "shape_2")
AT_FIRST: Columns = (("n", INT4), ("word", TEXT))
MORE: Column = ("more", TEXT)


class Failure(Exception):
    """An ErrorResponse; the text is compared where it is known."""

    def __init__(self, code: str, text: str | None = None) -> None:
        super().__init__(f"{code} {text}")
        self.code, self.text = code, text


STALE = "cached plan must not change result type"


@dataclass
class World:
    """The tables as they are, and how often each has changed. `elsewhere`: those that were changed behind
    Howdah's back, unless it knows.
    """

    tables: dict[str, Columns | None] = field(default_factory=lambda: dict.fromkeys(TABLES, AT_FIRST))
    changes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    elsewhere: set[str] = field(default_factory=set)

    def change(self, table: str, columns: Columns | None) -> None:
        self.tables[table] = columns
        self.changes[table] += 1

    def columns(self, table: str) -> Columns:
        columns = self.tables[table]
        if columns is None:
            raise Failure("42P01", f'relation "{table}" does not exist')
        return columns


@dataclass(frozen=True)
class Text:
    """An SQL text, with the types that the client declares for its parameters."""

    kind: str
    sql: str
    types: tuple[int, ...] = ()
    table: str = ""


def echo(number: int) -> Text:
    return Text("echo", f"select $1::int4 + {number} as k{number}")


def star(table: str) -> Text:
    return Text("star", f"select * from {table}", table=table)


def count(table: str) -> Text:
    return Text("count", f"select count(*) as c from {table}", table=table)


PAIR = Text("pair", "select $1::text as a, $2::int4 as b")
INSERT = Text("insert", "insert into model_deeds values ($1::int4)")
# What depends on the backend is worked out by Execute; the planner would fail on 1 / 0 already at Bind.
DIVIDE = Text("divide", "select 1 / ($1::int4 + 0 * pg_backend_pid()) as d")
BAD = Text("bad", "selekt 1")
UNTYPED = Text("untyped", "select pg_typeof($1)::text as t")
DATE = Text("date", "select date '01/02/2003' - date '2003-01-01' as d")


def typed(oid: int) -> Text:
    """The same text each time: only the declared type tells one from another."""
    return Text("typed", UNTYPED.sql, (oid,))


TEXTS = (
    *(echo(number) for number in range(6)),
    *(star(table) for table in TABLES),
    *(star(table) for table in TABLES),
    *(count(table) for table in TABLES),
    *(typed(oid) for oid in TYPE_NAMES),
    PAIR,
    INSERT,
    DIVIDE,
    BAD,
    UNTYPED,
    DATE,
)
_FIXED: dict[str, tuple[tuple[int, ...], Columns | None]] = {
    "pair": ((TEXT, INT4), (("a", TEXT), ("b", INT4))),
    "insert": ((INT4,), None),
    "divide": ((INT4,), (("d", INT4),)),
    "count": ((), (("c", INT8),)),
    "date": ((), (("d", INT4),)),
}


def analysed(text: Text, world: World) -> tuple[tuple[int, ...], Columns | None]:
    """Types of the parameters and columns of the rows, None where there are none; Failure as of a Parse."""
    if text.kind == "bad":
        raise Failure("42601")
    if text.kind == "untyped":
        raise Failure("42P18")
    columns = world.columns(text.table) if text.table else ()
    if text.kind == "star":
        return (), columns
    if text.kind == "echo":
        return (INT4,), ((text.sql.rpartition(" ")[2], INT4),)
    if text.kind == "typed":
        return text.types, (("t", TEXT),)
    return _FIXED[text.kind]


def accepted(types: tuple[int, ...], values: tuple[str, ...]) -> None:
    """Failure where a value is none of its type."""
    for oid, value in zip(types, values, strict=True):
        if oid in (INT4, INT8) and not re.fullmatch(r"-?\d+", value):
            raise Failure("22P02")


def answered(text: Text, values: tuple[str, ...], columns: Columns, order: str) -> Row:
    """The row; `order` is that of day and month when the text was parsed. Failure as of an Execute."""
    match text.kind:
        case "echo":
            return (str(int(values[0]) + int(text.sql.rpartition("k")[2])),)
        case "star":
            return tuple(CELLS[name] for name, _ in columns)
        case "typed":
            return (TYPE_NAMES[text.types[0]],)
        case "divide" if int(values[0]) == 0:
            raise Failure("22012")
        case "divide":
            return (str(int(1 / int(values[0]))),)
        case "date":
            return ("1" if order == "MDY" else "31",)
        case "count":
            return ("1",)
    return values

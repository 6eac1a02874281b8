"""What the random pipelines say: statements and their parameters, names, COPY data.

Laws: nothing here depends on time, on a process or on an object id. A script owns the tables `t` and `x` of
its slot, and `x` is there only while the script wants it; all other texts are everybody's, so that clients
share them under names of their own.

Left out, because it is unlike PostgreSQL for a reason that the README gives, or is not the same twice:
- EXECUTE of a protocol-level statement, or a protocol-level name for an SQL-level PREPARE;
- isolation levels: preparing a statement on another server takes a snapshot, behind which none may be set;
- names and identifiers of more than 63 bytes: PostgreSQL cuts them, and says so with each Parse;
- session state: untracked settings, temporary tables, WITH HOLD, LISTEN, session-level locks;
- DDL that changes what a prepared statement returns, which is healed where PostgreSQL gives an error;
- rows in no order, which is another one where the server reuses space;
- DISCARD PLANS, after which a server reads every literal again, by the settings of whoever comes first;
- DDL that no command tag tells, such as in DO.

And left out, because PostgreSQL's own reply depends on how often a plan was used before: an expression over
parameters that may fail when it is folded, such as a text that is cast to a number (at Bind with a custom
plan, at Execute with a generic one).
"""

from collections.abc import Sequence
from typing import NamedTuple

Values = tuple[str | None, ...]


class Text(NamedTuple):
    """A statement, with parameters that fit, such that do not, and parameter types for Parse to declare.

    `works`: whether it can be prepared, with the types declared, and run.
    """

    sql: str
    good: Sequence[Values] = ((),)
    bad: Sequence[Values] = (("1",), ("1", "2", "3"))
    types: Sequence[tuple[int, ...]] = ((),)
    works: bool = True

    def at(self, slot: int) -> "Text":
        """The same on the tables of a slot."""
        return self._replace(sql=on(self.sql, slot))


def on(sql: str, slot: int) -> str:
    """A statement on the tables of a slot."""
    return sql.replace("{t}", f"t{slot}").replace("{x}", f"x{slot}")


INT4, INT8, TEXT, UNKNOWN_TYPE = 23, 20, 25, 99999

_INTS: Sequence[Values] = (("1",), ("-7",), (None,), ("0",))
_WORDS: Sequence[Values] = (("x",), ("",), (None,), ("ä" * 20,), ("y" * 3000,))
_PAIRS: Sequence[Values] = (("1", "one"), ("2", None), ("3", "z" * 50))
_NOT_INTS: Sequence[Values] = (("x",), (), ("1", "2"), ("99999999999",))

LITERAL = Text("select timestamptz '2001-02-03 04:05:06' as t, '02/03/2001'::date as d")
ZONES = (
    "set timezone = 'Asia/Tokyo'",
    "set timezone = 'Europe/Rome'",
    "set datestyle = 'German'",
    "set datestyle = 'ISO, DMY'",
    "reset timezone",
    "reset all",
)
QUERIES = (
    Text("select 1"),
    Text("select 1 as one, 'two' as two, null as three"),
    Text("select $1::text", _WORDS, ((), ("a", "b"))),
    Text("select $1 as v", _INTS, _NOT_INTS, ((INT4,), (TEXT,), (INT8,), ())),
    Text("select $1::int + 1 as n", _INTS, _NOT_INTS, ((), (INT4,))),
    Text("select $1::int as a, $2::text as b", _PAIRS, ((), ("x", "y"))),
    Text("select generate_series(1, 9)"),
    Text("select n, repeat('x', n) from generate_series(1, $1::int) n", (("5",), ("40",)), _NOT_INTS),
    Text("select repeat($1::text, 3000)", (("abc",), ("x",))),
    Text("select * from (values (1, 'a'), (2, 'b'), (3, null)) as v(n, t) order by n"),
    Text("select date '2001-02-03' as d, current_setting('TimeZone') as z"),
    Text("show timezone"),
    LITERAL,
    Text("values ($1::int), ($2::int)", (("1", "2"), (None, "4")), (("1",), ("x", "1"))),
    Text("", bad=(("1",),)),
)
WRITES = (
    Text("insert into {t} values ($1, $2)", _PAIRS, (("x", "y"), ("1",)), ((), (INT4, TEXT))),
    Text("insert into {t} values ($1, $2) returning n, v", _PAIRS, (("x", "y"), ())),
    Text("select n, v from {t} order by n, v"),
    Text("select count(*), sum(n) from {t} where n > $1", _INTS, _NOT_INTS),
    Text("update {t} set v = $2 where n = $1", _PAIRS, (("x", "y"),)),
    Text("delete from {t} where n = $1", _INTS, _NOT_INTS),
    Text("insert into {t} select n, 'many' from generate_series(1, 30) n"),
)
FAILING = tuple(
    text._replace(works=False)
    for text in (
        Text("select 1/0"),
        Text("selekt $1"),
        Text("select nothing from {t}"),
        Text("select * from nothing_like_it"),
        Text("select $1::int / (random() * 0)::int", (("1",),), _NOT_INTS),
        Text("select 1 / (3 - n) from generate_series(1, 9) n"),
        Text("select $1 as v", _INTS, types=((UNKNOWN_TYPE,),)),
        Text("select 1; select 2"),
        Text("select no_such_function($1)", _INTS),
        Text("do $$ begin raise exception 'mine' using errcode = 'AB123', hint = 'h', detail = 'd'; end $$"),
    )
)
NOTICES = (
    Text("do $$ begin raise notice 'n'; raise warning 'w'; end $$"),
    Text("set local timezone = 'UTC'"),
    Text("set timezone = 'Asia/Tokyo'"),
    Text("set timezone = 'Europe/Rome'"),
    Text("set datestyle = 'German'"),
    Text("set application_name = 'ä ''b'"),
    Text("set timezone = 'Nowhere'"),
    Text("reset timezone"),
    Text("set standard_conforming_strings = off"),
)
LATIN = Text("set client_encoding = 'LATIN1'")
"""Said only by those who give no name that means something else in it."""
COPIES = (
    Text("copy {t} from stdin"),
    Text("copy {t}(n) from stdin"),
    Text("copy {t} from stdin (format csv)"),
    Text("copy nothing_like_it from stdin"),
    Text("copy (select n from generate_series(1, 20) n) to stdout"),
    Text("copy (select 1 / (3 - n) from generate_series(1, 9) n) to stdout"),
    Text("copy (select repeat('x', 500) from generate_series(1, 40)) to stdout"),
    Text("copy (select n, v from {t} order by n, v) to stdout"),
)
TRANSACTIONS = (
    Text("begin"),
    Text("begin read only"),
    Text("commit"),
    Text("rollback"),
    Text("commit and chain"),
)
SAVEPOINTS = (
    Text("savepoint s"),
    Text("rollback to s"),
    Text("release s"),
)
CURSORS = (
    "declare c cursor for select generate_series(1, 9)",
    "fetch 2 from c",
    "fetch all from c",
    "close c",
    "close all",
)
ON_X = (
    Text("select n, v from {x} order by n, v"),
    Text("insert into {x}(n, v) values ($1, $2)", _PAIRS, (("x", "y"),)),
    Text("select count(*) from {x}"),
    Text("delete from {x} where n = $1", _INTS),
)
DDL = (
    "create table {x}(n int, v text)",
    "create table {x}(n int, v text)",
    "drop table {x}",
    "alter table {x} add column w int",
    "create index on {x}(n)",
    "alter table {x} rename to {x}_other; alter table {x}_other rename to {x}",
    "truncate {x}",
)

BATCHES = (
    "select 1; select 2; select 'three'",
    "select 1; select 1/0; select 2",
    "insert into {t} values (7, 'seven'); select 1/0",
    "insert into {t} values (8, 'eight'); select n, v from {t} order by n, v",
    ";",
    "select repeat('x', 30000)",
    "select 1; copy (select 1) to stdout; select 2",
)
"""Simple queries of several statements, none of which touches a transaction."""
BLOCKS = (
    "begin; select 1",
    "begin; select 1/0",
    "select 1; commit",
    "insert into {t} values (9, 'nine'); rollback; select 1",
)

NAMES = ("a", "a", "a", "b", "b", "s1", "S1", 'q"1', "ä b", "n" * 63)
"""Names of statements and of portals alike: one kind must not be taken for the other."""
PORTALS = ("a", "b", "c")
LONG = 70_000
"""Longer than what clients share of a statement's text."""

NOBODY = "nobody's"
"""A name that is never given."""

GOOD_ROWS = {
    "copy {t} from stdin": ("1\tone\n", "2\t\\N\n3\tthree\n", f"4\t{'w' * 9000}\n"),
    "copy {t}(n) from stdin": ("1\n", "2\n3\n", "\\N\n"),
    "copy {t} from stdin (format csv)": ("1,one\n", '2,"t ""w"" o"\n', "3,\n"),
}
BAD_ROWS = ("x\ty\tz\n", "not a number\n", "\n\\.x\n")


def quoted(name: str) -> str:
    """A name as SQL wants it."""
    return '"' + name.replace('"', '""') + '"'


def deallocations(name: str) -> Sequence[str]:
    """Ways to forget a statement by SQL."""
    return (
        f"deallocate {quoted(name)}",
        f"DEALLOCATE PREPARE {quoted(name)};",
        f"  deallocate\n{quoted(name)} ;",
        f"deallocate {quoted(NOBODY)}",
        "deallocate S1",
    )


FORGET_ALL = ("deallocate all", "DEALLOCATE PREPARE ALL", "discard all")

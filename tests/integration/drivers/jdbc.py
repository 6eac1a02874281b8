"""A client that uses the protocol as the JDBC driver does, scripted over raw messages.

Law: an SQL text run for the fifth time gets a name, S_1, S_2, ...; its rows are described once, and from then
on Bind and Execute come without Describe and rows are read by the remembered description. Autosave is
"never": an error is the caller's, and nothing is tried again.
"""

import itertools
import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.integration.drivers.crowd import Player
from tests.support import messages as m
from tests.support.messages import Fields, Message
from tests.support.target import Target

PARAMETERS = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO",
    "TimeZone": "Europe/Lisbon",
    "extra_float_digits": "2",
}
"""What the driver says at startup."""
INT4 = 23

Value = int | str | None
Row = tuple[Value, ...]


class ServerError(Exception):
    """An ErrorResponse, after which the connection is ready again."""

    def __init__(self, fields: Fields) -> None:
        super().__init__(f"{fields['C']}: {fields['M']}")
        self.fields = fields
        self.sqlstate = fields["C"]


class Column(NamedTuple):
    """What the driver remembers of a column."""

    name: str
    type: int


@dataclass
class Statement:
    """An SQL text in the driver's cache; without a name it is parsed anew for each use."""

    sql: str
    uses: int = 0
    name: str = ""
    columns: list[Column] | None = None


def columns_of(body: bytes) -> list[Column]:
    """Names and types of a RowDescription."""
    names, at, columns = m.column_names(body), 2, list[Column]()
    for name in names:
        at += len(name.encode()) + 1
        columns.append(Column(name, struct.unpack_from("!I", body, at + 6)[0]))
        at += 18
    return columns


def decoded(columns: Sequence[Column], body: bytes) -> Row:
    """A row read by the remembered description; fails where it is not what was described."""
    values = m.row_of(body)
    assert len(values) == len(columns), f"deceived: {columns} describe {values}"
    row = list[Value]()
    for column, value in zip(columns, values, strict=True):
        if column.type == INT4 and value is not None:
            assert value.lstrip("-").isdigit(), f"deceived: {column} describes {value!r}"
            row.append(int(value))
        else:
            row.append(value)
    return tuple(row)


class Jdbc(Player):
    """One connection. `cache` is how many texts it remembers; `deallocates`: how it forgets the others."""

    def __init__(
        self,
        target: Target,
        database: str,
        *,
        threshold: int = 5,
        cache: int = 256,
        deallocates: bool = False,
    ) -> None:
        self.raw = target.raw(database, parameters=PARAMETERS, timeout=30)
        self.threshold, self.cache, self.deallocates = threshold, cache, deallocates
        self.autocommit = True
        self.status = b"I"
        self.statements: OrderedDict[str, Statement] = OrderedDict()
        self.dead: list[str] = []
        self._parses = 0
        self._names = (f"S_{number}" for number in itertools.count(1))
        self._portals = (f"C_{number}" for number in itertools.count(1))
        try:
            for setting in ("extra_float_digits = 3", "application_name = 'PostgreSQL JDBC Driver'"):
                self.execute(f"SET {setting}")
        except BaseException:
            self.close()
            raise

    def turn(self, step: int) -> None:
        """A player of its own; tests with more to do derive from it."""
        assert self.execute("select $1::int4 as n", [step]) == [(step,)]

    def close(self) -> None:
        self.raw.send_quietly(m.terminate())
        self.raw.close()

    # --- the cache of statements -------------------------------------------------------------------

    def statement(self, sql: str, uses: int = 1) -> Statement:
        """The text as the cache has it, used once more."""
        statement = self.statements.setdefault(sql, Statement(sql))
        self.statements.move_to_end(sql)
        statement.uses += uses
        if not statement.name and statement.uses >= self.threshold:
            statement.columns = None
        while len(self.statements) > self.cache:
            _, oldest = self.statements.popitem(last=False)
            self.forget(oldest)
        return statement

    def forget(self, statement: Statement) -> None:
        """The name goes with the next request; the text is prepared under a new one when it is run again."""
        if statement.name:
            self.dead.append(statement.name)
        statement.name, statement.columns = "", None

    def forget_all(self) -> None:
        """What the driver does after DEALLOCATE ALL, or when it heals from a stale plan."""
        self.dead.clear()
        for statement in self.statements.values():
            statement.name, statement.columns = "", None

    def _funerals(self) -> bytes:
        """Close of every forgotten name: in front of the next request, answered with it."""
        dead, self.dead = self.dead, []
        if not self.deallocates:
            return b"".join(m.close(b"S", name) for name in dead)
        for name in dead:
            self._answer(m.query(f'DEALLOCATE "{name}"'))
        return b""

    # --- requests ------------------------------------------------------------------------------------

    def _begin(self) -> bytes:
        if self.autocommit or self.status != b"I":
            return b""
        self._parses += 1
        return m.parse("", "BEGIN") + m.bind() + m.execute()

    def _parsed(self, statement: Statement) -> bytes:
        """Parse, unless the text has a name already; from the threshold on it gets one."""
        if statement.name:
            return b""
        if statement.uses >= self.threshold:
            statement.name = next(self._names)
        self._parses += 1
        return m.parse(statement.name, statement.sql)

    def execute(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Runs a text once, to the end."""
        statement = self.statement(sql)
        request = self._funerals() + self._begin() + self._parsed(statement)
        request += m.bind("", statement.name, texts(values))
        if statement.columns is None or not statement.name:
            request += m.describe(b"P")
        return self._rows(statement, self._answer(request + m.execute() + m.sync(), statement))

    def batch(self, sql: str, lines: Sequence[Sequence[Value]]) -> int:
        """Runs a text for each line and only then syncs; how many commands were completed."""
        statement = self.statement(sql, len(lines))
        request = self._funerals() + self._begin() + self._parsed(statement)
        for number, values in enumerate(lines):
            request += m.bind("", statement.name, texts(values))
            if statement.columns is None and number == 0:
                request += m.describe(b"P")
            request += m.execute(max_rows=1)
        got = self._answer(request + m.sync(), statement)
        self._rows(statement, got)
        return len(m.command_tags(got)) - bool(self._begun(got))

    def fetch(self, sql: str, values: Sequence[Value], size: int) -> list[Row]:
        """Reads through a named portal, so many rows with each Sync; needs a transaction."""
        assert not self.autocommit
        statement, portal = self.statement(sql), next(self._portals)
        request = self._funerals() + self._begin() + self._parsed(statement)
        request += m.bind(portal, statement.name, texts(values)) + m.describe(b"P", portal)
        got = self._answer(request + m.execute(portal, size) + m.sync(), statement)
        rows = self._rows(statement, got)
        while m.tags(got)[-2] == "s":
            got = self._answer(m.execute(portal, size) + m.sync(), statement)
            rows += self._rows(statement, got)
        self._answer(m.close(b"P", portal) + m.sync(), statement)
        return rows

    def simple(self, sql: str) -> list[str]:
        """A simple query; its command tags."""
        got = self._answer(m.query(sql))
        done = m.command_tags(got)
        if {"DEALLOCATE ALL", "DISCARD ALL"} & set(done):
            self.forget_all()
        return done

    def end(self, how: str = "COMMIT") -> None:
        """Ends the transaction, if there is one."""
        if self.status != b"I":
            self._answer(m.parse("", how) + m.bind() + m.execute() + m.sync())

    # --- replies ---------------------------------------------------------------------------------------

    def _answer(self, request: bytes, statement: Statement | None = None) -> list[Message]:
        parses, self._parses = self._parses, 0
        got = self.raw.ask(request)
        self.status = got[-1].body
        failed = m.errors(got)
        if statement is not None and m.tags(got).count("1") < parses:
            statement.name = ""
        if failed:
            if statement is not None and statement.columns is None:
                self.forget(statement)
            raise ServerError(failed[0])
        return got

    @staticmethod
    def _begun(got: Sequence[Message]) -> bool:
        return m.command_tags(got)[:1] == ["BEGIN"]

    @staticmethod
    def _rows(statement: Statement, got: Sequence[Message]) -> list[Row]:
        for message in got:
            if message.tag == b"T":
                statement.columns = columns_of(message.body)
            elif message.tag == b"n":
                statement.columns = []
        columns = statement.columns or []
        return [decoded(columns, message.body) for message in got if message.tag == b"D"]


def texts(values: Sequence[Value]) -> list[str | None]:
    """Parameters in text format."""
    return [None if value is None else str(value) for value in values]

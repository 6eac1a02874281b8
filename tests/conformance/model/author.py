"""Writes the steps out of a seed: which client does what next.

Law: the same seed writes the same steps for every target; the author keeps a model of its own for what makes
sense. One transaction at most is open, since two servers do the work: the other one is for everybody else. No
table changes meanwhile.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conformance.model.catalogue import (
    AT_FIRST,
    INT4,
    MORE,
    TABLES,
    TEXTS,
    Columns,
    World,
)
from tests.conformance.model.choices import PostgreSQL
from tests.conformance.model.messages import (
    Bind,
    Close,
    Describe,
    Execute,
    Extended,
    Flush,
    Message,
    Parse,
    Query,
    Sync,
)
from tests.conformance.model.session import Group, Session

CLIENTS = 8
NAMES = ("", "a", "b", "c", "d")
ORDERS = ("MDY", "DMY")


@dataclass(frozen=True)
class Talk:
    """One client sends this in one piece, and reads to the last ReadyForQuery."""

    client: int
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Migration:
    """A table changes, by a client's simple query or (`client` is None) behind the back of Howdah."""

    client: int | None
    table: str
    sql: str
    columns: Columns | None
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Trouble:
    """Something happens to the servers; PostgreSQL itself is spared."""

    kind: str


Step = Talk | Migration | Trouble


class Author:
    """`sessions` and `world` are the author's own model, of what PostgreSQL would know."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World()
        self.sessions = [Session(ORDERS[number % 2]) for number in range(CLIENTS)]
        self.open: int | None = None

    def steps(self, many: int) -> Iterator[Step]:
        for _ in range(many):
            yield self._step()

    def _step(self) -> Step:
        chance = self.chance.random()
        if chance < 0.02:
            return Trouble(self.chance.choice(("reconnect", "kill", "few", "some", "many")))
        if chance < 0.08 and self.open is None:
            return self._migration()
        client = self.chance.randrange(CLIENTS)
        if self.open is not None and self.chance.random() < 0.4:
            client = self.open
        if chance < 0.25:
            return self._query(client)
        return self._talk(client)

    # --- simple queries -------------------------------------------------------------------------------

    def _query(self, client: int) -> Talk:
        session = self.sessions[client]
        query = self._simple(client, session)
        session.query(query)
        self.open = client if session.status != "I" else None if self.open == client else self.open
        return Talk(client, (query,))

    def _simple(self, client: int, session: Session) -> Query:
        choose = self.chance.choice
        if session.status != "I":
            kind = choose(
                ("commit", "rollback", "commit", "rollback", "select", "deallocate", "deallocate all")
            )
        else:
            kind = choose(
                ("select", "deallocate", "deallocate", "deallocate all", "discard all", "set", "begin")
            )
        if kind == "begin" and self.open is not None:
            kind = "select"
        if kind == "discard all" and session.login_order != ORDERS[0]:
            kind = "deallocate all"  # behind a pooler the way back leads to the server's own DateStyle
        if kind == "select":
            word = f"{client}.{self.chance.randrange(1000)}"
            return Query(kind, f"select '{word}' as word", word, (("word", 25),))
        if kind == "deallocate":
            name = choose(NAMES[1:])
            return Query(kind, f'{choose(("deallocate", "DEALLOCATE PREPARE"))} "{name}"', name)
        if kind == "set":
            order = choose(ORDERS)
            return Query(kind, f"set datestyle = 'ISO, {order}'", order)
        return Query(kind, kind)

    # --- groups -----------------------------------------------------------------------------------------

    def _talk(self, client: int) -> Talk:
        session = self.sessions[client]
        messages: list[Message] = []
        groups = self.chance.choice((1, 1, 1, 2, 3))
        for _ in range(groups):
            group = self._group(session)
            session.group(Group(group, alone=False), self.world, PostgreSQL())
            messages += [*group, Sync()]
        return Talk(client, tuple(messages))

    def _group(self, session: Session) -> list[Extended]:
        group: list[Extended] = []
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            group += self._part(session)
        return group

    def _part(self, session: Session) -> list[Extended]:
        """A few messages that belong together, or one that stands alone."""
        choose = self.chance.choice
        name, portal = choose(NAMES), choose(("", "", "", "p"))
        match choose(("prepare", "prepare", "run", "run", "run", "run", "describe", "close", "odd", "flush")):
            case "prepare":
                return [Parse(name, choose(TEXTS)), *choose(((), (Describe("S", name),)))]
            case "run":
                return self._run(session, name, portal)
            case "describe":
                return [Describe("S", name)]
            case "close":
                return [Close(choose("SSP"), name)]
            case "odd":
                odd = (
                    Execute(portal),
                    Describe("P", portal),
                    Close("P", portal),
                    Bind(portal, name, ("1", "2")),
                )
                return [choose(odd)]
        return [Flush()]

    def _run(self, session: Session, name: str, portal: str) -> list[Extended]:
        """Most often of a statement that is there, with values that fit."""
        known = sorted(session.statements)
        if known and self.chance.random() < 0.85:
            name = self.chance.choice(known)
        types = session.statements[name].types if name in session.statements else (INT4,)
        values = tuple(self._value(oid) for oid in types)
        messages: list[Extended] = [Bind(portal, name, values)]
        if self.chance.random() < 0.5:
            messages.append(Describe("P", portal))
        messages.append(Execute(portal, self.chance.choice((0, 0, 0, 1))))
        return messages

    def _value(self, oid: int) -> str:
        if self.chance.random() < 0.03:
            return "x"
        return str(self.chance.randrange(4) if oid == INT4 else self.chance.randrange(1000))

    # --- tables ------------------------------------------------------------------------------------------

    def _migration(self) -> Migration:
        table = self.chance.choice(TABLES)
        before = self.world.tables[table]
        sql, columns = self._change(table)
        tag = sql.partition(" table")[0].upper() + " TABLE"
        client = self.chance.randrange(CLIENTS)
        how = self.chance.choice(("as usual", "as usual", "as usual", "elsewhere", "rolled back"))
        if sql.startswith("alter") and how == "elsewhere":
            self.world.change(table, columns)
            return Migration(None, table, sql, columns, (tag,))
        self.sessions[client].statements.pop("", None)
        if sql.startswith("alter") and how == "rolled back":
            return Migration(client, table, f"begin; {sql}; rollback", before, ("BEGIN", tag, "ROLLBACK"))
        self.world.change(table, columns)
        tags = (tag, "INSERT 0 1") if sql.startswith("create") else (tag,)
        return Migration(client, table, sql, columns, tags)

    def _change(self, table: str) -> tuple[str, Columns | None]:
        columns = self.world.tables[table]
        if columns is None:
            create = f"create table {table}(n int, word text); insert into {table} values (1, '7')"
            return create, AT_FIRST
        if self.chance.random() < 0.1:
            return f"drop table {table}", None
        names = [name for name, _ in columns]
        if self.chance.random() < 0.5:
            if MORE in columns:
                return f"alter table {table} drop column more", tuple(c for c in columns if c != MORE)
            return f"alter table {table} add column more text default 'more'", (*columns, MORE)
        at = names.index("word")
        old, new = ("text", ("word", INT4)) if columns[at][1] != INT4 else ("int", AT_FIRST[1])
        to = "int using word::int" if old == "text" else "text"
        return f"alter table {table} alter column word type {to}", (*columns[:at], new, *columns[at + 1 :])

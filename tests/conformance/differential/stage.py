"""Where the pipelines are played: a PostgreSQL of our own with two equal databases, and poolers before one.

Law: what is played directly and what is played through the pooler never meet; each slot has tables of its own
in both databases.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conformance.differential.rules import Mode
from tests.conformance.differential.wire import Wire
from tests.support.choose_postgres import Chooser
from tests.support.pooler import Pooler
from tests.support.postgres import PostgresServer
from tests.support.server import Server
from tests.support.standard import build, entry
from tests.support.target import Target

SLOTS = 6
"""Scripts played at the same time: four on two servers, two on one; in session mode each has its own."""
_TWO, _ONE = "two", "one"
_FOUR = 4

FEW_STATEMENTS = 3
MANY_STATEMENTS = 200


@dataclass
class Stage:
    """`pooler` is None where PostgreSQL is compared with itself, or with what stands at `instead`."""

    mode: Mode
    server: Server
    other: Server
    pooler: Pooler | None
    instead: Target | None = None
    shaken: int = 0

    async def direct(self) -> Wire:
        """A connection to PostgreSQL itself."""
        return await opened(self.server, self.server.database)

    async def through(self, slot: int) -> Wire:
        """A connection to what is compared with it."""
        if self.pooler is None:
            return await opened(self.instead or self.other, self.other.database)
        return await opened(self.pooler, _TWO if slot < _FOUR else _ONE)

    async def level(self, server: Server, slot: int) -> None:
        """The tables of a slot as they were at the beginning, after a script without its end."""
        await asyncio.to_thread(server.sql, f"drop table if exists x{slot}; delete from t{slot}")

    async def shake(self) -> None:
        """Under the clients' feet: other servers, or room for few prepared statements, or for many again."""
        if self.pooler is None:
            return
        orders = (
            f"SET max_prepared_statements = {FEW_STATEMENTS}",
            "RECONNECT",
            f"SET max_prepared_statements = {MANY_STATEMENTS}",
            "RECONNECT",
        )
        order = orders[self.shaken % len(orders)]
        self.shaken += 1
        await asyncio.to_thread(self.pooler.admin, order)


async def opened(target: Target, database: str) -> Wire:
    return await Wire.open(target.host, target.port, target.user, database)


def tables(server: Server) -> None:
    """The tables of every slot, in this database."""
    for slot in range(SLOTS):
        server.sql(f"create table t{slot}(n int, v text)")
        server.sql(f"grant all on t{slot} to public")


def pooler(server: Server, mode: Mode, loop: str) -> Pooler:
    """A pooler before this database whose pools are smaller than the number of its clients."""
    sizes = (SLOTS, SLOTS) if mode == "session" else (2, 1)
    entries = {
        name: entry(server, pool_size=size, pool_mode=mode)
        for name, size in zip((_TWO, _ONE), sizes, strict=True)
    }
    quiet = {"log_connections": 0, "log_disconnections": 0, "query_wait_notify": 0}
    return build(entries, {"event_loop": loop, **quiet}, user=server.user)


@contextlib.contextmanager
def raised(mode: Mode, loop: str, *, itself: bool = False) -> Iterator[Stage]:
    """A stage with a server of its own."""
    with Chooser(None).choose()() as postgres, on(postgres, mode, loop, itself=itself) as stage:
        yield stage


@contextlib.contextmanager
def on(postgres: PostgresServer, mode: Mode, loop: str, *, itself: bool = False) -> Iterator[Stage]:
    """A stage on a server that runs, in two new databases."""
    one, other = (Server(postgres, postgres.new_database()) for _ in range(2))
    with contextlib.closing(one), contextlib.closing(other):
        tables(one)
        tables(other)
        if itself:
            yield Stage(mode, one, other, None)
        else:
            with pooler(other, mode, loop) as howdah:
                yield Stage(mode, one, other, howdah)

"""Many clients on one event loop, each asking again as soon as it is answered, and how long they wait.

Law: what a client waits is counted from its request to its ReadyForQuery; nothing is counted twice.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from protocol.frontend import Query
from protocol.startup import encode_startup
from tests.support.crowd import Crowd, until
from tests.support.pooler import Pooler


class Caller:
    """One client. `asked_at` is when it asked for what it still waits for (s), 0 while it does not."""

    def __init__(self, user: str, database: str) -> None:
        self._startup = encode_startup({b"user": user.encode(), b"database": database.encode()}, 196608)
        self.waits: list[float] = []
        self.asked_at = 0.0
        self.error = b""

    async def connect(self, port: int) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self._writer.write(self._startup)
        await self._ready()

    @property
    def descriptor(self) -> int:
        """Of its socket."""
        descriptor: int = self._writer.get_extra_info("socket").fileno()
        return descriptor

    async def _ready(self) -> None:
        while True:
            header = await self._reader.readexactly(5)
            body = await self._reader.readexactly(int.from_bytes(header[1:]) - 4)
            if header[:1] == b"E":
                self.error = body
            if header[:1] == b"Z":
                return

    async def ask(self, sql: bytes) -> float:
        """Ask once; returns how long it took (s)."""
        self.asked_at = time.monotonic()
        self._writer.write(Query(sql).encode())
        await self._ready()
        took, self.asked_at = time.monotonic() - self.asked_at, 0.0
        self.waits.append(took)
        return took

    async def ask_until(self, end: float, sql: bytes, think: float = 0.0) -> None:
        """Ask again and again until then."""
        while time.monotonic() < end:
            await self.ask(sql)
            if think:
                await asyncio.sleep(think)

    def close(self) -> None:
        self._writer.close()


async def callers(pooler: Pooler, count: int, database: str) -> list[Caller]:
    """So many logged-in clients."""
    made = [Caller(pooler.user, database) for _ in range(count)]
    for caller in made:
        await caller.connect(pooler.port)
    return made


async def callers_by_worker(pooler: Pooler, count: int, database: str) -> list[list[Caller]]:
    """So many logged-in clients of each worker: a busy machine may give one of them more at first."""
    crowd = Crowd(pooler)
    found: dict[int, list[Caller]] = {pid: [] for pid in crowd.workers()}
    spare: list[Caller] = []
    while any(len(mine) < count for mine in found.values()):
        (caller,) = await callers(pooler, 1, database)
        mine = found[crowd.worker_at(caller.descriptor)]
        (mine if len(mine) < count else spare).append(caller)
    for caller in spare:
        caller.close()
    return list(found.values())


def percentile(waits: Sequence[float], share: float) -> float:
    """The wait that this share of them does not exceed (s)."""
    return sorted(waits)[min(int(len(waits) * share), len(waits) - 1)]


async def outlive_a_worker(
    pooler: Pooler, database: str, servers: int, sleep: float, busy: Callable[[], int]
) -> None:
    """Kill the one of two workers that has all servers of a pool, while `busy` says that all are, for so long
    (s), or idle: the clients of the other get theirs when PostgreSQL has closed those, and not before.
    """
    mine, others = await callers_by_worker(pooler, servers, database)
    await asyncio.gather(*(client.ask(b"SELECT pg_sleep(0.2)") for client in mine))
    began = time.monotonic()
    asked = [asyncio.create_task(client.ask(f"SELECT pg_sleep({sleep})".encode())) for client in mine]
    if sleep:
        await asyncio.to_thread(until, lambda: busy() == servers, "all are busy")
    else:
        await asyncio.gather(*asked)
    os.kill(Crowd(pooler).worker_at(mine[0].descriptor), signal.SIGKILL)
    took = time.monotonic() - began
    waits = await asyncio.gather(*(client.ask(b"SELECT pg_sleep(0.2)") for client in others))
    for task in asked:
        with suppress(OSError, asyncio.IncompleteReadError):
            await task
    # All of them at once, each as soon as a server is gone.
    assert sleep - took < min(waits), "there were more servers than PostgreSQL lets in"
    assert max(waits) < sleep + 1.5
    assert not any(client.error for client in others)
    for client in (*mine, *others):
        client.close()
    log = pooler.log()
    # Where PostgreSQL lets a role in as often as the pool is large, it would have said so.
    assert "server login failed" not in log
    assert ("PostgreSQL is busy with" in log) == bool(sleep)

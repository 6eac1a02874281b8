"""Servers of one pool over several workers: `python -m tests.conformance.sharing`, two minutes.

Law: as a role that PostgreSQL lets in as often as the pool is large, no login is refused; fewer than one
server is opened per second; the 99th percentile of waiting is at most 1.5 times that of a single worker; and
nobody waits while a server of the pool is idle for longer than 50 ms.
"""

import argparse
import asyncio
import os
import random
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from tests.support import standard
from tests.support.choose_postgres import VARIABLE, Chooser
from tests.support.crowd import Crowd
from tests.support.pooler import Pooler
from tests.support.rush import Caller, callers, percentile
from tests.support.server import Server

POOL = 8
CLIENTS = 64
WORK = b"SELECT pg_sleep(0.002)"
ROLE, PASSWORD = "limited", "a secret"
SLOWER = 1.5
IDLE = 0.05
LATE = 0.01
# More processes have to be turned.
BUSIER = 1.25
_IDLE_SINCE = """
select coalesce(max(extract(epoch from clock_timestamp() - state_change)), 0) from pg_stat_activity
where usename = %s and state = 'idle'
"""


@dataclass
class Seen:
    """What one run has seen. `beside`: looks at which somebody waited beside an idle server."""

    waits: list[float] = field(default_factory=list)
    opened: int = 0
    refused: int = 0
    looks: int = 0
    beside: int = 0

    @property
    def share_beside(self) -> float:
        return self.beside / max(self.looks, 1)

    @property
    def p99(self) -> float:
        return percentile(self.waits, 0.99)


class Pulse:
    """When the clients' event loop has last turned: while it stands, an answer may be there unread."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    async def beat(self) -> None:
        while True:
            self._at = time.monotonic()
            await asyncio.sleep(0.002)

    @property
    def late(self) -> bool:
        return time.monotonic() - self._at > LATE


class Watch:
    """Looks at PostgreSQL, from a thread, for servers that are idle while somebody waits."""

    def __init__(self, server: Server, clients: list[Caller], seen: Seen, pulse: Pulse) -> None:
        self._pulse = pulse
        self._dsn = server.postgres.dsn(server.database)
        self._clients = clients
        self._seen = seen
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._over.wait(0.01):
                if self._pulse.late:
                    continue
                now = time.monotonic()
                asked = [client.asked_at for client in self._clients if client.asked_at]
                waiting = asked and now - min(asked) > IDLE
                row = connection.execute(_IDLE_SINCE, (ROLE,)).fetchone()
                assert row is not None
                self._seen.looks += 1
                # What counts is how it was before the question, which may take its time.
                self._seen.beside += bool(waiting and float(row[0]) - (time.monotonic() - now) > IDLE)


async def steady(clients: list[Caller], seconds: float) -> None:
    """All of them, all the time."""
    end = time.monotonic() + seconds
    await asyncio.gather(*(client.ask_until(end, WORK) for client in clients))


async def restless(clients: list[Caller], seconds: float) -> None:
    """Each now and then, for a while and then not at all: there is about as much to do as can be done."""
    end = time.monotonic() + seconds

    async def one(client: Caller, dice: random.Random) -> None:
        while time.monotonic() < end:
            await asyncio.sleep(dice.expovariate(1 / 0.5))
            await client.ask_until(min(time.monotonic() + dice.expovariate(1 / 0.1), end), WORK)

    await asyncio.gather(*(one(client, random.Random(at)) for at, client in enumerate(clients)))


async def play(server: Server, pooler: Pooler, seconds: float) -> Seen:
    clients = await callers(pooler, CLIENTS, "app")
    await steady(clients, 2)
    for client in clients:
        client.waits.clear()
    mark = pooler.log_mark()
    seen = Seen()
    await steady(clients, seconds / 2)
    seen.waits = [wait for client in clients for wait in client.waits]
    pulse = Pulse()
    beating = asyncio.create_task(pulse.beat())
    with Watch(server, clients, seen, pulse):
        await restless(clients, seconds / 2)
    beating.cancel()
    for client in clients:
        client.close()
    seen.opened = len(re.findall("new connection to server", pooler.log(mark)))
    seen.refused = pooler.log().count("server login failed") + sum(bool(client.error) for client in clients)
    return seen


def run(server: Server, workers: int, seconds: float) -> Seen:
    entry = standard.entry(server, user=ROLE, password=PASSWORD, pool_size=POOL)
    with standard.build({"app": entry}, {"workers": workers}, user=server.user) as pooler:
        if workers > 1:
            Crowd(pooler).wait_for_workers(workers)
        seen = asyncio.run(play(server, pooler, seconds))
    server.wait_until_quiet()
    print(
        f"{workers} workers: {len(seen.waits) / seconds * 2:.0f}/s,"
        f" p50 {percentile(seen.waits, 0.5) * 1000:.1f} p99 {seen.p99 * 1000:.1f} ms,"
        f" {seen.opened} opened, {seen.refused} refused,"
        f" {seen.beside} of {seen.looks} looks beside an idle server",
        flush=True,
    )
    return seen


def verdict(one: Seen, many: Seen, seconds: float) -> list[str]:
    """What is not as it should be."""
    problems = {
        f"{many.refused} logins or queries were refused": many.refused > 0,
        f"{many.opened} servers were opened in {seconds:g} s": many.opened >= seconds,
        f"the 99th percentile is {many.p99 / one.p99:.2f} times that of one worker": many.p99
        > SLOWER * one.p99,
        # Where somebody does so with one worker, this machine is too busy to turn processes in time.
        f"{many.beside} times somebody waited beside an idle server": many.share_beside
        > BUSIER * one.share_beside,
    }
    return [text for text, wrong in problems.items() if wrong]


@contextmanager
def limited(server: Server) -> Iterator[None]:
    """While the role exists."""
    server.sql(f"CREATE ROLE {ROLE} LOGIN CONNECTION LIMIT {POOL} PASSWORD '{PASSWORD}'")
    try:
        yield
    finally:
        server.sql(f"DROP ROLE {ROLE}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.sharing", description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with Chooser(os.environ.get(VARIABLE)).choose()() as postgres:
        server = Server(postgres, postgres.new_database())
        with limited(server):
            one = run(server, 1, options.seconds)
            many = run(server, options.workers, options.seconds)
        server.close()
    problems = verdict(one, many, options.seconds)
    print("; ".join(problems) or f"nothing wrong in {options.seconds:g} s")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())

"""Cancel requests by the thousand. `python -m tests.conformance.cancels` sends 10,000.

Five hundred clients share twenty servers over four workers. Some ask for long sleeps and are cancelled while
they sleep or wait: that has to take effect. Others are cancelled at the very moment when their query ends and
somebody else is lent their server: whatever comes of it, only they may be hit. Law: 0 strays, and 99 % of
those cancelled in time hear of it within 200 ms.
"""

import argparse
import asyncio
import os
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Final

import uvloop

from tests.conformance.nonce_client import Hung, NonceClient, Refused
from tests.conformance.nonce_oracle import CANCELLED
from tests.conformance.nonce_requests import told
from tests.support import messages as m
from tests.support import standard
from tests.support.choose_postgres import VARIABLE, Chooser
from tests.support.pooler import Pooler, Settings
from tests.support.server import Server

DATABASE: Final = "shared"
PATIENCE: Final = 30.0
IN_TIME: Final = 0.2
"""Within this time (s) a cancel request has to take effect."""
SHARE: Final = 0.99
_LONG: Final = 2.0
_SHORT: Final = 0.004
_SETTINGS: Final[Settings] = {
    "log_connections": 0,
    "log_disconnections": 0,
    "max_client_conn": 5000,
    "query_wait_notify": 0,
}
_SHOWN: Final = 20


@dataclass(frozen=True)
class Plan:
    """`cancels` to send, all in all; `think`: seconds between two queries of a client, at most; `at_once`:
    queries that are cancelled at the same time."""

    address: tuple[str, int]
    user: str
    cancels: int
    clients: int
    seed: int = 1
    think: float = 4.0
    at_once: int = 4


@dataclass
class Outcome:
    """What one run has seen; `delays` (s) are those of cancels in time that took effect."""

    sent: int = 0
    queries: int = 0
    late_hits: int = 0
    delays: list[float] = field(default_factory=list)
    without_effect: int = 0
    strays: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """Of the cancels in time, those that took effect soon enough."""
        soon = sum(delay <= IN_TIME for delay in self.delays)
        return soon / max(len(self.delays) + self.without_effect, 1)

    def report(self) -> str:
        delays = sorted(self.delays) or [0.0]
        median, most = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
        lines = [*self.strays[:_SHOWN], *self.problems[:_SHOWN]]
        lines.append(
            f"{self.sent} cancels among {self.queries} queries in {self.seconds:.0f} s:"
            f" {len(self.strays)} strays, {len(self.problems)} problems; {self.late_hits} late ones hit;"
            f" in time {len(self.delays) + self.without_effect},"
            f" {self.share:.2%} took effect within {IN_TIME * 1000:.0f} ms"
            f" (median {median * 1000:.1f} ms, 99 % {most * 1000:.1f} ms), {self.without_effect} not at all"
        )
        return "\n".join(lines)


class Run:
    """All clients of one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.outcome = Outcome()
        self.gate = asyncio.Semaphore(plan.at_once)

    @property
    def more(self) -> bool:
        return self.outcome.sent < self.plan.cancels and len(self.outcome.problems) < _SHOWN

    async def live(self) -> Outcome:
        """Until all are sent."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(self.plan.clients):
                group.create_task(Asker(number, self).live())
        self.outcome.seconds = time.monotonic() - began
        return self.outcome


class Asker:
    """One client, and the cancel requests with its key."""

    def __init__(self, number: int, run: Run) -> None:
        self._number, self._run = number, run
        self._dice = random.Random(run.plan.seed * 10_000 + number)
        self._asked = self._begun = 0
        self._client: NonceClient
        self._under_way: set[asyncio.Task[None]] = set()

    async def live(self) -> None:
        plan = self._run.plan
        parameters = {"user": plan.user, "database": DATABASE}
        try:
            self._client = await NonceClient.open(plan.address, parameters, PATIENCE)
            while self._run.more:
                await asyncio.sleep(self._dice.random() * plan.think)
                await self._dice.choice((self._plainly, self._late, self._in_time))()
            await asyncio.gather(*self._under_way)
            self._client.close()
        except (OSError, Hung, Refused) as error:
            self._run.outcome.problems.append(f"client {self._number}: {error!r}")

    async def _plainly(self) -> None:
        """A query that nobody cancels now."""
        await self._ask("select '{}'")

    async def _late(self) -> None:
        """A query that ends just when it is cancelled, or has ended, or has not begun."""
        if not self._run.more:
            return
        delay = self._dice.random() * 3 * _SHORT
        asking = asyncio.ensure_future(self._ask(f"select '{{}}' from pg_sleep({_SHORT})"))
        self._under_way.add(task := asyncio.ensure_future(self._cancel(delay)))
        task.add_done_callback(self._under_way.discard)
        self._run.outcome.late_hits += await asking

    async def _in_time(self) -> None:
        """A query that does not end before it is cancelled."""
        async with self._run.gate:
            if not self._run.more:
                return
            asking = asyncio.ensure_future(self._ask(f"select '{{}}' from pg_sleep({_LONG})"))
            await asyncio.sleep(0.02 + self._dice.random() * 0.05)
            began = time.perf_counter()
            self._under_way.add(task := asyncio.ensure_future(self._cancel(0.0)))
            task.add_done_callback(self._under_way.discard)
            if await asking:
                self._run.outcome.delays.append(time.perf_counter() - began)
            else:
                self._run.outcome.without_effect += 1

    async def _ask(self, sql: str) -> bool:
        """Whether PostgreSQL cancelled it; what else may have happened to it is a problem."""
        outcome = self._run.outcome
        self._asked += 1
        nonce = f"n{self._number}x{self._asked}"
        under_way, begun = bool(self._under_way), self._begun
        reply = await self._client.ask(m.query(sql.format(nonce)), 1, PATIENCE)
        outcome.queries += 1
        lines = told(reply.messages)
        if f"E {CANCELLED}" in lines:
            if not under_way and begun == self._begun:
                outcome.strays.append(f"client {self._number}, query {self._asked}: {lines}")
            return True
        if [row[0] for row in m.rows(reply.messages)] != [nonce]:
            outcome.problems.append(f"client {self._number}, query {self._asked}: {lines}")
        return False

    async def _cancel(self, delay: float) -> None:
        """Has been dealt with when the other side ends the connection."""
        await asyncio.sleep(delay)
        self._run.outcome.sent += 1
        self._begun += 1
        reader, writer = await asyncio.open_connection(*self._run.plan.address)
        writer.write(m.cancel_request(self._client.pid, self._client.secret))
        if await asyncio.wait_for(reader.read(), PATIENCE) != b"":
            self._run.outcome.problems.append("a cancel request was answered")
        writer.close()
        await writer.wait_closed()


def build(server: Server, workers: int, pool_size: int) -> Pooler:
    """A pooler with one pool."""
    entries = {DATABASE: standard.entry(server, pool_size=pool_size)}
    return standard.build(entries, {**_SETTINGS, "workers": workers}, user=server.user)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m tests.conformance.cancels", description=__doc__)
    options.add_argument("--cancels", type=int, default=10_000)
    options.add_argument("--clients", type=int, default=500)
    options.add_argument("--servers", type=int, default=20)
    options.add_argument("--workers", type=int, default=4)
    options.add_argument("--at-once", type=int, default=4, help="cancelled in time side by side")
    options.add_argument("--think", type=float, default=4.0, help="seconds between queries, at most")
    options.add_argument("--seed", type=int, default=1)
    return options


def main() -> int:
    options = parser().parse_args()
    with Chooser(os.environ.get(VARIABLE)).choose()() as postgres:
        server = Server(postgres, postgres.new_database())
        with build(server, options.workers, options.servers) as pooler:
            plan = Plan(
                (pooler.host, pooler.port),
                server.user,
                options.cancels,
                options.clients,
                options.seed,
                options.think,
                options.at_once,
            )
            outcome = uvloop.run(Run(plan).live())
        server.close()
    print(outcome.report())
    return 1 if outcome.strays or outcome.problems or outcome.share < SHARE else 0


if __name__ == "__main__":
    sys.exit(main())

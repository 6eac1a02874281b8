"""Many clients doing small transactions, and how they fared.

The law of this file: a client that is refused is counted with the server's own words and does not come back;
latency is what a client sees of one whole transaction, from BEGIN to COMMIT.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from proxy.demo.client import Address, Client, Refused

OPENING_AT_ONCE = 32
STOP_SECONDS = 2.0
ROWS = 10_000
SCHEMA = f"""
CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO account SELECT id, 0 FROM generate_series(1, {ROWS}) AS id;
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many clients, and how long each thinks between two transactions (mean seconds)."""

    clients: int = 500
    think: float = 0.5


@dataclass(slots=True)
class Interval:
    """What happened since the last look; latencies are seconds, sorted."""

    seconds: float
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Transactions per second."""
        return len(self.latencies) / self.seconds if self.seconds > 0 else 0.0

    def percentile(self, percent: float) -> float | None:
        """The latency in seconds that `percent` of the transactions kept below; None if there were none."""
        return percentile(self.latencies, percent)


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile of sorted numbers, `percent` from 0 to 100; None of no numbers."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank) - 1, 0)]


class Load:
    """The clients of one address, from `start` until `stop`."""

    def __init__(
        self,
        address: Address,
        plan: Plan,
        *,
        chance: random.Random | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._address = address
        self._plan = plan
        self._chance = chance or random.Random()
        self._clock = clock
        self._opening = asyncio.Semaphore(OPENING_AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []
        self._thinking: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._clients: set[Client] = set()
        self._latencies: list[float] = []
        self._looked_at = clock()
        self.refusals: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.transactions = 0

    @property
    def connected(self) -> int:
        """Clients that are logged in now."""
        return len(self._clients)

    @property
    def refused(self) -> int:
        """Clients that were not let in."""
        return self.refusals.total()

    async def start(self) -> None:
        """Let all clients knock; returns when each is either in and at work, or refused."""
        decided = [asyncio.get_running_loop().create_future() for _ in range(self._plan.clients)]
        self._tasks = [asyncio.create_task(self._live(each)) for each in decided]
        await asyncio.gather(*decided)
        self.look()

    async def stop(self) -> None:
        """Let what is under way end, at most STOP_SECONDS; returns when all connections are closed."""
        self._stopping = True
        for task in self._thinking:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self._clients))
        self._clients.clear()

    def look(self) -> Interval:
        """What happened since the last call."""
        now = self._clock()
        interval = Interval(now - self._looked_at, sorted(self._latencies))
        self._looked_at = now
        self._latencies = []
        return interval

    async def _live(self, decided: asyncio.Future[None]) -> None:
        try:
            async with self._opening:
                client = await Client.open(self._address)
        except (Refused, OSError) as exc:
            self.refusals[str(exc)] += 1
            return
        finally:
            if not decided.done():
                decided.set_result(None)
        self._clients.add(client)
        try:
            await self._work(client)
        except Refused as exc:
            self.failures[str(exc)] += 1
            self._clients.discard(client)
            await client.close()

    async def _work(self, client: Client) -> None:
        while not self._stopping:
            await self._think()
            begun = self._clock()
            await self._transact(client)
            self._latencies.append(self._clock() - begun)
            self.transactions += 1

    async def _think(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._thinking.add(task)
        await asyncio.sleep(self._chance.expovariate(1 / self._plan.think) if self._plan.think else 0)
        self._thinking.discard(task)

    async def _transact(self, client: Client) -> None:
        account = self._chance.randrange(ROWS) + 1
        await client.query("BEGIN")
        await client.query(f"UPDATE account SET balance = balance + 1 WHERE id = {account}")
        await client.query("COMMIT")

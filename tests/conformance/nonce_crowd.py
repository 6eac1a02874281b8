"""Two hundred clients in one event loop, impatient, rude and quick, each with words of its own.

Law: what an asker may be told is known before it asks: its own cancel that is
under way, its user's query_timeout, the disturbances of this run.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

from tests.conformance.nonce_client import Hung, NonceClient, Refused, cancel
from tests.conformance.nonce_named import NamedStatements
from tests.conformance.nonce_oracle import Circumstances, Oracle
from tests.conformance.nonce_requests import (
    INTERRUPTED,
    KINDS,
    LINGERING,
    Request,
    Templates,
    told,
    weight,
    word,
)
from tests.support import messages as m

CALM = "calm"
HASTY = {"hasty5": 0.005, "hasty20": 0.02, "hasty50": 0.05}
"""Users with a query_timeout, and that timeout in seconds."""

LEAVES, LEAVES_HALF, LEAVES_OPEN, CANCELS = 0.02, 0.005, 0.01, 0.05
"""How often an asker hangs up amid a reply, a request or a transaction, and how often it cancels."""
LINGERS = 0.03
"""How often a hasty asker asks for what it will not wait for."""
MOST_PROBLEMS = 50
"""From so many on there is no use in going on."""
NAMED = "named"
NAMED_SHARE = 0.3
_DELAY = 0.01
"""Seconds, at most."""


class Deaths:
    """Which workers were killed: a client's worker is named by the lowest bits of its key."""

    def __init__(self) -> None:
        self.count = Counter[int]()

    def before(self, client: NonceClient) -> int:
        """How many workers of its number have died."""
        return self.count[client.pid & 0xFF]

    @property
    def all(self) -> int:
        return self.count.total()


@dataclass(frozen=True)
class Plan:
    """What to do. `queries`: replies of all askers together at which to stop; `patience` (seconds) bounds
    every wait of theirs.
    """

    address: tuple[str, int]
    database: str
    queries: int
    seed: int
    clients: int = 200
    named: bool = True
    disturbed: bool = False
    patience: float = 30.0
    deaths: Deaths | None = None


class Crowd:
    """All askers of one run."""

    def __init__(self, plan: Plan, templates: Templates) -> None:
        self.plan = plan
        self.templates = templates
        self.oracle = Oracle()
        self.over = False

    @property
    def more(self) -> bool:
        """Whether there is more to ask, and any use in it."""
        tally = self.oracle.tally
        return not self.over and tally.replies < self.plan.queries and len(tally.problems) < MOST_PROBLEMS

    async def live(self) -> None:
        """Until all is asked."""
        async with asyncio.TaskGroup() as group:
            for number in range(1, self.plan.clients + 1):
                group.create_task(Asker(number, self).live())


class Asker:
    """One of the crowd, over many connections."""

    def __init__(self, number: int, crowd: Crowd) -> None:
        self._number, self._crowd = number, crowd
        self._dice = random.Random(crowd.plan.seed * 1000 + number)
        self._user = [*HASTY][number % 3] if number % 5 == 0 else CALM
        self._asked = self._died = 0
        self._cancels: list[asyncio.Task[bool]] = []
        self._statements = NamedStatements(number)

    async def live(self) -> None:
        tally = self._crowd.oracle.tally
        deaths = self._crowd.plan.deaths
        while self._crowd.more:
            died = Counter(deaths.count) if deaths is not None else None
            try:
                client = await NonceClient.open(
                    self._crowd.plan.address, self._parameters(), self._crowd.plan.patience
                )
            except (OSError, Refused, Hung) as error:
                if died is not None and await self._explains(error, died):
                    continue
                tally.missing.append(f"asker {self._number} cannot log in: {error!r}")
                return
            tally.logins += 1
            self._died = died[client.pid & 0xFF] if died is not None else 0
            self._statements = NamedStatements(self._number)
            while self._crowd.more and await self._step(client):
                pass
            client.close()
            await self._settle_cancels()

    async def _explains(self, error: Exception, died: Counter[int]) -> bool:
        """Whether a login may fail so: its worker was killed, or it is new and looks for a server first."""
        if isinstance(error, Hung):
            return False
        if self._user in HASTY and "query_timeout" in str(error):
            return True
        # Whoever kills them writes it down at the same moment.
        await asyncio.sleep(_DELAY)
        return self._crowd.plan.deaths is not None and self._crowd.plan.deaths.count != died

    async def _is_orphaned(self, client: NonceClient) -> bool:
        if self._crowd.plan.deaths is None:
            return False
        await asyncio.sleep(_DELAY)
        return self._crowd.plan.deaths.before(client) > self._died

    def _parameters(self) -> dict[str, str]:
        own = {"application_name": f"a_{self._number:03}"} if self._number % 2 else {}
        return {"user": self._user, "database": self._crowd.plan.database, **own}

    async def _step(self, client: NonceClient) -> bool:
        """One request; False when the connection has ended."""
        kind, nonce, request, expected = self._draw()
        self._crowd.oracle.tally.requests[kind] += 1
        if await self._leave(client, request):
            return False
        return await self._ask(client, kind, nonce, request, expected)

    def _draw(self) -> tuple[str, str, Request, list[str]]:
        self._asked += 1
        nonce = word(self._number, self._asked)
        if self._crowd.plan.named and self._dice.random() < NAMED_SHARE:
            return NAMED, nonce, *self._statements.request(self._dice, nonce)
        (kind,) = self._dice.choices(_KINDS, cum_weights=_WEIGHTS)
        if self._user in HASTY and self._dice.random() < LINGERS:
            kind = LINGERING
        return kind, nonce, KINDS[kind](nonce), self._crowd.templates.expected(kind, nonce)

    async def _leave(self, client: NonceClient, request: Request) -> bool:
        """Now and then, hangs up instead of waiting for the reply."""
        dice = self._dice.random()
        if dice > LEAVES + LEAVES_HALF + LEAVES_OPEN:
            return False
        self._crowd.oracle.tally.left += 1
        if dice < LEAVES:
            client.send(request.data)
            if dice < LEAVES / 2:
                await self._heard(client)
            else:
                await asyncio.sleep(self._dice.random() * _DELAY)
        elif dice < LEAVES + LEAVES_HALF:
            client.send(request.data[: len(request.data) // 2])
        else:
            client.send(m.query("begin; insert into inbox values ('lost')"))
            await self._heard(client)
        client.reset()
        return True

    async def _heard(self, client: NonceClient) -> None:
        """Waits for the first bytes of a reply."""
        try:
            async with asyncio.timeout(self._crowd.plan.patience):
                await client.heard.wait()
        except TimeoutError:
            self._crowd.oracle.tally.hanging.append(f"asker {self._number}: nothing at all comes")

    async def _ask(
        self, client: NonceClient, kind: str, nonce: str, request: Request, expected: list[str]
    ) -> bool:
        plan, oracle = self._crowd.plan, self._crowd.oracle
        self._cancels = [task for task in self._cancels if not task.done()]
        if kind == INTERRUPTED or self._dice.random() < CANCELS:
            client.heard.clear()
            self._cancels.append(asyncio.create_task(self._cancel(client, aimed=kind == INTERRUPTED)))
        cancelled = bool(self._cancels)
        who = f"asker {self._number}, {kind}"
        try:
            reply = await client.ask(request.data, request.ready, plan.patience)
        except Hung as error:
            oracle.tally.hanging.append(f"{who}: {error}")
            client.reset()
            return False
        orphaned = reply.closed and await self._is_orphaned(client)
        circumstances = Circumstances(cancelled, self._user in HASTY, plan.disturbed, orphaned)
        oracle.judge(who, nonce, expected, reply, circumstances)
        if kind == NAMED:
            self._statements.learn(told(reply.messages))
        if not reply.closed and reply.messages[-1].body != b"I":
            # A cancel that hit COMMIT leaves the transaction to be ended by somebody.
            client.reset()
            return False
        return not reply.closed

    async def _cancel(self, client: NonceClient, *, aimed: bool) -> bool:
        """Sends a cancel request, aimed at the query while it runs, or at wherever it is then."""
        if aimed:
            await self._heard(client)
        await asyncio.sleep(self._dice.random() * _DELAY)
        self._crowd.oracle.tally.cancels_sent += 1
        return await cancel(self._crowd.plan.address, client, self._crowd.plan.patience)

    async def _settle_cancels(self) -> None:
        for done in await asyncio.gather(*self._cancels):
            if not done:
                self._crowd.oracle.tally.hanging.append(f"asker {self._number}: a cancel request")
        self._cancels = []


def _cumulated(weights: list[float]) -> list[float]:
    total, sums = 0.0, list[float]()
    for each in weights:
        total += each
        sums.append(total)
    return sums


_KINDS = [*KINDS]
_WEIGHTS = _cumulated([weight(kind) for kind in _KINDS])

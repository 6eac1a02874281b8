"""Plays many scripts, several at once, and collects coverage and differences.

Law: while a script is played through the pooler, the next of its slot is played at PostgreSQL, so that the
clients of the pooler never stop competing for its servers.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.conformance.differential.author import write
from tests.conformance.differential.compare import Difference, Expectation, Follower
from tests.conformance.differential.coverage import Coverage
from tests.conformance.differential.play import NotPostgres, expectation, follow, settle
from tests.conformance.differential.script import Script
from tests.conformance.differential.stage import SLOTS, Stage
from tests.conformance.differential.wire import PATIENCE, Wire

SHAKE_EVERY = 12
"""Scripts of the first slot between two changes under the clients' feet."""

NEW_EVERY = 17
"""One in so many scripts is the first on its connections; no multiple of the number of slots."""

Progress = Callable[[int], None]


class Lane:
    """The two connections of a slot; each is opened anew now and then, and after a script that ended it."""

    def __init__(self, stage: Stage, slot: int, patience: float = PATIENCE) -> None:
        self.stage = stage
        self.slot = slot
        self.patience = patience
        self._direct: Wire | None = None
        self._through: Wire | None = None

    async def expectation(self, script: Script) -> Expectation:
        """What PostgreSQL answers to it."""
        self._direct = await kept(self._direct, script) or await self.stage.direct()
        expected = await expectation(self._direct, script)
        if expected.closed:
            self._direct = None
            await self.stage.level(self.stage.server, self.slot)
        return expected

    async def follow(self, script: Script, expected: Expectation) -> Follower:
        """How the other's replies compare with it."""
        self._through = await kept(self._through, script) or await self.stage.through(self.slot)
        self._through.patience = self.patience
        follower = await follow(self._through, script, expected)
        if follower.over:
            await settle(self._through, script, follower.sent)
        if follower.over or expected.closed:
            await self._through.leave(politely=False)
            self._through = None
            await self.stage.level(self.stage.other, self.slot)
        return follower

    async def leave(self) -> None:
        for wire in (self._direct, self._through):
            if wire is not None:
                await wire.leave()
        self._direct = self._through = None


async def kept(wire: Wire | None, script: Script) -> Wire | None:
    """The connection, if there is one and the script is not one of those that begin with a new one."""
    if wire is None or script.seed % NEW_EVERY:
        return wire
    if wire.restless:
        return wire  # to be found out
    await wire.leave()
    return None


@dataclass
class Run:
    """`most`: differences after which nothing new is begun; `patience`: as of a Wire."""

    stage: Stage
    coverage: Coverage
    most: int = 1
    patience: float = PATIENCE
    broken: NotPostgres | None = None
    differences: list[Difference] = field(default_factory=list)
    played: int = 0
    seconds: float = 0.0

    async def seeds(self, first: int, count: int, progress: Progress = lambda played: None) -> None:
        """Play these seeds; the slot of a seed is what is left of it modulo the number of slots."""
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for slot in range(SLOTS):
                own = [seed for seed in range(first, first + count) if seed % SLOTS == slot]
                group.create_task(self._slot(slot, own, progress))
        self.seconds += time.perf_counter() - started

    async def _slot(self, slot: int, seeds: Iterable[int], progress: Progress) -> None:
        lane = Lane(self.stage, slot, self.patience)
        following: asyncio.Task[None] | None = None
        try:
            for number, seed in enumerate(seeds):
                script = write(seed, slot, self.stage.mode)
                expected = await lane.expectation(script)
                if following is not None:
                    await following
                if self.broken or len(self.differences) >= self.most:
                    return
                if slot == 0 and number % SHAKE_EVERY == SHAKE_EVERY - 1:
                    await self.stage.shake()
                following = asyncio.create_task(self._follow(lane, script, expected, progress))
        except NotPostgres as error:
            self.broken = error
        finally:
            if following is not None:
                await following
            await lane.leave()

    async def _follow(self, lane: Lane, script: Script, expected: Expectation, progress: Progress) -> None:
        follower = await lane.follow(script, expected)
        self.coverage.count(script, expected, follower.allowed)
        self.played += 1
        progress(self.played)
        if follower.difference is not None:
            self.differences.append(follower.difference)

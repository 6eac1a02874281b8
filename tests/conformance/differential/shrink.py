"""Makes a script that differs as short as it can be.

Law: a shorter script counts only if it keeps the rules and differs too, at least once in a few plays: what
depends on the other clients of a server may need several.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

from tests.conformance.differential.author import write
from tests.conformance.differential.compare import Difference
from tests.conformance.differential.play import NotPostgres
from tests.conformance.differential.rules import SQL_PREPARED_BYTES, lawful
from tests.conformance.differential.run import Lane
from tests.conformance.differential.script import Script, Step, Wait
from tests.conformance.differential.stage import SLOTS, Stage

PLAYS = 3
IMPATIENCE = 1.0
"""Seconds after which a reply is taken for missing, where one was missed before."""
SECONDS = 120.0
_RIVAL_SEEDS = 1_000_000
"""Where the seeds of the rivals begin."""


async def shrunk(stage: Stage, difference: Difference, seconds: float = SECONDS) -> Difference:
    """The shortest that was found in this time; the difference itself where it did not come again."""
    async with Replay(stage, difference.script.seed % SLOTS) as replay:
        smallest = await replay.differs(difference.script, PLAYS * 3, difference.kind)
        if smallest is None:
            return replace(difference, what=f"{difference.what}; not seen again")
        deadline = time.monotonic() + seconds
        shorter = True
        while shorter:
            shorter = False
            for candidate in candidates(smallest.script):
                if time.monotonic() > deadline:
                    return smallest
                if not lawful(candidate.all, stage.mode):
                    continue
                found = await replay.differs(candidate, PLAYS, difference.kind)
                if found is not None:
                    smallest, shorter = found, True
                    break
        return smallest


def candidates(script: Script) -> Iterator[Script]:
    """Simpler scripts, the boldest first: without some steps, waits or cuts."""
    steps = script.steps
    size = len(steps) // 2
    while size:
        for at in range(0, len(steps), size):
            yield replace(script, steps=steps[:at] + steps[at + size :])
        size //= 2
    for plainer in (_uncut, _unwaited):
        if any(plainer(step) != step for step in steps):
            yield replace(script, steps=tuple(plainer(step) for step in steps))
        for at, step in enumerate(steps):
            if plainer(step) != step:
                yield replace(script, steps=(*steps[:at], plainer(step), *steps[at + 1 :]))


def _uncut(step: Step) -> Step:
    return replace(step, cuts=())


def _unwaited(step: Step) -> Step:
    return replace(step, wait=Wait.NO)


class Replay:
    """Plays scripts in one slot, while the others are as busy as they were."""

    def __init__(self, stage: Stage, slot: int) -> None:
        self._stage = stage
        self._slot = slot
        self._lane = Lane(stage, slot, IMPATIENCE)
        self._plays = 0
        self._rivals: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Replay":
        slots = set(range(SLOTS)) - {self._slot}
        self._rivals = [asyncio.create_task(self._rival(slot)) for slot in slots]
        return self

    async def __aexit__(self, *_: object) -> None:
        for rival in self._rivals:
            rival.cancel()
        await asyncio.gather(*self._rivals, return_exceptions=True)
        await self._lane.leave()

    async def _rival(self, slot: int) -> None:
        lane = Lane(self._stage, slot, IMPATIENCE)
        seed = _RIVAL_SEEDS + slot
        try:
            while True:
                script = write(seed, slot, self._stage.mode)
                await lane.follow(script, await lane.expectation(script))
                seed += SLOTS
        finally:
            await lane.leave()

    def _renamed(self, script: Script) -> Script:
        """With other names for what SQL prepares: those of an earlier play may be left on a server."""
        self._plays += 1
        number = _RIVAL_SEEDS - self._plays

        def renamed(step: Step) -> Step:
            return replace(step, data=SQL_PREPARED_BYTES.sub(b"q%07d_" % number, step.data))

        return replace(script, steps=tuple(map(renamed, script.steps)))

    async def differs(self, script: Script, plays: int, kind: str) -> Difference | None:
        """Its difference, if there is one of this kind in so many plays."""
        for _ in range(plays):
            script = self._renamed(script)
            try:
                expected = await self._lane.expectation(script)
            except NotPostgres:
                await self._lane.leave()
                return None
            follower = await self._lane.follow(script, expected)
            if follower.difference is not None and follower.difference.kind == kind:
                return follower.difference
        return None

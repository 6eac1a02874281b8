"""Many clients of one driver at once, at one place, until what disturbs the place is over.

Law: a client's turn asserts what it is told. Only where servers are killed may a turn end with a lost
connection, and at most one turn for each kill; the client then connects again and goes on.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from tests.support.target import Target

CLIENTS = 10
SERVERS = 3
TURNS = 24
"""Turns that every client takes at least: enough for a driver to prepare what it runs often."""
PATIENCE = 60.0


Disturbance = Callable[["Place"], AbstractContextManager[None]]


@dataclass
class Place:
    """Where a crowd plays. `disturb` does its work inside the `with` and then sets `over`; `left` says that
    nobody plays any more, so that there is nothing to be disturbed.
    """

    name: str
    target: Target
    database: str
    disturb: Disturbance
    over: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    kills: int = 0
    losses: list[Exception] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def goes_on(self, turns: int) -> bool:
        """Whether a client that has had so many turns takes another."""
        return turns < TURNS or not self.over.is_set()

    def lost(self, error: Exception) -> None:
        """A client's connection is gone: an error of the test unless a kill accounts for it."""
        with self._lock:
            self.losses.append(error)
            if len(self.losses) > self.kills:
                raise error


class Player(Protocol):
    """One connection of the driver."""

    def turn(self, step: int) -> None: ...
    def close(self) -> None: ...


class AsyncPlayer(Protocol):
    """One connection of an asynchronous driver."""

    async def turn(self, step: int) -> None: ...
    async def close(self) -> None: ...


IsLoss = Callable[[Exception], bool]
"""Tells whether an error of the driver says that its connection is gone."""


def play(place: Place, join: Callable[[int], Player], is_loss: IsLoss, clients: int = CLIENTS) -> None:
    """Lets so many clients, each in a thread of its own, take their turns."""

    def one(number: int) -> None:
        player: Player | None = None
        turns = 0
        try:
            while place.goes_on(turns):
                try:
                    player = player or join(number)
                    player.turn(turns)
                except Exception as error:
                    if not is_loss(error):
                        raise
                    place.lost(error)
                    if player is not None:
                        player.close()
                    player = None
                turns += 1
        finally:
            if player is not None:
                player.close()

    with place.disturb(place), ThreadPoolExecutor(clients) as threads:
        done = [threads.submit(one, number) for number in range(clients)]
        for each in done:
            each.result(PATIENCE)


async def play_async(
    place: Place, join: Callable[[int], Awaitable[AsyncPlayer]], is_loss: IsLoss, clients: int = CLIENTS
) -> None:
    """Lets so many clients, each in a task of its own, take their turns."""

    async def one(number: int) -> None:
        player: AsyncPlayer | None = None
        turns = 0
        try:
            while place.goes_on(turns):
                try:
                    player = player or await join(number)
                    await player.turn(turns)
                except Exception as error:
                    if not is_loss(error):
                        raise
                    place.lost(error)
                    if player is not None:
                        await player.close()
                    player = None
                turns += 1
        finally:
            if player is not None:
                await player.close()

    with place.disturb(place):
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            for number in range(clients):
                tasks.create_task(one(number))

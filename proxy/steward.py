"""The supervisor's part in leases: the ledger over all workers, on the event loop.

Laws of this file: messages go to the ledger in the order in which they came, what it says goes out at once,
and while it waits for something it is reminded of the time. A server of a dead worker counts until PostgreSQL
has closed it.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from config.settings import Settings
from proxy.changes import Changes
from proxy.estate import Estate
from proxy.frames import close_all
from proxy.handle import WorkerHandle
from proxy.pool.interfaces import PoolKey
from proxy.pool.leasing import Arrival, Connected, FromLedger, FromWorker, Report, Returned, Yielded
from proxy.pool.ledger import Limits, limits_of
from proxy.pool.shares import Shares
from proxy.seats import Left, Seat, Seated, Seating

logger = logging.getLogger("howdah")

PERIOD: Final = 0.1
"""Seconds between two reminders."""
GRACE: Final = 0.25
"""Time for PostgreSQL to notice the end of a connection of which there is no copy (s)."""
REMEMBERED: Final = 10_000
"""Clients choose names of databases: the limits of so many pools are kept at hand at most."""

Handler = Callable[[WorkerHandle, Any, tuple[int, ...]], None]


class Overseer(Protocol):
    """What is asked of the supervisor."""

    settings: Settings
    workers: dict[int, WorkerHandle]
    on_joined: list[Callable[[WorkerHandle], None]]
    on_left: list[Callable[[WorkerHandle], None]]
    on_ended: list[Callable[[WorkerHandle], None]]


class Steward:
    """Of one supervisor."""

    def __init__(self, overseer: Overseer) -> None:
        self._overseer = overseer
        self.shares = Shares(self._limits_of, self._send)
        self._settings = overseer.settings
        self._limits: dict[PoolKey, Limits] = {}
        self._estate = Estate()
        self._left: dict[WorkerHandle, Counter[PoolKey]] = {}
        self._reminded = False
        self._freed = Changes()
        self.seating = Seating(lambda: overseer.settings)
        overseer.on_joined.append(self._on_joined)
        overseer.on_left.append(self._on_left)
        overseer.on_ended.append(self._on_ended)

    def handlers(self) -> dict[type, Handler]:
        """What deals with each kind of message from a worker."""
        return {
            Seated: lambda handle, one, _: self.seating.count(handle.number, one.database, one.user, 1),
            Left: lambda handle, one, _: self.seating.count(handle.number, one.database, one.user, -1),
            Connected: self._on_connected,
            Returned: self._on_returned,
            **dict.fromkeys((Report, Yielded), self._receive),
        }

    def changed(self) -> None:
        """The settings may have changed."""
        self._limits_now()
        self.shares.changed(time.perf_counter_ns())
        self._remind()

    def close(self) -> None:
        """The end: nobody waits for PostgreSQL any more."""
        self._estate.close()

    async def until_none(self, database: str | None) -> None:
        """Return when no server of a database, or of any, is open, or on its way between two workers. May be
        cancelled.
        """
        book = self.shares.book
        await self._freed.until(lambda: not (book.total if database is None else book.of_database(database)))

    def _on_connected(self, handle: WorkerHandle, message: Connected, descriptors: tuple[int, ...]) -> None:
        self._estate.drop(message.instead)
        # Without room for the copy nobody knows of it: GRACE has to do.
        for descriptor in descriptors:
            self._estate.keep(handle, message.key, descriptor)

    def _on_returned(self, handle: WorkerHandle, message: Returned, descriptors: tuple[int, ...]) -> None:
        # Where PostgreSQL was given up, the copy would keep the connection open.
        self._estate.drop(message.inode)
        self._receive(handle, message, descriptors)
        self._freed.notify()

    def _receive(self, handle: WorkerHandle, message: FromWorker, descriptors: tuple[int, ...]) -> None:
        try:
            self.shares.receive(handle.number, message, descriptors, time.perf_counter_ns())
        finally:
            close_all(descriptors)
        self._remind()

    def _send(self, worker: int, message: FromLedger, descriptors: Sequence[int]) -> None:
        handle = self._overseer.workers.get(worker)
        if handle is None:
            return
        if isinstance(message, Arrival):
            self._estate.moved(message.inode, handle)
        try:
            handle.link.send(message, descriptors)
        except OSError as error:
            # Without its socket the server is lost, and its lease comes back.
            logger.warning("a server was lost between two workers: %s", error)
            handle.link.send(message)

    # Limits.

    def _limits_now(self) -> dict[PoolKey, Limits]:
        if self._settings is not self._overseer.settings:
            self._settings = self._overseer.settings
            self._limits.clear()
        return self._limits

    def _limits_of(self, key: PoolKey) -> Limits:
        limits = self._limits_now()
        known = limits.get(key)
        if known is None:
            if len(limits) >= REMEMBERED:
                limits.clear()
            known = limits[key] = limits_of(self._settings, key)
        return known

    # Time.

    def _remind(self) -> None:
        if not self._reminded:
            self._reminded = True
            asyncio.get_running_loop().call_later(PERIOD, self._sweep)

    def _sweep(self) -> None:
        self._reminded = False
        more = True
        try:
            more = self.shares.sweep(time.perf_counter_ns())
        finally:
            if more:
                self._remind()

    # Workers that are lost.

    def _on_joined(self, handle: WorkerHandle) -> None:
        handle.calls.answerers[Seat] = lambda seat: self.seating.ask(handle.number, seat)

    def _on_left(self, handle: WorkerHandle) -> None:
        self.seating.lost(handle.number)
        self._left[handle] = self.shares.lost(handle.number, time.perf_counter_ns())

    def _on_ended(self, handle: WorkerHandle) -> None:
        later = asyncio.get_running_loop().call_later
        leases = self._left.pop(handle, Counter())
        leases.subtract(self._estate.died(handle, self._on_closed))
        for key in leases.elements():
            later(GRACE, self._free, key)
        if self._estate.orphans:
            later(GRACE, self._tell_of_orphans)

    def _on_closed(self, key: PoolKey, known: bool) -> None:
        if known:
            self._free(key)
        else:
            asyncio.get_running_loop().call_later(GRACE, self._free, key)

    def _free(self, key: PoolKey) -> None:
        self.shares.freed(key, time.perf_counter_ns())
        self._freed.notify()

    def _tell_of_orphans(self) -> None:
        if count := self._estate.orphans:
            logger.warning(
                "PostgreSQL is busy with %d servers of lost workers, which count until it is done", count
            )

"""Who takes too long to log in is told so: one timer for all clients.

Law: a login costs an entry in a table, and a timer only where it is the first to be over.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from proxy.pool.units import SECOND


class Waiting(Protocol):
    """Who is waited for."""

    def login_takes_too_long(self) -> None:
        """Its time is over; it is waited for no longer."""
        ...


class Patience:
    """Of one event loop. Times are nanoseconds of `clock`."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._until: dict[Waiting, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0

    def begin(self, client: Waiting, until: int) -> None:
        """Wait for the client until then."""
        self._until[client] = until
        # After a reload whoever comes later may have to be in sooner.
        if self._timer is None or until < self._next:
            self._wait(until)

    def end(self, client: Waiting) -> None:
        """It is in, or gone."""
        self._until.pop(client, None)

    def _wait(self, until: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = until
        delay = max(until - self._clock(), 0) / SECOND
        self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock()
        over = [client for client, until in self._until.items() if until <= now]
        try:
            for client in over:
                if self._until.pop(client, None) is not None:
                    client.login_takes_too_long()
        finally:
            # Whatever became of one client: nobody else would see to the others.
            if self._until:
                self._wait(min(self._until.values()))

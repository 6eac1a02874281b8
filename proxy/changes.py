"""Waiting for something to become true without asking again and again: whoever changes something says so."""

import asyncio
from collections.abc import Callable


class Changes:
    """Told of each client and server that goes, it wakes those who wait for the last one."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Something has changed."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds. May be cancelled."""
        while not condition():
            future = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                await future
            finally:
                self._waiting.discard(future)

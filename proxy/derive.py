"""Deriving SCRAM keys from passwords, away from the event loop.

4096 rounds take a millisecond, and a peer may ask for more; so they run in threads of their own, at most two
at a time, and what was derived is remembered, since the same few passwords meet the same few salts again and
again.
"""

import asyncio
import hashlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from protocol.login import Derive

REMEMBERED: Final = 1000
THREADS: Final = 2

Key = tuple[bytes, bytes, int]


class Deriver:
    """Makes salted passwords (RFC 5802, Hi)."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="scram")
        self._remembered: OrderedDict[Key, bytes] = OrderedDict()

    async def derive(self, step: Derive) -> bytes:
        """The salted password, remembered or computed in a thread."""
        key = (hashlib.sha256(step.password).digest(), step.salt, step.iterations)
        known = self._remembered.get(key)
        if known is not None:
            self._remembered.move_to_end(key)
            return known
        derived = await asyncio.get_running_loop().run_in_executor(
            self._threads, hashlib.pbkdf2_hmac, "sha256", step.password, step.salt, step.iterations
        )
        self._remembered[key] = derived
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return derived

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

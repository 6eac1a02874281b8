"""The name of a client's host, as PostgreSQL finds it out for its rules: address to name, and back again.

A name counts only if one of its own addresses is the client's: who owns an address may call it anything.
Questions are asked in threads of their own, each for a limited time, once for each address at a time, and the
answers are remembered as long as those of other names.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Final

from config.settings import Settings
from proxy.log import printable

logger = logging.getLogger("howdah")

PATIENCE: Final = 5.0
"""How long a login waits for the name of its host (s)."""
MOST_REMEMBERED: Final = 10_000
MOST_ASKED: Final = 100
"""Addresses asked about at a time; a client from one more has no name."""
_THREADS: Final = 2


def confirmed_name(address: str) -> str:
    """Ask for the name of an address and for the addresses of that name; empty if they do not agree."""
    try:
        name, _ = socket.getnameinfo((address, 0), socket.NI_NAMEREQD)
        # Bytes need no codec, whose import might come too late for a user who may not read it.
        answers = socket.getaddrinfo(name.encode("ascii"), None)
        found = {str(entry[4][0]).partition("%")[0] for entry in answers}
    except (OSError, ValueError):
        return ""
    return name if ip_address(address) in {ip_address(other) for other in found} else ""


class HostNames:
    """Of one worker. `settings` gives the present settings, `ask` is `confirmed_name` unless a test says."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        ask: Callable[[str], str] = confirmed_name,
        patience: float = PATIENCE,
    ) -> None:
        self._settings = settings
        self._ask = ask
        self._patience = patience
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="hostname")
        self._known: dict[str, tuple[str, float]] = {}
        self._asking: dict[str, asyncio.Future[str]] = {}

    async def find(self, address: str) -> str:
        """The confirmed name of the host with this address; empty if it has none, or not in time."""
        loop = asyncio.get_running_loop()
        name, expires = self._known.get(address, ("", 0.0))
        if expires > loop.time():
            return name
        asking = self._asking.get(address)
        if asking is None:
            if len(self._asking) >= MOST_ASKED:
                logger.warning("too many hosts at a time are asked for their names, %s is not", address)
                return ""
            asking = loop.run_in_executor(self._threads, self._ask, address)
            self._asking[address] = asking
            asking.add_done_callback(lambda done: self._remember(address, done))
        try:
            return await asyncio.wait_for(asyncio.shield(asking), self._patience)
        except TimeoutError:
            logger.warning("the name of the host %s was not found out in time", printable(address))
            return ""

    def _remember(self, address: str, done: "asyncio.Future[str]") -> None:
        self._asking.pop(address, None)
        if done.cancelled():
            return
        settings = self._settings()
        name = done.result()
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        seconds = settings.dns_max_ttl if name else settings.dns_nxdomain_ttl
        self._known[address] = (name, asyncio.get_running_loop().time() + seconds)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

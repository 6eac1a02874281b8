"""The listening sockets of the only worker. What they accept becomes a client.

The unix socket stays open during a shutdown, so that the console can be reached.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from config.settings import Settings
from proxy.binding import Binding, ListenError, name_of
from proxy.transports import Doors, serve

__all__ = ["ACCEPTS", "ListenError", "Listener"]

logger = logging.getLogger("howdah")

ACCEPTS: Final = 32
"""Clients that are accepted in one turn of the loop at most; uvloop accepts one."""


class Listener:
    """`accepted` makes the protocol object of a new connection."""

    def __init__(self, accepted: Callable[[], asyncio.Protocol]) -> None:
        self._accepted = accepted
        self._binding = Binding()
        self._tcp: list[Doors] = []
        self._unix: list[Doors] = []

    @property
    def listening(self) -> bool:
        """Whether TCP clients can come, or unix ones where there is no TCP."""
        return bool(self._tcp or self._unix)

    async def start(self, settings: Settings, passed: list[socket.socket]) -> None:
        """Listen where the settings say, and on sockets a service manager passed. Raises ListenError."""
        self._binding.bind(settings, passed)
        for sock in self._binding.tcp:
            self._tcp.append(await serve(self._accepted, sock, ACCEPTS))
            self._listen(sock, settings)
        for sock in self._binding.unix:
            self._unix.append(await serve(self._accepted, sock, ACCEPTS))
            self._listen(sock, settings)

    def _listen(self, sock: socket.socket, settings: Settings) -> None:
        # What a loop is told is also how many it accepts in a turn; the kernel's queue may be longer.
        self._binding.listen(sock, settings)
        logger.info("listening on %s", name_of(sock))

    def apply(self, settings: Settings) -> None:
        """Take new settings, as far as they can change while listening."""
        self._binding.apply(settings)

    def stop_tcp(self) -> None:
        """Take no more TCP clients."""
        for server in self._tcp:
            server.close()
        self._tcp.clear()
        self._binding.tcp.clear()

    def stop(self) -> None:
        """Take no more clients at all."""
        self.stop_tcp()
        for server in self._unix:
            server.close()
        self._unix.clear()
        self._binding.unix.clear()
        self._binding.close()

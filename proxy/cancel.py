"""Cancel keys, and cancel requests on their way to PostgreSQL.

A request goes out only while what it is meant for is still what the server does (its generation), and the
server goes to nobody else until PostgreSQL has closed the connection that carried the request: only then has
the signal been sent. One request at a time for each server.
"""

import asyncio
import hmac
import logging
import os
from collections.abc import Callable
from typing import Final, Protocol

from protocol.errors import ProtocolError
from protocol.startup import encode_cancel_request
from proxy.connection import Connection, ConnectionLost
from proxy.dialler import Dialler
from proxy.encryption import TlsRefused
from proxy.server import Server
from proxy.tasks import Tasks

logger = logging.getLogger("howdah")

SHORT: Final = 4
"""Bytes of a cancel secret in protocol 3.0."""
LONG: Final = 32
"""Bytes of one in protocol 3.2."""


class Target(Protocol):
    """Whoever can be cancelled with a key."""

    def cancel_requested(self) -> "asyncio.Future[None] | None":
        """A request with the right key came; the future is ready when it has been dealt with."""
        ...


class CancelKeys:
    """Which client a key belongs to. Keys die with their client.

    The process id of a key is drawn at random, its lowest 8 bits name the worker.
    """

    def __init__(self, worker: int = 0) -> None:
        self._worker = worker
        self._keys: dict[int, tuple[bytes, Target]] = {}

    def add(self, target: Target, length: int) -> tuple[int, bytes]:
        """Make a key with a secret of `length` bytes."""
        while True:
            drawn = os.urandom(3 + length)
            pid = int.from_bytes(drawn[:3], "big") >> 1 << 8 | self._worker
            if pid and pid not in self._keys:
                break
        secret = drawn[3:]
        self._keys[pid] = (secret, target)
        return pid, secret

    def remove(self, pid: int) -> None:
        """Forget a key."""
        self._keys.pop(pid, None)

    def own(self, pid: int) -> bool:
        """Whether a key with this process id would be one of this worker's."""
        return pid & 0xFF == self._worker

    def find(self, pid: int, secret: bytes) -> Target | None:
        """Who has this key; takes the same time for a wrong secret as for a right one."""
        known, target = self._keys.get(pid, (b"", None))
        return target if hmac.compare_digest(known, secret) else None


class Canceller:
    """Sends cancel requests to servers, each over a connection of its own."""

    def __init__(self, dialler: Dialler, timeout: Callable[[], float]) -> None:
        self._dialler = dialler
        self._timeout = timeout
        self._tasks = Tasks()
        self.sent = 0

    def send(self, server: Server, generation: int) -> None:
        """Begin to cancel what the server does; it hears `cancel_over` at the end."""
        self._tasks.start(self._send(server, generation))

    async def _send(self, server: Server, generation: int) -> None:
        carrier = _Carrier()
        over = False
        try:
            async with asyncio.timeout(self._timeout() or None):
                over = await self._carry(carrier, server, generation)
        except TimeoutError:
            logger.warning("%scancel_wait_timeout", server.prefix)
            over = not carrier.sent
        except (OSError, ConnectionLost, TlsRefused, ProtocolError) as error:
            logger.warning("%sfailed to send a cancel request: %s", server.prefix, error)
            over = not carrier.sent
        finally:
            carrier.connection.abort()
            server.cancel_over(over, self._dialler.clock())

    async def _carry(self, carrier: "_Carrier", server: Server, generation: int) -> bool:
        """Deliver the request; True when PostgreSQL has acted on it, or nothing was sent."""
        if not server.secret or server.generation != generation:
            return True
        connection = carrier.connection
        await self._dialler.connect_again(connection, server)
        if server.generation != generation:
            logger.debug("%snot sending cancel request for client that is now idle", server.prefix)
            return True
        carrier.sent = True
        connection.write(encode_cancel_request(server.pid, server.secret))
        self.sent += 1
        await connection.until_lost()
        return True


class _Carrier:
    """Owner of a connection that carries a cancel request; nothing comes back on it but its end."""

    def __init__(self) -> None:
        self.sent = False
        self.connection = Connection(self)

    def connected(self) -> None:
        pass

    def writing_paused(self) -> None:
        pass

    def writing_resumed(self) -> None:
        pass

    def failed(self, error: Exception) -> None:
        self.connection.abort()

    def lost(self) -> None:
        pass

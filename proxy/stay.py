"""A short stay of ours at a server: wait for one, ask it something, give it back clean.

To the pool it is a session like any other: it waits its turn and holds one server. What it wants there, those
say that are made from it.
"""

import asyncio
from typing import TYPE_CHECKING

from protocol.errors import ProtocolError
from protocol.frontend import Query
from proxy.errand import Errand
from proxy.errors import PoolerError, ServerLost
from proxy.pool.parameters import NOTHING_APPLIED, Applied, Values
from proxy.pool.parties import PooledSession
from proxy.reasons import ClientClosed, ServerClosed

if TYPE_CHECKING:
    from proxy.pool.pool import Pool
    from proxy.server import Server


class Stay(PooledSession):
    """Of one client, or of nobody in particular (number 0). Fits any server. Used once."""

    def __init__(self, number: int, pool: "Pool", user: str = "") -> None:
        self.id = number
        self.user = user
        self.pool = pool
        self.values: Values = pool.tracked.unknown
        self.applied: Applied = NOTHING_APPLIED
        self.boot: Applied = NOTHING_APPLIED
        self.waiting_since = 0
        self.notified = True
        self._server: Server | None = None
        self._lent: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        self._answered: asyncio.Future[bytes | None] | None = None
        self._lost: PoolerError | ProtocolError | None = None

    async def borrow(self, now: int) -> "Server":
        """Wait for a server. Raises PoolerError where there will be none."""
        server: Server = self.pool.checkout(self, now) or await self._lent
        self._server = server
        return server

    async def ask(self, server: "Server", query: bytes) -> bytes | None:
        """PostgreSQL's ErrorResponse to a query, None if there is none. Raises PoolerError if the server
        goes.
        """
        return await self.run(server, Errand(answer), Query(query).encode())

    async def run(self, server: "Server", errand: Errand, messages: bytes) -> bytes | None:
        """As `ask`, for an errand of one's own (its `done` is `answer`) and the messages that begin it."""
        if self._lost is not None:
            raise self._lost
        self._answered = asyncio.get_running_loop().create_future()
        server.run(errand, messages, self.pool.dialler.clock())
        try:
            return await self._answered
        except asyncio.CancelledError:
            # How far it got will never be known.
            server.close(ServerClosed.ABANDONED)
            raise

    def leave(self) -> None:
        """Give the server back, or want none any more."""
        self.pool.leave(self)
        server, self._server = self._server, None
        if not self._lent.done():
            self._lent.cancel()
        if server is None or server.closing or server.connection.closed:
            return
        server.parted()
        now = self.pool.dialler.clock()
        if self._answered is None:
            self.pool.unused(server, now)
        else:
            server.abandoned(False, now)

    # What the pool and the server tell it.

    def assigned(self, server: "Server", now: int) -> bool:
        """A server is lent to it."""
        if self._lent.done():
            return False
        self._server = server
        self._lent.set_result(server)
        return True

    def refused(self, error: PoolerError, reason: ClientClosed) -> None:
        """There will be no server."""
        if not self._lent.done():
            self._lent.set_exception(error)

    def aligned(self, server: "Server", error: bytes | None, now: int) -> None:
        """PostgreSQL has answered."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(error)

    def server_lost(self, server: "Server", error: PoolerError | ProtocolError | None, now: int) -> None:
        """The server went away in the middle of the stay."""
        self._server = None
        self._lost = error or ServerLost()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(self._lost)

    def still_waiting(self) -> None:
        """A client that has not logged in yet is not told."""

    def server_full(self) -> None:
        """A few bytes were sent: nothing to hold back."""

    def server_drained(self) -> None:
        """Nothing was held back."""


def answer(server: "Server", error: bytes | None, now: int) -> None:
    """Tell the stay at this server that its errand is done."""
    if server.session is not None:
        server.session.aligned(server, error, now)

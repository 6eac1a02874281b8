"""A short stay of a login at a server: to hear the greeting of a pool that has none yet, and to have
PostgreSQL check the settings a client asks for, and say how it spells them.

To the pool it is a session like any other: it waits its turn, holds one server, and gives it back clean.
"""

import asyncio
from typing import TYPE_CHECKING

from protocol.errors import ProtocolError
from proxy.errors import PoolerError, ServerLost, ServerRefused, as_fatal
from proxy.pool.parameters import CHANGED, NOTHING_APPLIED, Applied, Values, alignment, setting
from proxy.reasons import ClientClosed, ServerClosed

if TYPE_CHECKING:
    from proxy.pool.pool import Pool
    from proxy.server import Server
    from proxy.wishes import Wishes


class Visit:
    """Of one login. Fits any server: what it wants is set there, and undone when somebody else needs the
    server.
    """

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

    async def make(self, wishes: "Wishes", now: int) -> None:
        """Wait for a server and have it check the wishes; what it says is remembered by the pool.

        Raises PoolerError: PostgreSQL's own refusal, or that there will be no server.
        """
        pool = self.pool
        try:
            server = pool.checkout(self, now) or await self._lent
            self._server = server
            unknown = [(n, v) for n, v in wishes.settings() if pool.accepted.form(n, v) is None]
            if unknown:
                await self._check(server, unknown)
        finally:
            self._leave()

    async def _check(self, server: "Server", wanted: list[tuple[bytes, bytes]]) -> None:
        pool = self.pool
        await self._clear(server)
        untracked = tuple((name, CHANGED) for name, _ in wanted if pool.tracked.index(name) < 0)
        error = await self._ask(server, b";".join(setting(name, value) for name, value in wanted))
        if error is not None:
            raise ServerRefused("invalid startup parameter", raw=as_fatal(error))
        server.applied = (*server.applied, *untracked)
        for name, value in wanted:
            at = pool.tracked.index(name)
            reported = server.values[at] if at >= 0 else None
            pool.accepted.learn(name, value, value if reported is None else reported)

    async def _ask(self, server: "Server", query: bytes) -> bytes | None:
        """PostgreSQL's ErrorResponse to a query, None if there is none. Raises PoolerError if the server
        goes.
        """
        if self._lost is not None:
            raise self._lost
        self._answered = asyncio.get_running_loop().create_future()
        server.ask(query, _answer, self.pool.dialler.clock())
        try:
            return await self._answered
        except asyncio.CancelledError:
            # Which of the settings hold now will never be known.
            server.close(ServerClosed.ABANDONED)
            raise

    async def _clear(self, server: "Server") -> None:
        """Take away what the last client had set: it must not judge the wishes of this one."""
        names = self.pool.tracked.names
        query = alignment(names, server.values, server.values, server.applied, NOTHING_APPLIED)
        if not query:
            return
        if await self._ask(server, query) is not None:
            server.close(ServerClosed.UNCLEAN)
            raise ServerLost
        server.applied = NOTHING_APPLIED

    def _leave(self) -> None:
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
        """A server is lent to this visit."""
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
        """The server went away in the middle of the visit."""
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


def _answer(server: "Server", error: bytes | None, now: int) -> None:
    if server.session is not None:
        server.session.aligned(server, error, now)

"""A short stay of a login at a server: to hear the greeting of a pool that has none yet, and to have
PostgreSQL check the settings a client asks for, and say how it spells them.
"""

from typing import TYPE_CHECKING, Final

from proxy.errors import ServerLost, ServerRefused, as_fatal
from proxy.pool.parameters import CHANGED, NOTHING_APPLIED, alignment, setting
from proxy.reasons import ServerClosed
from proxy.stay import Stay

if TYPE_CHECKING:
    from proxy.server import Server
    from proxy.wishes import Wishes


_LOSSES_MOST: Final = 3


class Visit(Stay):
    """Of one login. What it wants is set at the server, and undone when somebody else needs that."""

    async def make(self, wishes: "Wishes", now: int, losses: int = _LOSSES_MOST) -> None:
        """Wait for a server and have it check the wishes; what it says is remembered by the pool. Where the
        server goes away meanwhile another one will do, so many times.

        Raises PoolerError: PostgreSQL's own refusal, or that there will be no server.
        """
        accepted = self.pool.accepted
        try:
            server = await self.borrow(now)
            unknown = [(n, v) for n, v in wishes.settings() if accepted.form(n, v) is None]
            lost = bool(unknown) and not await self._checked(server, unknown, losses)
        finally:
            self.leave()
        if lost:
            again = Visit(self.id, self.pool, self.user)
            await again.make(wishes, self.pool.dialler.clock(), losses - 1)

    async def _checked(self, server: "Server", wanted: list[tuple[bytes, bytes]], losses: int) -> bool:
        """False: the server is lost, and another may be asked."""
        try:
            await self._check(server, wanted)
        except ServerLost:
            if not losses:
                raise
            return False
        return True

    async def _check(self, server: "Server", wanted: list[tuple[bytes, bytes]]) -> None:
        pool = self.pool
        await self._clear(server)
        untracked = tuple((name, CHANGED) for name, _ in wanted if pool.tracked.index(name) < 0)
        error = await self.ask(server, b";".join(setting(name, value) for name, value in wanted))
        if error is not None:
            raise ServerRefused("invalid startup parameter", raw=as_fatal(error))
        server.applied = (*server.applied, *untracked)
        for name, value in wanted:
            at = pool.tracked.index(name)
            reported = server.values[at] if at >= 0 else None
            pool.accepted.learn(name, value, value if reported is None else reported)

    async def _clear(self, server: "Server") -> None:
        """Take away what the last client had set: it must not judge the wishes of this one."""
        names = self.pool.tracked.names
        query = alignment(names, server.values, server.values, server.applied, NOTHING_APPLIED)
        if not query:
            return
        if await self.ask(server, query) is not None:
            server.close(ServerClosed.UNCLEAN)
            raise ServerLost
        server.applied = NOTHING_APPLIED

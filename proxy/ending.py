"""The ways to end: at once, when the servers are free, when the clients have gone; and the leave-taking.

Once begun nobody new comes in. What is waited for is asked for again only when something has changed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final, Protocol

from protocol import tags
from proxy.changes import Changes
from proxy.control import ShutdownMode
from proxy.errors import ShuttingDown
from proxy.lobby import Lobby
from proxy.pool.manager import PoolManager
from proxy.reasons import ClientClosed, ServerClosed
from proxy.tasks import Tasks

logger = logging.getLogger("howdah")

ORPHAN_SECONDS: Final = 60.0
"""How long a worker waits for transactions whose supervisor has gone: it has servers beside the limits that
the next pooler keeps, and an idle client may never end its transaction."""
# Time for PostgreSQL to take leave of the last connections before the process ends (s).
_FAREWELL: Final = 1.0


class Doors(Protocol):
    """Where clients come in."""

    def stop_tcp(self) -> None: ...


class Ending:
    """`mode`: what the shutdown that has begun waits for. `over`: it is time to take leave.

    `drained` is called, in place of taking leave, by one of many workers that has nothing left to wait for.
    """

    def __init__(self, manager: PoolManager, lobby: Lobby, changes: Changes, doors: Doors) -> None:
        self._manager = manager
        self._lobby = lobby
        self._changes = changes
        self._doors = doors
        self._waiting = Tasks()
        self.mode: ShutdownMode | None = None
        self.over = asyncio.Event()
        self.drained: Callable[[ShutdownMode], bool] | None = None
        self._orphaned = False

    def begin(self, mode: ShutdownMode) -> None:
        """Begin to shut down, or go on in another way."""
        self.mode = mode
        self._lobby.shutting_down = True
        if mode is ShutdownMode.IMMEDIATE:
            self.over.set()
            return
        self._doors.stop_tcp()
        if mode is ShutdownMode.WAIT_FOR_SERVERS:
            self._manager.pause(None)
            self.sweep()
        self._waiting.start(self._wait(mode))

    def orphan(self) -> None:
        """Nobody knows of this worker any more: end when its transactions do, or after ORPHAN_SECONDS.

        A session that is between transactions does not keep its server then.
        """
        self._orphaned = True
        self.begin(ShutdownMode.WAIT_FOR_SERVERS)
        asyncio.get_running_loop().call_later(ORPHAN_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if not self.over.is_set():
            left = self._manager.servers_left(None)
            logger.warning("servers still in use %g s later: %d, exiting", ORPHAN_SECONDS, left)
            self.over.set()

    async def _wait(self, mode: ShutdownMode) -> None:
        servers = mode is ShutdownMode.WAIT_FOR_SERVERS
        await self._changes.until(self._no_servers if servers else self._no_clients)
        if self.mode is not mode or (self.drained is not None and self.drained(mode)):
            return
        logger.info("%s connections dropped, exiting", "server" if servers else "client")
        self.over.set()

    def _no_servers(self) -> bool:
        return not self._manager.servers_left(None)

    def _no_clients(self) -> bool:
        return not self._lobby.ordinary_clients()

    def sweep(self) -> None:
        """Where servers are waited for: nobody who waits for one will get it."""
        if self.mode is not ShutdownMode.WAIT_FOR_SERVERS:
            return
        for pool in self._manager.pools_of(None):
            pool.refuse_waiting(ShuttingDown("server shutting down"), ClientClosed.SHUTDOWN)
        if self._orphaned:
            self._part_with_sessions()

    def _part_with_sessions(self) -> None:
        for client in list(self._lobby.clients.values()):
            session = client.session
            server = session.server if session is not None else None
            if server is not None and server.status == tags.STATUS_IDLE:
                client.finish(ShuttingDown("server shutting down"), ClientClosed.SHUTDOWN)

    async def take_leave(self) -> None:
        """Say goodbye to clients and servers."""
        self._lobby.shutting_down = True
        waited = self.mode is not ShutdownMode.IMMEDIATE
        if waited:
            await self._let_consoles_answer()
        farewell = ShuttingDown("pooler is shutting down") if waited else None
        for client in list(self._lobby.clients.values()):
            client.finish(farewell, ClientClosed.SHUTDOWN)
        self._manager.kill_servers(None, ServerClosed.SHUTDOWN)
        try:
            async with asyncio.timeout(_FAREWELL):
                await self._changes.until(self._no_servers)
        except TimeoutError:
            logger.warning("%d servers have not closed", self._manager.servers_left(None))
        self._waiting.cancel()

    async def _let_consoles_answer(self) -> None:
        consoles = [client.console for client in self._lobby.clients.values() if client.console is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                for console in consoles:
                    await console.settled()

"""The worker's end of its link: clients come over it, and what the supervisor has to say.

To the worker it is what a listener is to the only one. Law of this file: nothing is read from a client until
the word that it was adopted is on its way to the supervisor, which can then tell, when a worker is lost, whom
another can still have.
"""

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from config.settings import Settings
from proxy.announcements import Adopt, Begin, Count, Drained, End, Heartbeat, Serving, Stop
from proxy.control import ShutdownMode
from proxy.frames import close_all
from proxy.link import Calls, Link
from proxy.lobby import Lobby
from proxy.observer import Observer
from proxy.pool.manager import PoolManager
from proxy.tasks import Tasks
from proxy.transports import adopt

logger = logging.getLogger("howdah")

HEARTBEATS: Final = 5
"""Signs of life in one `worker_timeout`."""
_SELDOM: Final = 5.0

Handler = Callable[[Any, tuple[int, ...]], None]


class Work(Protocol):
    """What a member asks of the worker it belongs to."""

    lobby: Lobby
    manager: PoolManager
    observer: Observer

    def make_client(self) -> asyncio.Protocol: ...
    def shutdown(self, mode: ShutdownMode) -> None: ...
    def end(self) -> None:
        """All workers are drained."""

    def orphaned(self) -> None:
        """The supervisor has gone."""


class Member:
    """`handlers` has a function for each further kind of message; `calls` is for questions."""

    def __init__(self, sock: socket.socket) -> None:
        self.handlers: dict[type, Handler] = {
            Adopt: self._adopt,
            Stop: lambda stop, _: self._work.shutdown(stop.mode),
            End: lambda *_: self._work.end(),
        }
        self.link = Link(sock, self._receive, self._lost)
        self.calls = Calls(self.link)
        self.listening = False
        self._work: Work
        self._timeout = 0.0
        self._adopted = 0
        self._unreported: deque[socket.socket] = deque()
        self._reported: deque[socket.socket] = deque()
        self._adopting = Tasks()
        self._counting = False
        self._beat: asyncio.TimerHandle | None = None
        self._servers = 0
        self._looking = False

    def begin(self) -> Begin | None:
        """Wait for the first message, which says what to be; None when the supervisor has gone instead."""
        first = self.link.wait()
        return first if isinstance(first, Begin) else None

    def belong_to(self, work: Work) -> None:
        """Whose member this is."""
        self._work = work

    # What a listener has, too.

    async def start(self, settings: Settings, passed: list[socket.socket]) -> None:
        """Take clients from now on."""
        self._timeout = settings.worker_timeout
        self.link.start()
        self.link.send(Serving(os.getpid()))
        self.listening = True
        self._heartbeat()

    def apply(self, settings: Settings) -> None:
        """Take new settings."""
        self._timeout = settings.worker_timeout
        if self._beat is not None:
            self._beat.cancel()
            self._heartbeat()

    def stop_tcp(self) -> None:
        """The supervisor knows by itself that no more TCP clients are wanted."""

    def stop(self) -> None:
        """The end."""
        self.listening = False
        if self._beat is not None:
            self._beat.cancel()
        for untouched in (self._unreported, self._reported):
            while untouched:
                untouched.popleft().close()

    # What the worker has to say.

    def count(self) -> None:
        """A client has come or gone: say how many there are, once for each turn of the loop."""
        if not self._counting:
            self._counting = True
            asyncio.get_running_loop().call_soon(self._count)

    def _count(self) -> None:
        self._counting = False
        lobby = self._work.lobby
        fresh = len(self._unreported)
        self._reported.extend(self._unreported)
        self._unreported.clear()
        present = len(lobby.clients) + len(self._reported) + len(self._adopting)
        count = Count(self._adopted, present, lobby.special_clients)
        self.link.send(count, taken=lambda: self._read(fresh))

    def drained(self, mode: ShutdownMode) -> bool:
        """Nothing is left that the shutdown waits for; False if there is no supervisor to tell it."""
        self.link.send(Drained(mode))
        return not self.link.closed

    def servers_changed(self) -> None:
        """Servers may have come or gone, and need descriptors as clients do: say so in this turn."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        if self.listening and self._work.manager.servers_left(None) != self._servers:
            self._say_alive()

    def _say_alive(self) -> None:
        work = self._work
        self._servers = work.manager.servers_left(None)
        self.link.send(Heartbeat(self._servers, work.observer.lag or 0.0))

    def _heartbeat(self) -> None:
        self._say_alive()
        loop = asyncio.get_running_loop()
        self._beat = loop.call_later(self._timeout / HEARTBEATS or _SELDOM, self._heartbeat)

    # What the supervisor has to say.

    def _receive(self, message: object, descriptors: tuple[int, ...]) -> None:
        if self.calls.receive(message):
            return
        handler = self.handlers.get(type(message))
        if handler is None:
            logger.error("nobody knows what to do with %s", type(message).__name__)
            close_all(descriptors)
            return
        try:
            handler(message, descriptors)
        except Exception:
            logger.exception("a message from the supervisor: %s", type(message).__name__)

    def _lost(self) -> None:
        self.calls.lost()
        self.stop()
        if self.link.failure is not None:
            logger.error("the link to the supervisor is broken: %s", self.link.failure)
        self._work.orphaned()

    def _adopt(self, message: Adopt, descriptors: tuple[int, ...]) -> None:
        self._adopted += 1
        self._work.lobby.others = message.others
        self.count()
        if not descriptors:
            logger.warning("a client was lost: out of file descriptors")
            return
        try:
            sock = socket.socket(fileno=descriptors[0])
        except OSError:
            close_all(descriptors)
            return
        sock.setblocking(False)
        self._unreported.append(sock)

    def _read(self, count: int) -> None:
        """The first `count` of those reported are known to the supervisor, whatever happens to us."""
        for _ in range(min(count, len(self._reported))):
            task = self._adopting.start(self._welcome(self._reported.popleft()))
            task.add_done_callback(lambda _: self.count())

    async def _welcome(self, sock: socket.socket) -> None:
        try:
            await adopt(sock, self._work.make_client())
        except OSError:
            # It has gone already.
            sock.close()

"""Where clients come in when there are many workers: accepted here, and handed on unread.

Law of this file: a client stays open here until its worker says that it has taken it over, which it does
before it reads, so that another can have it if that one ends. Where nobody can take one, nobody is accepted:
the kernel keeps them.
"""

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from config.settings import Settings
from proxy.announcements import Adopt
from proxy.binding import Binding, name_of
from proxy.frames import LinkLost
from proxy.handle import WorkerHandle
from proxy.roster import Roster

logger = logging.getLogger("howdah")

ACCEPTS: Final = 32
"""Clients that are accepted in one turn of the loop at most."""
SPARE: Final = 32
"""Descriptors of a worker that are not for clients and servers."""
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 1.0
_SAY_EVERY: Final = 60.0


class Entrance:
    """Over the sockets of `binding`, to `workers`, as `roster` shares them out."""

    def __init__(self, binding: Binding, roster: Roster, workers: Mapping[int, WorkerHandle]) -> None:
        self._binding = binding
        self._roster = roster
        self._workers = workers
        self._homeless: deque[socket.socket] = deque()
        self._accepting: list[socket.socket] = []
        self._exhausted: asyncio.TimerHandle | None = None
        self._said_at = -_SAY_EVERY

    @property
    def listening(self) -> bool:
        """Whether TCP clients can come, or unix ones where there is no TCP."""
        return bool(self._binding.tcp or self._binding.unix)

    def listen(self, settings: Settings) -> None:
        """Let clients come; they are accepted as soon as a worker serves."""
        for sock in (*self._binding.tcp, *self._binding.unix):
            self._binding.listen(sock, settings)
            logger.info("listening on %s", name_of(sock))

    def resume(self) -> None:
        """Something has changed: see whether somebody can take clients."""
        while self._homeless and (number := self._choose()) is not None:
            self._give(number, self._homeless.popleft())
        if not self._accepting and self._choose() is not None:
            loop = asyncio.get_running_loop()
            self._accepting = [*self._binding.tcp, *self._binding.unix]
            for sock in self._accepting:
                loop.add_reader(sock, self._accept, sock)

    def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        for sock in self._accepting:
            loop.remove_reader(sock)
        self._accepting = []

    def _choose(self) -> int | None:
        if self._exhausted is not None:
            return None
        return self._roster.choose(time.monotonic(), self._has_room)

    def _has_room(self, number: int) -> bool:
        handle = self._workers.get(number)
        if handle is None or handle.link.unsent:
            return False
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        used = self._roster.places[number].clients + handle.servers + SPARE
        return limit == resource.RLIM_INFINITY or used < limit

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS):
            number = self._choose()
            if number is None:
                self._pause()
                return
            try:
                client, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._be_exhausted(error)
                    return
                # Who has gone before he was accepted.
                continue
            self._give(number, client)

    def _be_exhausted(self, error: OSError) -> None:
        self._pause()
        now = time.monotonic()
        if now - self._said_at >= _SAY_EVERY:
            self._said_at = now
            logger.warning("no clients are accepted for a moment: %s", error.strerror)
        self._exhausted = asyncio.get_running_loop().call_later(_PAUSE, self._try_again)

    def _try_again(self) -> None:
        self._exhausted = None
        self.resume()

    def _give(self, number: int, client: socket.socket) -> None:
        handle = self._workers[number]
        try:
            handle.link.send(Adopt(self._roster.others(number)), [client.fileno()])
        except OSError as error:
            self._homeless.appendleft(client)
            self._be_exhausted(error)
            return
        self._roster.given(number, time.monotonic())
        handle.unadopted.append(client)

    def adopted(self, handle: WorkerHandle, adopted: int) -> None:
        """The worker has taken over so many clients since its start; what they took up here is free."""
        freed = False
        while handle.adopted < adopted and handle.unadopted:
            handle.adopted += 1
            handle.unadopted.popleft().close()
            freed = True
        if freed and self._exhausted is not None:
            self._exhausted.cancel()
            self._try_again()

    def lost(self, handle: WorkerHandle) -> None:
        """The worker has gone: whom it has not taken over, others can have."""
        if isinstance(handle.link.failure, LinkLost):
            # It is still there, and what it said last made no sense: from whom it has read nobody knows.
            while handle.unadopted:
                handle.unadopted.popleft().close()
        self._homeless.extend(handle.unadopted)
        handle.unadopted.clear()
        self.resume()

    def apply(self, settings: Settings) -> None:
        """Take new settings."""
        self._binding.apply(settings)

    def close_tcp(self) -> None:
        """Take no more TCP clients."""
        self._pause()
        self._binding.close_tcp()
        self.resume()

    def close(self) -> None:
        """Take no more clients at all."""
        self._pause()
        if self._exhausted is not None:
            self._exhausted.cancel()
        self._binding.close()
        while self._homeless:
            with contextlib.suppress(OSError):
                self._homeless.popleft().close()

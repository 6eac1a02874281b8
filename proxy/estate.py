"""The sockets of all workers' servers, of which the supervisor has a copy each, should a worker die.

Laws of this file: a copy is not touched while its worker lives, and closed as soon as that gives the lease
back. When the worker has died, PostgreSQL gets the end of file, and what it still has to say is thrown away,
until it has closed: then, and not before, the server is gone. It hears of that end only when its statement is
over.
"""

import asyncio
import contextlib
import logging
import os
import resource
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.frames import close_all
from proxy.pool.interfaces import PoolKey

logger = logging.getLogger("howdah")

READ: Final = 65_536
MOST: Final = 1 << 20
"""Who sends more than this is cut off, which it notices as it goes on."""
SPARE: Final = 64
"""Descriptors that are not for copies: without any, no client could be accepted."""


@dataclass(eq=False, slots=True)
class Copy:
    """A socket of which `owner` has the other copy."""

    owner: object
    key: PoolKey
    sock: socket.socket
    heard: int = 0


class Estate:
    """Sockets are known by their inodes, owners are whatever the caller knows workers by."""

    def __init__(self) -> None:
        self._copies: dict[int, Copy] = {}
        self._orphans: set[Copy] = set()

    @property
    def orphans(self) -> int:
        """Servers of dead workers that PostgreSQL has not closed yet."""
        return len(self._orphans)

    def keep(self, owner: object, key: PoolKey, descriptor: int) -> None:
        """Keep the socket of a new server, if it is one and there is room for it; else it is closed."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit != resource.RLIM_INFINITY and descriptor >= limit - SPARE:
            close_all([descriptor])
            return
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError as error:
            logger.error("what came from %s is no connection to a server: %s", owner, error)
            close_all([descriptor])
            return
        inode = os.fstat(descriptor).st_ino
        self.drop(inode)
        if inode:
            self._copies[inode] = Copy(owner, key, sock)
        else:
            # A system on which nobody could say later which one is meant.
            sock.close()

    def drop(self, inode: int) -> None:
        """The server is gone."""
        if (copy := self._copies.pop(inode, None)) is not None:
            copy.sock.close()

    def moved(self, inode: int, owner: object) -> None:
        """Another worker has the server from now on."""
        if (copy := self._copies.get(inode)) is not None:
            copy.owner = owner

    def died(self, owner: object, gone: Callable[[PoolKey, bool], None]) -> list[PoolKey]:
        """The process of a worker has ended. Returns the pools of its servers; of each one `gone` is told
        when PostgreSQL has closed, or (False) that it was cut off, and closes in a moment.
        """
        left = {inode: copy for inode, copy in self._copies.items() if copy.owner is owner}
        for inode, copy in left.items():
            del self._copies[inode]
            self._orphans.add(copy)
            with contextlib.suppress(OSError):
                copy.sock.shutdown(socket.SHUT_WR)
            asyncio.get_running_loop().add_reader(copy.sock, self._hear, copy, gone)
        return [copy.key for copy in left.values()]

    def close(self) -> None:
        """The end: nobody waits for PostgreSQL any more, and of no server anything is told."""
        for inode in list(self._copies):
            self.drop(inode)
        for copy in list(self._orphans):
            self._give_up(copy)

    def _hear(self, copy: Copy, gone: Callable[[PoolKey, bool], None]) -> None:
        try:
            heard = len(copy.sock.recv(READ, socket.MSG_DONTWAIT))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            heard = 0
        copy.heard += heard
        if not heard or copy.heard > MOST:
            self._give_up(copy)
            gone(copy.key, not heard)

    def _give_up(self, copy: Copy) -> None:
        self._orphans.discard(copy)
        asyncio.get_running_loop().remove_reader(copy.sock)
        copy.sock.close()

"""The supervisor's side of the template: has workers forked, hears how they ended, replaces the template."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import Final

from proxy import template
from proxy.announcements import Fork, Forked, NotForked, Reaped
from proxy.child import Child
from proxy.link import Link
from proxy.template import Become

logger = logging.getLogger("howdah")

_YOUNG: Final = 1.0
_DELAY: Final = 1.0
"""A template that ends within the first time is replaced after the second (s)."""


class Nursery:
    """Made, with its first template, before any loop runs. `forked` is told a worker's number and process id,
    `refilled` that there is a template again.
    """

    def __init__(self, become: Become) -> None:
        self._become = become
        self._pid, self._sock = template.start(become)
        self._link: Link | None = None
        self._child: Child | None = None
        self._began = 0.0
        self._stopped = False
        self._forked: Callable[[int, int], None] = lambda number, pid: None
        self._refilled: Callable[[], None] = lambda: None

    @property
    def ready(self) -> bool:
        """Whether there is a template."""
        return self._link is not None

    @property
    def pid(self) -> int:
        """The process id of the template."""
        return self._pid

    def start(self, forked: Callable[[int, int], None], refilled: Callable[[], None]) -> None:
        """Begin to listen to the template; a loop must be running."""
        self._forked = forked
        self._refilled = refilled
        self._attend()

    def _attend(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self._link = Link(self._sock, self._receive, self._lost)
        self._link.start()
        self._child = Child(self._pid, self._ended)

    def fork(self, number: int, sock: socket.socket) -> None:
        """Have a worker made with this end of its link. Raises OSError."""
        if self._link is not None:
            self._link.send(Fork(number), [sock.fileno()])

    def _receive(self, message: object, descriptors: tuple[int, ...]) -> None:
        match message:
            case Forked():
                self._forked(message.number, message.pid)
            case NotForked():
                logger.error("cannot make worker %d: %s", message.number, message.reason)
            case Reaped(status=0):
                logger.debug("process %d has ended", message.pid)
            case Reaped():
                logger.warning("process %d %s", message.pid, describe(message.status))

    def restart(self) -> None:
        """The template does not answer: make another."""
        if self._child is not None:
            self._child.kill()

    def _lost(self) -> None:
        # It may be alive, and of no use.
        self.restart()

    def _ended(self) -> None:
        reap()
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._stopped:
            return
        loop = asyncio.get_running_loop()
        logger.error("the template of the workers (process %d) has ended, making another", self._pid)
        loop.call_later(_DELAY if loop.time() - self._began < _YOUNG else 0, self._renew)

    def _renew(self) -> None:
        if self._stopped:
            return
        try:
            self._pid, self._sock = template.start(self._become)
        except OSError as error:
            logger.error("cannot make a template of the workers: %s", error)
            asyncio.get_running_loop().call_later(_DELAY, self._renew)
            return
        self._attend()
        self._refilled()

    def stop(self) -> None:
        """Let the template end."""
        self._stopped = True
        if self._child is not None:
            # It may stand still.
            self._child.kill()
            self._child.forget()
        if self._link is not None:
            self._link.close()
            self._link = None
        else:
            self._sock.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def reap() -> None:
    """Bury processes that have ended: the template, and in a container every orphan."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def describe(status: int) -> str:
    """How a process ended, for people."""
    if os.WIFSIGNALED(status):
        return f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"has ended with code {os.WEXITSTATUS(status)}"

"""A process, a child of ours or not: hear of its end, and end it, without mistaking another for it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from typing import Final

_LOOK: Final = 0.05


class Child:
    """Where the kernel has no descriptors for processes, it is looked for now and then."""

    def __init__(self, pid: int, ended: Callable[[], None]) -> None:
        self.pid = pid
        self.has_ended = False
        self._ended = ended
        self._descriptor: int | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._loop.call_soon(self._end)
        except (AttributeError, OSError):
            self._look()
        else:
            self._loop.add_reader(self._descriptor, self._end)

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.has_ended:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            else:
                os.kill(self.pid, signal.SIGKILL)

    def _look(self) -> None:
        # One of ours is found by its number until it is buried.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            self._end()
        else:
            self._timer = self._loop.call_later(_LOOK, self._look)

    def _end(self) -> None:
        if not self.has_ended:
            self.forget()
            self.has_ended = True
            self._ended()

    def forget(self) -> None:
        """Hear no more of it."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
        if self._timer is not None:
            self._timer.cancel()

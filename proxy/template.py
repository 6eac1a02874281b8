"""The template: a process that forks workers, and tells the supervisor when one has ended.

Laws of this file: the template runs no event loop and starts no thread, so that a fork of it is whole; it
holds no listening socket and no end of anybody's link. It ends when the supervisor does. Signals to stop are
not for it, nor for workers: the supervisor says what happens.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from proxy import log
from proxy.announcements import Fork, Forked, NotForked, Reaped
from proxy.frames import Frames, LinkLost, close_all, encode, receive_once

Become = Callable[[socket.socket], int]
"""What a worker does: it serves over its end of the link until its end, and returns its exit code."""

IGNORED: Final = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def start(become: Become) -> tuple[int, socket.socket]:
    """Fork a template; returns its process id and our end of its link. Raises OSError.

    The process may have threads and a running loop: nothing of them is used in the template, and what lives
    here lives there unseen until it ends.
    """
    ours, theirs = socket.socketpair()
    # The thread that writes the log must not hold the lock of a stream in the moment of the fork.
    log.flush()
    descriptors = _open_descriptors()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        pid = os.fork()
        if pid == 0:
            _run(_Template(theirs, become, descriptors).serve)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return pid, ours


def _run(main: Callable[[], int]) -> NoReturn:
    """Run to the end of the process: what lies below on the stack belongs to the one we were forked from."""
    code = 1
    try:
        code = main()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        log.flush()
        os._exit(code)


class _Template:
    def __init__(self, link: socket.socket, become: Become, before: dict[int, tuple[int, int]]) -> None:
        self._link = link
        self._become = become
        self._before = before
        self._frames = Frames()

    def serve(self) -> int:
        """Answer the supervisor until it has gone."""
        self._shed()
        self._wakes, self._alarm = socket.socketpair()
        for end in (self._wakes, self._alarm):
            end.setblocking(False)
        signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Not select(): the supervisor may have had more than 1024 descriptors when it made the link.
        poll = select.poll()
        for end in (self._link, self._wakes):
            poll.register(end, select.POLLIN)
        with contextlib.suppress(LinkLost, OSError):
            while True:
                ready = [descriptor for descriptor, _ in poll.poll()]
                if self._wakes.fileno() in ready:
                    self._wakes.recv(4096)
                    self._reap()
                if self._link.fileno() in ready and not self._listen():
                    break
        return 0

    def _shed(self) -> None:
        """Let go of all that belongs to the supervisor."""
        signal.set_wakeup_fd(-1)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, IGNORED)
        # Objects of the supervisor must not be looked at: they would close descriptors that are others' now.
        gc.disable()
        gc.freeze()
        log.leave()
        # What is new since the fork belongs to libraries: libuv makes its pipe for signals anew.
        mine = (0, 1, 2, self._link.fileno())
        now = _open_descriptors()
        close_all([it for it, file in self._before.items() if it not in mine and now.get(it) == file])

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self._link.sendall(encode(Reaped(*found)))

    def _listen(self) -> bool:
        data, descriptors, cut = receive_once(self._link)
        for message, theirs in self._frames.feed(data, descriptors, cut):
            # Without a descriptor, the supervisor sees at once that nobody has the other end.
            if isinstance(message, Fork) and theirs:
                self._fork(message.number, theirs[0])
                close_all(theirs)
        return bool(data)

    def _fork(self, number: int, descriptor: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._link.sendall(encode(NotForked(number, error.strerror or str(error))))
            return
        if pid == 0:
            _run(lambda: self._become_worker(descriptor))
        self._link.sendall(encode(Forked(number, pid)))

    def _become_worker(self, descriptor: int) -> int:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for mine in (self._link, self._wakes, self._alarm):
            mine.close()
        gc.enable()
        return self._become(socket.socket(fileno=descriptor))


def _open_descriptors() -> dict[int, tuple[int, int]]:
    """All that is open, and which file it is."""
    found = {}
    for name in os.listdir("/dev/fd"):
        # The folder itself is closed by now.
        with contextlib.suppress(OSError):
            status = os.fstat(int(name))
            found[int(name)] = status.st_dev, status.st_ino
    return found

"""Starts the daemon by forking a process that has imported it: to import it is half of what most tests cost.

Law: who is forked finds what a new process would: arguments, environment, limits, standard streams, signals,
and no other descriptor. Where that cannot be had, and where the start itself is looked at, `python -m proxy`
is started as users do.
"""

import atexit
import contextlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

_SIZE = 1 << 18
_END_SECONDS = 30.0
_EARLY = ("PYTHON", "LC_", "LANG", "TZ", "LD_", "MALLOC_", "GLIBC_", "OPENSSL_", "SSL_", "UV_")
"""Beginnings of variables that are read when a process starts, or when modules are imported."""


def _early() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_EARLY)}


class Forked:
    """What is used of subprocess.Popen, for a child of the warm process."""

    def __init__(self, warm: "Warm", pid: int) -> None:
        self._warm = warm
        self._lock = threading.Lock()
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        # It is asked for once only: from then on the process id may be another's.
        with self._lock:
            if self.returncode is None:
                self.returncode = cast("int | None", self._warm.ask({"ended": self.pid}))
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended. Raises subprocess.TimeoutExpired."""
        while self.poll() is None:
            try:
                descriptor = os.pidfd_open(self.pid)
            except ProcessLookupError:
                continue
            try:
                ready = select.poll()
                ready.register(descriptor, select.POLLIN)
                if not ready.poll(None if timeout is None else timeout * 1000):
                    raise subprocess.TimeoutExpired("proxy", timeout or 0)
            finally:
                os.close(descriptor)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens where it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Warm:
    """The warm process, as seen by who starts daemons."""

    def __init__(self, folder: Path) -> None:
        self.early = _early()
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(number)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                pass_fds=[number],
            )

    def ask(self, what: dict[str, Any], *descriptors: int) -> object:
        """The answer to one question."""
        with self._lock:
            socket.send_fds(self._link, [json.dumps(what).encode()], descriptors)
            answer = self._link.recv(_SIZE)
        assert answer, "the warm process has ended"
        return json.loads(answer)

    def start(self, arguments: Sequence[str], output: IO[bytes]) -> Forked:
        """A daemon with these arguments, that writes to this file."""
        order = {
            "arguments": list(arguments),
            "environment": dict(os.environ),
            "files": resource.getrlimit(resource.RLIMIT_NOFILE),
        }
        pid = self.ask(order, output.fileno())
        assert isinstance(pid, int)
        return Forked(self, pid)

    def close(self) -> None:
        """Its children live on."""
        self._link.close()
        self._process.wait(_END_SECONDS)


_warm: dict[int, Warm] = {}
_lock = threading.Lock()


def start(command: Sequence[str], folder: Path, output: IO[bytes]) -> Forked | None:
    """The daemon that `command` would start in this folder; None where it has to be started by it."""
    daemon = [sys.executable, "-m", "proxy"]
    if list(command[: len(daemon)]) != daemon or not hasattr(os, "pidfd_open"):
        return None
    with _lock:
        warm = _warm.get(os.getpid())
        if warm is None:
            warm = _warm[os.getpid()] = Warm(folder)
            atexit.register(_close, os.getpid())
    return warm.start(command[len(daemon) :], output) if warm.early == _early() else None


def _close(pid: int) -> None:
    # A forked child inherits the registration, and has no warm process of its own.
    if os.getpid() == pid:
        _warm.pop(pid).close()


# --- inside of the warm process ------------------------------------------------------------------------


def _serve(link: socket.socket) -> dict[str, Any] | None:
    """Forks as it is told. Returns what to become, in a process that was forked; None at the end."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(link, _SIZE, 1)
        if not data:
            return None
        order: dict[str, Any] = json.loads(data)
        if "ended" in order:
            found, status = os.waitpid(order["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if found else None
        else:
            answer = os.fork()
            if answer == 0:
                os.dup2(descriptors[0], 1)
                os.dup2(descriptors[0], 2)
                return order
            os.close(descriptors[0])
        with contextlib.suppress(ConnectionError):
            link.send(json.dumps(answer).encode())


def _become(order: dict[str, Any]) -> None:
    """Be the daemon that was asked for, to its end."""
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(order["environment"])
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(order["files"]))
    sys.argv[1:] = order["arguments"]
    runpy.run_module("proxy", run_name="__main__", alter_sys=True)


def main() -> None:
    """The warm process: imports what each daemon needs, and starts neither thread nor loop."""
    import uvloop  # noqa: F401

    import proxy.worker  # noqa: F401

    # Ctrl-C is for who started us, who ends us when nothing is left to be taken away.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = socket.socket(fileno=int(sys.argv[1]))
    order = _serve(link)
    link.close()
    if order is not None:
        signal.signal(signal.SIGINT, interrupt)
        _become(order)


if __name__ == "__main__":
    main()

"""What a daemon owes the operating system: its user, descriptors, pid file, background, service manager.

The law of this file: it knows neither settings nor an event loop. What a platform or a service manager lacks
is left out without a fuss. `daemonize` and `become_user` come before the loop and before any thread.
"""

import contextlib
import os
import pwd
import resource
import socket
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final, NamedTuple

FIRST_PASSED_DESCRIPTOR: Final = 3
FALLBACK_FD_LIMIT: Final = 65_536
# What is open besides connections: listeners, log, event loop.
_SPARE_DESCRIPTORS: Final = 16
_SAY_EVERY: Final = 60_000_000_000


class ProcessError(Exception):
    """The process cannot become what was asked for; the text is fit for the user."""


class FdLimit(NamedTuple):
    """RLIMIT_NOFILE; a hard limit without bound is `resource.RLIM_INFINITY` (-1)."""

    soft: int
    hard: int


def raise_fd_limit() -> FdLimit:
    """Raise the soft limit of open descriptors to the hard one, or as far as the kernel lets us.

    Returns the limits as they are now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, FALLBACK_FD_LIMIT if hard == resource.RLIM_INFINITY else hard):
        if soft == hard:
            break
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
            break
    return FdLimit(*resource.getrlimit(resource.RLIMIT_NOFILE))


class DescriptorWatch:
    """Says when newcomers will be left standing, once a minute at most: accept fails silently."""

    def __init__(self) -> None:
        self._said_at: int | None = None

    def look(self, used: int, now: int) -> bool:
        """Whether it is time to say that so many connections are nearly all there can be; `now` is ns."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit <= 0 or used + _SPARE_DESCRIPTORS < limit:
            return False
        if self._said_at is not None and now - self._said_at < _SAY_EVERY:
            return False
        self._said_at = now
        return True


def is_root() -> bool:
    return os.geteuid() == 0


def become_user(name: str) -> None:
    """Run as this user from here on, with the user's groups; nothing to do for who already is.

    Raises ProcessError for an unknown user, and when the process is not allowed to.
    """
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ProcessError(f"could not find user '{name}' to switch to") from None
    if (os.getuid(), os.geteuid()) == (entry.pw_uid, entry.pw_uid):
        return
    try:
        os.initgroups(name, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except OSError as exc:
        raise ProcessError(f"could not switch to user '{name}': {exc.strerror}") from exc
    if (os.getuid(), os.geteuid(), os.getegid()) != (entry.pw_uid, entry.pw_uid, entry.pw_gid):
        raise ProcessError(f"could not switch to user '{name}': the old one is still there")


def daemonize() -> None:
    """Go on in the background: a new session without terminal, stdin, stdout and stderr on /dev/null.

    Returns only in the new process; the one that called ends with exit code 0. The directory stays, because
    paths in the settings may be relative to it.
    """
    if (child := os.fork()) != 0:
        os.waitpid(child, 0)
        os._exit(0)
    os.setsid()
    # A session leader could be given a terminal by opening one; its child cannot.
    if os.fork() != 0:
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    if null > 2:
        os.close(null)


class PidFile:
    """A file that holds the process id while the daemon runs.

    One left behind by a process that is gone is stale and replaced; one whose process lives is not touched.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()

    def check(self) -> None:
        """Raises ProcessError if the file belongs to a living process, or is not a pid file at all."""
        try:
            text = self._path.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return
        except OSError as exc:
            raise ProcessError(f"could not read pidfile '{self._path}': {exc.strerror}") from exc
        if text and not text.isdecimal():
            raise ProcessError(f"'{self._path}' holds no process id: not a pidfile")
        # In a container every start may get the same process id: our own is never another instance.
        if text and int(text) != os.getpid() and _lives(int(text)):
            raise ProcessError(f"pidfile '{self._path}' exists and process {text} runs: another instance?")

    def create(self) -> None:
        """Write our process id; raises ProcessError as `check` does, or when the file cannot be written."""
        ready = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            ready.write_text(f"{os.getpid()}\n", encoding="ascii")
            try:
                self._link(ready)
            finally:
                ready.unlink()
        except OSError as exc:
            raise ProcessError(f"could not write pidfile '{self._path}': {exc.strerror}") from exc

    def _link(self, ready: Path) -> None:
        # A link appears whole or not at all, and never replaces what a rival has just made.
        try:
            self._path.hardlink_to(ready)
        except FileExistsError:
            self.check()
            self._path.unlink(missing_ok=True)
            self._path.hardlink_to(ready)

    def remove(self) -> None:
        """Remove the file if it is still ours; never raises."""
        with contextlib.suppress(OSError):
            if self._path.read_text(encoding="ascii", errors="replace").strip() == str(os.getpid()):
                self._path.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def notify(*assignments: str) -> bool:
    """Tell the service manager (sd_notify(3)), one `NAME=value` each; False if there is none to tell.

    Never raises and never waits: a service manager that does not listen is no reason to stop.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            manager.sendto("\n".join(assignments).encode(), address)
    except OSError:
        return False
    return True


def notify_ready(status: str = "") -> bool:
    """Up, or done with reloading; `status` is the line that `systemctl status` shows."""
    return notify("READY=1", f"MAINPID={os.getpid()}", *([f"STATUS={status}"] if status else []))


def notify_reloading() -> bool:
    """A reload has begun; `notify_ready` must follow. The clock is what Type=notify-reload asks for."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def notify_stopping() -> bool:
    return notify("STOPPING=1")


def notify_status(text: str) -> bool:
    """Replace the line that `systemctl status` shows."""
    return notify(f"STATUS={text}")


def passed_sockets(
    environ: MutableMapping[str, str] | None = None, first: int = FIRST_PASSED_DESCRIPTOR
) -> list[socket.socket]:
    """The listening sockets that the service manager opened for us (sd_listen_fds(3)), not blocking.

    Takes the variables out of the environment, so that no child believes they are meant for it. Raises
    ProcessError for a descriptor that is no listening stream socket.
    """
    environ = os.environ if environ is None else environ
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    return [_adopt(descriptor) for descriptor in range(first, first + int(count))]


def _adopt(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        passed = socket.socket(fileno=descriptor)
        listening = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as exc:
        raise ProcessError(f"passed descriptor {descriptor} is no socket: {exc.strerror}") from exc
    if not listening or passed.type != socket.SOCK_STREAM:
        passed.detach()
        raise ProcessError(f"passed descriptor {descriptor} is no listening stream socket")
    passed.setblocking(False)
    return passed

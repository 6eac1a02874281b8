"""A pooler of several processes, seen from outside: who its workers are, and who has which client.

Law: /proc and the console only, as a person would look.
"""

import os
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler

DEADLINE = 15.0


def until(condition: Callable[[], object], what: str, within: float = DEADLINE) -> None:
    """Return when the condition holds."""
    wait_until(lambda: bool(condition()), within, what)


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _tcp() -> list[list[str]]:
    """The fields of each line of the kernel's table of sockets."""
    return [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]


def _in_table(address: tuple[str, int]) -> str:
    """How that table has an address."""
    host, port = address
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"


class Crowd:
    """The processes of a pooler. A worker is known by its process id."""

    def __init__(self, pooler: Pooler) -> None:
        self.pooler = pooler

    @property
    def supervisor(self) -> int:
        return self.pooler.pid

    @property
    def template(self) -> int:
        """0 while there is none."""
        return next(filter(alive, children(self.pooler.pid)), 0)

    def places(self) -> dict[int, int]:
        """Number and process id of each worker, as the log says."""
        found = re.findall(r"worker (\d+) \(process (\d+)\) serves", self.pooler.log())
        return {int(number): int(pid) for number, pid in found if alive(int(pid))}

    def workers(self) -> list[int]:
        return list(self.places().values())

    def wait_for_workers(
        self, count: int, without: tuple[int, ...] = (), within: float = DEADLINE
    ) -> list[int]:
        """The workers, once so many serve that are none of those."""
        until(
            lambda: len(set(self.workers()) - set(without)) == count,
            f"{count} workers beside {without} wanted: {self.places()}\n{self.pooler.log_tail()}",
            within,
        )
        return self.workers()

    def sockets(self, pid: int) -> set[str]:
        """The inodes of all sockets a process has open."""
        found = set()
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
            except FileNotFoundError:
                continue
        return {link for link in found if link.startswith("socket:")}

    def clients(self) -> Counter[int]:
        """How many TCP connections from clients each worker has."""
        port = f":{self.pooler.port:04X}"
        inodes = {}
        for fields in _tcp():
            # Established connections of which the local end is the pooler's port.
            if fields[1].endswith(port) and fields[3] == "01":
                inodes[f"socket:[{fields[9]}]"] = fields[2]
        return Counter({pid: len(self.sockets(pid) & set(inodes)) for pid in self.workers()})

    def worker_of(self, connection: "psycopg.Connection[object]") -> int:
        """The process that serves this client."""
        return self.worker_at(connection.pgconn.socket)

    def worker_at(self, descriptor: int) -> int:
        """The process at the other end of a socket of ours."""
        with socket.socket(fileno=os.dup(descriptor)) as ours:
            ends = [f"{_in_table(ours.getpeername())}", f"{_in_table(ours.getsockname())}"]
        theirs: list[str] = []

        def found() -> bool:
            # No snapshot: while sockets come and go elsewhere, a reading may miss one.
            theirs[:] = [f"socket:[{line[9]}]" for line in _tcp() if line[1:3] == ends]
            return bool(theirs)

        wait_until(found, DEADLINE, f"a socket from {ends[0]} to {ends[1]}")
        (pid,) = [pid for pid in self.workers() if theirs[0] in self.sockets(pid)]
        return pid

    @contextmanager
    def stopped(self, pid: int) -> Iterator[None]:
        """The process stands still for the time of the `with`, unless it is ended meanwhile."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

"""What the supervisor knows of one worker process, from before its birth to after its end."""

import socket
from collections import deque
from collections.abc import Callable

from proxy.child import Child
from proxy.control import ShutdownMode
from proxy.link import Calls, Link


class WorkerHandle:
    """`unadopted`: clients given to it that it has not taken over yet; they are still ours, too.

    `servers` and `lag` (s) are as its last heartbeat said; `drained` is the shutdown for which it
    has nothing left to wait for. `pid` is 0 until it is known.
    """

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        restarts: int,
        receive: Callable[["WorkerHandle", object, tuple[int, ...]], None],
        lost: Callable[["WorkerHandle"], None],
    ) -> None:
        self.number = number
        self.restarts = restarts
        self.link = Link(sock, lambda message, theirs: receive(self, message, theirs), lambda: lost(self))
        self.calls = Calls(self.link)
        self.child: Child | None = None
        self.unadopted: deque[socket.socket] = deque()
        self.adopted = 0
        self.servers = 0
        self.lag = 0.0
        self.drained: ShutdownMode | None = None

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.pid or '?'})"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.child.pid if self.child is not None else 0

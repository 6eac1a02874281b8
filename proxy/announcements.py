"""What the processes of one pooler tell each other without waiting for an answer. Plain frozen data.

What is answered is in `inquiries`; what leases and seats have to say is with them.
"""

from dataclasses import dataclass

from config.settings import Settings
from proxy.control import ShutdownMode

# The supervisor and the template.


@dataclass(frozen=True, slots=True)
class Fork:
    """Make a worker of this number; the descriptor with it is its end of the link."""

    number: int


@dataclass(frozen=True, slots=True)
class Forked:
    """A worker was made, and has this process id."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class NotForked:
    """A worker could not be made. Its link has no other end, which says the same."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reaped:
    """A worker has ended, with this wait status."""

    pid: int
    status: int


# From the supervisor to a worker.


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message to a worker: what it is to be."""

    number: int
    settings: Settings
    path: str
    quiet: bool
    verbose: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """A client has connected; the descriptor with this is its socket, from which nothing was read.

    `others`: clients that count for max_client_conn in all other workers.
    """

    others: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Begin to shut down. Unless at once, say `Drained` when there is nothing left to wait for, and wait."""

    mode: ShutdownMode


@dataclass(frozen=True, slots=True)
class End:
    """All are drained: take leave and exit."""


# From a worker to the supervisor.


@dataclass(frozen=True, slots=True)
class Serving:
    """All is built: clients may come."""

    pid: int


@dataclass(frozen=True, slots=True)
class Count:
    """So many clients were adopted since the start, and so many are here; `special` ones do not count for
    max_client_conn. From what is not yet adopted nothing was read.
    """

    adopted: int
    clients: int
    special: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The event loop turns. `servers`: open connections, `lag`: how late its last timer was (s)."""

    servers: int
    lag: float


@dataclass(frozen=True, slots=True)
class Drained:
    """There is nothing left that this shutdown waits for."""

    mode: ShutdownMode


@dataclass(frozen=True, slots=True)
class Altered:
    """The schemas of these databases were changed; passed on to all other workers."""

    databases: tuple[str, ...]

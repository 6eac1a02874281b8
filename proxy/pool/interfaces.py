"""What a pool asks of the ledger of limits and of the network, and a session of its client.

Typing only: nothing here exists at run time, so a test double needs no base class, and hot files can be
compiled.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from proxy.pool.parties import PooledServer as PooledServer
from proxy.pool.parties import PooledSession as PooledSession
from proxy.reasons import ClientClosed

if TYPE_CHECKING:
    from protocol.errors import ProtocolError
    from proxy.errors import PoolerError
    from proxy.pool.parameters import Applied
    from proxy.pool.pool import Pool


class PoolKey(NamedTuple):
    """Which pool: the database as clients name it, and the user PostgreSQL sees. `asks`: the pool of the one
    connection on which `auth_query` is asked; no client is ever lent that.
    """

    database: str
    user: str
    asks: bool = False


class Host(NamedTuple):
    """Where a server is: a host name, an IP address or a directory with a unix socket; and the port."""

    name: str
    port: int

    @property
    def local(self) -> bool:
        """Whether it is a directory (or an abstract name), so that connections stay on this machine."""
        return self.name.startswith(("/", "@"))


class SessionClient(Protocol):
    """A session's client, as the session sees it."""

    id: int

    def finish(self, error: "PoolerError | ProtocolError | None", reason: ClientClosed) -> None:
        """Tell the client, if there is anything to tell, and close."""
        ...

    def notify_waiting(self) -> None:
        """Tell the client that it waits for a server."""
        ...


class Leases(Protocol):
    """Where a pool gets leave to open servers: the ledger, in this process or behind a socket."""

    contended: bool
    """Whether any pool was refused because of a limit it shares with others, and still waits."""

    def take(self, key: PoolKey, *, reserve: bool, since: int | None) -> bool:
        """Lease one server for a pool whose oldest client waits since `since`; None: nobody waits, the pool
        is below its minimum. False: a limit is reached.
        """
        ...

    def give_back(self, key: PoolKey, inode: int = 0) -> None:
        """A leased server is gone: PostgreSQL has closed. `inode`: of its socket."""
        ...

    def withdraw(self, key: PoolKey) -> None:
        """The pool no longer wants what `take` refused, or could not use it now."""
        ...

    def claimed_since(self, key: PoolKey) -> int | None:
        """Since when the longest-waiting other pool has waited for a slot this pool could free; None:
        nobody.
        """
        ...

    def yields(self, server: PooledServer) -> bool:
        """Whether a server that was just given back has gone to another process."""
        ...

    def idle(self) -> None:
        """A server of a pool that is watched has become idle."""
        ...

    def floor(self, key: PoolKey, minimum: int) -> int:
        """How many servers the pool keeps in this process if it shall keep so many."""
        ...


class Dialler(Protocol):
    """Who opens connections to servers."""

    clock: Callable[[], int]
    """The time in nanoseconds."""

    def dial(self, pool: "Pool", host: Host, boot: "Applied") -> PooledServer:
        """Begin to open a server; it is in LOGIN and reports to `Pool.opened` or `Pool.gone`."""
        ...

    def wake(self, pool: "Pool", at: int) -> None:
        """Call `pool.demand` at this time."""
        ...

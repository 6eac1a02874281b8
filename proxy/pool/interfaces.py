"""What a pool asks of servers, of sessions, of the ledger of limits and of the network.

Typing only: nothing here exists at run time, so a test double needs no base class, and hot files can be
compiled.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from proxy.reasons import ClientClosed, ServerClosed

if TYPE_CHECKING:
    from protocol.errors import ProtocolError
    from proxy.errors import PoolerError
    from proxy.pool.parameters import Applied, Values
    from proxy.pool.pool import Pool


Lent: TypeAlias = Any
"""A server as a session gets it back from its pool: whatever kind the pool's dialler makes, which the pool
itself does not know."""


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


class PooledSession(Protocol):
    """A session as its pool sees it. Times are nanoseconds; `user` is who the client logged in as."""

    id: int
    user: str
    values: "Values"
    applied: "Applied"
    boot: "Applied"
    waiting_since: int
    notified: bool

    def assigned(self, server: Lent, now: int) -> bool:
        """The server is lent to this session. False: the session has left, take the next."""
        ...

    def refused(self, error: "PoolerError", reason: ClientClosed) -> None:
        """There will be no server; the client is told why and closed."""
        ...

    def still_waiting(self) -> None:
        """The queue is long (query_wait_notify): tell the client."""
        ...

    def server_lost(self, server: Lent, error: "PoolerError | ProtocolError | None", now: int) -> None:
        """The server lent to this session is gone; `error` is what to tell the client, None if it knows."""
        ...

    def server_full(self) -> None:
        """The server takes requests too slowly."""
        ...

    def server_drained(self) -> None:
        """The server takes requests again."""
        ...

    def aligned(self, server: Lent, error: bytes | None, now: int) -> None:
        """The server has been given this session's parameters, or PostgreSQL has refused them."""
        ...


class SweptSession(PooledSession, Protocol):
    """What the janitor asks of a logged-in session besides."""

    query_started: int
    xact_started: int
    idle_since: int

    def is_idle(self) -> bool:
        """Whether the client asks for nothing at the moment and is in no transaction."""
        ...

    def unable_to_write_since(self) -> int:
        """Since when the client takes nothing of what it is sent; 0 if it does."""
        ...


class SessionClient(Protocol):
    """A session's client, as the session sees it."""

    id: int

    def finish(self, error: "PoolerError | ProtocolError | None", reason: ClientClosed) -> None:
        """Tell the client, if there is anything to tell, and close."""
        ...

    def notify_waiting(self) -> None:
        """Tell the client that it waits for a server."""
        ...


class PooledServer(Protocol):
    """A server as its pool sees it. Times are nanoseconds."""

    id: int
    pool: "Pool"
    state: int
    session: PooledSession | None
    values: "Values"
    applied: "Applied"
    boot: "Applied"
    connected_at: int
    released_at: int
    expires_at: int
    closing_since: int
    close_needed: ServerClosed | None
    cancels: int
    listening: bool
    used: bool
    """Whether a session has ever had it."""
    status: int

    @property
    def prefix(self) -> str:
        """How its log lines begin."""
        ...

    def close(self, reason: ServerClosed) -> None:
        """Say goodbye and wait for PostgreSQL's EOF; the pool hears of it through `Pool.gone`."""
        ...

    def abort(self) -> None:
        """Close without waiting."""
        ...

    def cleanup(self) -> str:
        """What its last session did that the next must not see: a query that undoes it, or nothing."""
        ...

    def check(self, query: str, now: int) -> None:
        """Run a query of ours; then the pool hears `Pool.tested`, or the server closes."""
        ...

    def audit(self, now: int) -> bool:
        """Look for what its last session left behind, if that is wanted (audit_release) and not done yet.

        True: a query is under way; then the pool hears `Pool.tested`, or `Pool.unused` of a new server.
        """
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

    def give_back(self, key: PoolKey) -> None:
        """A leased server is gone: PostgreSQL has closed."""
        ...

    def withdraw(self, key: PoolKey) -> None:
        """The pool no longer wants what `take` refused, or could not use it now."""
        ...

    def claimed_since(self, key: PoolKey) -> int | None:
        """Since when the longest-waiting other pool has waited for a slot this pool could free; None:
        nobody.
        """
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

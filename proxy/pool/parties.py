"""The two that a pool brings together, as it sees them: a server, and a session that wants one.

Laws of this file (hot: see session):
- Base classes and no Protocols: compiled code finds what belongs to a class at a fixed place, and all else
  by its name, which cost a third of all that was done for a transaction.
- Whoever inherits one of them finishes it: a server, a session, a stay of ours, a test's double.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

from protocol.native import mypyc_attr
from proxy.reasons import ClientClosed, ServerClosed

if TYPE_CHECKING:
    from protocol.errors import ProtocolError
    from proxy.errors import PoolerError
    from proxy.log import Prefix
    from proxy.pool.parameters import Applied, Values
    from proxy.pool.pool import Pool

Lent: TypeAlias = Any
"""A server as a session gets it back from its pool: whatever kind the pool's dialler makes, which the pool
itself does not know."""


@mypyc_attr(allow_interpreted_subclasses=True)
class PooledSession:
    """A session as its pool sees it. Times are nanoseconds; `user` is who the client logged in as."""

    __slots__ = ("applied", "boot", "id", "notified", "user", "values", "waiting_since")

    id: int
    user: str
    values: "Values"
    applied: "Applied"
    boot: "Applied"
    waiting_since: int
    notified: bool

    def assigned(self, server: Lent, now: int) -> bool:
        """The server is lent to this session. False: the session has left, take the next."""
        raise NotImplementedError

    def refused(self, error: "PoolerError", reason: ClientClosed) -> None:
        """There will be no server; the client is told why and closed."""
        raise NotImplementedError

    def still_waiting(self) -> None:
        """The queue is long (query_wait_notify): tell the client."""
        raise NotImplementedError

    def server_lost(self, server: Lent, error: "PoolerError | ProtocolError | None", now: int) -> None:
        """The server lent to this session is gone; `error` is what to tell the client, None if it knows."""
        raise NotImplementedError

    def server_full(self) -> None:
        """The server takes requests too slowly."""
        raise NotImplementedError

    def server_drained(self) -> None:
        """The server takes requests again."""
        raise NotImplementedError

    def aligned(self, server: Lent, error: bytes | None, now: int) -> None:
        """The server has been given this session's parameters, or PostgreSQL has refused them."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class SweptSession(PooledSession):
    """What the janitor asks of a logged-in session besides."""

    __slots__ = ("idle_since", "query_started", "xact_started")

    query_started: int
    xact_started: int
    idle_since: int

    def is_idle(self) -> bool:
        """Whether the client asks for nothing at the moment and is in no transaction."""
        raise NotImplementedError

    def unable_to_write_since(self) -> int:
        """Since when the client takes nothing of what it is sent; 0 if it does."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class PooledServer:
    """A server as its pool sees it. Times are nanoseconds. `used`: a session has had it once; `prefix`: how
    its log lines begin; `inode`: of its socket, where another process has a copy of that.
    """

    __slots__ = (
        "applied",
        "boot",
        "cancels",
        "close_needed",
        "closing_since",
        "connected_at",
        "expires_at",
        "id",
        "inode",
        "listening",
        "pool",
        "prefix",
        "released_at",
        "session",
        "state",
        "status",
        "used",
        "values",
    )

    id: int
    inode: int
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
    status: int
    prefix: "Prefix"

    def close(self, reason: ServerClosed) -> None:
        """Say goodbye and wait for PostgreSQL's EOF; the pool hears of it through `Pool.gone`."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close without waiting."""
        raise NotImplementedError

    def cleanup(self) -> str:
        """What its last session did that the next must not see: a query that undoes it, or nothing."""
        raise NotImplementedError

    def check(self, query: str, now: int) -> None:
        """Run a query of ours; then the pool hears `Pool.tested`, or the server closes."""
        raise NotImplementedError

    def audit(self, now: int) -> bool:
        """Look for what its last session left behind, if that is wanted (audit_release) and not done yet.

        True: a query is under way; then the pool hears `Pool.tested`, or `Pool.unused` of a new server.
        """
        raise NotImplementedError

"""Which idle server a session gets, or which session a server; which server has to answer a query of ours
first, and which one goes.
"""

from itertools import islice
from typing import TYPE_CHECKING, Final

from config.types import PoolMode
from proxy.pool import states
from proxy.pool.units import SECOND
from proxy.reasons import ServerClosed

if TYPE_CHECKING:
    from proxy.pool.parties import PooledServer, PooledSession
    from proxy.pool.pool import Pool

# Looking up a member of an enum takes longer than all else that is done with it on the hot path.
_SESSION: Final = PoolMode.SESSION

# How many idle servers a checkout looks at for one whose parameters fit already.
_LOOK_AT: Final = 8
# How many of those that wait a release looks at for one whose parameters fit, and how much later than the
# longest-waiting it may have come (ns): where that one was passed over, so short a time is the price.
_LOOK_AT_WAITING: Final = 32
_AT_ONCE: Final = SECOND // 100
# A server is handed from one pool to another at a shared limit only after it served this long (ns): a login
# costs milliseconds, and two busy pools would otherwise trade connections at every transaction.
_LEASE_QUANTUM: Final = SECOND // 10


def choose(pool: "Pool", session: "PooledSession", now: int) -> "PooledServer | None":
    """An idle server for this session; None while there is none, or the one there is must be tested first.

    Out of session mode every server will do, and one whose parameters fit already is preferred.
    """
    idle = pool.servers[states.IDLE]
    if not idle:
        return None
    if pool.mode is _SESSION:
        return _choose_suitable(pool, session, now)
    first = pool.newest
    if first is None or pool.round_robin or first.state != states.IDLE:
        first = next(iter(idle) if pool.round_robin else reversed(idle))
    if first.values is session.values and first.applied is session.applied:
        return first if now - first.released_at <= pool.check_delay else _fresh(pool, first, now)
    for server in islice(idle if pool.round_robin else reversed(idle), _LOOK_AT):
        if server.values is session.values and server.applied is session.applied:
            return _fresh(pool, server, now)
    return _fresh(pool, first, now)


def _choose_suitable(pool: "Pool", session: "PooledSession", now: int) -> "PooledServer | None":
    """Only a server started with what this client asked for: RESET goes back to that."""
    idle = pool.servers[states.IDLE]
    for server in idle if pool.round_robin else reversed(idle):
        if server.boot == session.boot:
            return _fresh(pool, server, now)
    return None


def next_waiting(pool: "Pool", server: "PooledServer") -> "PooledSession":
    """Which of those that wait gets this server: the longest-waiting, unless its parameters do not fit and
    those of one that came at about the same time do: setting them costs as much as a short transaction.

    One that waits is passed over no more often than there are servers: by then one with its parameters has
    most likely come, and they go round among few servers.
    """
    first = next(iter(pool.waiting))
    if (first.values is server.values and first.applied is server.applied) or (
        # A stay of ours fits any server.
        first.values is pool.tracked.unknown
    ):
        pool.overtaken = 0
        return first
    if pool.overtaken < pool.open:
        latest = first.waiting_since + _AT_ONCE
        for session in islice(pool.waiting, 1, _LOOK_AT_WAITING):
            if session.waiting_since > latest:
                break
            if session.values is server.values and session.applied is server.applied:
                pool.overtaken += 1
                return session
    pool.overtaken = 0
    return first


def _fresh(pool: "Pool", server: "PooledServer", now: int) -> "PooledServer | None":
    """The server, unless it must be tested before it is lent (server_check_delay, server_check_query)."""
    if now - server.released_at <= pool.check_delay or not pool.common.server_check_query:
        return server
    probe(pool, server, now)
    return None


def probe(pool: "Pool", server: "PooledServer", now: int) -> None:
    """Have a server prove that it still answers; then the pool hears `tested`, or the server closes."""
    pool.move(server, states.TESTED)
    server.check(pool.common.server_check_query, now)


def must_close(pool: "Pool", server: "PooledServer", now: int) -> ServerClosed | None:
    """Why a clean server should not stay, if there is a reason."""
    if server.close_needed is not None:
        return server.close_needed
    if pool.database.paused:
        return ServerClosed.PAUSED
    if now >= server.expires_at:
        return ServerClosed.LIFETIME
    claimed = pool.leases.claimed_since(pool.key)
    if claimed is not None and _should_yield(pool, claimed, server, now):
        return ServerClosed.EVICTED
    return None


def _should_yield(pool: "Pool", claimed: int, server: "PooledServer", now: int) -> bool:
    """Whether a client of another pool, waiting since `claimed` for a shared slot, goes first."""
    if pool.servers[states.CLOSING]:
        return False  # Its slot is as good, and one claim must not close all that is released.
    if not pool.waiting:
        return True
    own = next(iter(pool.waiting)).waiting_since
    return claimed < own and now - server.connected_at >= _LEASE_QUANTUM

"""Which idle server a session gets, and which has to answer a query of ours first."""

from itertools import islice
from typing import TYPE_CHECKING, Final

from config.types import PoolMode
from proxy.pool import states
from proxy.pool.units import SECOND

if TYPE_CHECKING:
    from proxy.pool.interfaces import PooledServer, PooledSession
    from proxy.pool.pool import Pool

# Looking up a member of an enum takes longer than all else that is done with it on the hot path.
_SESSION: Final = PoolMode.SESSION

# How many idle servers a checkout looks at for one whose parameters fit already.
_LOOK_AT: Final = 8


def choose(pool: "Pool", session: "PooledSession", now: int) -> "PooledServer | None":
    """An idle server for this session; None while there is none, or the one there is must be tested first.

    Out of session mode every server will do, and one whose parameters fit already is preferred.
    """
    idle = pool.servers[states.IDLE]
    if not idle:
        return None
    if pool.mode is _SESSION:
        return _choose_suitable(pool, session, now)
    common = pool.common
    first = next(iter(idle) if common.server_round_robin else reversed(idle))
    if first.values is session.values and first.applied is session.applied:
        if now - first.released_at <= common.server_check_delay * SECOND:
            return first
        return _fresh(pool, first, now)
    for server in islice(idle if common.server_round_robin else reversed(idle), _LOOK_AT):
        if server.values is session.values and server.applied is session.applied:
            return _fresh(pool, server, now)
    return _fresh(pool, first, now)


def _choose_suitable(pool: "Pool", session: "PooledSession", now: int) -> "PooledServer | None":
    """Only a server started with what this client asked for: RESET goes back to that."""
    idle = pool.servers[states.IDLE]
    for server in idle if pool.common.server_round_robin else reversed(idle):
        if server.boot == session.boot:
            return _fresh(pool, server, now)
    return None


def _fresh(pool: "Pool", server: "PooledServer", now: int) -> "PooledServer | None":
    """The server, unless it must be tested before it is lent (server_check_delay, server_check_query)."""
    common = pool.common
    if not common.server_check_query or now - server.released_at <= common.server_check_delay * SECOND:
        return server
    probe(pool, server, now)
    return None


def probe(pool: "Pool", server: "PooledServer", now: int) -> None:
    """Have a server prove that it still answers; then the pool hears `tested`, or the server closes."""
    pool.move(server, states.TESTED)
    server.check(pool.common.server_check_query, now)

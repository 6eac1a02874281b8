"""Whether a pool needs another server, for whom, and whether it may go into its reserve."""

from itertools import chain
from typing import TYPE_CHECKING, Final

from config.types import PoolMode
from proxy.pool import states
from proxy.pool.parameters import NOTHING_APPLIED, Applied
from proxy.pool.units import SECOND

if TYPE_CHECKING:
    from proxy.pool.interfaces import PooledServer
    from proxy.pool.pool import Pool

# Looking up a member of an enum takes longer than all else that is done with it on the hot path.
_SESSION: Final = PoolMode.SESSION

# Logins at a time once the pool has reached its server; before that, and after a failure, one.
_LOGINS_AT_ONCE: Final = 3


def full(pool: "Pool", now: int) -> bool:
    """Whether the pool has all the servers it may have, so that nothing else needs to be asked."""
    settings = pool.settings
    if not settings.pool_size or pool.open < settings.pool_size:
        # Where others decide what it may have, they have not answered yet.
        return pool.asked and pool.mode is not _SESSION
    if pool.mode is _SESSION and pool.servers[states.IDLE]:
        return False
    return pool.open >= settings.pool_size + settings.reserve_pool_size or not may_use_reserve(pool, now)


def wants_server(pool: "Pool", now: int) -> bool:
    """Whether a login should begin: more sessions wait than servers are coming, or the minimum lacks."""
    if pool.database.paused or pool.refused_until > now:
        return False
    logins = len(pool.servers[states.LOGIN])
    reached = pool.greeting is not None and not pool.hosts.failing(pool.settings)
    if logins >= (_LOGINS_AT_ONCE if reached else 1):
        return False
    if len(pool.waiting) > logins + len(pool.servers[states.TESTED]):
        return True
    return pool.open < pool.settings.min_pool_size and _keeps_minimum(pool)


def _keeps_minimum(pool: "Pool") -> bool:
    """Whether min_pool_size counts: while there are clients, and for a forced user without them, too."""
    database = pool.database
    return not database.dead and bool(pool.sessions or (pool.forced_user and not database.automatic))


def wanted_by(pool: "Pool") -> tuple[Applied, int | None]:
    """Start-up parameters of the session the next server is for; since when (ns) the first session waits."""
    if not pool.waiting:
        return NOTHING_APPLIED, None
    boot = NOTHING_APPLIED
    if pool.mode is _SESSION and pool.greeting is not None:
        boot = _first_boot_not_coming(pool)
    return boot, next(iter(pool.waiting)).waiting_since


def _first_boot_not_coming(pool: "Pool") -> Applied:
    """What the longest-waiting session asks for whose server is not on its way.

    Not all that come are for those who wait longest: who a server was begun for may have had another one.
    """
    coming = [server.boot for server in pool.servers[states.LOGIN]]
    for session in pool.waiting:
        if session.boot not in coming:
            return session.boot
        coming.remove(session.boot)
    return next(reversed(pool.waiting)).boot


def may_use_reserve(pool: "Pool", now: int) -> bool:
    """Whether a client has waited longer than reserve_pool_timeout; 0 is never."""
    if not pool.waiting or not pool.settings.reserve_pool_size:
        return False
    waited = now - next(iter(pool.waiting)).waiting_since
    return 0 < pool.settings.reserve_pool_timeout * SECOND <= waited


def lacking(pool: "Pool", now: int) -> int:
    """How many servers its clients wait for that are not coming yet."""
    if pool.database.paused or pool.refused_until > now:
        return 0
    coming = len(pool.servers[states.LOGIN]) + len(pool.servers[states.TESTED])
    return max(len(pool.waiting) - coming, 0)


def load(pool: "Pool") -> int:
    """How many clients have a server, or want one."""
    return len(pool.waiting) + len(pool.servers[states.ACTIVE])


def spare_servers(pool: "Pool", now: int, rested: int) -> "list[PooledServer]":
    """Servers that the pool can do without: unused for a time (ns), or it has no clients."""
    idle = chain(pool.servers[states.IDLE], pool.servers[states.USED])
    if not pool.sessions and not pool.waiting:
        return list(idle)
    return [server for server in idle if now - server.released_at >= rested]

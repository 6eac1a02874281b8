"""Periodic maintenance: timeouts, lifetimes, minimum sizes, statistics periods. One pass is a `sweep`.

Timeouts are swept and not armed, because arming a timer for each query would cost more than the query. A pass
looks at waiting sessions and at servers; at idle clients only where a timeout of theirs is set.
"""

import logging
from typing import Final

from protocol import sqlstate, tags
from proxy.errors import ServerLost, TimedOut
from proxy.pool import states
from proxy.pool.interfaces import PooledServer, PooledSession
from proxy.pool.manager import PoolManager
from proxy.pool.pool import Pool
from proxy.pool.units import SECOND
from proxy.reasons import ClientClosed, ServerClosed

logger = logging.getLogger("howdah")

PERIOD: Final = 1 / 3
"""Seconds between two sweeps; PgBouncer's are as far apart."""


class Janitor:
    """Times are nanoseconds; the settings it reads are seconds."""

    def __init__(self, manager: PoolManager, now: int) -> None:
        self._manager = manager
        self._period_began = now

    def sweep(self, now: int) -> bool:
        """Do all that is due; True when a stats_period has ended."""
        manager = self._manager
        for pool in list(manager.pools.values()):
            self._sweep_waiting(pool, now)
            self._sweep_active(pool, now)
            self._sweep_clients(pool, now)
            self._sweep_idle_servers(pool, now)
            self._sweep_leaving(pool, now)
            pool.demand(now)
        manager.sweep_databases(now)
        if now - self._period_began < manager.settings.stats_period * SECOND:
            return False
        manager.period_ns = now - self._period_began
        self._period_began = now
        manager.end_period()
        return True

    def _sweep_waiting(self, pool: Pool, now: int) -> None:
        notify = pool.common.query_wait_notify
        for session in list(pool.waiting):
            settings = pool.settings_of(session)
            waited = now - session.waiting_since
            if _over(waited, settings.query_wait_timeout):
                _give_up(pool, session, TimedOut("query_wait_timeout"))
            elif _over(waited, settings.query_timeout):
                # Also who still logs in, as in PgBouncer, whose own tests ask for it.
                _give_up(pool, session, TimedOut("query_timeout"))
            elif notify and not session.notified and waited >= notify * SECOND:
                session.still_waiting()

    def _sweep_active(self, pool: Pool, now: int) -> None:
        for server in list(pool.servers[states.ACTIVE]):
            session = server.session
            if session is None or session not in pool.sessions:
                continue
            swept = pool.sessions[session]
            settings = pool.settings_of(session)
            status = server.status
            if status == tags.STATUS_IDLE:
                if server.close_needed is not None and pool.common.server_fast_close:
                    swept.refused(ServerLost(server.close_needed.value), ClientClosed.SERVER_LOST)
                continue
            if status == tags.STATUS_BUSY:
                if _over(now - swept.query_started, settings.query_timeout):
                    swept.refused(TimedOut("query timeout"), ClientClosed.TIMEOUT)
                    continue
            elif _over(now - swept.idle_since, settings.idle_transaction_timeout):
                error = TimedOut("idle transaction timeout", sqlstate.IDLE_IN_TRANSACTION_TIMEOUT)
                swept.refused(error, ClientClosed.TIMEOUT)
                continue
            if _over(now - swept.xact_started, settings.transaction_timeout):
                error = TimedOut("transaction timeout", sqlstate.TRANSACTION_TIMEOUT)
                swept.refused(error, ClientClosed.TIMEOUT)

    def _sweep_clients(self, pool: Pool, now: int) -> None:
        write_limit = pool.common.client_write_timeout
        own_limits = pool.forced_user and bool(pool.common.users)
        if not (pool.settings.client_idle_timeout or write_limit or own_limits):
            return
        for session in list(pool.sessions.values()):
            idle_limit = pool.settings_of(session).client_idle_timeout
            stuck_since = session.unable_to_write_since()
            if stuck_since and _over(now - stuck_since, write_limit):
                session.refused(TimedOut("client_write_timeout"), ClientClosed.WRITE_TIMEOUT)
            elif session.is_idle() and _over(now - session.idle_since, idle_limit):
                error = TimedOut("client_idle_timeout", sqlstate.IDLE_SESSION_TIMEOUT)
                session.refused(error, ClientClosed.TIMEOUT)

    def _sweep_idle_servers(self, pool: Pool, now: int) -> None:
        common = pool.common
        size = pool.settings.pool_size
        floor = pool.leases.floor(pool.key, pool.settings.min_pool_size)
        for server in [*pool.servers[states.USED], *pool.servers[states.IDLE]]:
            rested = now - server.released_at
            staying = pool.open - len(pool.servers[states.CLOSING])
            if server.close_needed is not None:
                server.close(server.close_needed)
            elif now >= server.expires_at and (server.used or pool.settings.server_lifetime):
                server.close(ServerClosed.LIFETIME)
            elif size and staying > size + pool.settings.reserve_pool_size:
                server.close(ServerClosed.OVER_LIMIT)
            elif _over(rested, common.server_idle_timeout) and staying > floor:
                server.close(ServerClosed.IDLE_TIMEOUT)
            elif (
                server.state == states.IDLE
                and common.server_check_query
                and rested > common.server_check_delay * SECOND
            ):
                pool.move(server, states.USED)

    def _sweep_leaving(self, pool: Pool, now: int) -> None:
        common = pool.common
        for server in list(pool.servers[states.TESTED]):
            if _over(now - server.released_at, common.server_connect_timeout):
                server.close(ServerClosed.CHECK_FAILED)
        for server in list(pool.servers[states.BEING_CANCELED]):
            if _over(now - server.released_at, common.cancel_wait_timeout):
                server.close(ServerClosed.CANCEL_TIMEOUT)
        for server in list(pool.servers[states.CLOSING]):
            if _over(now - server.closing_since, common.server_close_timeout):
                _abort(server)


def _over(elapsed: int, limit: float) -> bool:
    """Whether a limit in seconds is exceeded; 0 is no limit."""
    return limit > 0 and elapsed > limit * SECOND


def _give_up(pool: Pool, session: PooledSession, error: TimedOut) -> None:
    pool.leave(session)
    session.refused(error, ClientClosed.TIMEOUT)


def _abort(server: PooledServer) -> None:
    logger.warning("%sserver_close_timeout: giving up waiting for the server to close", server.prefix)
    server.abort()

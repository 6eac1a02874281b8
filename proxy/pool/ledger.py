"""Every limit on server connections, and who holds how many.

A pool opens a server only under a lease from here, and gives it back when PostgreSQL has closed; so the
counts are those of PostgreSQL, never less. A pool refused because of a limit it shares with others is
remembered with the time its oldest client has waited since: freed slots are offered in that order, and
holders can ask whether somebody has waited longer than their own clients. For the first in that order one
free slot of each limit is kept: under two full limits it would never find both free at once.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from config import effective
from config.settings import Settings
from proxy.pool.interfaces import PooledServer, PoolKey
from proxy.pool.leased import Leased, tell_of_reserve


class Limits(NamedTuple):
    """What binds one pool; 0 is no limit. PgBouncer's pool_size, reserve_pool_size, max_db_connections,
    max_user_connections; and min_pool_size, up to which servers are opened for nobody."""

    pool: int
    reserve: int
    database: int
    user: int
    minimum: int = 0


NO_SERVERS: Final = Limits(-1, 0, 0, 0)


def limits_of(settings: Settings, key: PoolKey) -> Limits:
    """What the settings allow a pool; nothing where its database is gone."""
    try:
        resolve = effective.for_auth_pool if key.asks else effective.for_pool
        pool = resolve(settings, key.database, key.user)
    except LookupError:
        return NO_SERVERS
    return Limits(
        pool.pool_size,
        pool.reserve_pool_size,
        effective.max_db_connections(settings, key.database),
        effective.max_user_connections(settings, key.user),
        pool.min_pool_size,
    )


class Ledger(Leased):
    """`limits` gives the present limits of a pool, `retry` offers a freed slot to a pool refused before, and
    `reclaim` asks for an idle server of other pools to be closed for the sake of this one."""

    def __init__(
        self,
        limits: Callable[[PoolKey], Limits],
        retry: Callable[[PoolKey], None],
        reclaim: Callable[[PoolKey], None],
    ) -> None:
        super().__init__()
        self._limits = limits
        self._retry = retry
        self._reclaim = reclaim
        self._refused: dict[PoolKey, int] = {}
        self.contended = False

    def take(self, key: PoolKey, *, reserve: bool, since: int | None) -> bool:
        """Lease one server; False when a limit is reached.

        `since` is when the oldest client began to wait (ns). Without one, nobody else has to make room.
        """
        self.withdraw(key)
        limits = self._limits(key)
        if limits.pool and self._pools[key] >= limits.pool + (limits.reserve if reserve else 0):
            return False
        first = self._first()
        if first is not None and since is not None and self._refused[first] >= since:
            first = None
        if self._shared_limit_reached(key, limits, first):
            if since is not None:
                self._refused[key] = since
                self.contended = True
                self._reclaim(key)
            return False
        self._add(key, 1)
        tell_of_reserve(key, self._pools[key], limits.pool)
        return True

    def give_back(self, key: PoolKey, inode: int = 0) -> None:
        """A server is gone. Whoever was refused because of a limit shared with it is offered the slot,
        oldest first.
        """
        self._add(key, -1)
        if self._refused:
            for other in sorted(self._refused, key=self._refused.__getitem__):
                if other in self._refused and _share(key, other):
                    self._retry(other)

    def withdraw(self, key: PoolKey) -> None:
        """The pool wants no slot, or could not use one now."""
        if self._refused:
            self._refused.pop(key, None)
            self.contended = bool(self._refused)

    def claimed_since(self, key: PoolKey) -> int | None:
        """Since when (ns) the longest-waiting other pool has waited for a slot that this pool holds; None:
        nobody.
        """
        if not self._refused:
            return None
        first = self._first()
        claims = [
            since for other, since in self._refused.items() if other != key and self._helps(key, other, first)
        ]
        return min(claims, default=None)

    def yields(self, server: PooledServer) -> bool:
        """There is no other process."""
        return False

    def idle(self) -> None:
        """There is no other process that would want it."""

    def floor(self, key: PoolKey, minimum: int) -> int:
        """There is no other process that could keep some of them."""
        return minimum

    def claims(self) -> int:
        """How many pools wait for a slot of a shared limit."""
        return len(self._refused)

    def would_help(self, holder: PoolKey, claimant: PoolKey) -> bool:
        """Whether a slot freed by `holder` is one that `claimant` lacks and could use, or that is kept for
        it.
        """
        return self._helps(holder, claimant, self._first())

    def _helps(self, holder: PoolKey, claimant: PoolKey, first: PoolKey | None) -> bool:
        limits = self._limits(claimant)
        lacks_database = limits.database and self._databases[claimant.database] >= limits.database
        lacks_user = limits.user and self._users[claimant.user] >= limits.user
        helps_database = holder.database == claimant.database
        helps_user = holder.user == claimant.user
        if claimant == first:
            return bool((lacks_database and helps_database) or (lacks_user and helps_user))
        return bool(
            (lacks_database or lacks_user)
            and (helps_database or not lacks_database)
            and (helps_user or not lacks_user)
        )

    def _first(self) -> PoolKey | None:
        """The pool that has waited longest of those that were refused."""
        return min(self._refused, key=self._refused.__getitem__, default=None)

    def _shared_limit_reached(self, key: PoolKey, limits: Limits, first: PoolKey | None) -> bool:
        """Whether no slot is left, or only one that is kept for the first of those that wait."""
        databases, users = self._databases[key.database], self._users[key.user]
        if first is not None:
            databases += first.database == key.database
            users += first.user == key.user
        return bool(
            (limits.database and databases >= limits.database) or (limits.user and users >= limits.user)
        )


def _share(one: PoolKey, other: PoolKey) -> bool:
    return one.database == other.database or one.user == other.user

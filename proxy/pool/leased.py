"""How many servers are leased: to each pool, for each database and for each user.

Law of this file: what there is none of is not kept, for clients choose names of databases and of users.
"""

import logging
from collections import Counter
from typing import TypeVar

from proxy.pool.interfaces import PoolKey

logger = logging.getLogger("howdah")

K = TypeVar("K")


def add(counts: Counter[K], what: K, by: int) -> None:
    """So many more of something; what there is none of is not kept."""
    counts[what] += by
    if not counts[what]:
        del counts[what]


def tell_of_reserve(key: PoolKey, leased: int, pool_size: int) -> None:
    """A lease was granted just now, `leased` with it; 0 is no pool_size, and no reserve."""
    if 0 < pool_size < leased:
        text = "taking connection from reserve_pool: %s/%s has %d servers, and a pool_size of %d"
        logger.warning(text, key.database, key.user, leased, pool_size)


class Leased:
    """The counts of whoever keeps a book of leases: of one process, of one worker, or of all workers."""

    def __init__(self) -> None:
        self._pools: Counter[PoolKey] = Counter()
        self._databases: Counter[str] = Counter()
        self._users: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Servers leased to anybody."""
        return self._pools.total()

    def of_pool(self, key: PoolKey) -> int:
        """Servers leased to a pool."""
        return self._pools[key]

    def of_database(self, name: str) -> int:
        """Servers leased for a database over all users."""
        return self._databases[name]

    def of_user(self, name: str) -> int:
        """Servers leased for a user over all databases."""
        return self._users[name]

    def _add(self, key: PoolKey, by: int) -> None:
        """So many leases more."""
        add(self._pools, key, by)
        add(self._databases, key.database, by)
        add(self._users, key.user, by)

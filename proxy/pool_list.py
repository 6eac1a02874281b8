"""One row of SHOW POOLS for each database and user, also where a role asks `auth_query` beside its pool."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from proxy.snapshot import PoolSnapshot

_ADDED: Final = tuple(name for name in PoolSnapshot.__match_args__ if name.startswith(("cl_", "sv_")))


def joined(pools: Iterable[PoolSnapshot]) -> list[PoolSnapshot]:
    """Add up the rows of the same database and user; what cannot be added is that of the first."""
    found: dict[tuple[str, str], PoolSnapshot] = {}
    for pool in pools:
        key = pool.database, pool.user
        known = found.get(key)
        if known is not None:
            sums = {name: getattr(known, name) + getattr(pool, name) for name in _ADDED}
            pool = replace(known, **sums, waited=max(known.waited, pool.waited))
        found[key] = pool
    return list(found.values())

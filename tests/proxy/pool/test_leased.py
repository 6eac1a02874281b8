from collections import Counter

from proxy.pool.interfaces import PoolKey
from proxy.pool.leased import Leased, add


def test_leases_are_counted_by_pool_database_and_user_and_forgotten_with_the_last() -> None:
    leased = Leased()
    leased._add(PoolKey("app", "alice"), 2)
    leased._add(PoolKey("app", "bob"), 1)
    assert (leased.of_pool(PoolKey("app", "alice")), leased.of_pool(PoolKey("other", "alice"))) == (2, 0)
    assert leased.total == 3
    assert (leased.of_database("app"), leased.of_user("alice"), leased.of_user("carol")) == (3, 2, 0)
    leased._add(PoolKey("app", "alice"), -2)
    leased._add(PoolKey("app", "bob"), -1)
    assert leased._pools == leased._databases == leased._users == {}


def test_a_count_of_none_is_not_kept() -> None:
    counts: Counter[str] = Counter()
    add(counts, "a", 2)
    add(counts, "b", 0)
    add(counts, "a", -2)
    assert counts == {}
    assert not list(counts)

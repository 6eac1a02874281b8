from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from proxy.pool.interfaces import PoolKey
from proxy.pool.ledger import Ledger, Limits

A, B, C = PoolKey("app", "alice"), PoolKey("app", "bob"), PoolKey("other", "alice")
STRANGER = PoolKey("elsewhere", "carol")
NO_LIMITS = Limits(0, 0, 0, 0)


@dataclass
class Book:
    """A ledger and what it asked for. `takers` take an offered slot, others withdraw; `on_retry` is first."""

    limits: dict[PoolKey, Limits] = field(default_factory=dict)
    default: Limits = NO_LIMITS
    calls: list[tuple[str, PoolKey]] = field(default_factory=list)
    takers: dict[PoolKey, int] = field(default_factory=dict)
    on_retry: Callable[[PoolKey], None] | None = None

    def __post_init__(self) -> None:
        self.ledger = Ledger(
            lambda key: self.limits.get(key, self.default),
            self._retry,
            lambda key: self.calls.append(("reclaim", key)),
        )

    def _retry(self, key: PoolKey) -> None:
        self.calls.append(("retry", key))
        if self.on_retry is not None:
            self.on_retry(key)
        if key not in self.takers:
            self.ledger.withdraw(key)
        elif self.take(key, since=self.takers[key]):
            del self.takers[key]

    def take(self, key: PoolKey, *, reserve: bool = False, since: int | None = 0) -> bool:
        return self.ledger.take(key, reserve=reserve, since=since)

    def refused(self, key: PoolKey, since: int) -> None:
        assert not self.take(key, since=since)
        self.takers[key] = since
        self.calls.clear()


def test_without_limits_every_lease_is_granted_and_counted() -> None:
    book = Book()
    for key in (A, A, B, C):
        assert book.take(key)

    ledger = book.ledger
    assert (ledger.of_pool(A), ledger.of_pool(B), ledger.of_pool(STRANGER)) == (2, 1, 0)
    assert (ledger.of_database("app"), ledger.of_database("other")) == (3, 1)
    assert (ledger.of_user("alice"), ledger.of_user("bob")) == (3, 1)


def test_a_pool_takes_up_to_its_size_and_then_its_reserve() -> None:
    book = Book(default=Limits(2, 1, 0, 0))
    assert [book.take(A), book.take(A), book.take(A)] == [True, True, False]
    assert [book.take(A, reserve=True), book.take(A, reserve=True)] == [True, False]
    assert book.take(B)
    assert book.calls == []
    assert not book.ledger.contended, "nobody else could help a pool at its own limit"


@pytest.mark.parametrize(
    ("limits", "sharing", "free"),
    [(Limits(0, 0, 2, 0), B, C), (Limits(0, 0, 0, 2), C, B), (Limits(9, 9, 2, 2), B, STRANGER)],
)
def test_a_limit_is_shared_by_the_pools_of_its_database_or_user(
    limits: Limits, sharing: PoolKey, free: PoolKey
) -> None:
    book = Book(default=limits)
    assert book.take(A)
    assert book.take(sharing)

    assert not book.take(A)
    assert not book.take(sharing, reserve=True)
    assert book.take(free)


def test_what_was_given_back_can_be_taken_again() -> None:
    book = Book(default=Limits(1, 0, 1, 1))
    for _ in range(3):
        assert book.take(A)
        book.ledger.give_back(A)
    assert (book.ledger.of_pool(A), book.ledger.of_database("app"), book.ledger.of_user("alice")) == (0, 0, 0)


def test_servers_are_given_back_one_by_one() -> None:
    book = Book(default=Limits(2, 0, 0, 0))
    book.take(A)
    book.take(A)
    book.ledger.give_back(A)
    assert book.ledger.of_pool(A) == 1
    assert book.take(A)
    assert not book.take(A)


def test_a_refused_pool_has_others_give_way() -> None:
    book = Book(default=Limits(0, 0, 1, 0))
    book.take(A)
    assert not book.take(B, since=5)

    assert book.calls == [("reclaim", B)]
    assert book.ledger.contended
    assert book.ledger.claims() == 1
    assert book.ledger.claimed_since(A) == 5


def test_for_a_minimum_nobody_has_to_give_way() -> None:
    book = Book(default=Limits(0, 0, 1, 0))
    book.take(A)

    assert not book.take(B, since=None)

    assert book.calls == []
    assert not book.ledger.contended
    assert book.ledger.claimed_since(A) is None


def test_a_freed_slot_is_offered_to_those_it_would_help_the_longest_waiting_first() -> None:
    book = Book(default=Limits(0, 0, 1, 0))
    book.take(A)
    book.refused(PoolKey("app", "carol"), 30)
    book.refused(B, 20)
    book.limits[STRANGER] = Limits(0, 0, 0, 1)
    book.take(STRANGER)
    book.refused(STRANGER, 10)

    book.ledger.give_back(A)

    assert book.calls[0] == ("retry", B)
    assert ("retry", STRANGER) not in book.calls
    assert book.ledger.of_pool(B) == 1
    assert book.ledger.claimed_since(B) == 30


def test_a_slot_that_the_first_does_not_want_goes_to_the_next() -> None:
    book = Book(default=Limits(0, 0, 1, 0))
    book.take(A)
    book.refused(B, 10)
    book.refused(PoolKey("app", "carol"), 20)
    del book.takers[B]

    book.ledger.give_back(A)

    assert book.ledger.of_pool(PoolKey("app", "carol")) == 1


def test_a_claim_withdrawn_while_slots_are_offered_is_passed_over() -> None:
    book = Book(default=Limits(0, 0, 1, 0))
    carol = PoolKey("app", "carol")
    book.take(A)
    book.refused(B, 10)
    book.refused(carol, 20)
    ledger = book.ledger
    book.on_retry = lambda key: ledger.withdraw(carol)
    ledger.give_back(A)

    assert book.calls == [("retry", B)]


def test_a_withdrawn_claim_is_forgotten() -> None:
    book = Book(default=Limits(0, 0, 1, 0))
    book.take(A)
    book.refused(B, 5)

    book.ledger.withdraw(B)
    book.ledger.withdraw(B)

    assert not book.ledger.contended
    assert book.ledger.claimed_since(A) is None
    book.ledger.give_back(A)
    assert book.calls == []


def test_a_pool_that_comes_to_its_own_limit_claims_nothing_any_more() -> None:
    book = Book(default=Limits(1, 0, 1, 0))
    book.take(A)
    book.refused(B, 5)
    book.ledger.give_back(A)
    assert book.ledger.of_pool(B) == 1

    assert not book.take(B, since=5)
    assert not book.ledger.contended


def test_nobody_claims_of_itself() -> None:
    book = Book(default=Limits(0, 0, 1, 0))
    book.take(A)
    book.refused(A, 5)
    assert book.ledger.claimed_since(A) is None


def test_one_free_slot_is_kept_for_the_first_of_those_who_wait() -> None:
    book = Book(default=Limits(0, 0, 2, 2))
    d = PoolKey("other", "bob")
    for key in (B, B, C, C):
        assert book.take(key)
    book.refused(A, 10)
    book.refused(d, 20)

    book.ledger.give_back(B)
    assert not book.take(B, since=30), "the free slot of the database is kept"
    assert not book.take(B, since=None)
    assert book.take(B, since=5), "but not from who has waited longer"
    book.ledger.give_back(B)
    book.ledger.give_back(C)
    assert (book.ledger.of_pool(A), book.ledger.of_pool(d)) == (1, 1)


def test_of_two_free_slots_one_may_be_taken() -> None:
    book = Book(default=Limits(0, 0, 3, 1))
    book.take(B)
    book.take(C)
    book.refused(A, 10)
    assert book.take(PoolKey("app", "carol"), since=20)
    assert not book.take(PoolKey("app", "dave"), since=20)


def test_for_the_first_of_those_who_wait_holders_of_either_slot_give_way() -> None:
    book = Book(default=Limits(0, 0, 1, 1))
    book.take(B)
    book.take(C)
    book.refused(A, 10)

    assert book.ledger.would_help(B, A)
    assert book.ledger.would_help(C, A)
    assert book.ledger.claimed_since(B) == book.ledger.claimed_since(C) == 10
    assert book.ledger.claimed_since(STRANGER) is None


@pytest.mark.parametrize(
    ("limits", "holder", "helps"),
    [
        (Limits(0, 0, 1, 0), B, True),
        (Limits(0, 0, 1, 0), C, False),
        (Limits(0, 0, 0, 1), C, True),
        (Limits(0, 0, 0, 1), B, False),
        (Limits(0, 0, 1, 1), B, False),
        (Limits(0, 0, 1, 1), C, False),
        (Limits(0, 0, 1, 1), A, True),
        (Limits(0, 0, 9, 9), B, False),
        (Limits(0, 0, 0, 0), B, False),
        (Limits(0, 0, 1, 9), B, True),
        (Limits(0, 0, 1, 1), STRANGER, False),
    ],
)
def test_a_slot_helps_only_a_pool_that_lacks_just_what_it_frees(
    limits: Limits, holder: PoolKey, helps: bool
) -> None:
    book = Book()
    book.take(A)
    book.limits[A] = limits
    assert book.ledger.would_help(holder, A) is helps


def test_databases_and_users_without_servers_are_not_remembered() -> None:
    book = Book()
    book.take(STRANGER)
    book.ledger.give_back(STRANGER)
    assert book.ledger._databases == book.ledger._users == book.ledger._pools == {}

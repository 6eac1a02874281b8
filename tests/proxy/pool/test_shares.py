from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.pool.interfaces import PoolKey
from proxy.pool.leasing import Arrival, Below, Claim, Forget, Grant, How, Report, Returned, Take, Yielded
from proxy.pool.ledger import Limits
from proxy.pool.shares import CLAIMED_AT_ONCE, LINGER, Shares
from proxy.pool.standing import QUANTUM
from tests.support.clock import SECOND, Clock

A, B, C = PoolKey("app", "alice"), PoolKey("app", "bob"), PoolKey("other", "alice")
FREE = Limits(0, 0, 0, 0)


@dataclass
class Desk:
    """The ledger, and what it says to whom."""

    limits: dict[PoolKey, Limits] = field(default_factory=dict)
    default: Limits = FREE
    said: list[tuple[int, Any]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.shares = Shares(lambda key: self.limits.get(key, self.default), self._send)
        self.descriptors: list[int] = []

    def _send(self, worker: int, message: Any, descriptors: Sequence[int]) -> None:
        self.said.append((worker, message))
        self.descriptors.extend(descriptors)

    def hears(self, worker: int, message: Any, *descriptors: int) -> list[tuple[int, Any]]:
        """A worker says something; returns the answers, claims left out."""
        self.shares.receive(worker, message, descriptors, self.clock())
        return self.answers()

    def answers(self) -> list[tuple[int, Any]]:
        said = [(worker, message) for worker, message in self.said if not isinstance(message, Claim)]
        self.said.clear()
        return said

    def wants(self, worker: int, key: PoolKey = A, lacking: int = 1, **more: Any) -> list[tuple[int, Any]]:
        return self.hears(worker, Report(key, lacking, **({"since": self.clock(), "load": lacking} | more)))

    def holds(self, worker: int, count: int, key: PoolKey = A, **report: Any) -> None:
        """The worker has been granted so many, and reports how it stands."""
        for _ in range(count):
            assert self.wants(worker, key) == [(worker, Grant(key))]
        assert self.hears(worker, Report(key, 0, **report)) == []

    def after(self, ns: int) -> list[tuple[int, Any]]:
        self.clock.now += ns
        self.shares.sweep(self.clock())
        return self.answers()


def test_leases_are_granted_up_to_the_limit_over_all_workers() -> None:
    desk = Desk(default=Limits(2, 0, 0, 0))
    assert desk.wants(1) == [(1, Grant(A))]
    assert desk.wants(2) == [(2, Grant(A))]
    assert desk.wants(1) == []
    assert desk.shares.of_pool(A) == desk.shares.of_database("app") == desk.shares.of_user("alice") == 2
    assert len(desk.shares._wants) == 1
    assert desk.shares.of_worker(1) == {A: 1}


def test_a_returned_lease_goes_to_who_has_waited_longest() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, load=1)
    desk.wants(2, since=20)
    desk.wants(3, since=10)
    assert (3, Grant(A)) in desk.hears(1, Returned(A))
    assert desk.shares.of_pool(A) == 1


def test_the_reserve_is_for_those_who_may_use_it() -> None:
    desk = Desk(default=Limits(1, 1, 0, 0))
    desk.holds(1, 1, load=1)
    assert (2, Grant(A)) not in desk.wants(2)
    assert (2, Grant(A)) in desk.wants(2, reserve=True)


def test_a_minimum_is_met_once_and_each_worker_knows_what_those_before_it_hold() -> None:
    desk = Desk(default=Limits(4, 0, 0, 0, minimum=2))
    assert desk.hears(2, Report(A, 1)) == [(2, Grant(A))]
    assert desk.hears(1, Report(A, 1)) == [(2, Below(A, 1)), (1, Grant(A))]
    assert desk.hears(3, Report(A, 1)) == [(3, Below(A, 2))]
    assert desk.hears(2, Report(A, 1)) == []
    assert desk.hears(1, Returned(A)) == [(2, Below(A, 0)), (3, Below(A, 1)), (3, Grant(A))]


def test_an_idle_server_elsewhere_moves_to_who_waits() -> None:
    desk = Desk(default=Limits(2, 0, 0, 0))
    desk.holds(1, 2, spare=1, load=1)

    assert desk.wants(2) == [(1, Take(1, A, move=True, due=False))]
    assert desk.hears(1, Yielded(1, A, How.MOVED, b"it"), 7) == [(2, Arrival(A, b"it"))]

    assert desk.descriptors == [7]
    assert desk.shares.of_worker(1) == desk.shares.of_worker(2) == {A: 1}
    assert desk.shares.moved == 1
    assert desk.shares._wants == {}


def test_a_holder_hears_that_others_lack_servers_and_for_a_while_nothing_else() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, load=1)
    desk.shares.receive(2, Report(A, 1, since=desk.clock(), load=1), (), desk.clock())
    assert (1, Claim(A, made=True)) in desk.said
    desk.said.clear()
    desk.hears(2, Report(A, 0))
    assert desk.shares.sweep(desk.clock())
    desk.clock.now += LINGER
    assert not desk.shares.sweep(desk.clock())
    assert (1, Claim(A, made=False)) in desk.said


def test_a_server_that_nobody_wants_any_more_goes_back() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, spare=1)
    desk.wants(2)
    desk.hears(2, Report(A, 0))
    assert desk.hears(1, Yielded(1, A, How.MOVED), 7) == [(1, Arrival(A, b""))]
    assert desk.shares.of_worker(1) == {A: 1}
    assert desk.shares.moved == 0


def test_a_server_taken_for_one_who_left_goes_to_another_who_waits() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, spare=1)
    desk.wants(2)
    desk.wants(3)
    desk.hears(2, Report(A, 0))
    assert (3, Arrival(A, b"")) in desk.hears(1, Yielded(1, A, How.MOVED), 7)


def test_a_server_that_cannot_move_is_closed_and_its_lease_granted_anew() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, spare=1)
    desk.wants(2)
    assert desk.hears(1, Yielded(1, A, How.CLOSING)) == []
    assert desk.after(SECOND) == [], "it is coming"
    assert desk.hears(1, Returned(A)) == [(2, Grant(A))]


def test_who_kept_an_idle_server_because_it_was_lent_again_gives_it_when_it_is_released() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, spare=1, load=1)
    desk.wants(2, load=0)
    assert desk.hears(1, Yielded(1, A, How.KEPT)) == [(1, Take(2, A, move=True, due=True))]


def test_a_worker_with_more_than_its_share_gives_at_a_release_and_not_too_fast() -> None:
    desk = Desk(default=Limits(8, 0, 0, 0))
    desk.holds(1, 8, load=32)
    desk.wants(1, lacking=24, load=32)
    assert desk.wants(2, lacking=32) == [(1, Take(1, A, move=True, due=True))]
    assert (2, Arrival(A, b"")) in desk.hears(1, Yielded(1, A, How.MOVED), 5)
    assert desk.after(QUANTUM - 1) == []
    assert desk.after(1) == [(1, Take(2, A, move=True, due=True))]


def test_who_cannot_give_in_time_need_not() -> None:
    desk = Desk(default=Limits(2, 0, 0, 0))
    desk.holds(1, 2, load=32)
    assert desk.wants(2, lacking=32) == [(1, Take(1, A, move=True, due=True))]
    assert desk.after(QUANTUM) == [(1, Forget(1))]
    assert desk.after(QUANTUM) == []
    assert desk.hears(1, Yielded(1, A, How.KEPT)) == [(1, Take(2, A, move=True, due=True))]


def test_a_pool_of_others_gives_way_at_a_shared_limit() -> None:
    desk = Desk(default=Limits(0, 0, 1, 0))
    desk.holds(1, 1, B, spare=1)
    assert desk.wants(2) == [(1, Take(1, B, move=False, due=False))]
    desk.hears(1, Yielded(1, B, How.CLOSING))
    assert desk.hears(1, Returned(B)) == [(2, Grant(A))]


def test_for_who_waits_longest_a_slot_of_each_limit_is_kept() -> None:
    desk = Desk(limits={A: Limits(0, 0, 1, 1)}, default=Limits(0, 0, 1, 1))
    desk.holds(1, 1, B, load=1)
    desk.holds(1, 1, C, load=1)
    desk.wants(2, A, since=10)
    answers = desk.wants(2, C, since=20)
    assert (2, Grant(C)) not in answers
    assert (2, Grant(C)) not in desk.hears(1, Returned(C))
    assert (2, Grant(A)) in desk.hears(1, Returned(B))


def test_leases_of_a_dead_worker_count_until_its_servers_are_gone() -> None:
    desk = Desk(default=Limits(2, 0, 0, 0))
    desk.holds(1, 2, spare=2)
    desk.wants(2, lacking=2)
    assert desk.shares.lost(1, desk.clock()) == {A: 2}
    assert desk.answers() == []
    assert desk.shares.of_pool(A) == 2
    desk.shares.freed(A, desk.clock())
    assert desk.answers() == [(2, Grant(A))]
    desk.shares.freed(A, desk.clock())
    desk.shares.freed(A, desk.clock())
    assert desk.shares.of_pool(A) == 1


def test_what_the_dead_wanted_nobody_gets() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, spare=1)
    desk.wants(2)
    desk.shares.lost(2, desk.clock())
    desk.said.clear()
    assert desk.hears(1, Yielded(1, A, How.MOVED), 5) == [(1, Arrival(A, b""))]


def test_what_a_dead_worker_was_closing_for_somebody_is_looked_for_elsewhere() -> None:
    desk = Desk(default=Limits(2, 0, 0, 0))
    desk.holds(1, 1, spare=1)
    desk.holds(3, 1, load=0)
    desk.wants(2)
    desk.hears(1, Yielded(1, A, How.CLOSING))
    desk.shares.lost(1, desk.clock())
    assert desk.answers() == [(3, Take(2, A, move=True, due=True))]
    assert desk.shares.of_pool(A) == 2


def test_a_smaller_pool_closes_what_is_too_much() -> None:
    desk = Desk(default=Limits(3, 0, 0, 0))
    desk.holds(1, 2)
    desk.holds(2, 1)
    desk.default = Limits(2, 0, 0, 0)
    desk.shares.changed(desk.clock())
    assert desk.answers() == [(1, Take(1, A, move=False, due=True))]
    desk.hears(1, Yielded(1, A, How.CLOSING))
    assert desk.shares.sweep(desk.clock())
    assert desk.hears(1, Returned(A)) == []
    assert not desk.shares.sweep(desk.clock())


def test_a_database_that_is_gone_gets_nothing() -> None:
    desk = Desk(default=Limits(-1, 0, 0, 0))
    assert desk.wants(1) == []


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    desk = Desk()
    desk.holds(1, 1)
    assert desk.hears(1, Yielded(9, A, How.MOVED), 5) == []
    assert desk.shares.of_worker(1) == {A: 1}
    desk.hears(2, Returned(A))
    assert desk.shares.of_pool(A) == 1


def test_what_nobody_uses_is_not_remembered() -> None:
    desk = Desk()
    desk.holds(1, 1)
    desk.hears(1, Returned(A))
    assert desk.shares._standings == {}
    assert desk.shares._pools == {}


def test_who_held_what_others_lacked_is_not_remembered_when_it_holds_nothing() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, load=1)
    ((_, take),) = desk.wants(2)
    assert (2, Grant(A)) in desk.hears(1, Returned(A))
    desk.hears(1, Yielded(take.number, A, How.KEPT))
    desk.hears(2, Report(A, 0))
    desk.hears(2, Returned(A))
    desk.after(LINGER)
    assert desk.shares._standings == {}


def test_a_lost_worker_is_not_remembered() -> None:
    desk = Desk()
    desk.holds(1, 1)
    desk.shares.lost(1, desk.clock())
    assert desk.shares._standings == {}
    desk.shares.freed(A, desk.clock())
    assert desk.shares._pools == {}


def test_who_waits_for_what_nobody_can_give_keeps_no_idle_server_from_others() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    keys = [PoolKey("app", f"user{number}") for number in range(3 * CLAIMED_AT_ONCE)]
    for key in (*keys, B):
        desk.holds(1, 1, key, load=1)
    for key in keys:
        desk.wants(2, key)
    desk.clock.now += SECOND
    desk.wants(2, B)
    desk.hears(1, Report(B, 0, spare=1))
    takes = [message for _ in range(10) for _, message in desk.after(SECOND // 20)]
    assert any(isinstance(take, Take) and take.key == B and not take.due for take in takes)

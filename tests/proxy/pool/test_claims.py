from proxy.pool.claims import CLAIMED_AT_ONCE, LINGER
from proxy.pool.interfaces import PoolKey
from proxy.pool.leasing import Arrival, Claim, Forget, Grant, How, Report, Returned, Take, Yielded
from proxy.pool.ledger import Limits
from proxy.pool.standing import QUANTUM
from tests.proxy.pool.desk import A, B, Desk
from tests.support.clock import SECOND


def test_an_idle_server_elsewhere_moves_to_who_waits() -> None:
    desk = Desk(default=Limits(2, 0, 0, 0))
    desk.holds(1, 2, spare=1, load=1)

    assert desk.wants(2) == [(1, Take(1, A, move=True, due=False))]
    assert desk.hears(1, Yielded(1, A, How.MOVED, b"it"), 7) == [(2, Arrival(A, b"it"))]

    assert desk.descriptors == [7]
    assert desk.shares.book.of_worker(1) == desk.shares.book.of_worker(2) == {A: 1}
    assert desk.shares.book.wants == {}


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


def test_what_a_dead_worker_was_closing_for_somebody_is_looked_for_elsewhere() -> None:
    desk = Desk(default=Limits(2, 0, 0, 0))
    desk.holds(1, 1, spare=1)
    desk.holds(3, 1, load=0)
    desk.wants(2)
    desk.hears(1, Yielded(1, A, How.CLOSING))
    desk.shares.lost(1, desk.clock())
    assert desk.answers() == [(3, Take(2, A, move=True, due=True))]
    assert desk.shares.book.of_pool(A) == 2


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


def test_who_held_what_others_lacked_is_not_remembered_when_it_holds_nothing() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, load=1)
    ((_, take),) = desk.wants(2)
    assert (2, Grant(A)) in desk.hears(1, Returned(A))
    desk.hears(1, Yielded(take.number, A, How.KEPT))
    desk.hears(2, Report(A, 0))
    desk.hears(2, Returned(A))
    desk.after(LINGER)
    assert desk.shares.book.standings == {}


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

from proxy.pool.leasing import Below, Grant, Report, Returned
from proxy.pool.ledger import Limits
from tests.proxy.pool.desk import A, Desk


def test_a_minimum_is_met_once_and_each_worker_knows_what_those_before_it_hold() -> None:
    desk = Desk(default=Limits(4, 0, 0, 0, minimum=2))
    assert desk.hears(2, Report(A, 1)) == [(2, Grant(A))]
    assert desk.hears(1, Report(A, 1)) == [(2, Below(A, 1)), (1, Grant(A))]
    assert desk.hears(3, Report(A, 1)) == [(3, Below(A, 2))]
    assert desk.hears(2, Report(A, 1)) == []
    assert desk.hears(1, Returned(A)) == [(2, Below(A, 0)), (3, Below(A, 1)), (3, Grant(A))]


def test_leases_of_a_dead_worker_count_until_its_servers_are_gone() -> None:
    desk = Desk(default=Limits(2, 0, 0, 0))
    desk.holds(1, 2, spare=2)
    desk.wants(2, lacking=2)
    assert desk.shares.lost(1, desk.clock()) == {A: 2}
    assert desk.answers() == []
    assert desk.shares.book.of_pool(A) == 2
    desk.shares.freed(A, desk.clock())
    assert desk.answers() == [(2, Grant(A))]
    desk.shares.freed(A, desk.clock())
    desk.shares.freed(A, desk.clock())
    assert desk.shares.book.of_pool(A) == 1


def test_what_nobody_uses_is_not_remembered() -> None:
    desk = Desk()
    desk.holds(1, 1)
    desk.hears(1, Returned(A))
    assert desk.shares.book.standings == {}
    assert desk.shares.book._pools == {}


def test_a_lost_worker_is_not_remembered() -> None:
    desk = Desk()
    desk.holds(1, 1)
    desk.shares.lost(1, desk.clock())
    assert desk.shares.book.standings == {}
    desk.shares.freed(A, desk.clock())
    assert desk.shares.book._pools == {}

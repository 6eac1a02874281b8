import pytest

from proxy.pool.interfaces import PoolKey
from proxy.pool.leasing import Arrival, Grant, How, Report, Returned, Take, Yielded
from proxy.pool.ledger import Limits
from proxy.pool.shares import Shares
from tests.proxy.pool.desk import A, B, C, Desk


def test_leases_are_granted_up_to_the_limit_over_all_workers() -> None:
    desk = Desk(default=Limits(2, 0, 0, 0))
    assert desk.wants(1) == [(1, Grant(A))]
    assert desk.wants(2) == [(2, Grant(A))]
    assert desk.wants(1) == []
    assert (
        desk.shares.book.of_pool(A)
        == desk.shares.book.of_database("app")
        == desk.shares.book.of_user("alice")
        == 2
    )
    assert len(desk.shares.book.wants) == 1
    assert desk.shares.book.of_worker(1) == {A: 1}


def test_a_returned_lease_goes_to_who_has_waited_longest() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, load=1)
    desk.wants(2, since=20)
    desk.wants(3, since=10)
    assert (3, Grant(A)) in desk.hears(1, Returned(A))
    assert desk.shares.book.of_pool(A) == 1


def test_the_reserve_is_for_those_who_may_use_it_and_each_of_its_servers_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk(default=Limits(1, 1, 0, 0))
    desk.holds(1, 1, load=1)
    assert (2, Grant(A)) not in desk.wants(2)
    assert caplog.messages == []
    assert (2, Grant(A)) in desk.wants(2, reserve=True)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "taking connection from reserve_pool"
    ]


def test_a_server_that_nobody_wants_any_more_goes_back() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, spare=1)
    desk.wants(2)
    desk.hears(2, Report(A, 0))
    assert desk.hears(1, Yielded(1, A, How.MOVED), 7) == [(1, Arrival(A, b""))]
    assert desk.shares.book.of_worker(1) == {A: 1}


def test_a_server_taken_for_one_who_left_goes_to_another_who_waits() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, spare=1)
    desk.wants(2)
    desk.wants(3)
    desk.hears(2, Report(A, 0))
    assert (3, Arrival(A, b"")) in desk.hears(1, Yielded(1, A, How.MOVED), 7)


def test_for_who_waits_longest_a_slot_of_each_limit_is_kept() -> None:
    desk = Desk(limits={A: Limits(0, 0, 1, 1)}, default=Limits(0, 0, 1, 1))
    desk.holds(1, 1, B, load=1)
    desk.holds(1, 1, C, load=1)
    desk.wants(2, A, since=10)
    answers = desk.wants(2, C, since=20)
    assert (2, Grant(C)) not in answers
    assert (2, Grant(C)) not in desk.hears(1, Returned(C))
    assert (2, Grant(A)) in desk.hears(1, Returned(B))


def test_what_the_dead_wanted_nobody_gets() -> None:
    desk = Desk(default=Limits(1, 0, 0, 0))
    desk.holds(1, 1, spare=1)
    desk.wants(2)
    desk.shares.lost(2, desk.clock())
    desk.said.clear()
    assert desk.hears(1, Yielded(1, A, How.MOVED), 5) == [(1, Arrival(A, b""))]


def test_a_database_that_is_gone_gets_nothing() -> None:
    desk = Desk(default=Limits(-1, 0, 0, 0))
    assert desk.wants(1) == []


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    desk = Desk()
    desk.holds(1, 1)
    assert desk.hears(1, Yielded(9, A, How.MOVED), 5) == []
    assert desk.shares.book.of_worker(1) == {A: 1}
    desk.hears(2, Returned(A))
    assert desk.shares.book.of_pool(A) == 1


def watched(desk: Desk, asked: list[PoolKey]) -> None:
    """Who looks for something to do asks for limits first."""

    def limits(key: PoolKey) -> Limits:
        asked.append(key)
        return desk.default

    desk.shares = Shares(limits, desk._send)


def test_a_report_from_which_nothing_follows_is_only_kept() -> None:
    desk, asked = Desk(default=Limits(2, 0, 0, 0)), list[PoolKey]()
    watched(desk, asked)
    desk.holds(1, 1, load=8)
    desk.holds(2, 1, load=8)
    desk.wants(1, lacking=7, load=8)
    desk.wants(2, lacking=7, load=8)
    asked.clear()
    for worker, lacking in ((1, 6), (2, 7), (1, 9)):
        desk.wants(worker, lacking=lacking, load=8)
    assert asked == []
    standing = desk.shares.book.standings[A][1]
    assert standing.report is not None
    assert standing.report.lacking == 9


@pytest.mark.parametrize(
    "report",
    [
        Report(A, 1, since=5, reserve=True),
        Report(A, 1, since=5, spare=1),
        Report(A, 0),
        Report(A, 1),
    ],
)
def test_a_report_from_which_something_follows_is_acted_on_at_once(report: Report) -> None:
    desk, asked = Desk(default=Limits(1, 1, 0, 0, minimum=1)), list[PoolKey]()
    watched(desk, asked)
    desk.holds(1, 1, load=8)
    desk.wants(2, since=4)
    desk.wants(1, since=5)
    asked.clear()
    desk.hears(1, report)
    assert asked


def test_who_comes_to_lack_more_gets_at_once_what_others_spare() -> None:
    desk = Desk(default=Limits(3, 0, 0, 0))
    desk.holds(1, 3, spare=2)
    assert desk.wants(2) == [(1, Take(1, A, move=True, due=False))]
    assert desk.wants(2, lacking=2) == [(1, Take(2, A, move=True, due=False))]

"""A worker's side of the leases, with real pools; what the ledger decides is in its own tests."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from proxy.pool import states
from proxy.pool.interfaces import PoolKey
from proxy.pool.leases import LOOK_AGAIN
from proxy.pool.leasing import Arrival, Below, Claim, Forget, Grant, How, Report, Returned, Take, Yielded
from proxy.pool.pool import Pool
from proxy.reasons import ServerClosed
from tests.support.clock import SECOND
from tests.support.crew import Crew, Hand
from tests.support.doubles import FakeSession, make_settings

A = PoolKey("app", "alice")


class Bench:
    """One worker, whose ledger is the test."""

    def __init__(self, **settings: object) -> None:
        self.crew = Crew(1, make_settings(**settings))
        self.hand: Hand = self.crew.hands[1]
        self.leases = self.hand.leases
        self.clock = self.crew.clock

    @property
    def pool(self) -> Pool:
        return self.hand.pool()

    def said(self) -> list[Any]:
        """What the worker has said since it was last asked."""
        said = [message for message, _ in self.hand.outbox]
        self.hand.outbox.clear()
        return said

    def hears(self, message: Any, *descriptors: int) -> list[Any]:
        self.leases.receive(message, descriptors)
        return self.said()

    def looks(self, seconds: float = LOOK_AGAIN / SECOND) -> list[Any]:
        self.clock.advance(seconds)
        self.hand.run_timers()
        return self.said()

    def lends(self, count: int = 1) -> list[FakeSession]:
        """So many clients with servers."""
        sessions = [self.hand.session() for _ in range(count)]
        for session in sessions:
            session.asks()
            self.hears(Grant(A))
            self.hand.settle()
            assert session.server is not None
        self.said()
        return sessions


def lacking(count: int, bench: Bench, **more: Any) -> Report:
    return replace(Report(A, count, since=bench.clock(), load=count), **more)


def test_a_client_that_waits_has_a_lease_asked_for_once() -> None:
    bench = Bench()
    assert bench.hand.session().asks() is None
    assert bench.said() == [lacking(1, bench)]
    assert A in bench.leases.asked
    assert bench.leases.claims() == 1
    bench.hand.session().asks()
    bench.hand.janitor.sweep(bench.clock())
    assert bench.said() == []
    assert bench.pool.open == 0


def test_a_granted_lease_opens_a_server_and_what_is_still_lacking_is_asked_for() -> None:
    bench = Bench()
    bench.lends()
    bench.hand.session().asks()
    bench.hand.session().asks()
    bench.said()
    assert bench.hears(Grant(A)) == [lacking(1, bench, load=3)]
    assert len(bench.pool.servers[states.LOGIN]) == 1
    assert bench.leases.of_pool(A) == bench.leases.of_database("app") == bench.leases.of_user("alice") == 2


def test_a_lease_that_nobody_wants_any_more_goes_back() -> None:
    bench = Bench()
    session = bench.hand.session()
    session.asks()
    bench.hand.leave(session)
    bench.said()
    assert bench.hears(Grant(A)) == [Returned(A), Report(A, 0)]
    assert bench.hears(Grant(PoolKey("app", "nobody")))[0] == Returned(PoolKey("app", "nobody"))
    assert bench.leases.of_pool(A) == 0


def test_after_a_grant_the_ledger_hears_that_nothing_is_lacking_any_more() -> None:
    bench = Bench()
    bench.hand.session().asks()
    bench.said()
    assert bench.hears(Grant(A)) == [Report(A, 0, load=1)]


def test_a_server_that_is_gone_gives_its_lease_back() -> None:
    bench = Bench()
    (session,) = bench.lends()
    assert session.server is not None
    session.server.finish()
    assert Returned(A) in bench.said()
    assert bench.leases.of_pool(A) == 0


def test_who_gives_up_waiting_is_reported_at_the_next_look() -> None:
    bench = Bench()
    session = bench.hand.session()
    session.asks()
    bench.said()
    session.leaves()
    assert bench.said() == []
    assert bench.looks() == [Report(A, 0)]
    assert A not in bench.leases.asked
    assert bench.hand.timers == []


def test_who_waits_on_is_reported_only_from_time_to_time() -> None:
    bench = Bench()
    bench.hand.session().asks()
    began = bench.clock()
    bench.said()
    assert bench.looks() == []
    assert bench.looks(0.3) == [Report(A, 1, since=began, load=1)]


def test_who_may_go_into_the_reserve_says_so() -> None:
    bench = Bench(reserve_pool_size=1, reserve_pool_timeout=0.015, default_pool_size=1)
    bench.hand.session().asks()
    bench.said()
    assert bench.looks() == []
    (report,) = bench.looks()
    assert report.reserve


def test_a_paused_database_lacks_nothing() -> None:
    bench = Bench()
    bench.hand.session().asks()
    bench.hand.manager.pause(None)
    bench.said()
    assert bench.looks() == [Report(A, 0, load=1)]


def test_a_minimum_is_asked_for_once_and_by_nobody() -> None:
    bench = Bench(min_pool_size=2)
    bench.hand.session()
    bench.hand.janitor.sweep(bench.clock())
    bench.hand.janitor.sweep(bench.clock())
    assert bench.said() == [Report(A, 1)]
    assert bench.hears(Grant(A)) == [Report(A, 0)]
    bench.hand.settle()
    bench.hand.janitor.sweep(bench.clock())
    assert bench.said() == [Report(A, 1)]


def test_of_a_minimum_only_what_others_do_not_hold_is_kept() -> None:
    bench = Bench(min_pool_size=2, server_idle_timeout=1)
    for session in bench.lends(2):
        session.gives_back()
    bench.hears(Below(A, 1))
    assert bench.leases.floor(A, 2) == 1
    assert bench.leases.floor(A, 0) == 0
    bench.clock.advance(2)
    bench.hand.janitor.sweep(bench.clock())
    assert len(bench.pool.servers[states.CLOSING]) == 1
    bench.hears(Below(A, 0))
    assert bench.leases.floor(A, 2) == 2


def test_what_can_be_spared_is_told_while_somebody_lacks_it() -> None:
    bench = Bench()
    one, other = bench.lends(2)
    one.gives_back()
    assert bench.looks(1) == []
    assert bench.hears(Claim(A, made=True)) == [Report(A, 0, load=1, spare=1)]
    assert bench.looks() == []
    other.gives_back()
    assert bench.looks() == [], "it has not rested yet"
    assert bench.looks() == [Report(A, 0, spare=2)]
    bench.hears(Claim(A, made=False))
    assert bench.looks(1) == []
    assert bench.hand.timers == []


def test_a_pool_without_clients_spares_all_at_once() -> None:
    bench = Bench()
    (session,) = bench.lends()
    bench.hand.leave(session)
    assert bench.hears(Claim(A, made=True)) == [Report(A, 0, spare=1)]


def test_a_claim_does_not_repeat_what_the_pool_has_not_asked_for() -> None:
    bench = Bench()
    bench.lends()
    bench.hand.session().asks()
    bench.said()
    bench.leases.asked.clear()
    assert [report.lacking for report in bench.hears(Claim(A, made=True))] == [0]


def test_an_idle_server_is_given_away_the_longest_idle_first() -> None:
    bench = Bench()
    one, other = bench.lends(2)
    old = one.server
    one.gives_back()
    bench.looks(0.1)
    other.gives_back()
    bench.looks(0.1)

    assert bench.hears(Take(1, A, move=True, due=False)) == [Yielded(1, A, How.MOVED)]

    assert [*bench.crew.packed.values()] == [old]
    assert bench.pool.open == bench.leases.of_pool(A) == 1


def test_a_server_that_is_in_use_again_is_kept() -> None:
    bench = Bench()
    bench.lends()
    assert bench.hears(Take(1, A, move=True, due=False)) == [Yielded(1, A, How.KEPT)]
    assert bench.hears(Take(2, PoolKey("no", "body"), True, True)) == [
        Yielded(2, PoolKey("no", "body"), How.KEPT)
    ]


@pytest.mark.parametrize("plain", [True, False])
def test_what_cannot_move_is_closed_instead(plain: bool) -> None:
    bench = Bench()
    (session,) = bench.lends()
    server = session.server
    assert server is not None
    session.gives_back()
    bench.looks(0.1)
    bench.hand.plain = plain
    take = Take(1, A, move=not plain, due=False)
    assert bench.hears(take) == [Yielded(1, A, How.CLOSING)]
    assert server.closed_because is ServerClosed.EVICTED
    server.finish()
    assert bench.said() == [Returned(A)]


def test_what_is_due_goes_when_it_is_given_back_although_others_wait() -> None:
    bench = Bench(default_pool_size=1)
    (session,) = bench.lends()
    waiting = bench.hand.session()
    waiting.asks()
    bench.said()
    assert bench.hears(Take(1, A, move=True, due=True)) == []
    assert bench.leases.contended

    session.gives_back()

    assert not bench.leases.contended
    said = bench.said()
    assert said[0] == Yielded(1, A, How.MOVED)
    assert said[1] == lacking(1, bench), "its own clients ask for another"
    assert waiting.waits


def test_what_is_due_goes_at_once_where_it_is_idle_and_nobody_waits() -> None:
    bench = Bench()
    (session,) = bench.lends()
    session.gives_back()
    assert bench.hears(Take(1, A, move=True, due=True)) == [Yielded(1, A, How.MOVED)]


def test_the_servers_of_other_pools_stay_when_one_is_due() -> None:
    bench = Bench()
    (session,) = bench.lends()
    other = bench.hand.session("app", "bob")
    other.asks()
    bench.hears(Grant(other.pool.key))
    bench.hand.settle()
    bench.said()
    bench.hears(Take(1, A, move=True, due=True))
    other.gives_back()
    assert bench.said() == []
    assert session.server is not None


def test_what_is_forgotten_is_not_due_any_more() -> None:
    bench = Bench()
    one, _ = bench.lends(2)
    bench.hears(Take(1, A, move=True, due=True))
    bench.hears(Take(2, A, move=True, due=True))
    assert bench.hears(Forget(1)) == [Yielded(1, A, How.KEPT)]
    assert bench.hears(Forget(1)) == []
    assert bench.leases.contended
    assert bench.hears(Forget(2)) == [Yielded(2, A, How.KEPT)]
    assert not bench.leases.contended
    one.gives_back()
    assert bench.said() == []


def test_a_pool_that_has_lost_all_its_servers_owes_none() -> None:
    bench = Bench()
    (session,) = bench.lends()
    bench.hears(Take(1, A, move=True, due=True))
    assert session.server is not None
    session.server.finish()
    assert bench.said()[:2] == [Yielded(1, A, How.KEPT), Returned(A)]
    assert not bench.leases.contended


def test_a_server_that_arrives_serves_who_waits() -> None:
    bench, elsewhere = Bench(), Bench()
    (session,) = elsewhere.lends()
    session.gives_back()
    elsewhere.hears(Take(1, A, move=True, due=True))
    ((descriptor, server),) = elsewhere.crew.packed.items()
    waiting = bench.hand.session()
    waiting.asks()
    bench.said()
    bench.crew.packed[descriptor] = server

    assert bench.hears(Arrival(A, b""), descriptor) == [Report(A, 0, load=1)]

    assert waiting.server is server
    assert bench.pool.open == bench.leases.of_pool(A) == 1
    assert A not in bench.leases.asked


def test_a_server_that_was_lost_on_its_way_gives_its_lease_back() -> None:
    bench = Bench()
    bench.hand.session().asks()
    bench.said()
    said = bench.hears(Arrival(A, b""))
    assert said == [Returned(A), lacking(1, bench)], "and it is still lacking"
    assert bench.hears(Arrival(PoolKey("no", "body"), b""), 5) == [Returned(PoolKey("no", "body"))]


def test_a_pool_that_is_gone_is_reported_as_one_that_has_nothing() -> None:
    bench = Bench()
    bench.lends()
    bench.hears(Claim(A, made=True))
    bench.leases.pools = {}
    assert bench.looks(1) == [Report(A, 0)]


def test_in_session_mode_who_asks_again_is_not_asked_for_again() -> None:
    bench = Bench(pool_mode="session")
    bench.hand.session().asks()
    bench.hand.session().asks()
    assert len(bench.said()) == 1


def test_who_waits_and_has_what_others_lack_reports_once() -> None:
    bench = Bench()
    bench.lends()
    bench.hand.session().asks()
    bench.said()
    bench.hears(Claim(A, made=True))
    assert len(bench.looks(1)) == 1


def test_a_minimum_is_asked_for_again_when_something_else_was_reported_meanwhile() -> None:
    bench = Bench(min_pool_size=1)
    bench.hand.session()
    bench.hand.janitor.sweep(bench.clock())
    assert bench.said() == [Report(A, 1)]
    assert bench.hears(Claim(A, made=True)) == [Report(A, 0)]
    bench.hand.janitor.sweep(bench.clock())
    assert bench.said() == [Report(A, 1)]


def test_a_server_whose_socket_cannot_be_sent_is_closed() -> None:
    bench = Bench()
    (session,) = bench.lends()
    session.gives_back()
    send = bench.leases._send

    def without_room(message: Any, descriptors: Sequence[int]) -> None:
        if descriptors:
            raise OSError("too many open files")
        send(message, descriptors)

    bench.leases._send = without_room
    assert bench.hears(Take(1, A, move=True, due=True)) == [Yielded(1, A, How.CLOSING), Returned(A)]
    assert bench.pool.open == bench.leases.of_pool(A) == 0


def test_a_look_that_fails_is_not_the_last() -> None:
    bench = Bench()
    bench.hand.session().asks()
    bench.said()
    pool = bench.pool
    bench.leases.pools = {A: object()}  # type: ignore[dict-item]
    with pytest.raises(AttributeError):
        bench.looks()
    bench.leases.pools = {A: pool}
    assert len(bench.looks(1)) == 1


def test_what_can_be_spared_is_told_also_after_the_pool_itself_lacked_something() -> None:
    bench = Bench()
    (session,) = bench.lends()
    session.gives_back()
    bench.looks(0.1)
    assert bench.hears(Claim(A, made=True)) == [Report(A, 0, spare=1)]
    session.asks()
    waiting = bench.hand.session()
    waiting.asks()
    bench.looks()
    waiting.leaves()
    session.gives_back()
    assert bench.looks() == [Report(A, 0)]
    assert bench.looks() == [Report(A, 0, spare=1)]

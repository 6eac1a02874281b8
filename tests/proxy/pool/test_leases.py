"""What a worker asks of the ledger above it, with real pools; what the ledger decides is in its own tests."""

import pytest

from proxy.pool import states
from proxy.pool.interfaces import PoolKey
from proxy.pool.leases import LOOK_AGAIN, SETTLED
from proxy.pool.leasing import Below, Claim, Grant, Report, Returned
from proxy.reasons import ServerClosed
from tests.proxy.pool.leasing import A, Bench, lacking
from tests.support.clock import SECOND


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


def test_that_nobody_waits_any_more_is_said_when_two_looks_have_found_it_so() -> None:
    bench = Bench()
    session = bench.hand.session()
    session.asks()
    bench.said()
    session.leaves()
    assert bench.said() == []
    assert bench.looks() == []
    assert A in bench.leases.asked
    assert bench.looks() == [Report(A, 0)]
    assert A not in bench.leases.asked
    assert bench.hand.timers == []


def test_who_lacks_nothing_for_a_moment_is_not_reported() -> None:
    bench = Bench()
    first = bench.hand.session()
    first.asks()
    bench.said()
    for _ in range(3):
        first.leaves()
        assert bench.looks() == []
        first = bench.hand.session()
        first.asks()
        assert bench.looks() == []


def test_who_waits_on_is_reported_only_from_time_to_time() -> None:
    bench = Bench()
    bench.hand.session().asks()
    began = bench.clock()
    bench.said()
    assert bench.looks() == []
    assert bench.looks(0.4) == []
    report = Report(A, 1, since=began, load=1)
    assert bench.looks(0.1) == [report]
    assert bench.looks(0.1) == []
    assert bench.looks(0.1) == [report], "the longer clients wait, the more it matters who is first"


def test_where_clients_wait_on_as_before_looks_are_fewer() -> None:
    bench = Bench()
    (session,) = bench.lends()
    bench.hand.session().asks()
    bench.said()

    def next_look() -> int:
        ((at, _),) = bench.hand.timers
        return at - bench.clock()

    assert bench.looks() == []
    assert next_look() == SETTLED
    session.gives_back()
    waiting = bench.hand.session()
    waiting.asks()
    assert bench.looks(SETTLED / SECOND) == []
    assert next_look() == SETTLED
    waiting.leaves()
    bench.looks(SETTLED / SECOND)
    assert next_look() == LOOK_AGAIN


def test_a_server_that_becomes_idle_where_looks_are_few_is_found_as_soon_as_it_has_rested() -> None:
    bench = Bench()
    (session,) = bench.lends()
    waiting = bench.hand.session()
    waiting.asks()
    bench.hears(Claim(A, made=True))
    assert bench.looks() == bench.looks() == []
    session.gives_back()
    assert not bench.pool.servers[states.IDLE]
    waiting.gives_back()
    assert bench.looks(0.019) == []
    assert bench.looks(0.001) == [Report(A, 0, spare=1)]
    bench.hears(Claim(A, made=False))
    session.asks()
    session.gives_back()
    bench.looks(1)
    assert bench.hand.timers == []


def test_who_may_go_into_the_reserve_says_so() -> None:
    bench = Bench(reserve_pool_size=1, reserve_pool_timeout=0.03, default_pool_size=1)
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
    assert bench.looks() == []
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
    assert bench.looks(0.01) == []
    other.gives_back()
    assert bench.looks(0.01) == [], "it has not rested yet"
    assert bench.looks(0.01) == [Report(A, 0, spare=2)]
    bench.hears(Claim(A, made=False))
    assert bench.looks(1) == []
    assert bench.hand.timers == []


def test_others_hear_of_an_idle_server_as_soon_as_it_has_rested() -> None:
    bench = Bench()
    (session,) = bench.lends()
    bench.hears(Claim(A, made=True))
    bench.looks(0.004)
    session.gives_back()
    for seconds in (0.016, 0.0039):
        assert bench.looks(seconds) == []
    assert bench.looks(0.0001) == [Report(A, 0, spare=1)]
    assert [at - bench.clock() for at, _ in bench.hand.timers] == [LOOK_AGAIN]


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


def test_a_look_that_fails_is_not_the_last() -> None:
    bench = Bench()
    bench.hand.session().asks()
    bench.said()
    pool = bench.pool
    bench.leases.pools = {A: object()}  # type: ignore[dict-item]
    # Compiled, it is the wrong type.
    with pytest.raises((AttributeError, TypeError)):
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
    bench.looks(0.01)
    waiting.leaves()
    session.gives_back()
    assert bench.looks(0.01) == []
    assert bench.looks(0.01) == [Report(A, 0, spare=1)]


def test_databases_and_users_without_leases_are_not_remembered() -> None:
    bench = Bench(default_pool_size=1)
    (session,) = bench.lends()
    assert (bench.leases.of_database("app"), bench.leases.of_user("alice")) == (1, 1)
    server = session.server
    assert server is not None
    session.leaves()
    server.close(ServerClosed.EVICTED)
    bench.hand.settle()
    assert bench.leases.of_pool(A) == 0
    assert bench.leases._databases == bench.leases._users == {}

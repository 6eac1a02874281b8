"""Servers that leave a worker and come to it."""

from collections.abc import Sequence
from typing import Any

import pytest

from proxy.pool import states
from proxy.pool.interfaces import PoolKey
from proxy.pool.leasing import Arrival, Forget, Grant, How, Report, Returned, Take, Yielded
from proxy.reasons import ServerClosed
from tests.proxy.pool.leasing import A, Bench, lacking


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


def test_a_server_that_was_given_away_is_lent_to_nobody_here() -> None:
    bench = Bench()
    (session,) = bench.lends()
    given = session.server
    session.gives_back()
    bench.hears(Take(1, A, move=True, due=True))
    assert session.asks() is None
    assert given is not None
    assert given.state == states.IDLE

"""How pools make room for each other at limits they share."""

import pytest

from proxy.pool import states
from proxy.reasons import ServerClosed
from tests.support.doubles import World


def test_at_a_shared_limit_the_server_idle_longest_gives_way() -> None:
    world = World(databases={"a": {}, "b": {}, "c": {}}, max_user_connections=2)
    (first,) = world.idle_servers(1, world.pool("a"))
    world.clock.advance(1)
    (second,) = world.idle_servers(1, world.pool("b"))
    session = world.session(world.pool("c"))

    session.asks()
    assert first.closed_because is ServerClosed.EVICTED
    session.pool.demand(world.clock())
    assert second.closed_because is None, "one that closes is enough"
    assert world.pool("c").open == 0, "its slot is free only when it has closed"

    first.finish()
    world.open_all()
    assert session.server is not None
    world.check()


def test_only_servers_whose_slot_would_help_give_way() -> None:
    world = World(databases={"a": {}, "b": {}}, max_user_connections=1)
    (same_database,) = world.idle_servers(1, world.pool("a", "bob"))
    busy = world.session(world.pool("b", "alice"))
    busy.asks()
    world.open_all()

    waiting = world.session(world.pool("a", "alice"))
    waiting.asks()

    assert same_database.closed_because is None
    busy.gives_back()
    world.finish_all()
    world.open_all()
    assert waiting.server is not None
    world.check()


def test_a_minimum_evicts_nobody() -> None:
    world = World(databases={"a": {"min_pool_size": 1}, "b": {}}, max_user_connections=1)
    (idle,) = world.idle_servers(1, world.pool("b"))
    world.session(world.pool("a"))

    world.pool("a").demand(world.clock())

    assert idle.state == states.IDLE
    session = world.session(world.pool("b"))
    assert session.asks() is idle
    session.gives_back()
    assert idle.state == states.IDLE


def test_at_release_a_server_goes_to_the_pool_that_has_waited_longer_once_it_has_served_a_while() -> None:
    world = World(databases={"a": {}, "b": {}}, max_user_connections=1)
    holder, next_one = world.session(world.pool("a")), world.session(world.pool("a"))
    other = world.session(world.pool("b"))
    holder.asks()
    world.open_all()
    server = holder.server
    assert server is not None
    other.asks()
    world.clock.advance(0.01)
    next_one.asks()

    holder.gives_back()
    assert next_one.server is server, "a login costs more than a short wait"
    world.clock.advance(0.1)
    holder.asks()
    next_one.gives_back()

    assert server.closed_because is ServerClosed.EVICTED
    world.finish_all()
    world.open_all()
    assert other.server is not None
    other.gives_back()
    world.finish_all()
    world.open_all()
    assert holder.server is not None
    world.check()


def test_a_pool_that_has_waited_longer_keeps_its_server() -> None:
    world = World(databases={"a": {}, "b": {}}, max_user_connections=1)
    holder, first = world.session(world.pool("a")), world.session(world.pool("a"))
    holder.asks()
    world.open_all()
    first.asks()
    world.clock.advance(1)
    other = world.session(world.pool("b"))
    other.asks()

    holder.gives_back()

    assert first.server is not None
    assert other.waits


def test_a_pool_without_waiting_clients_gives_its_server_up_at_once() -> None:
    world = World(databases={"a": {}, "b": {}}, max_user_connections=1)
    holder, other = world.session(world.pool("a")), world.session(world.pool("b"))
    holder.asks()
    world.open_all()
    other.asks()

    holder.gives_back()

    world.finish_all()
    world.open_all()
    assert other.server is not None
    assert not world.manager.ledger.contended


@pytest.mark.parametrize("way", ["served", "left", "paused", "unreachable", "refused"])
def test_a_pool_that_cannot_use_a_slot_any_more_claims_none(way: str) -> None:
    world = World(databases={"a": {"host": "one"}, "b": {"host": "two"}}, max_user_connections=2)
    keeper, holder = world.session(world.pool("a")), world.session(world.pool("b"))
    keeper.asks()
    holder.asks()
    world.open_all()
    other = world.session(world.pool("b"))
    other.asks()
    assert world.manager.ledger.contended

    if way == "served":
        holder.gives_back()
        assert other.server is not None
    elif way == "left":
        other.leaves()
    elif way == "paused":
        world.manager.pause("b")
        world.pool("b").demand(world.clock())
    elif way == "refused":
        world.pool("b").hold_off(world.clock() + 10)
        world.pool("b").demand(world.clock())
    else:
        (host,) = world.manager.hosts.of(world.pool("b").settings)
        world.manager.hosts.backoff(host).failed(world.clock(), "refused")
        world.pool("b").demand(world.clock())

    assert not world.manager.ledger.contended
    server = keeper.server
    keeper.gives_back()
    assert server is not None
    assert server.state == states.IDLE, "nobody has to give way"
    world.check()


def test_for_one_slot_that_is_claimed_one_server_closes_and_not_all_that_are_released() -> None:
    world = World(databases={"a": {}, "b": {}}, max_user_connections=3)
    holders = [world.session(world.pool("a")) for _ in range(3)]
    for holder in holders:
        holder.asks()
        world.open_all()
    other = world.session(world.pool("b"))
    other.asks()

    for holder in holders:
        holder.gives_back()

    pool = world.pool("a")
    assert [len(pool.servers[state]) for state in (states.CLOSING, states.IDLE)] == [1, 2]
    world.finish_all()
    world.open_all()
    assert other.server is not None
    assert len(pool.servers[states.IDLE]) == 2
    world.check()

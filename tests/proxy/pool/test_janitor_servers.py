"""What a sweep does to servers that no session has."""

import logging

import pytest

from proxy.pool import states
from proxy.reasons import ServerClosed
from tests.support.clock import SECOND
from tests.support.doubles import World, sweep_after

# Servers that nobody uses.


def test_a_server_over_its_lifetime_is_closed() -> None:
    world = World()
    young, old = world.idle_servers(2)
    old.expires_at = world.clock() + SECOND
    sweep_after(world, 0.999)
    assert old.closed_because is None
    sweep_after(world, 0.001)
    assert old.closed_because is ServerClosed.LIFETIME
    assert young.state == states.IDLE


@pytest.mark.parametrize(("used", "expected"), [(False, None), (True, ServerClosed.LIFETIME)])
def test_with_no_lifetime_an_unused_server_may_still_be_used_once(
    used: bool, expected: ServerClosed | None
) -> None:
    world = World(server_lifetime=0)
    (server,) = world.idle_servers(1)
    server.expires_at = world.clock()
    server.used = used
    sweep_after(world, 1)
    assert server.closed_because is expected


def test_a_server_whose_close_is_needed_is_closed() -> None:
    world = World()
    (server,) = world.idle_servers(1)
    server.close_needed = ServerClosed.RECONNECT
    sweep_after(world, 0)
    assert server.closed_because is ServerClosed.RECONNECT


def test_servers_idle_for_too_long_are_closed_down_to_the_minimum() -> None:
    world = World(server_idle_timeout=600, min_pool_size=1, server_check_query="")
    servers = world.idle_servers(3)
    sweep_after(world, 600)
    assert world.pool().open == 3
    assert not any(server.closed_because for server in servers)
    sweep_after(world, 0.001)

    assert sorted(str(server.closed_because) for server in servers) == sorted(
        ["None", *[str(ServerClosed.IDLE_TIMEOUT)] * 2]
    )
    world.check()


def test_without_an_idle_timeout_servers_stay() -> None:
    world = World(server_idle_timeout=0)
    (server,) = world.idle_servers(1)
    sweep_after(world, 1e6)
    assert server.closed_because is None


def test_servers_over_a_pool_size_that_was_lowered_are_closed() -> None:
    world = World(default_pool_size=5)
    servers = world.idle_servers(5)
    world.manager.apply(
        world.manager.settings.with_value("default_pool_size", "2").with_value("reserve_pool_size", "1")
    )

    sweep_after(world, 0)

    assert [server.closed_because for server in servers].count(ServerClosed.OVER_LIMIT) == 2
    sweep_after(world, 0)
    assert world.pool().open - len(world.pool().servers[states.CLOSING]) == 3


@pytest.mark.parametrize(("query", "expected"), [("<empty>", states.USED), ("", states.IDLE)])
def test_a_server_that_rests_is_marked_to_be_checked(query: str, expected: int) -> None:
    world = World(server_check_delay=30, server_check_query=query)
    (server,) = world.idle_servers(1)
    sweep_after(world, 30)
    assert server.state == states.IDLE
    sweep_after(world, 0.001)
    assert server.state == expected
    sweep_after(world, 1)
    assert server.state == expected
    world.check()


def test_a_check_goes_from_idle_to_used_to_tested_to_idle() -> None:
    world = World()
    (server,) = world.idle_servers(1)
    sweep_after(world, 31)
    seen = [server.state]
    session = world.session()
    session.asks()
    seen.append(server.state)
    session.leaves()
    server.answer()
    seen.append(server.state)

    assert seen == [states.USED, states.TESTED, states.IDLE]
    assert session.asks() is server


# Servers that are on their way.


@pytest.mark.parametrize(
    ("setting", "state", "reason"),
    [
        ("server_connect_timeout", states.TESTED, ServerClosed.CHECK_FAILED),
        ("cancel_wait_timeout", states.BEING_CANCELED, ServerClosed.CANCEL_TIMEOUT),
    ],
)
def test_a_server_that_takes_too_long_is_closed(setting: str, state: int, reason: ServerClosed) -> None:
    world = World(**{setting: 10})
    (server,) = world.idle_servers(1)
    world.pool().move(server, state)
    sweep_after(world, 10)
    assert server.closed_because is None
    sweep_after(world, 0.001)
    assert server.closed_because is reason


def test_a_server_that_does_not_close_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    world = World(server_close_timeout=10)
    (server,) = world.idle_servers(1)
    server.close(ServerClosed.KILLED)
    sweep_after(world, 10)
    assert not server.aborted
    with caplog.at_level(logging.WARNING, "howdah"):
        sweep_after(world, 0.001)
    assert server.aborted
    assert [record.message for record in caplog.records] == [
        "S-0x1: app/alice@db.example:5432 server_close_timeout: giving up waiting for the server to close"
    ]


@pytest.mark.parametrize("state", [states.TESTED, states.BEING_CANCELED, states.CLOSING])
def test_without_timeouts_it_may_take_as_long_as_it_takes(state: int) -> None:
    world = World(server_connect_timeout=0, cancel_wait_timeout=0, server_close_timeout=0)
    (server,) = world.idle_servers(1)
    world.pool().move(server, state)
    sweep_after(world, 1e6)
    assert (server.closed_because, server.aborted) == (None, False)

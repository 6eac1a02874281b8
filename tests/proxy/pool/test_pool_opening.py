"""How a pool opens servers, and what it does while it cannot."""

import logging

import pytest

from proxy.errors import LoginRetry, ServerRefused
from proxy.pool import states
from proxy.pool.backoff import FIRST
from proxy.pool.interfaces import Host
from proxy.reasons import ClientClosed, ServerClosed
from tests.support.clock import SECOND
from tests.support.doubles import FakeServer, FakeSession, World, make_settings

REFUSAL = ServerRefused('password authentication failed for user "alice"', "28P01", b"E...")


def waiting(world: World, count: int, boot: tuple[tuple[bytes, bytes], ...] = ()) -> list[FakeSession]:
    sessions = [world.session(boot=boot) for _ in range(count)]
    for session in sessions:
        session.asks()
    return sessions


def refuse(world: World, server: FakeServer, seconds: float = 15) -> None:
    """PostgreSQL refuses a login on principle."""
    server.pool.refuse_logins(REFUSAL, world.clock() + int(seconds * SECOND))
    server.finish()


# Sizes.


def test_never_more_servers_than_the_pool_size() -> None:
    world = World(default_pool_size=3)
    sessions = waiting(world, 10)
    world.open_all()

    assert world.pool().open == 3
    assert [session.server is not None for session in sessions] == [True] * 3 + [False] * 7
    world.check()


def test_without_a_limit_everybody_gets_a_server() -> None:
    world = World(default_pool_size=0)
    sessions = waiting(world, 50)
    world.open_all()
    assert all(session.server for session in sessions)


def test_the_reserve_is_used_after_its_timeout_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    world = World(default_pool_size=1, reserve_pool_size=1, reserve_pool_timeout=5)
    sessions = waiting(world, 3)
    world.open_all()
    pool = world.pool()

    world.clock.advance(4.9)
    pool.demand(world.clock())
    assert pool.open == 1
    with caplog.at_level(logging.WARNING, "howdah"):
        world.clock.advance(0.1)
        pool.demand(world.clock())
    world.open_all()
    pool.demand(world.clock())

    assert pool.open == 2
    assert [session.server is not None for session in sessions] == [True, True, False]
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "taking connection from reserve_pool"
    ]


def test_a_pool_without_a_limit_has_no_reserve_to_speak_of(caplog: pytest.LogCaptureFixture) -> None:
    world = World(default_pool_size=0, reserve_pool_size=1, reserve_pool_timeout=5)
    world.pool().refused_until = world.clock() + 10 * SECOND
    waiting(world, 1)
    with caplog.at_level(logging.WARNING, "howdah"):
        world.pool().demand(world.clock.advance(10))
    assert world.pool().open == 1
    assert not caplog.records


def test_a_pool_below_its_minimum_opens_servers_with_the_next_sweep_and_no_sooner() -> None:
    """At once would be without a pause where PostgreSQL refuses and server_login_retry is 0."""
    world = World(min_pool_size=2)
    world.session()
    world.idle_servers(2)
    first, _ = world.servers(world.pool(), states.IDLE)

    first.close(ServerClosed.IDLE_TIMEOUT)
    first.finish()
    assert len(world.pool().servers[states.LOGIN]) == 0

    world.pool().demand(world.clock.advance(1))
    assert len(world.pool().servers[states.LOGIN]) == 1
    world.check()


# Servers that slept.


def test_servers_that_slept_are_woken_before_new_ones_are_opened() -> None:
    world = World()
    for server in world.idle_servers(3):
        server.pool.move(server, states.USED)
    sessions = waiting(world, 2)

    assert [len(world.pool().servers[state]) for state in (states.USED, states.TESTED)] == [1, 2]
    assert len(world.dialler.dialled) == 3
    for server in world.servers(world.pool(), states.TESTED):
        assert server.asked == ["<empty>"]
        server.answer()
    assert all(session.server for session in sessions)
    world.check()


def test_one_that_slept_and_fails_its_test_is_replaced() -> None:
    world = World(default_pool_size=1)
    (server,) = world.idle_servers(1)
    world.pool().move(server, states.USED)
    (session,) = waiting(world, 1)

    server.close(ServerClosed.CHECK_FAILED)
    server.finish()
    world.open_all()

    assert session.server is world.dialler.dialled[1]


def test_servers_that_slept_are_woken_although_logins_are_refused() -> None:
    world = World()
    (server,) = world.idle_servers(1)
    pool = world.pool()
    pool.move(server, states.USED)
    pool.refuse_logins(REFUSAL, world.clock() + SECOND)
    (session,) = waiting(world, 1)

    server.answer()

    assert session.server is server


# Refusals on principle.


def test_who_waits_is_told_postgresql_s_own_refusal_at_once() -> None:
    world = World()
    sessions = waiting(world, 3)

    refuse(world, world.dialler.dialled[0])

    for session in sessions:
        assert session.error is REFUSAL
        assert session.reason is ClientClosed.SERVER_REFUSED
    assert len(world.dialler.dialled) == 1
    world.check()


def test_who_comes_later_is_told_at_once_too_and_nobody_asks_again_before_its_time() -> None:
    world = World()
    waiting(world, 1)
    refuse(world, world.dialler.dialled[0], 15)

    world.clock.advance(14.9)
    (session,) = waiting(world, 1)
    assert isinstance(session.error, LoginRetry)
    assert session.error.sqlstate == "28P01"
    assert REFUSAL.message in session.error.message
    assert not session.waits
    assert len(world.dialler.dialled) == 1

    world.clock.advance(0.1)
    (session,) = waiting(world, 1)
    assert session.waits
    assert len(world.dialler.dialled) == 2


def test_clients_are_kept_while_other_servers_can_serve_them() -> None:
    world = World()
    (server,) = world.idle_servers(1)
    holder, first = waiting(world, 2)

    refuse(world, world.dialler.dialled[1])
    (second,) = waiting(world, 1)
    assert first.waits
    assert second.waits

    holder.gives_back()
    assert first.server is server
    world.check()


def test_when_the_last_server_goes_too_they_are_told_why_there_will_be_no_other() -> None:
    world = World()
    (server,) = world.idle_servers(1)
    _, waits = waiting(world, 2)
    refuse(world, world.dialler.dialled[1])

    server.finish()

    assert waits.error is REFUSAL
    assert not waits.waits


def test_a_login_that_succeeds_ends_the_refusals() -> None:
    world = World()
    world.pool().greeting = {}
    waiting(world, 2)
    first, second = world.dialler.dialled
    world.pool().refuse_logins(REFUSAL, world.clock() + SECOND)
    first.finish()
    second.open()

    (session,) = waiting(world, 1)
    assert session.server is second


def test_while_postgresql_has_no_room_clients_stay_and_nobody_asks() -> None:
    world = World()
    (session,) = waiting(world, 1)
    pool = session.pool
    pool.hold_off(world.clock() + SECOND)
    world.dialler.dialled[0].finish()
    waiting(world, 1)

    assert session.waits
    assert len(pool.waiting) == 2
    assert len(world.dialler.dialled) == 1
    world.clock.advance(1)
    pool.demand(world.clock())
    world.open_all()
    assert session.server is not None


def test_everybody_can_be_turned_away() -> None:
    world = World()
    sessions = waiting(world, 3)
    world.pool().refuse_waiting(REFUSAL, ClientClosed.SHUTDOWN)

    assert [session.reason for session in sessions] == [ClientClosed.SHUTDOWN] * 3
    assert not world.pool().waiting


# Hosts that do not answer.


def test_while_a_host_does_not_answer_clients_wait_and_it_is_probed_in_time() -> None:
    world = World()
    sessions = waiting(world, 2)
    pool = world.pool()

    world.dialler.dialled[0].unreachable()
    assert pool.open == 0
    assert all(session.waits for session in sessions)
    assert world.dialler.wakes == [(pool, world.clock() + FIRST)]

    world.clock.now += FIRST
    pool.demand(world.clock())
    assert len(world.dialler.dialled) == 2
    world.dialler.dialled[1].open()
    world.open_all()
    assert all(session.server for session in sessions)
    world.check()


def test_one_wake_up_is_ordered_for_one_time() -> None:
    world = World()
    waiting(world, 1)
    world.dialler.dialled[0].unreachable()

    for _ in range(5):
        waiting(world, 1)
    world.pool().demand(world.clock())

    assert len(world.dialler.wakes) == 1


def test_an_earlier_time_is_worth_a_wake_up_of_its_own() -> None:
    world = World(databases={"app": {"host": "a"}})
    waiting(world, 1)
    pool = world.pool()
    other = Host("b", 5432)
    pool.hosts.backoff(other).failed(world.clock(), "refused")
    soon = world.clock() + FIRST
    world.clock.now += FIRST - 1
    world.dialler.dialled[0].unreachable()

    world.manager.apply(make_settings(databases={"app": {"host": "b"}}))

    assert world.dialler.wakes == [(pool, world.clock() + FIRST), (pool, soon)]


def test_all_pools_share_one_probe_of_a_host() -> None:
    world = World(databases={"app": {"host": "db"}, "other": {"host": "db"}})
    one, other = world.pool("app"), world.pool("other")
    for pool in (one, other):
        world.session(pool).asks()
    for server in list(world.dialler.dialled):
        server.unreachable()
    world.clock.now += FIRST
    one.demand(world.clock())
    other.demand(world.clock())

    assert (one.open, other.open) == (1, 0)
    assert world.dialler.wakes[-1] == (other, world.clock() + FIRST)


def test_a_pool_with_a_host_that_answers_uses_that() -> None:
    world = World(databases={"app": {"host": "down,up"}})
    (session,) = waiting(world, 1)
    world.dialler.dialled[0].unreachable()

    assert world.dialler.dialled[1].host.name == "up"
    world.dialler.dialled[1].open()
    assert session.server is not None
    assert world.dialler.wakes == []


# Session mode: servers started for one kind of client.

FRENCH = ((b"datestyle", b"french"),)
GERMAN = ((b"datestyle", b"german"),)


def test_an_idle_server_started_for_others_makes_room() -> None:
    world = World(pool_mode="session", default_pool_size=2, server_check_query="")
    world.pool().greeting = {}
    world.idle_servers(2, boot=FRENCH)
    first, second = world.servers(world.pool(), states.IDLE)

    (session,) = waiting(world, 1, GERMAN)
    assert (first.closed_because, second.closed_because) == (ServerClosed.UNSUITABLE, None)
    world.pool().demand(world.clock())
    assert second.closed_because is None, "one is enough"

    first.finish()
    world.open_all()
    assert session.server is not None
    assert session.server.boot == GERMAN
    world.check()


def test_while_there_is_room_nobody_has_to_go() -> None:
    world = World(pool_mode="session", default_pool_size=2, server_check_query="")
    world.pool().greeting = {}
    (server,) = world.idle_servers(1, boot=FRENCH)
    waiting(world, 1, GERMAN)
    assert server.state == states.IDLE
    assert len(world.pool().servers[states.LOGIN]) == 1


def test_in_session_mode_nobody_overtakes_although_a_server_would_suit() -> None:
    world = World(pool_mode="session", default_pool_size=2, server_check_query="")
    world.pool().greeting = {}
    world.idle_servers(2, boot=FRENCH)
    (german,) = waiting(world, 1, GERMAN)
    (french,) = waiting(world, 1, FRENCH)

    assert list(world.pool().waiting) == [german, french]
    world.finish_all()
    world.open_all()
    assert german.server is not None
    assert french.server is not None
    world.check()


def test_in_session_mode_a_full_pool_of_busy_servers_lets_newcomers_wait() -> None:
    world = World(pool_mode="session", default_pool_size=1, server_check_query="")
    holder, waits = waiting(world, 2)
    world.open_all()
    assert holder.server is not None
    world.pool().demand(world.clock())
    assert waits.waits
    assert holder.server.closed_because is None


def test_every_kind_of_client_gets_its_turn_in_a_small_pool() -> None:
    world = World(pool_mode="session", default_pool_size=1, server_check_query="")
    world.pool().greeting = {}
    kinds = [FRENCH, GERMAN, (), FRENCH, GERMAN, ()]
    sessions = [waiting(world, 1, boot)[0] for boot in kinds]
    for session in sessions:
        for _ in range(5):
            world.finish_all()
            world.open_all()
        assert session.server is not None
        assert session.server.boot == session.boot
        server = session.server
        session.leaves()
        server.answer()
    world.check()

import pytest

from proxy.pool import states
from proxy.reasons import ServerClosed, Unclean
from tests.support.clock import SECOND
from tests.support.doubles import FakeServer, World


@pytest.fixture
def world() -> World:
    return World(default_pool_size=2, server_check_query="")


# Lending.


def test_a_checkout_lends_an_idle_server_at_once(world: World) -> None:
    (server,) = world.idle_servers(1)
    session = world.session()

    assert session.asks() is server
    assert (server.state, server.session) == (states.ACTIVE, session)
    world.check()


def test_without_an_idle_server_a_session_waits_and_one_is_opened_for_it(world: World) -> None:
    session = world.session()

    assert session.asks() is None
    assert session.waits
    assert session.waiting_since == world.clock()
    (server,) = world.dialler.dialled
    world.check()

    world.clock.advance(1)
    server.open()
    assert session.server is server
    assert session.pool.stats.wait_time == SECOND
    world.check()


def test_release_gives_the_server_to_the_longest_waiting_session(world: World) -> None:
    world.idle_servers(2)
    one, other, *waiting = [world.session() for _ in range(5)]
    for session in (one, other, *waiting):
        session.asks()
    server = other.server

    other.gives_back()
    assert [session.server for session in waiting] == [server, None, None]
    waiting[0].gives_back()
    assert [session.server for session in waiting] == [None, server, None]
    one.gives_back()
    assert waiting[2].server is not None
    assert not one.pool.waiting
    world.check()


def test_release_without_anybody_waiting_makes_the_server_idle(world: World) -> None:
    (server,) = world.idle_servers(1)
    session = world.session()
    session.asks()
    world.clock.advance(3)

    session.gives_back()

    assert server.state == states.IDLE
    assert server.released_at == world.clock()
    world.check()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_session_that_has_left_is_passed_over(mode: str) -> None:
    world = World(default_pool_size=1, server_check_query="", pool_mode=mode)
    (server,) = world.idle_servers(1)
    holder, gone, here = [world.session() for _ in range(3)]
    for session in (holder, gone, here):
        session.asks()
    gone.here = False

    holder.gives_back()

    assert here.server is server
    assert gone.server is None
    world.check()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_server_that_nobody_takes_is_idle(mode: str) -> None:
    world = World(default_pool_size=1, server_check_query="", pool_mode=mode)
    (server,) = world.idle_servers(1)
    holder, gone = world.session(), world.session()
    holder.asks()
    gone.asks()
    gone.here = False

    holder.gives_back()

    assert (server.state, server.session) == (states.IDLE, None)
    assert not holder.pool.waiting
    world.check()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_release_during_a_hand_over_does_not_recurse(mode: str) -> None:
    world = World(default_pool_size=1, server_check_query="", pool_mode=mode)
    world.idle_servers(1)
    depth, deepest, served = 0, 0, []

    def finish_at_once(server: FakeServer) -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        assert server.session is not None
        served.append(server.session.id)
        server.pool.release(server, world.clock(), None)
        depth -= 1

    holder, *others = [world.session() for _ in range(201)]
    holder.asks()
    for session in others:
        session.on_assigned = finish_at_once
        session.asks()

    holder.gives_back()

    assert deepest == 1
    assert served == [session.id for session in others]
    assert not holder.pool.waiting
    world.check()


def test_a_second_server_released_during_a_hand_over_serves_the_next(world: World) -> None:
    world.idle_servers(2)
    one, other, first, second = [world.session() for _ in range(4)]
    for session in (one, other, first, second):
        session.asks()
    first.on_assigned = lambda server: other.gives_back()

    one.gives_back()

    assert first.server is not None
    assert second.server is not None
    world.check()


def test_leaving_takes_a_session_out_of_the_queue(world: World) -> None:
    session, other = world.session(), world.session()
    session.asks()
    other.asks()

    session.leaves()
    session.leaves()

    assert list(other.pool.waiting) == [other]


# Coming back.


@pytest.mark.parametrize("missing", list(Unclean))
def test_a_server_that_is_not_proven_clean_is_closed_and_counted(world: World, missing: Unclean) -> None:
    (server,) = world.idle_servers(1)
    session = world.session()
    session.asks()

    session.gives_back(missing)

    assert server.closed_because is ServerClosed.UNCLEAN
    assert session.pool.unclean == {missing: 1}
    world.check()


def test_a_slot_is_free_only_when_the_server_has_closed() -> None:
    world = World(default_pool_size=1)
    (server,) = world.idle_servers(1)
    holder, waiting = world.session(), world.session()
    holder.asks()
    waiting.asks()

    holder.gives_back(Unclean.BUSY)
    world.clock.advance(9)
    holder.pool.demand(world.clock())
    assert len(world.dialler.dialled) == 1
    world.check()

    server.finish()
    assert len(world.dialler.dialled) == 2
    world.dialler.dialled[1].open()
    assert waiting.server is world.dialler.dialled[1]


def test_a_server_with_a_cancel_under_way_goes_to_nobody(world: World) -> None:
    (server,) = world.idle_servers(1)
    holder = world.session()
    holder.asks()
    server.cancels = 1
    holder.gives_back()
    assert server.state == states.BEING_CANCELED

    waiting = world.session()
    waiting.asks()
    assert waiting.waits
    world.check()

    server.cancel_over()
    assert waiting.server is server
    world.check()


def test_a_server_whose_close_is_needed_is_closed_at_release(world: World) -> None:
    (server,) = world.idle_servers(1)
    session = world.session()
    session.asks()
    server.close_needed = ServerClosed.RECONNECT

    session.gives_back()

    assert server.closed_because is ServerClosed.RECONNECT


def test_a_server_is_closed_at_release_when_its_lifetime_is_over(world: World) -> None:
    (server,) = world.idle_servers(1)
    server.expires_at = world.clock() + SECOND
    session = world.session()
    for passed in (SECOND - 1, 1):
        session.asks()
        world.clock.now += passed
        session.gives_back()
        assert (server.state == states.IDLE) == (passed > 1)

    assert server.closed_because is ServerClosed.LIFETIME


def test_with_no_lifetime_a_server_is_used_once(world: World) -> None:
    session, next_one = world.session(), world.session()
    session.asks()
    server = world.dialler.dialled[0]
    server.expires_at = world.clock()
    server.open()
    assert session.server is server

    next_one.asks()
    session.gives_back()
    assert server.closed_because is ServerClosed.LIFETIME
    assert next_one.waits


@pytest.mark.parametrize("reason", [ServerClosed.RECONNECT, None])
def test_a_login_that_ends_when_nobody_wants_it_any_more_is_closed(
    world: World, reason: ServerClosed | None
) -> None:
    session = world.session()
    session.asks()
    (server,) = world.dialler.dialled
    server.close_needed = reason
    if reason is None:
        world.manager.pause("app")

    server.open()

    assert server.closed_because is (reason or ServerClosed.PAUSED)
    assert session.waits


# Queries of ours between two sessions.


@pytest.mark.parametrize(
    ("settings", "listening", "expected"),
    [
        ({}, False, []),
        ({}, True, ["UNLISTEN *"]),
        ({"server_reset_query_always": True}, False, ["DISCARD ALL"]),
        ({"server_reset_query_always": True, "server_reset_query": ""}, True, ["UNLISTEN *"]),
        ({"server_reset_query_always": True, "server_reset_query": ""}, False, []),
        ({"pool_mode": "session"}, False, ["DISCARD ALL"]),
        ({"pool_mode": "session", "server_reset_query": ""}, False, []),
        ({"pool_mode": "session", "server_reset_query": "RESET ALL"}, True, ["RESET ALL"]),
        ({"pool_mode": "statement"}, False, []),
    ],
)
def test_what_runs_at_release_depends_on_mode_and_settings(
    settings: dict[str, object], listening: bool, expected: list[str]
) -> None:
    world = World(**settings)
    session, waiting = world.session(), world.session()
    session.asks()
    (server,) = world.dialler.dialled
    server.open()
    server.listening = listening
    session.gives_back()

    assert server.asked == expected
    assert server.state == (states.TESTED if expected else states.IDLE)
    waiting.asks()
    assert waiting.waits == bool(expected)
    if expected:
        server.answer()
        assert waiting.server is server
    world.check()


def test_a_server_that_is_to_close_is_not_reset_first() -> None:
    world = World(pool_mode="session")
    session = world.session()
    session.asks()
    (server,) = world.dialler.dialled
    server.open()
    world.manager.reconnect("app")

    session.gives_back()

    assert server.asked == []
    assert server.closed_because is ServerClosed.RECONNECT


# Pause.


def test_a_paused_database_lends_nothing_and_opens_nothing(world: World) -> None:
    holder, session = world.session(), world.session()
    world.idle_servers(1)
    holder.asks()
    world.manager.pause("app")

    assert session.asks() is None
    assert len(world.dialler.dialled) == 1
    server = holder.server
    holder.gives_back()
    assert server is not None
    assert server.closed_because is ServerClosed.PAUSED
    server.finish()
    assert len(world.dialler.dialled) == 1


def test_resume_serves_those_who_waited(world: World) -> None:
    world.manager.pause("app")
    sessions = [world.session() for _ in range(2)]
    for session in sessions:
        session.asks()
    assert world.dialler.dialled == []

    world.manager.resume("app")
    world.open_all()

    assert all(session.server for session in sessions)
    world.check()


def test_a_pool_can_be_read_in_a_log(world: World) -> None:
    pool = world.pool()
    assert repr(pool) == "<Pool app/alice transaction: no servers, 0 waiting>"
    world.session().asks()
    assert repr(pool) == "<Pool app/alice transaction: 1 new, 1 waiting>"

import pytest

from proxy.pool import states
from tests.support.doubles import FakeServer, FakeSession, World

VALUES = [(name,) * 6 for name in (b"one", b"two", b"three")]


def idle(world: World, count: int) -> list[FakeServer]:
    """Idle servers, released one second after the other, the first the longest ago."""
    servers = world.idle_servers(count)
    for server in servers:
        server.pool.move(server, states.ACTIVE)
    for server in servers:
        server.pool.release(server, world.clock(), None)
        world.clock.advance(1)
    return servers


def lent(world: World, **wants: object) -> FakeServer | None:
    session = world.session()
    for name, value in wants.items():
        setattr(session, name, value)
    return session.asks()


def test_the_server_used_last_is_lent_first() -> None:
    world = World()
    first, second = idle(world, 2)

    assert lent(world) is second
    assert lent(world) is first


def test_round_robin_lends_the_one_that_has_been_idle_longest() -> None:
    world = World(server_round_robin=True)
    first, second = idle(world, 2)

    assert lent(world) is first
    assert lent(world) is second


@pytest.mark.parametrize("round_robin", [False, True])
@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_a_server_whose_parameters_fit_already_is_preferred(wanted: int, round_robin: bool) -> None:
    world = World(server_round_robin=round_robin)
    servers = idle(world, 3)
    for server, values in zip(servers, VALUES, strict=True):
        server.values = values

    assert lent(world, values=VALUES[wanted]) is servers[wanted]


def test_settings_asked_for_at_login_count_for_the_fit_too() -> None:
    world = World()
    servers = idle(world, 3)
    servers[0].applied = applied = ((b"search_path", b"a"),)

    assert lent(world, applied=applied) is servers[0]
    assert lent(world, applied=((b"search_path", b"b"),)) is servers[2]


def test_only_a_few_servers_are_looked_at_for_a_fit() -> None:
    world = World()
    servers = idle(world, 12)
    servers[3].values, servers[4].values = VALUES[0], VALUES[1]

    assert lent(world, values=VALUES[0]) is servers[11]
    assert lent(world, values=VALUES[1]) is servers[4]


@pytest.mark.parametrize(("rested", "tested"), [(30, False), (30.001, True)])
def test_a_server_idle_for_too_long_is_checked_before_it_is_lent(rested: float, tested: bool) -> None:
    world = World(server_check_delay=30)
    (server,) = world.idle_servers(1)
    world.clock.advance(rested)
    session = world.session()

    assert session.asks() is (None if tested else server)
    assert server.asked == ["<empty>"] * tested
    assert (server.state == states.TESTED) == tested
    assert len(world.dialler.dialled) == 1, "no further server is opened for it"
    if tested:
        server.answer()
    assert session.server is server
    world.check()


def test_a_fitting_server_is_checked_like_any_other() -> None:
    world = World(server_check_query="select 1")
    first, second = idle(world, 2)
    first.values = VALUES[0]
    second.values = VALUES[1]
    world.clock.advance(100)

    assert lent(world, values=VALUES[0]) is None
    assert first.asked == ["select 1"]
    assert second.state == states.IDLE


def test_without_a_check_query_a_server_is_lent_however_long_it_rested() -> None:
    world = World(server_check_query="", pool_mode="session")
    (server,) = world.idle_servers(1)
    world.clock.advance(10_000)

    assert lent(world) is server


def test_in_session_mode_a_server_must_have_been_started_with_the_same_parameters() -> None:
    world = World(pool_mode="session")
    french, german = ((b"datestyle", b"french"),), ((b"datestyle", b"german"),)
    pool = world.pool()
    pool.greeting = {}
    world.idle_servers(1, boot=french)
    world.idle_servers(1, boot=german)
    first, second = world.servers(pool, states.IDLE)

    assert lent(world, boot=french) is first
    assert lent(world, boot=((b"datestyle", b"french"),)) is None
    assert second.state == states.IDLE
    assert lent(world, boot=german) is None, "those who wait go first"


@pytest.mark.parametrize(("round_robin", "at"), [(False, 1), (True, 0)])
def test_in_session_mode_suitable_servers_take_turns_as_in_the_others(round_robin: bool, at: int) -> None:
    world = World(pool_mode="session", server_round_robin=round_robin, server_check_query="")
    servers = idle(world, 2)
    for server in list(servers):
        if server.state == states.TESTED:
            server.answer()

    assert lent(world) is servers[at]


# Who waits.


def crowd(
    *wanted: tuple[bytes, ...], servers: int = 1, apart: float = 0.0
) -> tuple[World, list[FakeSession]]:
    """Sessions that wait, each wanting these parameters, behind others that have all the servers, which have
    the parameters VALUES[0].
    """
    world = World(default_pool_size=servers)
    for server in world.idle_servers(servers):
        server.values = VALUES[0]
    sessions = [world.session() for _ in range(servers + len(wanted))]
    for session, values in zip(sessions, (*[VALUES[0]] * servers, *wanted), strict=True):
        session.values = values
        session.asks()
        world.clock.advance(apart)
    return world, sessions


def test_a_server_goes_to_one_that_waits_for_its_parameters() -> None:
    world, (holder, first, second, third) = crowd(VALUES[1], VALUES[0], VALUES[0])

    holder.gives_back()

    assert (first.server, third.server) == (None, None)
    assert second.server is not None
    world.check()


def test_among_those_whose_parameters_fit_the_longest_waiting_is_served_first() -> None:
    _, (holder, first, second) = crowd(VALUES[0], VALUES[0])

    holder.gives_back()

    assert first.server is not None
    assert second.server is None


def test_settings_asked_for_at_login_count_for_who_is_served_too() -> None:
    _, (holder, first, second) = crowd(VALUES[0], VALUES[0])
    first.applied = ((b"search_path", b"a"),)

    holder.gives_back()

    assert first.server is None
    assert second.server is not None


@pytest.mark.parametrize(("apart", "overtakes"), [(0.01, True), (0.010001, False)])
def test_nobody_goes_ahead_of_one_that_came_much_earlier(apart: float, overtakes: bool) -> None:
    _, (holder, first, second) = crowd(VALUES[1], VALUES[0], apart=apart)

    holder.gives_back()

    assert (second.server is not None, first.server is not None) == (overtakes, not overtakes)


def test_only_a_few_that_wait_are_looked_at() -> None:
    _, (holder, first, *others) = crowd(*[VALUES[1]] * 32, VALUES[0])

    holder.gives_back()

    assert first.server is not None
    assert not any(session.server for session in others)


@pytest.mark.parametrize("servers", [1, 3])
def test_one_that_waits_is_passed_over_no_more_often_than_there_are_servers(servers: int) -> None:
    world, sessions = crowd(VALUES[1], *[VALUES[0]] * 9, servers=servers)
    holders, first, others = sessions[:servers], sessions[servers], sessions[servers + 1 :]

    holders[0].gives_back()
    for number in range(servers):
        assert first.server is None
        others[number].gives_back()

    assert first.server is not None
    world.check()


def test_after_its_turn_the_next_may_be_passed_over_as_often() -> None:
    world, (holder, first, *others) = crowd(VALUES[1], *[VALUES[0]] * 2, VALUES[2], VALUES[1])
    holder.gives_back()
    others[0].gives_back()
    assert first.server is not None
    first.server.values = VALUES[1]

    first.gives_back()

    assert others[3].server is not None
    world.check()


def test_one_that_fits_any_server_is_not_passed_over() -> None:
    _, (holder, first, second) = crowd(VALUES[1], VALUES[0])
    first.values = first.pool.tracked.unknown

    holder.gives_back()

    assert first.server is not None
    assert second.server is None

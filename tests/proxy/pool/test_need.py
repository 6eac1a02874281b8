import pytest

from proxy.pool import states
from proxy.pool.need import full, may_use_reserve, wanted_by, wants_server
from tests.support.doubles import FakeSession, World

FRENCH = ((b"datestyle", b"french"),)
GERMAN = ((b"datestyle", b"german"),)


def waiting(world: World, count: int) -> list[FakeSession]:
    sessions = [world.session() for _ in range(count)]
    for session in sessions:
        session.asks()
    return sessions


def logins(world: World) -> int:
    return len(world.pool().servers[states.LOGIN])


def test_before_the_server_was_ever_reached_one_login_is_tried() -> None:
    world = World()
    waiting(world, 5)
    assert logins(world) == 1


def test_after_that_several_at_once_but_no_more_than_three() -> None:
    world = World()
    waiting(world, 9)
    world.dialler.dialled[0].open()
    assert logins(world) == 3
    world.dialler.dialled[1].open()
    assert logins(world) == 3


def test_no_more_logins_than_sessions_wait() -> None:
    world = World()
    world.pool().greeting = {}
    waiting(world, 2)
    assert logins(world) == 2


def test_servers_under_test_are_counted_on() -> None:
    world = World()
    servers = world.idle_servers(2)
    for server in servers:
        server.pool.move(server, states.TESTED)
    waiting(world, 2)
    assert logins(world) == 0
    waiting(world, 1)
    assert logins(world) == 1


def test_while_the_host_fails_one_login_is_tried() -> None:
    world = World()
    pool = world.pool()
    pool.greeting = {}
    waiting(world, 5)
    for server in list(world.dialler.dialled):
        server.unreachable()
    world.clock.advance(1)
    pool.demand(world.clock())

    assert logins(world) == 1


@pytest.mark.parametrize(
    ("settings", "clients", "expected"),
    [
        ({"min_pool_size": 3}, 0, 0),
        ({"min_pool_size": 3}, 1, 3),
        ({"min_pool_size": 30, "default_pool_size": 2}, 1, 2),
        ({"min_pool_size": 2, "databases": {"app": {"user": "owner"}}}, 0, 2),
    ],
)
def test_the_minimum_is_kept_while_there_are_clients_and_for_a_forced_user_always(
    settings: dict[str, object], clients: int, expected: int
) -> None:
    world = World(**settings)
    for _ in range(clients):
        world.session()
    pool = world.pool()

    pool.demand(world.clock())
    world.open_all()
    pool.demand(world.clock())
    world.open_all()

    assert pool.open == expected
    world.check()


def test_a_removed_database_keeps_no_minimum() -> None:
    world = World(min_pool_size=1)
    pool = world.session().pool
    assert wants_server(pool, world.clock())
    pool.database.dead = True
    assert not wants_server(pool, world.clock())


def test_an_automatic_database_keeps_no_minimum_without_clients() -> None:
    world = World(min_pool_size=1, databases={"*": {"user": "owner"}})
    pool = world.pool("other")
    assert not wants_server(pool, world.clock())
    world.session(pool)
    assert wants_server(pool, world.clock())


def test_a_server_is_for_the_first_session_that_no_login_is_under_way_for() -> None:
    world = World(pool_mode="session")
    pool = world.pool()
    pool.greeting = {}
    first, second = world.session(boot=FRENCH), world.session(boot=GERMAN)
    first.asks()
    world.clock.advance(1)
    second.asks()

    assert [server.boot for server in world.dialler.dialled] == [FRENCH, GERMAN]
    assert wanted_by(pool) == (GERMAN, first.waiting_since)


def test_a_login_that_has_lost_its_session_is_not_taken_for_another_s() -> None:
    world = World(pool_mode="session")
    pool = world.pool()
    pool.greeting = {}
    gone, first, second = world.session(boot=GERMAN), world.session(boot=FRENCH), world.session(boot=GERMAN)
    gone.asks()
    gone.leaves()
    first.asks()
    second.asks()

    assert [server.boot for server in world.dialler.dialled] == [GERMAN, FRENCH]


def test_a_pool_s_first_server_has_no_parameters_of_a_client() -> None:
    world = World(pool_mode="session")
    world.session(boot=FRENCH).asks()
    assert [server.boot for server in world.dialler.dialled] == [()]


def test_only_in_session_mode_servers_start_with_a_client_s_parameters() -> None:
    world = World()
    world.pool().greeting = {}
    world.session(boot=FRENCH).asks()
    assert [server.boot for server in world.dialler.dialled] == [()]


def test_the_minimum_is_wanted_by_nobody() -> None:
    assert wanted_by(World().pool()) == ((), None)


@pytest.mark.parametrize(
    ("settings", "waited", "expected"),
    [
        ({"reserve_pool_size": 1, "reserve_pool_timeout": 5}, 4.999, False),
        ({"reserve_pool_size": 1, "reserve_pool_timeout": 5}, 5, True),
        ({"reserve_pool_size": 0, "reserve_pool_timeout": 5}, 100, False),
        ({"reserve_pool_size": 1, "reserve_pool_timeout": 0}, 100, False),
    ],
)
def test_the_reserve_is_for_those_who_have_waited_too_long(
    settings: dict[str, object], waited: float, expected: bool
) -> None:
    world = World(**settings)
    waiting(world, 1)
    world.clock.advance(waited)
    assert may_use_reserve(world.pool(), world.clock()) is expected


def test_nobody_who_waits_needs_no_reserve() -> None:
    assert not may_use_reserve(World(reserve_pool_size=1).pool(), 0)


def test_a_pool_is_full_at_its_size_and_with_its_reserve_when_that_may_be_used() -> None:
    world = World(default_pool_size=2, reserve_pool_size=1, reserve_pool_timeout=5)
    world.idle_servers(2)
    holders = waiting(world, 3)
    pool = world.pool()
    assert full(pool, world.clock())

    world.clock.advance(5)
    assert not full(pool, world.clock())
    pool.demand(world.clock())
    assert pool.open == 3
    assert full(pool, world.clock())
    world.open_all()
    assert holders[2].server is not None
    world.check()


def test_a_pool_without_a_size_is_never_full() -> None:
    world = World(default_pool_size=0)
    world.idle_servers(30)
    assert not full(world.pool(), world.clock())


def test_in_session_mode_a_pool_with_idle_servers_is_not_full_for_those_have_to_give_way() -> None:
    world = World(default_pool_size=1, pool_mode="session")
    world.idle_servers(1)
    assert not full(world.pool(), world.clock())

import pytest

from proxy.errors import DatabaseDisabled, TooManyClients, UnknownDatabase
from proxy.pool import states
from proxy.pool.interfaces import PoolKey
from proxy.reasons import ServerClosed, Unclean
from tests.support.doubles import World, make_settings

# Databases, users, pools.


def test_databases_of_the_configuration_are_there_from_the_start() -> None:
    world = World(databases={"app": {}, "other": {}, "*": {}})
    assert sorted(world.manager.databases) == ["app", "other"]


def test_an_unknown_database_is_refused() -> None:
    world = World()
    with pytest.raises(UnknownDatabase, match="no such database: nope"):
        world.manager.database("nope", world.clock())


@pytest.mark.parametrize("name", ["pgbouncer", "howdah"])
def test_the_console_s_names_are_no_databases_even_with_a_fallback(name: str) -> None:
    world = World(databases={"*": {}})
    with pytest.raises(UnknownDatabase):
        world.manager.database(name, world.clock())


def test_the_star_entry_makes_databases_as_they_are_asked_for() -> None:
    world = World(databases={"*": {"host": "db", "port": 7}})
    database = world.manager.database("anything", world.clock())

    assert database.automatic
    assert database.idle_since == world.clock()
    assert world.manager.database("anything", world.clock()) is database
    assert world.pool("anything").settings.port == 7
    assert world.pool("anything").settings.dbname == "anything"


def test_there_is_one_pool_for_each_database_and_user() -> None:
    world = World(databases={"app": {}, "other": {}})
    assert world.pool("app", "alice") is world.pool("app", "alice")
    assert len({world.pool("app", "alice"), world.pool("app", "bob"), world.pool("other", "alice")}) == 3
    assert not world.pool().forced_user


def test_a_forced_user_has_one_pool_for_everybody() -> None:
    world = World(databases={"app": {"user": "owner"}})
    pool = world.pool("app", "alice")
    assert pool is world.pool("app", "bob")
    assert pool.key == PoolKey("app", "owner")
    assert pool.user is world.manager.user("owner")
    assert pool.forced_user


@pytest.mark.parametrize(("directory", "expected"), [("/run/postgresql", "/run/postgresql"), ("", "/tmp")])
def test_without_a_host_servers_are_reached_by_the_unix_socket(directory: str, expected: str) -> None:
    world = World(databases={"app": {}}, unix_socket_dir=directory)
    world.session().asks()
    assert [server.host.name for server in world.dialler.dialled] == [expected]


def test_a_user_is_one_object() -> None:
    world = World()
    assert world.manager.user("alice") is world.manager.user("alice")
    assert world.manager.user("alice") is not world.manager.user("bob")


def test_pools_can_be_had_by_database_or_all() -> None:
    world = World(databases={"app": {}, "other": {}})
    one, two, three = world.pool("app", "alice"), world.pool("app", "bob"), world.pool("other", "alice")
    assert list(world.manager.pools_of("app")) == [one, two]
    assert list(world.manager.pools_of(None)) == [one, two, three]


def test_a_forced_user_s_pool_with_a_minimum_is_there_before_the_first_client() -> None:
    world = World(
        databases={"app": {"user": "owner", "min_pool_size": 1}, "other": {"user": "owner"}, "plain": {}}
    )
    assert list(world.manager.pools) == [PoolKey("app", "owner")]


# Clients.


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_db_client_connections": 2}, r"max_db_client_connections"),
        ({"max_user_client_connections": 2}, r"max_user_client_connections"),
        ({"databases": {"app": {"max_db_client_connections": 2}}}, r"max_db_client_connections"),
        ({"users": {"alice": {"max_user_client_connections": 2}}}, r"max_user_client_connections"),
    ],
)
def test_a_client_over_a_limit_is_refused_and_not_counted(settings: dict[str, object], text: str) -> None:
    world = World(**settings)
    first = world.logs_in()
    world.logs_in()
    with pytest.raises(TooManyClients, match=rf"client connections exceeded \({text}\)"):
        world.logs_in()

    world.logs_out(first)
    world.logs_in()
    assert world.manager.databases["app"].clients == 2
    assert world.manager.user("alice").clients == 2


def test_limits_on_clients_are_of_one_database_and_of_one_user() -> None:
    world = World(
        databases={"app": {}, "other": {}}, max_db_client_connections=1, max_user_client_connections=1
    )
    world.logs_in("app", "alice")
    world.logs_in("other", "bob")
    assert world.manager.databases["other"].clients == 1


def test_a_disabled_database_takes_no_clients_until_it_is_enabled() -> None:
    world = World()
    world.manager.disable("app", True)
    with pytest.raises(DatabaseDisabled, match='database "app" is disabled'):
        world.logs_in()
    world.manager.disable("app", False)
    assert world.logs_in().here


def test_a_database_is_idle_since_its_last_client_went() -> None:
    world = World()
    session = world.logs_in()
    world.clock.advance(5)
    world.logs_out(session)
    assert world.manager.databases["app"].idle_since == world.clock()


# Statistics.


def test_the_statistics_of_a_database_are_those_of_its_pools_also_of_those_that_are_gone() -> None:
    world = World(databases={"*": {}}, autodb_idle_timeout=1)
    for user in ("alice", "bob"):
        world.pool("app", user).stats.xact_count = 5
    world.pool("other").stats.xact_count = 1
    assert world.manager.stats_of("app").xact_count == 10

    world.clock.advance(1)
    world.manager.sweep_databases(world.clock())
    assert not world.manager.pools
    assert world.manager.stats_of("app").xact_count == 10
    world.pool("app").stats.xact_count = 3
    assert world.manager.stats_of("app").xact_count == 13


def test_averages_forget_pools_that_are_gone() -> None:
    world = World(databases={"*": {}}, autodb_idle_timeout=1)
    world.pool().stats.xact_count = 5
    world.manager.console_stats.query_count = 1
    world.clock.advance(1)
    world.manager.sweep_databases(world.clock())

    world.manager.end_period()
    assert sum(world.manager.stats_of("app").last_period()) == 5
    assert sum(world.manager.console_stats.last_period()) == 1
    world.pool().stats.xact_count = 2
    world.manager.end_period()
    assert sum(world.manager.stats_of("app").last_period()) == 2


def test_servers_that_were_not_clean_are_counted_over_all_pools_also_those_that_are_gone() -> None:
    world = World(databases={"*": {}}, autodb_idle_timeout=1)
    for name, missing in (("a", Unclean.BUSY), ("b", Unclean.BUSY), ("b", Unclean.OWED)):
        session = world.session(world.pool(name))
        session.asks()
        world.open_all()
        session.gives_back(missing)
        del session.pool.sessions[session]
    world.finish_all()
    expected = {Unclean.BUSY: 2, Unclean.OWED: 1}
    assert world.manager.unclean() == expected

    world.clock.advance(1)
    world.manager.sweep_databases(world.clock())
    assert world.manager.pools == {}
    assert world.manager.unclean() == expected


def test_names_of_users_are_kept_only_while_somebody_needs_them() -> None:
    world = World(
        databases={"*": {}}, autodb_idle_timeout=1, users={"listed": {}}, credentials={"known": "x"}
    )
    manager = world.manager
    for name in ("stranger", "listed", "known"):
        manager.user(name)
    session = world.logs_in("app", "client")
    world.pool("app", "pooled")
    manager.sweep_databases(world.clock())
    assert set(manager.users) == {"listed", "known", "client", "pooled"}

    world.logs_out(session)
    world.clock.advance(1)
    manager.sweep_databases(world.clock())
    assert set(manager.users) == {"listed", "known"}


# Orders.


def test_pause_closes_idle_servers_and_waits_for_the_others() -> None:
    world = World()
    world.idle_servers(2)
    session = world.session()
    lent = session.asks()
    assert lent is not None

    world.manager.pause("app")
    assert world.manager.servers_left("app") == 2
    world.finish_all()
    assert world.manager.servers_left("app") == 1
    session.gives_back()
    world.finish_all()

    assert world.manager.servers_left("app") == 0
    assert lent.closed_because is ServerClosed.PAUSED
    assert lent.close_needed is None
    world.check()


def test_pause_of_everything_holds_for_databases_made_later_too() -> None:
    world = World(databases={"app": {}, "*": {}})
    world.manager.pause(None)
    assert world.manager.database("later", world.clock()).paused
    world.manager.resume(None)
    assert not world.manager.database("later", world.clock()).paused
    assert not world.manager.database("evenlater", world.clock()).paused


def test_one_database_can_be_paused_and_resumed() -> None:
    world = World(databases={"app": {}, "other": {}})
    session, other = world.session(world.pool("app")), world.session(world.pool("other"))
    world.manager.pause("app")
    session.asks()
    other.asks()
    world.open_all()

    assert session.waits
    assert other.server is not None
    world.manager.resume("app")
    world.open_all()
    assert session.server is not None
    assert not world.manager.paused


@pytest.mark.parametrize("order", ["pause", "resume"])
def test_orders_about_a_database_that_is_not_there_are_mistakes(order: str) -> None:
    with pytest.raises(KeyError):
        getattr(World().manager, order)("nope")


def test_reconnect_closes_each_server_as_soon_as_it_is_free() -> None:
    world = World()
    idle, used, tested, canceled, lent = world.idle_servers(5)
    session = world.session()
    assert session.asks() is lent
    for server, state in ((used, states.USED), (tested, states.TESTED), (canceled, states.BEING_CANCELED)):
        server.pool.move(server, state)

    world.manager.reconnect("app")

    assert idle.closed_because is used.closed_because is ServerClosed.RECONNECT
    world.finish_all()
    for free in (session.gives_back, tested.answer, canceled.cancel_over):
        assert world.manager.closing("app")
        free()
    for server in (tested, canceled, lent):
        assert server.closed_because is ServerClosed.RECONNECT
    assert world.manager.closing(None)
    world.finish_all()
    assert not world.manager.closing("app")
    world.check()


def test_reconnect_does_not_spare_a_login_under_way() -> None:
    world = World()
    session = world.session()
    session.asks()
    world.manager.reconnect(None)
    (server,) = world.dialler.dialled
    server.open()
    assert server.closed_because is ServerClosed.RECONNECT
    world.finish_all()
    world.open_all()
    assert session.server is world.dialler.dialled[1]


def test_kill_closes_every_server_and_tells_its_session() -> None:
    world = World()
    world.idle_servers(2)
    session = world.session()
    session.asks()
    for other in (world.session(), world.session()):
        other.asks()
    pool = session.pool
    assert len(pool.servers[states.LOGIN]) == 1

    world.manager.kill_servers("app")

    assert session.lost == 1
    assert [server.closed_because for server in world.servers(pool)] == [ServerClosed.KILLED] * 3
    assert pool.open == len(pool.servers[states.CLOSING]) == world.manager.servers_left(None)
    world.check()


# The pool of auth_query.


def test_whoever_asks_has_a_pool_beside_the_one_of_the_same_role() -> None:
    world = World(databases={"app": {"user": "owner", "pool_size": 9, "min_pool_size": 3}})
    database = world.manager.databases["app"]
    pool = world.manager.auth_pool(database, "owner")
    assert pool is world.manager.auth_pool(database, "owner")
    assert pool is not world.pool("app", "alice")
    assert pool.key == PoolKey("app", "owner", asks=True)
    assert (pool.settings.pool_size, pool.settings.min_pool_size, pool.forced_user) == (1, 0, False)


def test_a_reload_keeps_the_pool_of_auth_query_what_it_is() -> None:
    world = World(databases={"app": {"host": "old"}})
    pool = world.manager.auth_pool(world.manager.databases["app"], "asker")
    world.manager.apply(make_settings(databases={"app": {"host": "new", "pool_size": 7}}))
    assert pool.settings.hosts == ("new",)
    assert pool.settings.pool_size == 1


def test_the_connection_that_asks_counts_for_the_database_and_is_one() -> None:
    world = World(databases={"app": {"max_db_connections": 2}})
    pool = world.manager.auth_pool(world.manager.databases["app"], "asker")
    for _ in range(3):
        world.session(pool=pool).asks()
    assert pool.open == 1
    assert world.manager.ledger.of_database("app") == 1
    assert world.manager.ledger.of_user("asker") == 1

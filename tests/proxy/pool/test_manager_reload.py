"""What a reload does to databases, pools and servers, and when databases go."""

import pytest

from proxy.errors import PoolerError, UnknownDatabase
from proxy.pool import states
from proxy.reasons import ServerClosed
from tests.support.clock import SECOND
from tests.support.doubles import World, make_settings


def reload(world: World, **settings: object) -> None:
    world.manager.apply(make_settings(**settings))


# Databases that come and go.


def test_a_new_database_can_be_used_at_once() -> None:
    world = World()
    reload(world, databases={"app": {"host": "db.example"}, "new": {"host": "x"}})
    assert world.pool("new").settings.hosts == ("x",)


def test_a_database_added_while_all_are_paused_is_paused() -> None:
    world = World()
    world.manager.pause(None)
    reload(world, databases={"app": {}, "new": {}})
    assert world.manager.databases["new"].paused


def test_a_removed_database_refuses_newcomers_and_ends_when_its_clients_have_gone() -> None:
    world = World(min_pool_size=1)
    session = world.logs_in()
    session.asks()
    world.open_all()
    manager = world.manager

    reload(world, databases={}, min_pool_size=1)
    with pytest.raises(UnknownDatabase):
        manager.database("app", world.clock())
    assert session.server is not None
    session.gives_back()
    world.finish_all()
    session.asks()
    world.open_all()
    assert session.server is not None, "who is in may go on"

    world.logs_out(session)
    manager.sweep_databases(world.clock())
    assert "app" in manager.databases, "not before its servers have closed"
    world.finish_all()
    manager.sweep_databases(world.clock())
    assert manager.databases == {}
    assert manager.pools == {}
    world.check()


def test_a_removed_database_with_a_forced_user_and_a_minimum_ends_too() -> None:
    world = World(databases={"app": {"user": "owner", "min_pool_size": 2}})
    pool = world.pool()
    pool.demand(world.clock())
    world.open_all()

    reload(world, databases={})
    world.manager.sweep_databases(world.clock())
    world.finish_all()
    world.manager.sweep_databases(world.clock())

    assert pool.open == 0
    assert world.manager.pools == {}


def test_a_removed_database_with_a_client_that_waits_is_kept() -> None:
    world = World(default_pool_size=1)
    visitor = world.session()
    visitor.asks()
    reload(world, databases={})
    world.manager.sweep_databases(world.clock())
    assert "app" in world.manager.databases


def test_a_database_that_comes_back_is_the_same_again() -> None:
    world = World()
    session = world.logs_in()
    database = world.manager.databases["app"]
    reload(world, databases={})
    assert database.dead

    reload(world, databases={"app": {"host": "elsewhere"}})

    assert world.manager.database("app", world.clock()) is database
    assert not database.dead
    assert session.pool.settings.hosts == ("elsewhere",)
    world.manager.pause("app")
    assert session.asks() is None
    assert world.dialler.dialled == []


def test_a_database_removed_while_the_star_entry_covers_it_goes_on_with_that() -> None:
    world = World(databases={"app": {"host": "one"}, "*": {"host": "two"}})
    session = world.logs_in()
    reload(world, databases={"*": {"host": "two"}})

    database = world.manager.database("app", world.clock())
    assert database.automatic
    assert session.pool.settings.hosts == ("two",)
    reload(world, databases={"app": {"host": "one"}})
    assert not database.automatic


def test_automatic_databases_end_with_the_star_entry() -> None:
    world = World(databases={"*": {"host": "db"}})
    database = world.manager.database("any", world.clock())
    reload(world, databases={"*": {"host": "new"}})
    assert not database.dead
    assert database.settings.host == "new"
    reload(world)
    assert database.dead


def test_an_automatic_database_is_forgotten_when_it_was_idle_for_its_time() -> None:
    world = World(databases={"*": {"host": "db"}}, autodb_idle_timeout=60)
    session = world.logs_in("any")
    session.asks()
    world.open_all()
    session.gives_back()
    world.clock.advance(100)
    manager = world.manager

    manager.sweep_databases(world.clock())
    assert "any" in manager.databases, "it has a client"
    world.logs_out(session)
    world.clock.advance(59.999)
    manager.sweep_databases(world.clock())
    assert manager.servers_left("any") == 1
    world.clock.advance(0.001)
    manager.sweep_databases(world.clock())
    assert [server.closed_because for server in world.dialler.dialled] == [ServerClosed.IDLE_TIMEOUT]
    world.finish_all()
    manager.sweep_databases(world.clock())
    assert manager.databases == {}
    assert manager.pools == {}


def test_an_automatic_database_with_a_forced_user_and_a_minimum_is_forgotten_too() -> None:
    world = World(databases={"*": {"user": "owner", "min_pool_size": 1}}, autodb_idle_timeout=60)
    session = world.logs_in("any")
    session.asks()
    world.open_all()
    session.gives_back()
    world.logs_out(world.logs_in("any"))
    del session.pool.sessions[session]
    world.manager.databases["any"].clients = 0
    world.clock.advance(60)

    world.manager.sweep_databases(world.clock())
    world.finish_all()
    world.manager.sweep_databases(world.clock())

    assert world.manager.pools == {}


@pytest.mark.parametrize("databases", [{"*": {}}, {"app": {}}])
def test_without_the_timeout_and_in_the_configuration_databases_stay(databases: dict[str, object]) -> None:
    timeout = 0 if "*" in databases else 1
    world = World(databases=databases, autodb_idle_timeout=timeout)
    world.pool().greeting = {b"server_version": b"18"}
    world.clock.advance(100_000)
    world.manager.sweep_databases(world.clock())
    assert "app" in world.manager.databases


def test_names_of_databases_that_nobody_ever_reached_do_not_add_up() -> None:
    world = World(databases={"*": {}}, autodb_idle_timeout=3600)
    manager = world.manager
    for number in range(3):
        manager.auth_pool(manager.database(f"made up {number}", world.clock()), "asker")
    refused, paused, new = (manager.auth_pool(manager.database(n, world.clock()), "asker") for n in "rpn")
    refused.refuse_logins(PoolerError("no such database"), world.clock() + SECOND)
    manager.pause("p")
    new.database.clients = 1
    manager.sweep_databases(world.clock())
    assert sorted(manager.databases) == ["n", "p", "r"]
    assert paused.database.paused
    world.clock.advance(1)
    manager.sweep_databases(world.clock())
    assert sorted(manager.databases) == ["n", "p"]


# Sizes and timeouts.


def test_a_larger_pool_opens_more_servers_at_once() -> None:
    world = World(default_pool_size=1)
    sessions = [world.session() for _ in range(3)]
    for session in sessions:
        session.asks()
    world.open_all()

    reload(world, default_pool_size=3)
    world.open_all()

    assert all(session.server for session in sessions)


def test_common_settings_are_replaced_in_every_pool() -> None:
    world = World()
    pool = world.pool()
    reload(world, server_check_query="select 7", query_wait_timeout=3)
    assert pool.common is world.manager.settings
    assert pool.common.server_check_query == "select 7"
    assert pool.settings.query_wait_timeout == 3


def test_a_changed_lifetime_holds_for_open_servers() -> None:
    world = World(server_lifetime=100)
    (server,) = world.idle_servers(1)
    server.expires_at = world.clock() + 95 * SECOND

    reload(world, server_lifetime=10)
    assert server.expires_at == world.clock() + 5 * SECOND
    reload(world, server_lifetime=3600)
    assert server.expires_at == world.clock() + 3595 * SECOND


# Destinations.


@pytest.mark.parametrize(
    "changed",
    [
        {"host": "other"},
        {"host": "db.example", "port": 1},
        {"host": "db.example", "dbname": "x"},
        {"host": "db.example", "password": "secret"},
        {"host": "db.example", "connect_query": "select 1"},
        {"host": "db.example", "timezone": "UTC"},
        {"host": "db.example", "sslmode": "disable"},
        {"host": "db.example", "sslrootcert": "ca"},
        {"host": "db.example", "sslcert": "crt", "sslkey": "key"},
        {"host": "db.example", "sslmode": "require", "sslnegotiation": "direct"},
        {"host": "db.example", "ssl_min_protocol_version": "tlsv1.3"},
        {"host": "db.example", "server_tls_ciphers": "HIGH"},
    ],
)
def test_when_the_destination_changes_servers_close_when_they_are_free(changed: dict[str, object]) -> None:
    world = World()
    idle, lent = world.idle_servers(2)
    session = world.session()
    assert session.asks() is lent
    pool = session.pool
    pool.refused_until = world.clock() + SECOND

    reload(world, databases={"app": changed})

    assert idle.closed_because is ServerClosed.RECONNECT
    assert lent.closed_because is None
    assert pool.greeting is None
    assert pool.refused_until == 0
    session.gives_back()
    assert lent.closed_because is ServerClosed.RECONNECT
    world.check()


def test_what_is_no_destination_leaves_servers_alone() -> None:
    world = World()
    (server,) = world.idle_servers(1)
    reload(world, databases={"app": {"host": "db.example", "pool_size": 3, "query_wait_timeout": 9}})
    assert server.state == states.IDLE
    assert world.pool().greeting is not None


def test_servers_outlive_changes_of_how_others_are_encrypted() -> None:
    world = World()
    (server,) = world.idle_servers(1)
    changed = {"databases": {"app": {"host": "db.example", "sslmode": "prefer"}, "other": {}}}
    reload(world, server_tls_sslmode="require", **changed)
    assert server.state == states.IDLE
    reload(world, server_tls_sslmode="require", server_tls_ca_file="ca", **changed)
    assert server.closed_because is ServerClosed.RECONNECT, "authorities hold for it, too"


def test_after_a_reload_a_refused_login_is_tried_again() -> None:
    """What it was refused for may have been mended in a file, or in PostgreSQL."""
    world = World()
    pool = world.session().pool
    pool.refused_until = world.clock() + 3600 * SECOND
    reload(world)
    assert pool.refused_until == 0


def test_servers_of_a_removed_database_close_when_they_are_free() -> None:
    world = World()
    (server,) = world.idle_servers(1)
    reload(world, databases={})
    assert server.closed_because is ServerClosed.RECONNECT


# Pool modes.


def test_what_a_session_leaves_behind_is_not_lent_when_the_mode_has_changed() -> None:
    world = World(pool_mode="session")
    lent = world.session()
    lent.asks()
    world.open_all()
    (canceled,) = world.dialler.dialled
    reload(world, pool_mode="transaction")
    assert lent.pool.mode.value == "transaction"

    lent.gives_back()

    assert canceled.closed_because is ServerClosed.RECONNECT


@pytest.mark.parametrize("mode", ["statement", "session"])
def test_from_transaction_mode_servers_stay(mode: str) -> None:
    world = World()
    session = world.session()
    session.asks()
    world.open_all()
    server = session.server
    assert server is not None

    reload(world, pool_mode=mode)
    session.gives_back()

    assert session.pool.mode.value == mode
    assert server.closed_because is None
    assert server.state == (states.TESTED if mode == "session" else states.IDLE)

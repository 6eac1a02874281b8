"""Which level wins: the user's, the database's or the global setting."""

from dataclasses import FrozenInstanceError

import pytest

from config import effective
from config.databases import DatabaseSettings
from config.secret import Secret
from config.settings import Settings
from config.types import ChannelBinding, LoadBalance, PoolMode
from config.users import UserSettings


def settings(database: dict[str, object], user: dict[str, object], **keys: object) -> Settings:
    return Settings.model_validate({"databases": {"db": database}, "users": {"u": user}, **keys})


@pytest.mark.parametrize(
    ("key", "global_key", "values"),
    [
        ("pool_size", "default_pool_size", (7, 8, 9)),
        ("reserve_pool_size", "reserve_pool_size", (7, 8, 9)),
        ("pool_mode", "pool_mode", ("statement", "transaction", "session")),
        ("query_wait_timeout", "query_wait_timeout", (7.0, 8.0, 9.0)),
    ],
)
def test_user_beats_database_beats_global(key: str, global_key: str, values: tuple[object, ...]) -> None:
    user, database, general = values
    both = settings({key: database}, {key: user}, **{global_key: general})
    assert getattr(both.for_pool("db", "u"), key) == user
    assert getattr(both.for_pool("db", "other"), key) == database
    assert getattr(settings({}, {}, **{global_key: general}).for_pool("db", "u"), key) == general


@pytest.mark.parametrize(
    ("name", "key", "general", "own", "expected"),
    [
        ("require_auth", "server_auth_methods", "scram-sha-256", "md5, none", ("md5", "none")),
        ("channel_binding", "server_channel_binding", "disable", "require", ChannelBinding.REQUIRE),
    ],
)
def test_what_a_server_may_ask_is_the_databases_before_the_global_setting(
    name: str, key: str, general: str, own: str, expected: object
) -> None:
    assert getattr(settings({name: own}, {}, **{key: general}).for_pool("db", "u"), key) == expected
    inherited = settings({}, {}, **{key: general})
    assert getattr(inherited.for_pool("db", "u"), key) == getattr(inherited, key) != expected


@pytest.mark.parametrize("key", ["pool_size", "reserve_pool_size", "query_wait_timeout"])
def test_zero_is_a_value_for(key: str) -> None:
    general = {"default_pool_size": 5, "reserve_pool_size": 5, "query_wait_timeout": 5}
    assert getattr(settings({key: 4}, {key: 0}, **general).for_pool("db", "u"), key) == 0
    assert getattr(settings({key: 0}, {}, **general).for_pool("db", "u"), key) == 0


@pytest.mark.parametrize(
    "key", ["query_timeout", "idle_transaction_timeout", "transaction_timeout", "client_idle_timeout"]
)
def test_client_timeout_of_the_user_beats_the_global_one_and_zero_is_not_set(key: str) -> None:
    assert getattr(settings({}, {key: 2}, **{key: 5}).for_pool("db", "u"), key) == 2.0
    assert getattr(settings({}, {key: 0}, **{key: 5}).for_pool("db", "u"), key) == 5.0
    assert getattr(settings({}, {}, **{key: 5}).for_pool("db", "u"), key) == 5.0


def test_lifetime_of_the_database_beats_the_global_one_and_zero_is_not_set() -> None:
    assert settings({"server_lifetime": 2}, {}).for_pool("db", "u").server_lifetime == 2.0
    assert settings({"server_lifetime": 0}, {}).for_pool("db", "u").server_lifetime == 3600.0
    assert settings({}, {}, server_lifetime=0).for_pool("db", "u").server_lifetime == 0.0


@pytest.mark.parametrize(
    ("database", "general", "size", "expected"),
    [({"min_pool_size": 3}, 1, 20, 3), ({}, 1, 20, 1), ({"min_pool_size": 30}, 0, 20, 20), ({}, 5, 0, 5)],
)
def test_minimum_is_the_databases_or_the_global_one_and_never_over_the_size(
    database: dict[str, object], general: int, size: int, expected: int
) -> None:
    made = settings(database, {}, min_pool_size=general, default_pool_size=size)
    assert made.for_pool("db", "u").min_pool_size == expected


def test_pool_of_a_forced_user_has_that_users_size_and_the_clients_timeouts() -> None:
    made = Settings(
        databases={"db": DatabaseSettings(user="forced", password=Secret(b"pw"))},
        users={
            "forced": UserSettings(pool_size=3, query_timeout=1, pool_mode=PoolMode.STATEMENT),
            "client": UserSettings(pool_size=9, query_timeout=2, pool_mode=PoolMode.TRANSACTION),
        },
    )
    pool = made.for_pool("db", "client")
    assert (pool.user, pool.password) == ("forced", Secret(b"pw"))
    assert (pool.pool_size, pool.pool_mode, pool.query_timeout) == (3, PoolMode.STATEMENT, 2.0)


def test_destination_and_startup_come_from_the_entry() -> None:
    entry = DatabaseSettings(
        dbname="real",
        host="a,b",
        port=1,
        connect_query="select 1",
        timezone="UTC",
        load_balance_hosts=LoadBalance.DISABLE,
    )
    pool = Settings(databases={"db": entry}, reserve_pool_timeout=1).for_pool("db", "u")
    assert (pool.dbname, pool.hosts, pool.port, pool.user) == ("real", ("a", "b"), 1, None)
    assert (pool.connect_query, pool.startup_parameters) == ("select 1", {"timezone": "UTC"})
    assert (pool.load_balance_hosts, pool.reserve_pool_timeout) == (LoadBalance.DISABLE, 1.0)


def test_database_of_the_star_entry_is_called_as_the_client_asked() -> None:
    pool = Settings(databases={"*": DatabaseSettings(host="h")}).for_pool("anything", "u")
    assert (pool.dbname, pool.hosts) == ("anything", ("h",))


def test_unknown_database_is_a_lookup_error() -> None:
    with pytest.raises(LookupError, match="no such database: none"):
        Settings().for_pool("none", "u")


def test_pool_settings_are_frozen_and_print_no_password() -> None:
    pool = Settings(databases={"db": DatabaseSettings(user="u", password=Secret(b"hunter2"))}).for_pool(
        "db", "u"
    )
    assert "hunter2" not in repr(pool)
    with pytest.raises(FrozenInstanceError):
        pool.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("function", "key"),
    [
        (effective.max_db_connections, "max_db_connections"),
        (effective.max_db_client_connections, "max_db_client_connections"),
    ],
)
def test_cap_of_the_database_beats_the_global_one(function: object, key: str) -> None:
    assert callable(function)
    assert function(settings({key: 3}, {}, **{key: 5}), "db") == 3
    assert function(settings({key: 0}, {}, **{key: 5}), "db") == 5
    assert function(settings({}, {}, **{key: 5}), "db") == 5
    assert function(settings({}, {}, **{key: 5}), "unknown") == 5


@pytest.mark.parametrize(
    ("function", "key"),
    [
        (effective.max_user_connections, "max_user_connections"),
        (effective.max_user_client_connections, "max_user_client_connections"),
    ],
)
def test_cap_of_the_user_beats_the_global_one(function: object, key: str) -> None:
    assert callable(function)
    assert function(settings({}, {key: 3}, **{key: 5}), "u") == 3
    assert function(settings({}, {key: 0}, **{key: 5}), "u") == 5
    assert function(settings({}, {}, **{key: 5}), "other") == 5


def asked(database: dict[str, object], **keys: object) -> effective.AuthSource | None:
    return effective.auth_source(settings(database, {}, **keys), "db")


def test_nobody_is_asked_for_secrets_where_no_auth_user_is_set() -> None:
    assert asked({"auth_dbname": "other", "auth_query": "q"}) is None


def test_secrets_are_asked_for_in_the_clients_own_database_unless_another_is_named() -> None:
    assert asked({}, auth_user="a", auth_query="q") == ("db", "a", "q")
    assert asked({}, auth_user="a", auth_query="q", auth_dbname="d") == ("d", "a", "q")


def test_what_a_database_says_of_auth_query_beats_the_global_settings() -> None:
    own: dict[str, object] = {"auth_user": "a", "auth_query": "q", "auth_dbname": "d"}
    assert asked(own, auth_user="x", auth_query="y", auth_dbname="z") == ("d", "a", "q")


def test_of_the_console_the_global_settings_hold_and_of_no_database_none() -> None:
    general = settings({}, {}, auth_user="a", auth_query="q", auth_dbname="d")
    assert effective.auth_source(general, "pgbouncer") == ("d", "a", "q")
    assert effective.auth_source(general, "nowhere") is None


def test_the_connection_of_auth_query_is_one_and_nobody_elses_login() -> None:
    entry = {"user": "owner", "password": "x", "pool_size": 9, "min_pool_size": 3, "dbname": "real"}
    pool = effective.for_auth_pool(settings(entry, {}, pool_mode="session"), "db", "asker")
    assert (pool.user, pool.password, pool.dbname) == (None, None, "real")
    assert (pool.pool_size, pool.min_pool_size, pool.reserve_pool_size) == (1, 0, 0)
    assert pool.pool_mode is PoolMode.TRANSACTION

"""What PgBouncer's own tests, and the scripts of its users, look for: texts, log lines, numbers.

tests/differences.md lists where we differ.
"""

import time
from contextlib import ExitStack

import psycopg
import pytest

from tests.integration.conftest import FAKE, Launch, before_fake
from tests.support import messages as m
from tests.support.fault_proxy import wait_until
from tests.support.pooler import ADMIN, CONSOLE, Pooler
from tests.support.postgres import APP as APP_ROLE
from tests.support.script import Conversation, FakeServer
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION, databases, entry, howdah_only, one_process
from tests.support.wire import LoginRefused, Raw


@pytest.fixture
def fresh(launch: Launch, server: Server) -> Pooler:
    """A pooler that nobody has used yet."""
    return launch(databases(server))


def refused(pooler: Pooler, database: str, user: str | None = None, password: str = "") -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        pooler.connect(database, user, password=password)
    return str(caught.value)


# --- logins that fail --------------------------------------------------------------------------------


def test_an_unknown_database_is_named_to_the_client_and_in_the_log(pooler: Pooler) -> None:
    with pooler.log_contains("closing because: no such database: nosuchdb"):
        assert "no such database: nosuchdb" in refused(pooler, "nosuchdb")


@pytest.mark.parametrize(
    ("auth_type", "text"),
    [
        ("trust", '"trust" authentication failed'),
        ("plain", "password authentication failed"),
        ("md5", "password authentication failed"),
        ("scram-sha-256", "SASL authentication failed"),
    ],
)
@pytest.mark.parametrize("forced", [True, False], ids=["forced user", "own user"])
def test_an_unknown_user_fails_with_the_methods_own_text(
    launch: Launch, server: Server, auth_type: str, text: str, forced: bool
) -> None:
    more = {"user": server.user} if forced else {}
    pooler = launch({APP: entry(server, **more)}, {"auth_type": auth_type})
    with pooler.log_contains(f"closing because: {text}"):
        assert text in refused(pooler, APP, "nosuchuser", "whatever")


def test_the_auth_type_can_be_set_while_it_runs(fresh: Pooler) -> None:
    fresh.admin("SET auth_type = 'md5'")
    with fresh.log_contains("closing because: password authentication failed"):
        assert "password authentication failed" in refused(fresh, "nosuchdb", password="wrong")


@howdah_only("PgBouncer 1.18 does not tell the client")
@pytest.mark.parametrize("star", [True, False], ids=["by the star entry", "by an entry"])
def test_a_database_postgresql_does_not_have_is_named_by_postgresql(
    launch: Launch, server: Server, star: bool
) -> None:
    name = "nosuchdb"
    where = {"host": server.host, "port": server.port}
    pooler = launch({"*": where} if star else {name: where})
    with (
        pooler.log_contains(f'server login failed: FATAL database "{name}" does not exist'),
        pooler.log_contains(f'closing because: database "{name}" does not exist'),
    ):
        assert f'database "{name}" does not exist' in refused(pooler, name)


# --- log lines -----------------------------------------------------------------------------------------


def silent(conversation: Conversation) -> None:
    """A server that accepts and says nothing."""
    conversation.read()


@howdah_only("the times differ in PgBouncer")
def test_a_server_that_does_not_answer_is_logged_and_its_client_told(
    launch: Launch, fake: FakeServer
) -> None:
    fake.script = silent
    pooler = before_fake(launch, fake, server_connect_timeout=1, query_timeout=2)
    with pooler.log_contains("closing because: connect timeout"), pytest.raises(LoginRefused) as caught:
        pooler.raw(FAKE)
    assert caught.value.fields["M"] == "query_timeout"


def test_a_server_that_is_not_there_is_logged(launch: Launch, fake: FakeServer) -> None:
    pooler = before_fake(launch, fake)
    fake.close()
    with pooler.log_contains("connect failed"), pooler.socket() as client:
        client.send(m.startup({"user": "u", "database": FAKE}))
        pooler.wait_for_log("connect failed")


def test_taking_from_the_reserve_is_logged(launch: Launch, server: Server) -> None:
    settings = {"reserve_pool_size": 3, "reserve_pool_timeout": 1}
    pooler = launch({APP: entry(server, pool_size=2)}, settings)
    with pooler.log_contains("taking connection from reserve_pool", times=3), ExitStack() as stack:
        clients = [stack.enter_context(pooler.raw(APP)) for _ in range(8)]
        for client in clients:
            client.send(m.query("select pg_sleep(2)"))
        for client in clients:
            client.until()


@pytest.mark.parametrize(
    ("settings", "more"),
    [({"max_user_connections": 2}, {}), ({}, {"max_db_connections": 2})],
    ids=["user", "database"],
)
def test_a_minimum_above_a_cap_opens_no_more_than_the_cap(
    launch: Launch, server: Server, settings: dict[str, int], more: dict[str, int]
) -> None:
    pooler = launch({APP: entry(server, min_pool_size=5, **more)}, settings)
    with (
        pooler.log_contains("new connection to server", times=2),
        pooler.log_contains("closing because: evicted", times=0),
        pooler.raw(APP) as client,
    ):
        client.rows("select pg_sleep(2)")


def test_a_minimum_is_kept_while_a_client_is_there(launch: Launch, server: Server) -> None:
    pooler = launch({APP: entry(server, min_pool_size=5)})
    with pooler.raw(APP) as client:
        client.value("select 1")
        wait_until(lambda: len(pooler.show("SERVERS", database=APP)) == 5, 10, "five servers")


@howdah_only("PgBouncer 1.18 says it of fewer timeouts")
@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("query_timeout", "query timeout"),
        ("idle_transaction_timeout", "idle transaction timeout"),
        ("transaction_timeout", "transaction timeout"),
        ("client_idle_timeout", "client_idle_timeout"),
        ("query_wait_timeout", "query_wait_timeout"),
    ],
)
def test_every_timeout_is_logged_by_its_name(pooler: Pooler, setting: str, text: str) -> None:
    with (
        pooler.with_settings(**{setting: 1}),
        pooler.raw(ONE) as holder,
        pooler.raw(ONE) as client,
        pooler.log_contains(f"closing because: {text}"),
    ):
        if setting == "query_wait_timeout":
            holder.rows("begin")
            client.send(m.query("select 1"))
        elif setting == "client_idle_timeout":
            client.value("select 1")
        else:
            client.rows("begin")
            if setting == "query_timeout":
                client.send(m.query("select pg_sleep(30)"))
        pooler.wait_for_log(f"closing because: {text}")


def test_a_driver_reports_a_timeout_with_the_poolers_text(pooler: Pooler) -> None:
    expected = pytest.raises(psycopg.OperationalError, match="query timeout")
    with pooler.with_settings(query_timeout=1), pooler.connect(ONE) as connection, expected:
        connection.execute("select pg_sleep(30)")


# --- single use ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", [ONE, SESSION])
def test_a_lifetime_of_zero_means_single_use(launch: Launch, server: Server, database: str) -> None:
    pooler = launch(databases(server), {"server_lifetime": 0})
    pids = set()
    for _ in range(4):
        with pooler.raw(database) as client:
            pids.add(client.value("select pg_backend_pid()"))
            client.quit()
        wait_until(lambda: not pooler.show("SERVERS", database=database), 10, "closed")
    assert len(pids) == 4


# --- the console ---------------------------------------------------------------------------------------


@howdah_only("PgBouncer has ids since 1.24")
@one_process("each worker counts for itself")
def test_clients_and_servers_share_one_sequence_of_ids(launch: Launch, server: Server) -> None:
    """With an admin looking on, each client takes the next id and its new server the one after."""
    pooler = launch({APP: entry(server, pool_mode="session")}, {"server_lifetime": 0})

    def ids(console: Raw, what: str) -> list[int]:
        got = console.query(f"SHOW {what}")
        (header,) = (message for message in got if message.tag == b"T")
        column = m.column_names(header.body).index("id")
        return [int(row[column] or 0) for row in m.rows(got)]

    with pooler.raw(CONSOLE, ADMIN) as console:
        (first,) = ids(console, "CLIENTS")
        for number in range(1, 4):
            with pooler.raw(APP) as client:
                client.value("select 1")
                assert ids(console, "CLIENTS") == [first, first + 2 * number - 1]
                assert ids(console, "SERVERS") == [first + 2 * number]
                client.quit()
            # Asked by the same admin: another one would take an id.
            wait_until(lambda: ids(console, "SERVERS") == [], 10, "closed")


@howdah_only("counted since PgBouncer 1.23")
def test_totals_count_the_consoles_own_commands_too(launch: Launch, server: Server) -> None:
    pooler = launch({SESSION: entry(server, pool_mode="session")})
    for _ in range(4):
        with pooler.connect(SESSION) as connection:
            connection.execute("select 1")
    with pooler.connect(SESSION) as connection:
        for _ in range(2):
            with connection.transaction():
                for _ in range(3):
                    connection.execute("select 1")
    stats = pooler.show("STATS", database=SESSION)[0]
    assert stats["total_server_assignment_count"] == 5
    assert stats["total_xact_count"] == 6
    # Ten selects, and BEGIN and COMMIT twice.
    assert stats["total_query_count"] == 14
    totals = {row["name"]: row["value"] for row in pooler.admin("SHOW TOTALS")}
    assert totals["total_server_assignment_count"] == 5
    # SHOW STATS was the first command of the console.
    assert totals["total_xact_count"] in (7, 8)
    assert totals["total_query_count"] in (15, 16)


@howdah_only("idle clients are called active before PgBouncer 1.24")
def test_a_client_between_queries_is_idle(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client:
        client.value("select 1")
        assert pooler.show("CLIENTS", port=client.local_port())[0]["state"] == "idle"
        client.rows("begin")
        assert pooler.show("CLIENTS", port=client.local_port())[0]["state"] == "active"
        client.rows("commit")


@howdah_only("padded since PgBouncer 1.24")
def test_sizes_of_users_are_shown_for_those_only_who_have_them(launch: Launch, server: Server) -> None:
    pooler = launch(None, users={"test1": {"pool_size": 1, "reserve_pool_size": 1}, "test2": {}})
    rows = {row["name"]: row for row in pooler.show("USERS")}
    for column in ("pool_size", "reserve_pool_size"):
        assert [str(rows[name][column]).strip() for name in ("test1", "test2")] == ["1", ""]


@howdah_only("PEERS since PgBouncer 1.19")
@pytest.mark.parametrize(
    "what",
    [
        *["CLIENTS", "CONFIG", "DATABASES", "HELP", "LISTS", "PEERS", "PEER_POOLS", "POOLS", "SERVERS"],
        *["SOCKETS", "ACTIVE_SOCKETS", "STATS", "STATS_TOTALS", "STATS_AVERAGES", "USERS"],
        *["TOTALS", "MEM", "DNS_HOSTS", "DNS_ZONES", "VERSION"],
    ],
)
def test_every_show_is_answered(pooler: Pooler, what: str) -> None:
    pooler.admin(f"SHOW {what}")


# --- operation -------------------------------------------------------------------------------------------


def test_reconnect_without_a_database_replaces_all_servers(pooler: Pooler) -> None:
    with pooler.raw(ONE) as one, pooler.raw(APP) as two:
        before = {client.value("select pg_backend_pid()") for client in (one, two)}
        pooler.admin("RECONNECT")
        after = {client.value("select pg_backend_pid()") for client in (one, two)}
    assert not before & after


@howdah_only("PgBouncer waits for server_login_retry")
def test_a_restart_of_postgresql_between_two_queries_goes_unnoticed(
    launch: Launch, server: Server, fake: FakeServer
) -> None:
    """The server says goodbye to its idle connections, and is back a moment later."""
    pooler = before_fake(launch, fake)
    with pooler.raw(FAKE) as client:
        client.value("select 1")
        for conversation in fake.conversations:
            conversation.refuse("57P01", "terminating connection due to administrator command")
            conversation.hang_up()
        wait_until(lambda: not pooler.show("SERVERS"), 10, "noticed")
        assert client.value("select 2") == "select 2"


def test_a_password_of_the_server_that_is_wrong_is_told_once_known(launch: Launch, server: Server) -> None:
    pooler = launch({APP: entry(server, user=APP_ROLE.name, password="wrong")})
    started = time.monotonic()
    assert "password authentication failed" in refused(pooler, APP)
    assert time.monotonic() - started < 10

"""What the three pool modes promise: when a server is given back, and what a session may rely on."""

import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION, SESSION_ONE, STATEMENT, databases, howdah_only

pytestmark = pytest.mark.usefixtures("alive")


# --- session ------------------------------------------------------------------------------------------


def test_a_session_keeps_its_server_until_it_ends(pooler: Pooler) -> None:
    with pooler.raw(SESSION_ONE) as client, pooler.raw(SESSION_ONE) as rival:
        pid = client.value("select pg_backend_pid()")
        rival.send(m.query("select pg_backend_pid()"))
        pooler.wait_for_pool(SESSION_ONE, cl_waiting=1)
        assert client.value("select pg_backend_pid()") == pid
        assert rival.silent_for(0.1)
        client.quit()
        assert m.rows(rival.until()) == [[pid]]


def test_a_session_that_has_asked_nothing_holds_no_server(pooler: Pooler) -> None:
    with pooler.raw(SESSION_ONE), pooler.raw(SESSION_ONE) as client:
        assert client.value("select 1") == "1"


def test_what_a_session_left_behind_is_gone_for_the_next(pooler: Pooler, server: Server) -> None:
    probe = (
        "select current_setting('work_mem'), pg_my_temp_schema() <> 0 and"
        " exists(select 1 from pg_class where relname = 'mine' and relpersistence = 't'),"
        " (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),"
        " (select count(*) from pg_listening_channels()), (select count(*) from pg_prepared_statements),"
        " (select count(*) from pg_cursors), pg_backend_pid()"
    )
    with pooler.raw(SESSION_ONE) as client:
        *fresh, pid = client.rows(probe)[0]
        client.rows("set work_mem = '1234kB'; create temp table mine(n int); select pg_advisory_lock(1)")
        client.rows("listen channel; prepare p as select 1")
        client.rows("declare c cursor with hold for select 1")
        client.quit()
    with pooler.raw(SESSION_ONE) as client:
        *left, same_pid = client.rows(probe)[0]
        assert same_pid == pid
        assert left == fresh


@howdah_only("PgBouncer pools the server all the same")
def test_a_reset_query_that_fails_costs_the_server_not_the_next_client(
    launch: Launch, server: Server
) -> None:
    pooler = launch(databases(server), {"server_reset_query": "select 1/0"})
    pids = set()
    for _ in range(3):
        with pooler.raw(SESSION_ONE) as client:
            pids.add(client.value("select pg_backend_pid()"))
            client.quit()
    assert len(pids) == 3


def test_notifications_reach_the_session_that_listens(pooler: Pooler) -> None:
    with pooler.raw(SESSION) as listener, pooler.raw(SESSION) as speaker:
        listener.rows("listen news")
        speaker.rows("notify news, 'hello'")
        (notification,) = listener.until(b"A")
        assert notification.body[4:] == b"news\0hello\0"


# --- transaction ----------------------------------------------------------------------------------------


def test_between_transactions_a_server_serves_others(pooler: Pooler) -> None:
    with pooler.raw(ONE) as one, pooler.raw(ONE) as other:
        pids = {client.value("select pg_backend_pid()") for client in (one, other) * 5}
    assert len(pids) == 1


def test_many_clients_share_few_servers(pooler: Pooler) -> None:
    clients = [pooler.raw(APP) for _ in range(100)]
    for client in clients:
        client.send(m.query("select pg_backend_pid()"))
    pids = {m.rows(client.until())[0][0] for client in clients}
    for client in clients:
        client.close()
    assert 1 <= len(pids) <= 8


def test_a_transaction_keeps_its_server_even_in_the_failed_state(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
        client.rows("begin")
        assert client.query("select 1/0")[-1].body == b"E"
        rival.send(m.query("select 'rival'"))
        pooler.wait_for_pool(ONE, cl_waiting=1)
        assert client.query("select 1")[-1].body == b"E"
        assert rival.silent_for(0.1)
        client.query("rollback")
        assert m.rows(rival.until()) == [["rival"]]


@howdah_only("PgBouncer leaves a LISTEN on the server")
def test_a_listen_in_transaction_mode_never_reaches_the_next_client(pooler: Pooler) -> None:
    with pooler.raw(ONE) as listener, pooler.raw(ONE) as next_client, pooler.raw(APP) as speaker:
        listener.rows("listen leak")
        assert next_client.value("select count(*) from pg_listening_channels()") == "0"
        speaker.rows("notify leak, 'stray'")
        for _ in range(3):
            got = next_client.query("select 1")
            assert "A" not in m.tags(got)


def test_server_reset_query_always_runs_in_transaction_mode_too(launch: Launch, server: Server) -> None:
    pooler = launch(databases(server), {"server_reset_query_always": 1})
    with pooler.raw(ONE) as client, pooler.raw(ONE) as other:
        client.rows("set work_mem = '1234kB'")
        assert other.value("show work_mem") != "1234kB"


# --- statement -------------------------------------------------------------------------------------------


def test_statements_are_served_in_statement_mode(pooler: Pooler) -> None:
    with pooler.raw(STATEMENT) as client:
        assert client.value("select 1") == "1"
        assert m.rows(client.ask(m.one_shot("select $1::text", ["x"]))) == [["x"]]
        assert m.tags(client.query("select 1; select 2")) == "TDCTDCZ"


# --- whose mode ------------------------------------------------------------------------------------------


def test_the_mode_may_be_set_per_user(launch: Launch, server: Server) -> None:
    pooler = launch(None, {"pool_mode": "transaction"}, {server.user: {"pool_mode": "session"}})
    with pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
        client.value("select 1")
        rival.send(m.query("select 1"))
        pooler.wait_for_pool(ONE, cl_waiting=1)
        assert rival.silent_for(0.1)


def test_set_pool_mode_acts_on_new_transactions(launch: Launch, server: Server) -> None:
    pooler = launch(None, {"pool_mode": "transaction"})
    pooler.admin("SET pool_mode = 'session'")
    with pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
        client.value("select 1")
        rival.send(m.query("select 1"))
        pooler.wait_for_pool(ONE, cl_waiting=1)
        assert rival.silent_for(0.1)


# --- databases -------------------------------------------------------------------------------------------


def test_the_star_entry_serves_any_database(launch: Launch, server: Server) -> None:
    pooler = launch({"*": {"host": server.host, "port": server.port}})
    with pooler.raw(server.database) as client:
        assert client.value("select current_database()") == server.database
    with pooler.raw("postgres") as client:
        assert client.value("select current_database()") == "postgres"


def test_an_unused_database_of_the_star_entry_is_forgotten(launch: Launch, server: Server) -> None:
    entries = {"*": {"host": server.host, "port": server.port}}
    pooler = launch(entries, {"autodb_idle_timeout": 1, "server_idle_timeout": 1})
    with pooler.raw(server.database) as client:
        client.value("select 1")
        assert pooler.show("DATABASES", name=server.database)
    wait_until(lambda: not pooler.show("DATABASES", name=server.database), 10, "forgotten")


def test_connect_query_prepares_every_new_server(launch: Launch, server: Server) -> None:
    entries = databases(server, connect_query="set work_mem = '4321kB'")
    pooler = launch(entries)
    with pooler.raw(ONE) as client:
        assert client.value("show work_mem") == "4321kB"
        pooler.admin("RECONNECT")
        wait_until(lambda: not pooler.show("SERVERS", database=ONE), 10, "closed")
        assert client.value("show work_mem") == "4321kB"


def test_a_forced_user_makes_one_pool_for_everybody(launch: Launch, server: Server) -> None:
    pooler = launch(databases(server, user=server.user), secrets={"anne": "", "bert": ""})
    pids = set()
    for user in ("anne", "bert"):
        with pooler.raw(ONE, user) as client:
            assert client.value("select session_user") == server.user
            pids.add(client.value("select pg_backend_pid()"))
    assert len(pids) == 1

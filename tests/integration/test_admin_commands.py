"""What the console's commands do: PAUSE, RESUME, DISABLE, RECONNECT, KILL, SET, RELOAD."""

import threading
import time
from collections.abc import Iterator

import pytest

from tests.support import messages as m
from tests.support.alive import BYSTANDER
from tests.support.fault_proxy import wait_until
from tests.support.pooler import ADMIN, CONSOLE, Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION, howdah_only, one_process
from tests.support.wire import LoginRefused, Raw


@pytest.fixture(autouse=True)
def resumed(pooler: Pooler) -> Iterator[None]:
    """No test leaves the next one a paused pooler."""
    yield
    with pooler.raw(CONSOLE, ADMIN) as client:
        client.query("RESUME")


# --- PAUSE, RESUME ---------------------------------------------------------------------------------


def in_background(client: Raw, sql: str) -> None:
    client.send(m.query(sql))


def test_pause_waits_for_the_servers_and_resume_lets_the_queries_go(pooler: Pooler, console: Raw) -> None:
    with pooler.raw(ONE) as busy, pooler.raw(APP) as client:
        busy.rows("begin")
        client.value("select 1")
        in_background(console, "PAUSE")
        assert console.silent_for(0.2)
        busy.rows("commit")
        assert m.command_tags(console.until()) == ["PAUSE"]
        assert pooler.show("SERVERS", database=APP) == []
        client.send(m.query("select 'after'"))
        assert client.silent_for(0.2)
        assert m.command_tags(console.query("RESUME")) == ["RESUME"]
        assert m.rows(client.until()) == [["after"]]


def test_pause_of_one_database_leaves_the_others_alone(pooler: Pooler, console: Raw) -> None:
    with pooler.raw(ONE) as client, pooler.raw(APP) as other:
        console.query(f"PAUSE {ONE}")
        client.send(m.query("select 'after'"))
        assert other.value("select 1") == "1"
        assert client.silent_for(0.2)
        (row,) = pooler.show("DATABASES", name=ONE)
        assert row["paused"] == 1
        console.query(f"RESUME {ONE}")
        assert m.rows(client.until()) == [["after"]]


@howdah_only("PgBouncer 1.18 has no such errors")
def test_pausing_and_resuming_out_of_order_is_an_error(console: Raw) -> None:
    assert console.error("RESUME")["M"] == "pooler is not paused/suspended"
    console.query("PAUSE")
    assert console.error("PAUSE")["M"] == "already suspended/paused"
    console.query("RESUME")
    assert console.error(f"RESUME {APP}")["M"] == f"database {APP} is not paused"
    assert console.error("PAUSE nowhere")["M"] == "no such database: nowhere"
    assert "pgbouncer" in console.error("PAUSE pgbouncer")["M"]


@howdah_only("PgBouncer 1.18 forgets clients that log in while it is paused")
def test_no_query_is_lost_while_pausing_and_resuming(pooler: Pooler, console: Raw) -> None:
    stop, failures, count = threading.Event(), list[BaseException](), [0]

    def work() -> None:
        try:
            with pooler.raw(APP) as client:
                while not stop.is_set():
                    assert client.value("select 1") == "1"
                    count[0] += 1
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        console.query("PAUSE")
        assert pooler.show("SERVERS", database=APP) == []
        console.query("RESUME")
        before = count[0]
        deadline = time.monotonic() + 5
        while count[0] <= before + 5 and not failures:
            assert time.monotonic() < deadline, "the work does not go on"
            time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


@howdah_only("a cancel does nothing in PgBouncer 1.18 here")
def test_a_cancel_on_a_waiting_console_undoes_the_pause(pooler: Pooler, console: Raw) -> None:
    with pooler.raw(ONE) as busy:
        busy.rows("begin")
        in_background(console, "PAUSE")
        wait_until(
            lambda: pooler.show("STATE", key="paused") == [{"key": "paused", "value": "yes"}], 10, "paused"
        )
        pooler.cancel(console)
        console.until()
        assert ["paused", "no"] in console.rows("SHOW STATE")
        busy.rows("commit")


@howdah_only("PgBouncer stays paused")
def test_an_admin_who_hangs_up_while_pausing_leaves_a_console_that_works(pooler: Pooler) -> None:
    with pooler.raw(ONE) as busy, pooler.raw(CONSOLE, ADMIN) as leaving:
        busy.rows("begin")
        in_background(leaving, "PAUSE")
        wait_until(lambda: {"key": "paused", "value": "yes"} in pooler.show("STATE"), 10, "paused")
        leaving.reset()
        busy.rows("commit")
    if {"key": "paused", "value": "yes"} in pooler.show("STATE"):
        pooler.admin("RESUME")
    with pooler.raw(APP) as client:
        assert client.value("select 1") == "1"


# --- DISABLE, RECONNECT, KILL --------------------------------------------------------------------------


@howdah_only("PgBouncer 1.18 drops those who are in")
def test_a_disabled_database_lets_nobody_in_until_enabled(pooler: Pooler, console: Raw) -> None:
    with pooler.raw(APP) as client:
        assert m.command_tags(console.query(f"DISABLE {APP}")) == ["DISABLE"]
        with pytest.raises(LoginRefused) as caught:
            pooler.raw(APP)
        assert f'database "{APP}" is disabled' in caught.value.fields["M"]
        assert client.value("select 'still in'") == "still in"
        assert m.command_tags(console.query(f"ENABLE {APP}")) == ["ENABLE"]
    with pooler.raw(APP) as client:
        assert client.value("select 1") == "1"


def test_reconnect_replaces_servers_when_they_are_released(pooler: Pooler, console: Raw) -> None:
    with pooler.raw(ONE) as client:
        client.rows("begin")
        before = client.value("select pg_backend_pid()")
        assert m.command_tags(console.query(f"RECONNECT {ONE}")) == ["RECONNECT"]
        (row,) = pooler.show("SERVERS", database=ONE)
        assert row["close_needed"] == 1
        in_background(console, f"WAIT_CLOSE {ONE}")
        assert console.silent_for(0.1)
        assert client.value("select pg_backend_pid()") == before
        client.rows("commit")
        assert m.command_tags(console.until()) == ["WAIT_CLOSE"]
        assert client.value("select pg_backend_pid()") != before


@howdah_only("PgBouncer lets the query run on")
def test_kill_drops_clients_and_servers_and_leaves_the_database_paused(
    pooler: Pooler, console: Raw, server: Server
) -> None:
    with pooler.raw(ONE) as idle, pooler.raw(ONE) as busy, pooler.raw(BYSTANDER) as bystander:
        busy.send(m.query("select pg_sleep(30) /* killed */"))
        server.wait_for_query("/* killed */")
        assert m.command_tags(console.query(f"KILL {ONE}")) == ["KILL"]
        for client in (idle, busy):
            fatals = m.errors(client.until_closed())
            assert len(fatals) <= 1
        assert bystander.value("select 1") == "1"
        (row,) = pooler.show("DATABASES", name=ONE)
        assert row["paused"] == 1
        assert pooler.show("CLIENTS", database=ONE) == []
        console.query(f"RESUME {ONE}")
    with pooler.raw(ONE) as client:
        assert client.value("select 1") == "1"
    server.wait_until_quiet()


def test_kill_of_what_does_not_exist_is_an_error(console: Raw) -> None:
    assert console.error("KILL nowhere")["M"] == "no such database: nowhere"


@howdah_only("since PgBouncer 1.25")
def test_kill_of_everything_spares_the_console(pooler: Pooler, console: Raw) -> None:
    with pooler.raw(APP) as one, pooler.raw(SESSION) as other:
        assert m.command_tags(console.query("KILL")) == ["KILL"]
        one.until_closed()
        other.until_closed()
        console.query("RESUME")
    with pooler.raw(APP) as client:
        assert client.value("select 1") == "1"


@howdah_only("since PgBouncer 1.24")
def test_kill_client_drops_one_client(pooler: Pooler, console: Raw) -> None:
    with pooler.raw(APP) as client, pooler.raw(APP) as spared:
        (row,) = pooler.show("CLIENTS", port=client.local_port())
        assert m.command_tags(console.query(f"KILL_CLIENT {row['id']}")) == ["KILL_CLIENT"]
        fatals = m.errors(client.until_closed())
        assert [fields["M"] for fields in fatals] == ["admin forced disconnect"]
        assert spared.value("select 1") == "1"
    assert console.error("KILL_CLIENT 999999")["M"] == "client not found"
    assert console.error("KILL_CLIENT nobody")["M"] == "invalid client pointer supplied"


@howdah_only("SHOW CLIENTS has ids since PgBouncer 1.24")
@one_process("each worker counts for itself")
def test_clients_are_numbered_one_after_the_other(pooler: Pooler) -> None:
    first, second = (pooler.show("CLIENTS", database=CONSOLE)[-1]["id"] for _ in range(2))
    assert int(str(second)) == int(str(first)) + 1


# --- SET, RELOAD --------------------------------------------------------------------------------------


def config(pooler: Pooler, key: str) -> object:
    (row,) = pooler.show("CONFIG", key=key)
    return row["value"]


def test_set_changes_a_live_setting_and_says_so(pooler: Pooler, console: Raw) -> None:
    before = config(pooler, "query_wait_timeout")
    try:
        assert m.command_tags(console.query("SET query_wait_timeout = 77")) == ["SET query_wait_timeout=77"]
        assert config(pooler, "query_wait_timeout") == "77"
        console.query("SET query_wait_timeout TO '78'")
        assert config(pooler, "query_wait_timeout") == "78"
    finally:
        console.query(f"SET query_wait_timeout = {before}")


@howdah_only("PgBouncer 1.18 sets some of them without effect")
@pytest.mark.parametrize(
    "sql",
    [
        "SET nothing_like_it = 1",
        "SET listen_port = 1",
        "SET pool_mode = sometimes",
        "SET max_client_conn = x",
    ],
)
def test_set_of_what_cannot_be_set_is_an_error(console: Raw, sql: str) -> None:
    fields = console.error(sql)
    assert fields["M"].startswith("SET failed") or fields["M"].startswith("unknown") or "SET" in fields["M"]


@howdah_only("reported since PgBouncer 1.25")
def test_a_reload_of_a_bad_file_changes_nothing_and_says_why(pooler: Pooler, console: Raw) -> None:
    good = pooler.config.read_text()
    before = config(pooler, "default_pool_size")
    try:
        pooler.config.write_text(good + "default_pool_size = 44\nserver_lifetime = soon\n")
        with pooler.log_contains("server_lifetime"):
            fields = console.error("RELOAD")
        assert fields["M"] == "RELOAD failed, see logs for additional details"
        assert fields["C"] == "F0000"
        assert config(pooler, "default_pool_size") == before
    finally:
        pooler.config.write_text(good)
    assert m.command_tags(console.query("RELOAD")) == ["RELOAD"]


def test_a_reload_that_removes_a_database_refuses_newcomers(pooler: Pooler, server: Server) -> None:
    databases = dict(pooler.databases)
    pooler.databases["passing"] = dict(pooler.databases[APP])
    try:
        pooler.reload()
        with pooler.raw("passing") as client:
            assert client.value("select 1") == "1"
        pooler.databases = databases
        pooler.reload()
        with pytest.raises(LoginRefused, match="no such database: passing"):
            pooler.raw("passing")
    finally:
        pooler.databases = databases
        pooler.reload()


def test_a_reload_that_changes_a_database_moves_its_clients(pooler: Pooler, server: Server) -> None:
    before = dict(pooler.databases[ONE])
    with pooler.raw(ONE) as client:
        assert client.value("select current_database()") == server.database
        pooler.databases[ONE] = {**before, "dbname": "template1"}
        try:
            pooler.reload()
            deadline = time.monotonic() + 20
            while client.value("select current_database()") != "template1":
                assert time.monotonic() < deadline
        finally:
            pooler.databases[ONE] = before
            pooler.reload()
        while client.value("select current_database()") != server.database:
            assert time.monotonic() < deadline


def test_a_reload_that_changes_nothing_keeps_the_servers(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client:
        before = client.value("select pg_backend_pid()")
        for _ in range(5):
            pooler.admin("RELOAD")
        assert client.value("select pg_backend_pid()") == before

"""Somebody hangs up: a client in every phase, a server under its client or while nobody looks.

A server comes back provably clean or not at all; what the vanished client had
not finished has not happened; a client whose server dies is told so once.
"""

import threading

import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.fault_proxy import FaultProxy, Way, wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION, SESSION_ONE, STATEMENT, entry, howdah_only, one_process
from tests.support.wire import Raw

pytestmark = pytest.mark.usefixtures("alive")


@pytest.fixture(autouse=True)
def table(server: Server) -> None:
    """An empty table vanished(n int) that everybody may fill."""
    server.sql("create table if not exists vanished(n int)")
    server.sql("grant all on vanished to public")
    server.sql("truncate vanished")


def leave(client: Raw, how: str) -> None:
    match how:
        case "reset":
            client.reset()
        case "close":
            client.close()
        case "terminate":
            client.quit()


WAYS = pytest.mark.parametrize("how", ["reset", "close", "terminate"])


# --- clients -----------------------------------------------------------------------------------


@howdah_only("PgBouncer lets the query run on")
@WAYS
def test_a_running_query_is_cancelled_on_the_server(pooler: Pooler, server: Server, how: str) -> None:
    with pooler.raw(ONE) as client:
        client.send(m.query("select pg_sleep(60) /* abandoned */"))
        server.wait_for_query("/* abandoned */")
        leave(client, how)
    server.wait_until_quiet()
    with pooler.raw(ONE) as rival:
        assert rival.value("select 'served'") == "served"


@pytest.mark.parametrize(
    "phase",
    [
        m.parse("", "select 1"),
        m.parse("", "select 1") + m.flush(),
        m.parse("", "select 1") + m.bind() + m.execute() + m.flush(),
        m.parse("", "selekt") + m.flush(),
        m.one_shot("select 1") + m.parse("", "select 2") + m.bind(),
        m.query("begin; insert into vanished values (1)"),
        m.query("begin; select 1/0"),
        m.query("copy vanished from stdin") + m.copy_data(b"1\n"),
        m.query("select generate_series(1, 1000000)"),
        m.query("select 1") + m.message_claiming(b"Q", 1000, b"insert into vanished values (1); "),
        m.message(b"Q", b"insert into vanished values (1)\0")[:7],
    ],
    ids=[
        "parsed",
        "parsed, flushed",
        "executed, flushed",
        "failed, flushed",
        "second half open",
        "in a transaction",
        "in a failed transaction",
        "in copy",
        "reading a large result",
        "half a message behind a query",
        "half a message",
    ],
)
@pytest.mark.parametrize("database", [ONE, SESSION_ONE, STATEMENT])
def test_a_client_may_vanish_in_any_phase(
    pooler: Pooler, server: Server, phase: bytes, database: str
) -> None:
    with pooler.raw(database) as client:
        client.send(phase)
        client.reset()
    with pooler.raw(database) as rival:
        assert rival.value("select count(*) from vanished") == "0"
    server.wait_until_quiet()


def test_a_client_that_half_closes_after_its_query_is_no_trouble(pooler: Pooler, server: Server) -> None:
    with pooler.raw(ONE) as client:
        client.send(m.query("select 1"), m.terminate())
        client.half_close()
        client.until_closed()
    with pooler.raw(ONE) as rival:
        assert rival.value("select 1") == "1"


@howdah_only("PgBouncer reads nothing from a waiting client")
def test_a_waiting_client_that_vanishes_never_has_its_query_sent(pooler: Pooler, server: Server) -> None:
    """A hundred clients wait behind one transaction and are reset."""
    with pooler.raw(ONE) as holder:
        holder.rows("begin")
        waiting = [pooler.raw(ONE) for _ in range(100)]
        for number, client in enumerate(waiting):
            client.send(m.query(f"insert into vanished values ({number})"))
        pooler.wait_for_pool(ONE, cl_waiting=100)
        for client in waiting:
            client.reset()
        pooler.wait_for_pool(ONE, cl_waiting=0)
        holder.rows("commit")
        assert holder.value("select count(*) from vanished") == "0"


@howdah_only("PgBouncer reads nothing from a waiting client")
@one_process("who comes first is first in his worker")
def test_clients_that_keep_waiting_are_served_in_the_order_they_came(pooler: Pooler) -> None:
    with pooler.raw(ONE) as holder:
        holder.rows("begin")
        waiting = []
        for number in range(10):
            client = pooler.raw(ONE)
            client.send(m.query("select clock_timestamp()::text"))
            pooler.wait_for_pool(ONE, cl_waiting=number + 1)
            waiting.append(client)
        waiting.pop(3).reset()
        pooler.wait_for_pool(ONE, cl_waiting=9)
        holder.rows("commit")
        times = [m.rows(client.until())[0][0] for client in waiting]
        for client in waiting:
            client.close()
    assert None not in times
    assert times == sorted(times, key=str)


@howdah_only("PgBouncer closes the server instead of cancelling")
def test_many_clients_vanishing_at_once_do_not_exceed_the_pool(launch: Launch, server: Server) -> None:
    """Rivals come while no cancel has arrived yet: they wait. PostgreSQL counts, too: it lets in as many
    servers as the pool may have, and would refuse one more.
    """
    size = 8
    database = server.postgres.new_database()
    server.sql(f"alter database {database} connection limit {size}")
    with FaultProxy((server.host, server.port)) as proxy:
        full = entry(server, pool_size=size, dbname=database, host=proxy.host, port=proxy.port)
        pooler = launch({"full": full})
        clients = [pooler.raw() for _ in range(size)]
        for client in clients:
            client.send(m.query("select pg_sleep(60) /* crowd */"))
        wait_until(lambda: sum("crowd" in line for line in server.busy_backends()) == size, 10, "all run")
        proxy.blackhole(Way.TO_SERVER)
        for client in clients:
            client.reset()
        pooler.wait_for_pool("full", sv_being_canceled=size)
        rivals = [pooler.raw() for _ in range(2 * size)]
        for rival in rivals:
            rival.send(m.query("select 'served'"))
        pooler.wait_for_pool("full", cl_waiting=2 * size)
        assert pooler.pool("full")["sv_login"] == 0
        with pooler.log_contains("too many connections", times=0):
            proxy.heal()
            for rival in rivals:
                assert m.rows(rival.until()) == [["served"]]
                rival.close()
        server.wait_until_quiet()


# --- servers -----------------------------------------------------------------------------------


@howdah_only("PgBouncer adds an error of its own")
def test_the_session_of_a_lost_server_does_not_live_on(pooler: Pooler, server: Server) -> None:
    """In session mode an idle session has lost its state with its server."""
    with pooler.raw(SESSION) as client:
        pid = int(str(client.value("select pg_backend_pid()")))
        server.sql("select pg_terminate_backend(%s)", [pid])
        got = client.until_closed()
        assert m.tags(got) in ("E", "")


@howdah_only("PgBouncer adds an error of its own")
def test_a_server_that_dies_with_a_waiting_rival_serves_the_rival_with_a_new_one(
    pooler: Pooler, server: Server
) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
        client.send(m.query("select pg_sleep(30) /* dying */"))
        pid = server.wait_for_query("/* dying */")
        rival.send(m.query("select 'rival'"))
        pooler.wait_for_pool(ONE, cl_waiting=1)
        server.sql("select pg_terminate_backend(%s)", [pid])
        assert m.tags(client.until_closed()).lstrip("T") == "E"
        assert m.rows(rival.until()) == [["rival"]]


def test_notices_on_an_idle_server_reach_nobody(pooler: Pooler, server: Server) -> None:
    """A reload of PostgreSQL sends ParameterStatus to idle sessions; the next client must not be confused."""
    with pooler.raw(ONE) as client:
        client.value("select 1")
        server.sql("select pg_reload_conf()")
        for number in range(20):
            assert client.value(f"select {number}") == str(number)


def test_a_thousand_connects_and_resets_leave_nothing_behind(pooler: Pooler) -> None:
    def storm() -> None:
        for number in range(100):
            client = pooler.raw(APP)
            if number % 2:
                client.send(m.query("select 1"))
            client.reset()

    threads = [threading.Thread(target=storm) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: not pooler.show("CLIENTS", database=APP), 10, "all gone")

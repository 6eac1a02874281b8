"""The console, the metrics, the signals and cancel requests of a pooler with four workers."""

import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import psycopg
import pytest

from tests.conformance.expect import BUSY, sqlstates
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.crowd import Crowd, until
from tests.support.pooler import ADMIN, CONSOLE, Pooler
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.standard import APP, howdah_only
from tests.support.wire import Raw, send_cancel

pytestmark = howdah_only("only Howdah has workers")

WORKERS = 4


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, metrics_port: int) -> Pooler:
    return module_launch(
        settings={
            "workers": WORKERS,
            "metrics_addr": "127.0.0.1",
            "metrics_port": metrics_port,
            "max_prepared_statements": 10,
        }
    )


@pytest.fixture
def crowd(pooler: Pooler) -> Iterator[Crowd]:
    crowd = Crowd(pooler)
    crowd.wait_for_workers(WORKERS)
    yield crowd
    crowd.wait_for_workers(WORKERS)


@contextmanager
def clients(pooler: Pooler, count: int, database: str = APP) -> Iterator[list[Raw]]:
    """Raw clients, shared evenly among the workers."""
    with ExitStack() as stack:
        yield [stack.enter_context(pooler.raw(database)) for _ in range(count)]


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        lines = [line.rsplit(" ", 1) for line in reply.read().decode().splitlines() if line[:1] != "#"]
    return {name: float(value) for name, value in lines}


def counters(samples: dict[str, float]) -> dict[str, float]:
    """Those that only ever grow; what the process itself says is its own."""
    return {
        name: value
        for name, value in samples.items()
        if name.partition("{")[0].endswith("_total") and not name.startswith("process_")
    }


def worker_of(client: Raw) -> int:
    return client.greeting.pid & 0xFF


# --- what is shown -------------------------------------------------------------------------------


def test_any_console_shows_the_clients_of_all(pooler: Pooler, crowd: Crowd) -> None:
    with clients(pooler, 16) as everybody:
        for client in everybody:
            client.value("select 1")
        assert {worker_of(client) for client in everybody} == {1, 2, 3, 4}
        for _ in range(WORKERS):
            rows = pooler.show("CLIENTS", database=APP)
            assert len(rows) == len({row["id"] for row in rows}) == len({row["ptr"] for row in rows}) == 16
        both = [row["id"] for row in (*rows, *pooler.show("SERVERS"))]
        assert len(both) == len(set(both)) > 16
        assert pooler.pool(APP)["cl_active"] == 16
        (stats,) = pooler.show("STATS", database=APP)
        assert int(str(stats["total_query_count"])) >= 16


def test_workers_are_shown_with_their_processes(pooler: Pooler, crowd: Crowd) -> None:
    rows = pooler.show("WORKERS")
    assert {row["worker"]: row["pid"] for row in rows} == crowd.places()
    assert {row["state"] for row in rows} == {"running"}
    assert all(int(str(row["memory"])) > 1 << 20 and int(str(row["cpu_us"])) > 0 for row in rows)


def test_a_worker_that_stands_still_is_left_out_and_named(pooler: Pooler, crowd: Crowd) -> None:
    with clients(pooler, 8), pooler.raw(CONSOLE, ADMIN) as console:
        number, pid = next(item for item in crowd.places().items() if item[0] != worker_of(console))
        os.kill(pid, signal.SIGSTOP)
        try:
            got = console.query("SHOW CLIENTS")
        finally:
            os.kill(pid, signal.SIGCONT)
        notices = [m.fields_of(message.body)["M"] for message in got if message.tag == b"N"]
        assert f"worker {number} did not answer and is left out" in notices
        assert 0 < len(m.rows(got)) < 9
        until(lambda: len(m.rows(console.query("SHOW CLIENTS"))) == 9, "it is still left out")


# --- orders --------------------------------------------------------------------------------------


def test_pause_waits_for_the_servers_of_all_and_resume_lets_all_go_on(pooler: Pooler, crowd: Crowd) -> None:
    with clients(pooler, 8) as everybody, ThreadPoolExecutor(1) as pool:
        everybody[5].rows("begin")
        pausing = pool.submit(pooler.admin, f"PAUSE {APP}")
        until(lambda: pooler.show("DATABASES", name=APP)[0]["paused"] == 1, "it is not paused")
        assert not pausing.done()
        everybody[5].rows("commit")
        pausing.result(15)
        assert pooler.show("SERVERS", database=APP) == []
        for client in everybody:
            client.send(m.query("select 1"))
        pooler.wait_for_pool(APP, cl_waiting=8)
        pooler.admin(f"RESUME {APP}")
        for client in everybody:
            assert sqlstates(client.until()) == []


def test_a_pause_that_is_cancelled_is_undone_everywhere(pooler: Pooler, crowd: Crowd) -> None:
    with clients(pooler, 8) as everybody, pooler.raw(CONSOLE, ADMIN) as console:
        everybody[0].rows("begin")
        console.send(m.query("PAUSE"))
        until(lambda: pooler.show("STATE", key="paused")[0]["value"] == "yes", "it is not paused")
        pooler.cancel(console)
        assert sqlstates(console.until()) == ["57014"]
        for client in everybody:
            assert client.value("select 1") == "1"
        everybody[0].rows("commit")


def test_signals_act_on_all(pooler: Pooler, crowd: Crowd) -> None:
    with clients(pooler, 8) as everybody:
        pooler.signal(signal.SIGUSR1)
        until(lambda: pooler.show("STATE", key="paused")[0]["value"] == "yes", "it is not paused")
        for client in everybody:
            client.send(m.query("select 1"))
        pooler.wait_for_pool(APP, cl_waiting=8)
        pooler.signal(signal.SIGUSR2)
        for client in everybody:
            assert sqlstates(client.until()) == []


def test_a_reload_is_for_all_or_for_none(pooler: Pooler, crowd: Crowd) -> None:
    def timeouts() -> set[object]:
        return {pooler.show("CONFIG", key="query_timeout")[0]["value"] for _ in range(WORKERS)}

    with pooler.with_settings(query_timeout=77):
        assert timeouts() == {"77"}
        good = pooler.config.read_text()
        pooler.config.write_text(
            good.replace("query_timeout = 77", "query_timeout = 78\nlogfile = /nowhere/x")
        )
        with pytest.raises(psycopg.Error, match="RELOAD failed"):
            pooler.admin("RELOAD")
        assert timeouts() == {"77"}
        pooler.config.write_text(good.replace("query_timeout = 77", "query_timeout = 79"))
        pooler.signal(signal.SIGHUP)
        until(lambda: timeouts() == {"79"}, "not reloaded")
    pooler.admin("SET query_timeout = 55")
    with clients(pooler, 8) as everybody:
        assert timeouts() == {"55"}
        assert all(client.value("select 1") == "1" for client in everybody)
    pooler.admin("RELOAD")


def test_a_client_is_killed_wherever_it_is(pooler: Pooler, crowd: Crowd) -> None:
    with clients(pooler, 4):
        for row in pooler.show("CLIENTS", database=APP):
            pooler.admin(f"KILL_CLIENT {row['id']}")
        assert pooler.show("CLIENTS", database=APP) == []


def test_a_replaced_worker_knows_what_was_ordered_before(pooler: Pooler, crowd: Crowd) -> None:
    pooler.admin(f"DISABLE {APP}")
    pooler.admin("SET query_timeout = 66")
    try:
        before = crowd.places()
        os.kill(before[2], signal.SIGKILL)
        crowd.wait_for_workers(WORKERS, without=())
        until(lambda: crowd.places().get(2, before[2]) != before[2], "it is not replaced")
        for _ in range(2 * WORKERS):
            with pytest.raises(psycopg.OperationalError, match="is disabled"):
                pooler.connect(APP).close()
        until(lambda: pooler.show("WORKERS", worker=2)[0]["restarts"] == 1, "its restart is not counted")
    finally:
        pooler.admin(f"ENABLE {APP}")
        pooler.admin("RELOAD")


# --- prepared statements -------------------------------------------------------------------------


def test_a_change_of_the_schema_is_known_in_all_workers(pooler: Pooler, crowd: Crowd, server: Server) -> None:
    server.sql("create table changing (a int)")
    server.sql(f"grant all on changing to {pooler.user}")
    server.sql(f"alter table changing owner to {pooler.user}")
    with clients(pooler, 8) as everybody:
        for client in everybody:
            client.send(m.parse("s", "select * from changing"), m.sync())
            assert sqlstates(client.until()) == []
            client.send(m.bind(statement="s"), m.execute(), m.sync())
            assert sqlstates(client.until()) == []
        everybody[0].rows("alter table changing add column b int")
        # What is known of it is on its way to the other workers; nothing else tells when it is there.
        pooler.admin("SHOW VERSION")
        for client in everybody:
            client.send(m.parse("t", "select * from changing"), m.bind(statement="t"), m.execute(), m.sync())
            assert sqlstates(client.until()) == []


# --- metrics -------------------------------------------------------------------------------------


def test_metrics_are_those_of_all_and_do_not_go_back_when_a_worker_dies(
    pooler: Pooler, crowd: Crowd, metrics_port: int
) -> None:
    with clients(pooler, 8) as everybody:
        for client in everybody:
            client.value("select 1")
        before = scrape(metrics_port)
        assert before["howdah_workers"] == WORKERS
        assert [before[f'howdah_worker_clients{{worker="{n}"}}'] for n in range(1, 5)] == [2.0] * 4
        assert (
            before[f'pgbouncer_pools_client_active_connections{{database="{APP}",user="{pooler.user}"}}'] == 8
        )
        victim = worker_of(everybody[0])
        pid = crowd.places()[victim]
        os.kill(pid, signal.SIGKILL)
        crowd.wait_for_workers(WORKERS, without=(pid,))
        after = scrape(metrics_port)
        restarts = f'howdah_worker_restarts_total{{worker="{victim}"}}'
        assert after[restarts] == before[restarts] + 1
        back = {name: value for name, value in counters(before).items() if after.get(name, 0) < value}
        assert back == {}


def test_readiness_and_life_are_those_of_the_supervisor(pooler: Pooler, metrics_port: int) -> None:
    for path, text in (("livez", b"ok\n"), ("readyz", b"ready\n")):
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/{path}", timeout=5) as reply:
            assert reply.read() == text


# --- cancel requests -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [m.PROTOCOL_3_0, m.PROTOCOL_3_2])
def test_a_cancel_request_reaches_its_target_from_any_worker(
    pooler: Pooler, crowd: Crowd, server: Server, version: int
) -> None:
    with ExitStack() as stack:
        everybody = [stack.enter_context(pooler.raw(APP, version=version)) for _ in range(8)]
        for number, client in enumerate(everybody):
            client.send(m.query(f"select pg_sleep(30) /* to cancel {number} */"))
            server.wait_for_query(f"/* to cancel {number} */")
        for client in everybody:
            pooler.cancel(client)
            began = time.monotonic()
            assert sqlstates(client.until()) == ["57014"]
            assert time.monotonic() - began < BUSY
        assert all(client.value("select 1") == "1" for client in everybody)


def test_a_key_that_points_to_another_worker_does_nothing(pooler: Pooler, crowd: Crowd) -> None:
    with closing(pooler.raw(APP)) as client:
        client.send(m.query("select pg_sleep(0.5)"))
        pid, secret = client.greeting.pid, client.greeting.secret
        for worker in (0, 1, 2, 3, 4, 5, 255):
            if worker != pid & 0xFF:
                send_cancel((pooler.host, pooler.port), pid & ~0xFF | worker, secret)
        send_cancel((pooler.host, pooler.port), pid, bytes(reversed(secret)))
        assert sqlstates(client.until()) == []


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["", "WAIT_FOR_SERVERS", "WAIT_FOR_CLIENTS"])
def test_a_shutdown_ends_all_of_them_with_code_0(launch: Launch, mode: str) -> None:
    pooler = launch(settings={"workers": 2})
    Crowd(pooler).wait_for_workers(2)
    with clients(pooler, 4) as everybody, pooler.raw(CONSOLE, ADMIN) as console:
        assert all(client.value("select 1") == "1" for client in everybody)
        console.send(m.query(f"SHUTDOWN {mode}"))
        if mode:
            assert m.command_tags(console.until()) == ["SHUTDOWN"]
        for client in everybody:
            client.close()
        assert pooler.wait() == 0
    pooler.check_log()

"""The process: its signals, its sockets and files, its log, and how it ends."""

import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.fault_proxy import wait_until
from tests.support.pooler import ADMIN, run_to_the_end
from tests.support.server import Server
from tests.support.standard import APP, ONE, build, databases, howdah_only
from tests.support.wire import LoginRefused, Raw

pytestmark = [howdah_only("Howdah's own process"), pytest.mark.usefixtures("started_anew")]


@pytest.fixture
def socket_directory() -> Iterator[Path]:
    """A short path (sockets allow about 100 bytes) in which anybody may create files."""
    with tempfile.TemporaryDirectory(prefix="howdah-") as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


# --- life and death --------------------------------------------------------------------------------------


def test_the_first_login_is_served_soon_after_the_start(server: Server) -> None:
    with build(databases(server), user=server.user) as pooler, pooler.raw() as client:
        assert client.value("select 1") == "1"
        # What it did until then, not what else the machine had to do.
        assert pooler.cpu_seconds() < 1.5


def test_sighup_reloads(launch: Launch) -> None:
    pooler = launch()
    pooler.settings["default_pool_size"] = 33
    pooler.write_config()
    pooler.signal(signal.SIGHUP)
    wait_until(
        lambda: pooler.show("CONFIG", key="default_pool_size")[0]["value"] == "33",
        5,
        "the new value is in force",
    )


def test_sighup_with_a_bad_file_changes_nothing_and_says_why(launch: Launch) -> None:
    pooler = launch()
    pooler.config.write_text(pooler.config.read_text() + "pool_mode = sometimes\n")
    with pooler.log_contains("pool_mode"):
        pooler.signal(signal.SIGHUP)
    with pooler.raw() as client:
        assert client.value("select 1") == "1"


def test_sigusr1_pauses_and_sigusr2_resumes(launch: Launch) -> None:
    pooler = launch()
    with pooler.raw() as client:
        pooler.signal(signal.SIGUSR1)
        wait_until(lambda: pooler.show("STATE", key="paused")[0]["value"] == "yes", 10, "paused")
        client.send(m.query("select 'later'"))
        assert client.silent_for(0.2)
        pooler.signal(signal.SIGUSR2)
        assert m.rows(client.until()) == [["later"]]


def test_sigquit_ends_at_once(launch: Launch) -> None:
    pooler = launch()
    with pooler.raw() as client:
        client.send(m.query("select pg_sleep(30)"))
        pooler.wait_for_pool(pooler.database, cl_active=1)
        pooler.signal(signal.SIGQUIT)
        assert pooler.wait(10) == 0


def test_sigint_waits_for_servers(launch: Launch) -> None:
    pooler = launch()
    with pooler.raw(ONE) as busy, pooler.raw(ONE) as waiting:
        busy.rows("begin")
        waiting.send(m.query("select 1"))
        pooler.wait_for_pool(ONE, cl_waiting=1)
        pooler.signal(signal.SIGINT)
        wait_until(lambda: not pooler.listening(), 10, "no newcomers")
        assert busy.value("select 'goes on'") == "goes on"
        assert pooler.running()
        busy.query("commit")
        assert pooler.wait(10) == 0
        errors = m.errors(waiting.until_closed())
        assert [fields["M"] for fields in errors] in (
            [],
            ["server shutting down"],
            ["pooler is shutting down"],
        )


def test_sigterm_waits_for_clients(launch: Launch) -> None:
    pooler = launch()
    with pooler.raw(ONE) as client:
        client.value("select 1")
        pooler.signal(signal.SIGTERM)
        wait_until(lambda: not pooler.listening(), 10, "no newcomers")
        for _ in range(5):
            assert client.value("select 'still served'") == "still served"
        assert pooler.running()
        client.quit()
        assert pooler.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(launch: Launch, number: signal.Signals) -> None:
    pooler = launch()
    with pooler.raw(ONE) as client:
        client.rows("begin")
        pooler.signal(number)
        wait_until(lambda: not pooler.listening(), 10, "no newcomers")
        assert pooler.running()
        pooler.signal(number)
        assert pooler.wait(10) == 0


@pytest.mark.parametrize("mode", ["", " WAIT_FOR_SERVERS", " WAIT_FOR_CLIENTS"])
def test_the_console_shuts_down_in_three_forms(launch: Launch, mode: str) -> None:
    pooler = launch()
    with pooler.raw("pgbouncer", ADMIN) as console:
        console.send(m.query("SHUTDOWN" + mode))
        if mode:
            assert m.command_tags(console.until()) == ["SHUTDOWN"]
            console.quit()
        assert pooler.wait(10) == 0


def test_while_it_waits_for_clients_the_console_stays_reachable_by_unix_socket(
    launch: Launch, socket_directory: Path
) -> None:
    pooler = launch(settings={"unix_socket_dir": str(socket_directory)})
    with pooler.raw(ONE) as client:
        pooler.signal(signal.SIGTERM)
        wait_until(lambda: not pooler.listening(), 10, "no newcomers by TCP")
        with psycopg.connect(pooler.conninfo("pgbouncer", ADMIN, host=str(socket_directory))) as console:
            console.autocommit = True
            assert console.execute("SHOW VERSION").fetchone()
        with pytest.raises(psycopg.OperationalError, match="shutting down"):
            psycopg.connect(pooler.conninfo(ONE, host=str(socket_directory)))
        client.quit()
        assert pooler.wait(10) == 0


def test_the_unix_socket_is_there_and_goes_with_the_process(launch: Launch, socket_directory: Path) -> None:
    pooler = launch(settings={"unix_socket_dir": str(socket_directory), "unix_socket_mode": "0700"})
    path = socket_directory / f".s.PGSQL.{pooler.port}"
    assert path.stat().st_mode & 0o777 == 0o700
    with psycopg.connect(pooler.conninfo(APP, host=str(socket_directory)), autocommit=True) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    pooler.signal(signal.SIGQUIT)
    assert pooler.wait() == 0
    assert not path.exists()


def test_the_servers_are_reached_by_unix_socket(launch: Launch, server: Server) -> None:
    directory = str(server.postgres.socket_directory)
    pooler = launch({APP: {"host": directory, "port": server.port, "dbname": server.database}})
    with pooler.raw(APP) as client:
        assert client.value("select inet_client_addr() is null") == "t"


def test_daemon_mode_writes_a_pidfile_and_removes_it(server: Server, socket_directory: Path) -> None:
    pidfile, log = socket_directory / "pid", socket_directory / "log"
    settings = {"pidfile": str(pidfile), "logfile": str(log)}
    pooler = build(databases(server), settings, user=server.user)
    done = run_to_the_end("-d", *pooler.privileges(), str(pooler.config))
    assert done.returncode == 0, done.stderr
    wait_until(pooler.listening, 10, "listening")
    pid = int(pidfile.read_text())
    with pooler.raw() as client:
        assert client.value("select 1") == "1"
    again = run_to_the_end(*pooler.privileges(), str(pooler.config))
    assert again.returncode == 1, "the pidfile belongs to a living process"
    os.kill(pid, signal.SIGQUIT)
    wait_until(lambda: not pidfile.exists(), 10, "the pidfile is gone")
    assert "Traceback" not in log.read_text()
    pooler.stop()


def test_the_limit_on_descriptors_is_raised(launch: Launch) -> None:
    """The soft limit is lifted to the hard one."""
    pooler = launch()
    limits = Path(f"/proc/{pooler.pid}/limits").read_text()
    found = re.search(r"Max open files\s+(\d+)\s+(\d+)", limits)
    assert found is not None
    assert found[1] == found[2]


# --- the log ---------------------------------------------------------------------------------------------


def test_log_lines_have_pgbouncers_form(launch: Launch) -> None:
    pooler = launch()
    with pooler.raw(APP) as client:
        client.value("select 1")
    with pytest.raises(LoginRefused):
        pooler.raw("nowhere")
    pooler.wait_for_log(r"C-\S+: app/\S+@127\.0\.0\.1:\d+ login attempt: db=app user=\S+ tls=no")
    pooler.wait_for_log(r"S-\S+: app/\S+@127\.0\.0\.1:\d+ new connection to server \(from 127\.0\.0\.1:\d+\)")
    pooler.wait_for_log(
        r"C-\S+: app/\S+@127\.0\.0\.1:\d+ closing because: client unexpected eof \(age=\d+s?\)"
    )
    pooler.wait_for_log(r"closing because: no such database: nowhere")
    form = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+ \[\d+\] [A-Z]+ .+")
    assert all(form.fullmatch(line) for line in pooler.log().splitlines()), pooler.log_tail(5)


def test_the_statistics_line_comes_every_period(launch: Launch) -> None:
    pooler = launch(settings={"stats_period": 1})
    with pooler.raw(APP) as client:
        client.value("select 1")
        pooler.wait_for_log(
            r"stats: \d+ xacts/s, \d+ queries/s, .*in \d+ B/s, out \d+ B/s, xact \d+ us", within=10
        )


def test_json_log_lines_are_json(launch: Launch) -> None:
    pooler = launch(settings={"log_format": "json"})
    with pooler.raw(APP):
        pass
    pooler.wait_for_log("login attempt")
    assert all(isinstance(json.loads(line), dict) for line in pooler.log().splitlines())


# --- event loops -------------------------------------------------------------------------------------------


def test_it_runs_on_plain_asyncio_too(launch: Launch) -> None:
    pooler = launch(settings={"event_loop": "asyncio"})

    def busy(client: Raw) -> None:
        for number in range(20):
            assert client.value(f"select {number}") == str(number)

    with pooler.raw(APP) as client, pooler.connect(APP) as connection:
        busy(client)
        assert connection.execute("select %s::int", (7,)).fetchone() == (7,)
        assert m.errors(client.query("select 1/0"))[0]["C"] == "22012"

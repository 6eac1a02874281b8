"""Several processes are one daemon to whoever starts it: terminal, service manager, container, operator."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self

import psycopg
import pytest

from tests.integration.conftest import Launch
from tests.support.crowd import DEADLINE, Crowd, alive, children, until
from tests.support.pooler import ROOT, Pooler, Value, family, run_to_the_end
from tests.support.server import Server
from tests.support.standard import APP, ONE, build, databases, howdah_only

pytestmark = howdah_only("only Howdah has workers")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path (sockets allow about 100 bytes) in which anybody may create files."""
    with tempfile.TemporaryDirectory(prefix="howdah-") as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


def start(launch: Launch, count: int = 2, **settings: str | float) -> Crowd:
    crowd = Crowd(launch(settings={"workers": count, **settings}))
    crowd.wait_for_workers(count)
    return crowd


def everybody(crowd: Crowd) -> list[int]:
    return [crowd.supervisor, crowd.template, *crowd.workers()]


def test_one_worker_is_one_process(launch: Launch) -> None:
    pooler = launch(settings={"workers": 1})
    with pooler.raw(APP) as client:
        assert client.value("select 1") == "1"
    assert list(family(pooler.pid)) == [pooler.pid]


# --- signals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_ends_all_processes_with_code_0(launch: Launch, number: signal.Signals) -> None:
    crowd = start(launch)
    processes = everybody(crowd)
    crowd.pooler.signal(number)
    assert crowd.pooler.wait() == 0
    until(lambda: not any(map(alive, processes)), "somebody lives on")


def test_what_a_terminal_sends_to_all_is_for_the_supervisor_only(launch: Launch) -> None:
    crowd = start(launch)
    with crowd.pooler.raw(ONE) as client:
        client.rows("begin")
        for pid in everybody(crowd):
            os.kill(pid, signal.SIGINT)
        crowd.pooler.wait_for_log("got SIGINT")
        assert client.value("select 'goes on'") == "goes on"
        client.query("commit")
        assert crowd.pooler.wait() == 0
    assert crowd.pooler.log().count("got SIGINT") == 1


def test_a_worker_without_clients_stays_until_all_have_none(launch: Launch, directory: Path) -> None:
    crowd = start(launch, unix_socket_dir=str(directory))
    workers = crowd.workers()
    with crowd.pooler.raw(ONE) as client:
        client.value("select 1")
        crowd.pooler.signal(signal.SIGTERM)
        until(lambda: not crowd.pooler.listening(), "still taking clients by TCP")
        for _ in range(4):
            with pytest.raises(psycopg.OperationalError, match="shutting down"):
                psycopg.connect(crowd.pooler.conninfo(ONE, host=str(directory)))
        assert client.value("select 'still served'") == "still served"
        assert sorted(crowd.workers()) == sorted(workers)
        client.quit()
        assert crowd.pooler.wait() == 0


# --- starting ---------------------------------------------------------------------------------------------


def test_a_port_in_use_ends_all_with_code_1(server: Server) -> None:
    pooler = build(databases(server), {"workers": 2}, user=server.user)
    with socket.create_server((pooler.host, pooler.port)):
        pooler.start(wait=False)
        assert pooler.wait() == 1
    assert "cannot listen on" in pooler.log()
    pooler.stop()


def test_the_service_manager_hears_that_it_is_ready_when_the_workers_serve(
    server: Server, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        (directory / "notify").chmod(0o777)
        manager.settimeout(DEADLINE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(directory / "notify"))
        with build(databases(server), {"workers": 3}, user=server.user) as pooler:
            assert manager.recv(1024).decode().splitlines()[:2] == ["READY=1", f"MAINPID={pooler.pid}"]
            # Lines of the log are written by a thread, a little later than what they tell of.
            assert len(children(Crowd(pooler).template)) == 3
            Crowd(pooler).wait_for_workers(3)
            pooler.signal(signal.SIGQUIT)
            assert pooler.wait() == 0
            said = manager.recv(1024)
            while said.startswith(b"STATUS="):
                said = manager.recv(1024)
            assert said == b"STOPPING=1"
            # The workers have nothing to say to it.
            manager.settimeout(0.1)
            with pytest.raises(TimeoutError):
                manager.recv(1024)


ACTIVATE = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Activated(Pooler):
    """Started by a service manager, which listens."""

    def start(self, *, wait: bool = True) -> Self:
        with socket.create_server((self.host, self.port)) as listening, self.log_path.open("ab") as log:
            passed = listening.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-c", ACTIVATE, str(passed), *self.command()],
                pass_fds=[passed],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.wait_until_accepting()
        return self


def test_a_socket_passed_by_the_service_manager_is_used(server: Server) -> None:
    with Activated(databases(server), {"workers": 2}, user=server.user) as pooler:
        Crowd(pooler).wait_for_workers(2)
        for number in range(4):
            with pooler.raw(APP) as client:
                assert client.value(f"select {number}") == str(number)


def test_two_poolers_of_workers_share_a_port(server: Server) -> None:
    settings: dict[str, Value] = {"workers": 2, "so_reuseport": 1}
    first = build(databases(server), settings, user=server.user)
    second = build(databases(server), settings | {"listen_port": first.port}, user=server.user)
    second.port = first.port
    with first, second:
        Crowd(first).wait_for_workers(2)
        Crowd(second).wait_for_workers(2)
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
        for _ in range(4):
            with second.raw(APP) as client:
                assert client.value("select 1") == "1"


def test_daemon_mode_leaves_one_pidfile_and_no_process(server: Server, directory: Path) -> None:
    pidfile, log = directory / "pid", directory / "log"
    settings: dict[str, Value] = {"pidfile": str(pidfile), "logfile": str(log), "workers": 2}
    pooler = build(databases(server), settings, user=server.user)
    done = run_to_the_end("-d", *pooler.privileges(), str(pooler.config))
    assert (done.returncode, done.stderr) == (0, "")
    until(pooler.listening, "not listening")
    supervisor = int(pidfile.read_text())
    until(lambda: log.read_text().count(" serves") == 2, "workers are missing")
    (template,) = children(supervisor)
    workers = children(template)
    assert len(workers) == 2
    assert len({os.getsid(pid) for pid in (supervisor, template, *workers)}) == 1
    with pooler.raw() as client:
        assert client.value("select 1") == "1"
    os.kill(supervisor, signal.SIGTERM)
    until(lambda: not any(map(alive, (supervisor, template, *workers))), "somebody lives on")
    assert not pidfile.exists()
    assert "Traceback" not in log.read_text()
    pooler.stop()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_all_processes_run_as_the_user_that_was_asked_for(launch: Launch) -> None:
    crowd = start(launch)
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in everybody(crowd)}
    assert len(owners) == 1
    assert 0 not in owners


# --- clients ----------------------------------------------------------------------------------------------


def test_who_is_at_the_other_end_of_a_unix_socket_is_known(launch: Launch, directory: Path) -> None:
    """An admin's process and user are in the log, as the kernel tells them."""
    crowd = start(launch, unix_socket_dir=str(directory))
    with psycopg.connect(crowd.pooler.conninfo(APP, host=str(directory)), autocommit=True) as client:
        assert client.execute("select 7").fetchone() == (7,)
    with closing(psycopg.connect(crowd.pooler.conninfo("pgbouncer", "boss", host=str(directory)))) as console:
        console.autocommit = True
        console.execute("DISABLE " + ONE)
        console.execute("ENABLE " + ONE)
    crowd.pooler.wait_for_log(rf"pid.?{os.getpid()}\b|process {os.getpid()}\b")


def test_max_client_conn_is_one_limit_for_all_workers(launch: Launch) -> None:
    crowd = start(launch, count=4, max_client_conn=10)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(crowd.pooler.raw(APP))
        for _ in range(8):
            with pytest.raises(psycopg.OperationalError, match="no more connections allowed"):
                psycopg.connect(crowd.pooler.conninfo(APP))
    until(lambda: not crowd.pooler.show("CLIENTS", database=APP), "they have not left")
    with crowd.pooler.raw(APP) as client:
        assert client.value("select 1") == "1"


# --- the log ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipe", [False, True])
def test_lines_of_all_processes_stay_whole_in_one_stream(server: Server, pipe: bool) -> None:
    pooler = build(databases(server), {"workers": 3, "verbose": 2}, user=server.user)
    form = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+ \[(\d+)\] [A-Z]+ .+|\t.+")
    with Piped(pooler) if pipe else pooler:
        Crowd(pooler).wait_for_workers(3)
        talkers = [threading.Thread(target=come_and_go, args=(pooler, 20)) for _ in range(6)]
        for talker in talkers:
            talker.start()
        for talker in talkers:
            talker.join()
        until(lambda: pooler.log().count("login attempt") == 120, "lines are missing")
        lines = pooler.log().splitlines()
    assert [line for line in lines if form.fullmatch(line) is None] == []
    writers = {found[1] for line in lines if (found := form.fullmatch(line)) is not None}
    assert len(writers - {None}) == 4


def come_and_go(pooler: Pooler, times: int) -> None:
    for _ in range(times):
        with pooler.raw(APP) as client:
            client.query("select 1")


class Piped:
    """A pooler whose log goes through a pipe, as in a container."""

    def __init__(self, pooler: Pooler) -> None:
        self._pooler = pooler

    def __enter__(self) -> Pooler:
        command = self._pooler.command()
        log = str(self._pooler.log_path)
        script = 'log=$1; shift; mkfifo "$log.fifo"; cat "$log.fifo" >>"$log" & exec "$@" 2>"$log.fifo"'
        words = ["sh", "-c", script, "sh", log, *command]
        self._pooler.command = lambda: words  # type: ignore[method-assign]
        return self._pooler.start()

    def __exit__(self, *_: object) -> None:
        self._pooler.stop()


def test_a_reload_opens_the_log_file_anew_in_all_processes(launch: Launch, directory: Path) -> None:
    crowd = start(launch, logfile=str(directory / "log"))
    (directory / "log").rename(directory / "old")
    crowd.pooler.signal(signal.SIGHUP)
    until((directory / "log").exists, "no new file")
    for _ in range(4):
        with crowd.pooler.raw(APP):
            pass
    writers: set[str] = set()

    def all_have_written() -> bool:
        writers.update(re.findall(r"\[(\d+)\] LOG C-", (directory / "log").read_text()))
        return {int(pid) for pid in writers} >= set(crowd.workers())

    until(all_have_written, "a worker writes elsewhere")


# --- what they cost ---------------------------------------------------------------------------------------


def memory(pid: int, what: str) -> int:
    """Of a process, in KiB: Rss, Pss (shared pages divided among those who share them), Private_Dirty."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_a_further_worker_without_clients_costs_at_most_35_mib(launch: Launch) -> None:
    two, four = start(launch, 2), start(launch, 4)
    total = [sum(memory(pid, "Pss") for pid in everybody(crowd)) for crowd in (two, four)]
    assert (total[1] - total[0]) / 2 < 35 * 1024
    print({what: memory(four.workers()[-1], what) for what in ("Rss", "Pss", "Private_Dirty")})

"""The whole of a worker: start, signals, reload, the timer, and the three ways to end."""

import asyncio
import logging
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import config
from config.problems import ConfigError
from config.settings import Settings
from proxy import process
from proxy.control import ShutdownMode
from proxy.reasons import ClientClosed
from proxy.worker import Worker, run
from tests.support import messages as m
from tests.support.ports import free_port
from tests.support.rig import eventually
from tests.support.running import Running, process_as_before
from tests.support.script import Conversation

SIGNALS = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with process_as_before():
        yield


@pytest.mark.both_loops
async def test_a_worker_serves_from_its_start_to_its_end(tmp_path: Path) -> None:
    async with Running(tmp_path) as running:
        peer = await running.client()
        assert m.rows(await peer.ask("select 1")) == [["select 1"]]
        peer.send(m.terminate())
        running.worker.shutdown(ShutdownMode.IMMEDIATE)
        assert await running.code() == 0
        assert not (tmp_path / f".s.PGSQL.{running.port}").exists()
        with pytest.raises(ConnectionRefusedError):
            await running.client()


async def test_a_port_in_use_ends_the_start_with_code_1(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running = Running(tmp_path)
    with socket.create_server(("127.0.0.1", running.port)):
        async with running:
            assert await running.code() == 1
    assert f"cannot listen on 127.0.0.1:{running.port}" in caplog.text
    assert not list_dir(tmp_path, ".s.PGSQL")


async def test_metrics_that_cannot_be_served_end_the_start_with_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = Running(tmp_path)
        running.write(f"metrics_addr = 127.0.0.1\nmetrics_port = {port}\n")
        running.worker = Worker(config.load(str(running.path)), str(running.path))
        async with running:
            assert await running.code() == 1


async def test_all_of_pgbouncers_signals_are_taken(tmp_path: Path) -> None:
    async with Running(tmp_path) as running:
        assert sorted(running.signals) == sorted(SIGNALS)


# Signals.


async def test_usr1_pauses_and_usr2_resumes(tmp_path: Path) -> None:
    async with Running(tmp_path) as running:
        peer = await running.client()
        await peer.ask("1")
        running.signal(signal.SIGUSR1)
        await eventually(
            lambda: running.worker.manager.paused and not running.worker.manager.servers_left(None)
        )
        peer.send(m.query("2"))
        running.signal(signal.SIGUSR2)
        assert m.rows(await peer.until()) == [["2"]]
        assert not running.worker.manager.paused


async def test_a_signal_that_makes_no_sense_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Running(tmp_path) as running:
        running.signal(signal.SIGUSR2)
        await eventually(lambda: "pooler is not paused/suspended" in caplog.text)


async def test_hup_reads_the_configuration_again(tmp_path: Path) -> None:
    async with Running(tmp_path) as running:
        peer = await running.client()
        await peer.ask("1")
        running.write("query_timeout = 7\n")
        running.signal(signal.SIGHUP)
        await eventually(lambda: running.worker.observer.reloads["ok"])
        assert running.worker.manager.settings.query_timeout == 7
        (pool,) = running.worker.manager.pools.values()
        assert pool.settings.query_timeout == 7
        assert m.rows(await peer.ask("2")) == [["2"]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_a_signal_ends_an_idle_worker(tmp_path: Path, number: signal.Signals) -> None:
    async with Running(tmp_path) as running:
        running.signal(number)
        assert await running.code() == 0


async def test_term_waits_for_the_clients(tmp_path: Path) -> None:
    async with Running(tmp_path) as running:
        peer = await running.client()
        running.signal(signal.SIGTERM)
        await eventually(lambda: running.worker.is_shutting_down())
        with pytest.raises(ConnectionRefusedError):
            await running.client()
        assert m.rows(await peer.ask("1")) == [["1"]]
        console = await running.by_unix_socket("pgbouncer")
        assert m.errors(await console.ask("show pools")) == []
        peer.send(m.terminate())
        assert await running.code() == 0


async def test_int_waits_for_the_servers_and_refuses_those_who_wait(tmp_path: Path) -> None:
    go_on = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.welcome()
        while (got := conversation.read()).tag != b"X":
            if b"slow" in got.body:
                go_on.wait(10)
            conversation.answer(got.body.rstrip(b"\0").decode())

    async with Running(tmp_path, default_pool_size=1) as running:
        running.fake.script = script
        worker = running.worker
        busy, waiting, idle = [await running.client() for _ in range(3)]
        busy.send(m.query("slow"))
        waiting.send(m.query("never"))
        await eventually(lambda: any(pool.waiting for pool in worker.manager.pools.values()))
        running.signal(signal.SIGINT)
        error = await waiting.error()
        assert (error["C"], error["M"]) == ("57P01", "server shutting down")
        assert not running.task.done()
        go_on.set()
        assert m.rows(await busy.until()) == [["slow"]]
        assert await running.code() == 0
        for peer in (busy, idle):
            error = await peer.error()
            assert (error["C"], error["M"]) == ("57P01", "pooler is shutting down")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_a_second_signal_ends_at_once(tmp_path: Path, second: signal.Signals) -> None:
    async with Running(tmp_path) as running:
        peer = await running.client()
        running.signal(signal.SIGTERM)
        await eventually(lambda: running.worker.is_shutting_down())
        running.signal(second)
        assert await running.code() == 0
        assert await peer.rest() == b""


async def test_an_immediate_end_drops_everybody_without_a_word(tmp_path: Path) -> None:
    async with Running(tmp_path) as running:
        peer = await running.client()
        running.signal(signal.SIGQUIT)
        assert await peer.rest() == b""
        assert await running.code() == 0
        assert running.worker.lobby.closed_clients[ClientClosed.SHUTDOWN] == 1


async def test_a_server_that_does_not_close_holds_up_the_end_for_a_moment_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = threading.Event()

    def script(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.read()
        conversation.answer("1")
        stuck.wait(20)

    async with Running(tmp_path) as running:
        running.fake.script = script
        peer = await running.client()
        await peer.ask("1")
        running.signal(signal.SIGQUIT)
        assert await running.code() == 0
        stuck.set()
    assert "1 servers have not closed" in caplog.text


# Settings.


@pytest.mark.parametrize(
    "bad", ["no_such_key = 1\n", "pool_mode = nonsense\n", "auth_type = pam\n", "[nonsense]\n"]
)
async def test_a_reload_of_a_bad_file_changes_nothing_and_says_why(
    tmp_path: Path, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Running(tmp_path) as running:
        before = running.worker.manager.settings
        running.write("query_timeout = 7\n" + bad)
        with pytest.raises(ConfigError):
            await running.worker.reload()
        assert running.worker.manager.settings is before
        assert running.worker.observer.reloads == {"failed": 1}
        assert "howdah.ini" in caplog.text
        await (await running.client()).ask("1")


async def test_a_reload_of_a_missing_file_changes_nothing(tmp_path: Path) -> None:
    async with Running(tmp_path) as running:
        running.path.unlink()
        running.signal(signal.SIGHUP)
        await eventually(lambda: running.worker.observer.reloads["failed"])
        await (await running.client()).ask("1")


async def test_what_needs_a_restart_is_warned_about_and_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Running(tmp_path) as running:
        running.port, old = free_port(), running.port
        running.write()
        await running.worker.reload()
        assert "listen_port has changed, which takes effect after a restart" in caplog.text
        assert running.worker.manager.settings.listen_port == old


async def test_new_passwords_count_for_the_next_login(tmp_path: Path) -> None:
    async with Running(tmp_path, auth_type="plain") as running:
        running.auth.write_text('"alice" "new"\n')
        await running.worker.reload()
        for secret, tag in (("new", b"Z"), ("secret", b"E")):
            peer = await running.connect()
            peer.send(m.startup({"user": "alice", "database": "app"}))
            await peer.password()
            peer.send(m.password(secret))
            await peer.until(tag)


# The timer, and the rest.


async def test_the_timer_sweeps_and_measures_its_own_lag(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "howdah")
    running = Running(tmp_path, stats_period=1)
    assert running.worker.observer.loop_lag() is None
    async with running:
        await eventually(lambda: running.worker.observer.loop_lag() is not None)
        await eventually(lambda: "stats: 0 xacts/s" in caplog.text)


async def test_maintenance_that_fails_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Running(tmp_path) as running:
        sweeps: list[int] = []

        def sweep(now: int) -> bool:
            sweeps.append(now)
            raise ZeroDivisionError

        monkeypatch.setattr(running.worker.janitor, "sweep", sweep)
        await eventually(lambda: len(sweeps) >= 2)
    assert "maintenance failed" in caplog.text


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_run_takes_the_loop_that_is_set(loop: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []

    async def main(self: Worker) -> int:
        seen.append(type(asyncio.get_running_loop()).__module__.split(".")[0])
        self.deriver.close()
        return 3

    monkeypatch.setattr(Worker, "main", main)
    settings = Settings.model_validate({"event_loop": loop})
    assert run(settings, "none", quiet=True, verbose=0) == 3
    assert seen == [loop]


async def test_a_service_manager_is_told_of_start_reload_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    for name in ("notify_ready", "notify_reloading", "notify_stopping"):
        monkeypatch.setattr(process, name, lambda name=name: told.append(name))
    async with Running(tmp_path) as running:
        await eventually(lambda: told)
        await running.worker.reload()
        running.path.write_text("nonsense")
        with pytest.raises(ConfigError):
            await running.worker.reload()
        running.signal(signal.SIGTERM)
        await running.code()
    reload = ["notify_reloading", "notify_ready"]
    assert told == ["notify_ready", *reload, *reload, "notify_stopping"]


def list_dir(path: Path, prefix: str) -> list[str]:
    return [entry.name for entry in path.iterdir() if entry.name.startswith(prefix)]


async def test_it_says_once_that_descriptors_run_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Running(tmp_path) as running:
        await running.client()
        monkeypatch.setattr(resource, "getrlimit", lambda which: (17, 17))
        await eventually(lambda: "running out of file descriptors" in caplog.text)
        sweeps: list[int] = []
        monkeypatch.setattr(running.worker.janitor, "sweep", sweeps.append)
        await eventually(lambda: len(sweeps) > 1)
        assert caplog.text.count("running out of file descriptors") == 1


async def test_a_signal_that_comes_while_it_starts_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(tmp_path)
    start = running.worker.listener.start

    async def slowly(*arguments: Any) -> None:
        running.signal(signal.SIGQUIT)
        await start(*arguments)

    monkeypatch.setattr(running.worker.listener, "start", slowly)
    async with running:
        assert await running.task == 0
        assert list_dir(tmp_path, ".s.PGSQL") == []

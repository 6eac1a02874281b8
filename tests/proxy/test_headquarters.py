"""What the supervisor has besides its workers, without any."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import cast

import pytest

from config.problems import ConfigError
from config.settings import Settings
from proxy import headquarters as headquarters_module
from proxy.binding import ListenError
from proxy.bundle import Merged
from proxy.control import OrderRefused, Pause, Reload, Resume, Set, Shutdown, ShutdownMode
from proxy.headquarters import Headquarters
from proxy.nursery import Nursery
from proxy.snapshot import StateSnapshot
from proxy.supervisor import Supervisor
from tests.support.page import Page
from tests.support.ports import free_port
from tests.support.rig import eventually


def make(path: str = "none.ini", /, **settings: object) -> tuple[Supervisor, Headquarters]:
    values = {"workers": 2, "metrics_addr": "", "unix_socket_dir": "", **settings}
    supervisor = Supervisor(Settings.model_validate(values), path, cast("Nursery", None))
    return supervisor, Headquarters(supervisor, path)


async def test_orders_of_signals_are_for_all() -> None:
    supervisor, headquarters = make()
    await supervisor.execute(Pause())
    assert (await headquarters.fleet.gathering.take(("state",))).state() == StateSnapshot(
        paused=True, listening=False
    )
    with pytest.raises(OrderRefused, match="already"):
        await supervisor.execute(Pause())
    await supervisor.execute(Resume())
    assert not headquarters.fleet.is_paused(None)


async def test_settings_are_the_supervisors_too() -> None:
    supervisor, _ = make()
    await supervisor.execute(Set("worker_timeout", "7"))
    assert supervisor.settings.worker_timeout == 7
    with pytest.raises(OrderRefused, match="SET failed"):
        await supervisor.execute(Set("logfile", "/nowhere/howdah.log"))
    assert not supervisor.settings.logfile


async def test_a_reload_reads_the_file(tmp_path: Path) -> None:
    file = tmp_path / "howdah.ini"
    file.write_text("[databases]\n[pgbouncer]\nquery_timeout = 5\nauth_type = trust\nworkers = 2\n")
    supervisor, headquarters = make(str(file))
    await supervisor.execute(Reload())
    assert supervisor.settings.query_timeout == 5
    file.write_text("[pgbouncer]\nnix = 5\n")
    with pytest.raises(OrderRefused, match="RELOAD failed"):
        await supervisor.execute(Reload())
    assert supervisor.settings.query_timeout == 5
    assert (await headquarters.fleet.gathering.take(("reasons",))).reasons().reloads == {
        "ok": 1,
        "failed": 1,
    }


async def test_places_without_a_worker_are_shown() -> None:
    supervisor, headquarters = make()
    rows = (await headquarters.fleet.gathering.take(("workers",))).workers()
    assert [(row.worker, row.pid, row.state) for row in rows] == [(1, 0, "starting"), (2, 0, "starting")]
    supervisor.mode = ShutdownMode.WAIT_FOR_CLIENTS
    rows = (await headquarters.fleet.gathering.take(("workers",))).workers()
    assert {row.state for row in rows} == {"stopping"}


async def test_settings_are_shown_as_they_are() -> None:
    _, headquarters = make(query_timeout=9)
    rows = (await headquarters.fleet.gathering.take(("config",))).config()
    (row,) = [row for row in rows if row.key == "query_timeout"]
    assert (row.value, row.changeable) == ("9", "yes")


async def test_a_pooler_without_workers_still_answers_over_http() -> None:
    page = Page(free_port())
    supervisor, _ = make(**page.settings())
    for start in supervisor.on_start:
        await start()
    try:
        assert await asyncio.to_thread(page.get, "/livez") == (200, "ok\n")
        assert await asyncio.to_thread(page.get, "/readyz") == (503, "not listening\n")
        assert await asyncio.to_thread(page.value, "howdah_workers") == 2
        supervisor.mode = ShutdownMode.WAIT_FOR_CLIENTS
        assert await asyncio.to_thread(page.get, "/readyz") == (503, "draining\n")
    finally:
        for stop in supervisor.on_stop:
            await stop()


async def test_a_port_in_use_is_said() -> None:
    page = Page(free_port())
    one, _ = make(**page.settings())
    other, _ = make(**page.settings())
    await one.on_start[0]()
    try:
        with pytest.raises(ListenError, match="metrics_port"):
            await other.on_start[0]()
    finally:
        await one.on_stop[0]()
        await other.on_stop[0]()


async def test_statistics_are_logged_each_period(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    supervisor, headquarters = make()
    headquarters.fleet.settings = headquarters.fleet.settings.model_copy(update={"stats_period": 0.01})
    await supervisor.on_start[0]()
    await eventually(lambda: caplog.text.count("stats: 0 xacts/s") > 1)
    await supervisor.on_stop[0]()


async def test_what_workers_count_is_asked_for_more_often_than_it_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(headquarters_module, "COUNT_SECONDS", 0.01)
    supervisor, headquarters = make(stats_period=1000)
    asked = asyncio.Queue[Collection[str]]()
    take = headquarters.fleet.gathering.take

    async def note(parts: Collection[str]) -> Merged:
        asked.put_nowait(parts)
        return await take(parts)

    monkeypatch.setattr(headquarters.fleet.gathering, "take", note)
    await supervisor.on_start[0]()
    async with asyncio.timeout(5):
        parts = [await asked.get() for _ in range(3)]
    assert all({"stats", "reasons"} <= set(some) for some in parts)
    assert "stats:" not in caplog.text
    await supervisor.on_stop[0]()


async def test_a_failure_over_statistics_is_not_their_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, headquarters = make()
    headquarters.fleet.settings = headquarters.fleet.settings.model_copy(update={"stats_period": 0.05})
    monkeypatch.setattr(headquarters.fleet.gathering, "take", lambda parts: 1 // 0)
    await supervisor.on_start[0]()
    began = asyncio.get_running_loop().time()
    await eventually(lambda: caplog.text.count("cannot make the statistics") > 2)
    # Each failure waits for its own period.
    assert asyncio.get_running_loop().time() - began > 0.05
    await supervisor.on_stop[0]()


async def test_a_shutdown_of_the_console_is_that_of_the_supervisor() -> None:
    supervisor, headquarters = make()
    await supervisor.execute(Shutdown(ShutdownMode.IMMEDIATE))
    assert supervisor.mode is ShutdownMode.IMMEDIATE
    assert headquarters.fleet.is_shutting_down()


def test_a_log_that_cannot_be_opened_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(ConfigError, match="could not open the log"):
        Headquarters._check(Settings.model_validate({"logfile": "/nowhere/x", "unix_socket_dir": ""}))

"""What a worker does for the supervisor, question by question; more is in test_fleet and test_gathering."""

import asyncio

import pytest

from config.problems import Problem
from proxy.control import Disable, Pause, Resume, ShutdownMode
from proxy.halts import Halted
from proxy.inquiries import Agreed, Commit, Do, Join, Prepare, TakeSnapshot, Until
from proxy.link import CallFailed
from tests.proxy.test_observer import script
from tests.support import messages as m
from tests.support.fleet import Together
from tests.support.rig import eventually


async def test_orders_take_effect_in_the_order_in_which_they_come() -> None:
    async with Together(1, script) as together:
        ask = together.workers[1].calls.ask
        orders = [Pause("app"), Resume("app"), Pause(None), Resume(None), Pause("app")]
        await asyncio.gather(*(ask(Do(order)) for order in orders))
        assert together[1].worker.is_paused("app")
        assert not together[1].worker.is_paused(None)


async def test_a_database_that_is_not_known_here_is_no_failure() -> None:
    async with Together(1, script) as together:
        ask = together.workers[1].calls.ask
        assert await ask(Do(Disable("nix"))) == ()
        assert await ask(Until(Pause("nix"))) is None
        await ask(Join(Halted(False, ("nix",), ("nix",)), together.fleet.settings))


async def test_settings_are_tried_before_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Together(1, script) as together:
        worker, ask = together[1].worker, together.workers[1].calls.ask
        settings = worker.settings.with_value("query_timeout", "9")
        assert await ask(Prepare(settings)) == Agreed()
        assert worker.settings.query_timeout != 9
        await ask(Commit())
        assert worker.settings.query_timeout == 9
        with pytest.raises(CallFailed, match="not agreed"):
            await ask(Commit())
        problem = Problem("a.crt", 0, "client_tls_cert_file", "cannot be read")
        monkeypatch.setattr(worker, "problems_with", lambda settings: [problem])
        assert await ask(Prepare(settings)) == Agreed((problem,))
        with pytest.raises(CallFailed, match="not agreed"):
            await ask(Commit())


async def test_settings_that_cannot_be_tried_do_not_bring_back_those_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Together(1, script) as together:
        worker, ask = together[1].worker, together.workers[1].calls.ask
        assert await ask(Prepare(worker.settings.with_value("query_timeout", "9"))) == Agreed()
        monkeypatch.setattr(worker, "problems_with", lambda settings: 1 // 0)
        with pytest.raises(CallFailed, match="division"):
            await ask(Prepare(worker.settings.with_value("query_timeout", "8")))
        with pytest.raises(CallFailed, match="not agreed"):
            await ask(Commit())
        assert worker.settings.query_timeout not in (8, 9)


async def test_a_log_that_cannot_be_opened_is_a_problem() -> None:
    async with Together(1, script) as together:
        settings = together.fleet.settings.with_value("logfile", "/nowhere/howdah.log")
        (problem,) = (await together.workers[1].calls.ask(Prepare(settings))).problems
        assert problem.key == "logfile"


async def test_a_snapshot_is_made_in_parts_with_turns_between() -> None:
    async with Together(1, script) as together:
        pieces = await together.workers[1].calls.ask(TakeSnapshot(("pools", "clients", "crowd")))
        assert [name for name, _ in pieces] == ["pools", "crowd"]


async def test_a_change_of_the_schema_is_known_to_all_workers() -> None:
    async with Together(3, script) as together:
        databases = [rig.worker.manager.databases["app"] for rig in together.rigs.values()]
        databases[1].alter()
        databases[1].alter()
        assert databases[1].ddl == 2
        await eventually(lambda: [database.ddl for database in databases] == [1, 2, 1])
        together[3].worker.manager.databases["app"].alter()
        await eventually(lambda: [database.ddl for database in databases] == [2, 3, 2])


async def test_a_console_is_told_when_the_supervisor_has_gone() -> None:
    async with Together(1, script, admin_users="alice") as together:
        console = await together[1].client(database="pgbouncer")
        holder = await together[1].client()
        await holder.ask("begin")
        console.send(m.query("PAUSE"))
        await eventually(lambda: together[1].worker.is_paused(None))
        member = together[1].member
        together[1].worker.ending.mode = ShutdownMode.IMMEDIATE
        member.link.close()
        member.calls.lost()
        for answer in (await console.until(), await console.ask("SHOW POOLS"), await console.ask("RELOAD")):
            (error,) = m.errors(answer)
            assert (error["C"], error["M"]) == ("57P01", "pooler is shutting down")


async def test_a_failure_of_the_supervisor_is_an_error_at_the_console(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Together(1, script, admin_users="alice") as together:
        monkeypatch.setattr(together.fleet, "disable", lambda database: 1 // 0)
        console = await together[1].client(database="pgbouncer")
        (error,) = m.errors(await console.ask("DISABLE app"))
        assert (error["C"], error["M"]) == ("XX000", "internal error")
        assert "carrying out Disable(database='app') failed" in caplog.text
        together[1].errors.clear()

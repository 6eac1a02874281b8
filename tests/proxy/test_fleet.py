"""Orders, settings and cancel requests over several workers, in one event loop."""

import asyncio
from typing import Any

import pytest

from config.problems import Problem
from proxy import fleet as module
from proxy.control import (
    Disable,
    Enable,
    Kill,
    KillClient,
    Order,
    OrderRefused,
    Pause,
    Reconnect,
    Reload,
    Resume,
    Set,
    Shutdown,
    ShutdownMode,
    WaitClose,
)
from proxy.inquiries import Until
from proxy.pool.leasing import Arrival
from tests.proxy.test_observer import script
from tests.support import messages as m
from tests.support.fleet import Together
from tests.support.rig import PATIENCE, eventually


async def order(together: Together, given: Order) -> None:
    async with asyncio.timeout(PATIENCE):
        await together.fleet.control.execute(given)


async def refusal(together: Together, given: Order) -> OrderRefused:
    with pytest.raises(OrderRefused) as error:
        await order(together, given)
    return error.value


def paused(together: Together, database: str | None = None) -> list[bool]:
    return [rig.worker.is_paused(database) for rig in together.rigs.values()]


async def test_a_pause_waits_for_the_servers_of_all() -> None:
    async with Together(2, script) as together:
        peers = [await together[number].client() for number in (1, 2)]
        for peer in peers:
            await peer.ask("begin")
        waiting = asyncio.create_task(order(together, Pause()))
        await eventually(lambda: all(paused(together)))
        await peers[0].ask("commit")
        await eventually(lambda: not together[1].worker.manager.servers_left(None))
        assert not waiting.done()
        await peers[1].ask("commit")
        await waiting
        assert (await refusal(together, Pause())).message == "already suspended/paused"
        await order(together, Resume())
        assert not any(paused(together))
        for peer in peers:
            assert m.rows(await peer.ask("1")) == [["1"]]


async def test_a_pause_that_is_given_up_is_undone_everywhere() -> None:
    async with Together(2, script) as together:
        peer = await together[2].client()
        await peer.ask("begin")
        deputy = together[1].worker.orders
        waiting = asyncio.create_task(deputy.execute(Pause("app")))
        await eventually(lambda: all(paused(together, "app")))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await deputy.undo(Pause("app"))
        await eventually(lambda: not any(paused(together, "app")))
        await peer.ask("commit")


async def test_a_resume_ends_the_wait_of_a_pause_of_another_console() -> None:
    async with Together(2, script) as together:
        peer = await together[2].client()
        await peer.ask("begin")
        waiting = asyncio.create_task(together[1].worker.orders.execute(Pause()))
        await eventually(lambda: all(paused(together)))
        await together[2].worker.orders.execute(Resume())
        with pytest.raises(OrderRefused, match="PAUSE was undone by RESUME"):
            await waiting
        await peer.ask("commit")


@pytest.mark.parametrize("given", [Pause(), WaitClose()])
async def test_a_server_on_its_way_between_two_workers_is_waited_for(given: Order) -> None:
    async with Together(2, script, default_pool_size=1) as together:
        one, other = [await together[number].client() for number in (1, 2)]
        await one.ask("1")
        member = together[2].member
        arrive, until = member.handlers[Arrival], member.calls.answerers[Until]
        on_its_way: list[tuple[Any, tuple[int, ...]]] = []

        async def answer(question: Until) -> object:
            answer = await until(question)  # type: ignore[misc]
            while on_its_way:
                asyncio.get_running_loop().call_soon(arrive, *on_its_way.pop())
            return answer

        member.handlers[Arrival] = lambda *arrival: on_its_way.append(arrival)
        member.calls.answerers[Until] = answer
        other.send(m.query("1"))
        await eventually(lambda: on_its_way)
        if isinstance(given, WaitClose):
            await order(together, Reconnect())
        await order(together, given)
        assert not on_its_way
        for rig in together.rigs.values():
            assert not rig.worker.manager.closing(None)
        if isinstance(given, Pause):
            assert together.steward.shares.book.total == 0
            await order(together, Resume())
        assert m.rows(await other.until()) == [["1"]]


async def test_a_refusal_reaches_the_console_that_asked() -> None:
    async with Together(2, script) as together:
        with pytest.raises(OrderRefused) as error:
            await together[2].worker.orders.execute(Set("nix", "1"))
        assert error.value.message == "SET failed"
        assert "unknown setting" in str(error.value.detail)


async def test_a_disabled_database_lets_nobody_in_anywhere() -> None:
    async with Together(2, script) as together:
        await order(together, Disable("app"))
        for number in (1, 2):
            peer = await together[number].connect()
            peer.send(m.startup({"user": "alice", "database": "app"}))
            assert (await peer.error())["M"] == 'database "app" is disabled'
        await order(together, Enable("app"))
        for number in (1, 2):
            await together[number].client()


async def test_who_joins_later_is_in_the_state_of_all() -> None:
    async with Together(1, script, databases={"b": {"host": "127.0.0.1", "port": 1}}) as together:
        await order(together, Pause())
        await order(together, Resume("b"))
        await order(together, Disable("b"))
        await order(together, Set("query_timeout", "7"))
        late = (await together.add(2)).worker
        await eventually(lambda: late.is_paused("app"))
        await eventually(lambda: late.manager.databases["b"].disabled)
        assert (late.is_paused(None), late.is_paused("b")) == (True, False)
        assert late.settings.query_timeout == 7


async def test_who_dies_is_not_waited_for() -> None:
    async with Together(2, script) as together:
        peer = await together[2].client()
        await peer.ask("begin")
        waiting = asyncio.create_task(order(together, Pause()))
        await eventually(lambda: all(paused(together)))
        assert not waiting.done()
        together.lose(2)
        await waiting


async def test_who_stands_still_does_it_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ORDER_SECONDS", 0.05)
    async with Together(2, script) as together:
        await eventually(lambda: not together.fleet._asking)
        together.silence(2)
        await order(together, Disable("app"))
        disabled = [rig.worker.manager.databases["app"].disabled for rig in together.rigs.values()]
        assert disabled == [True, False]
        together.wake(2)
        await eventually(lambda: together[2].worker.manager.databases["app"].disabled)


async def test_a_client_is_killed_wherever_it_is() -> None:
    async with Together(2, script) as together:
        peers = [await together[number].client() for number in (1, 2)]
        ids = [next(iter(together[number].worker.lobby.clients)) for number in (1, 2)]
        assert ids[0] % 64 == 1
        assert ids[1] % 64 == 2
        await order(together, KillClient(ids[1]))
        assert (await peers[1].error())["M"] == "admin forced disconnect"
        assert m.rows(await peers[0].ask("1")) == [["1"]]
        assert (await refusal(together, KillClient(ids[1]))).message == "client not found"


async def test_a_kill_of_everything_pauses_what_was_made_from_the_fallback_everywhere() -> None:
    async with Together(2, script, databases={"*": {"host": "127.0.0.1", "port": 1}}) as together:
        peer = await together[1].client()
        assert together[2].worker.has_database("made")
        await order(together, Kill())
        assert (await peer.error())["M"] == "admin forced disconnect"
        for rig in together.rigs.values():
            assert rig.worker.paused_databases() == ["app", "made"]
        assert together.fleet.paused_databases() == ["app", "made"]
        await order(together, Resume())
        for rig in together.rigs.values():
            assert rig.worker.paused_databases() == []


async def test_reconnect_and_wait_close_are_for_all() -> None:
    async with Together(2, script) as together:
        peers = [await together[number].client() for number in (1, 2)]
        for peer in peers:
            await peer.ask("begin")
        await order(together, Reconnect())
        waiting = asyncio.create_task(order(together, WaitClose("app")))
        await peers[0].ask("commit")
        await eventually(lambda: not together[1].worker.manager.closing(None))
        assert not waiting.done()
        await peers[1].ask("commit")
        await waiting


async def test_settings_are_taken_by_all() -> None:
    async with Together(2, script) as together:
        await order(together, Set("query_timeout", "9"))
        assert [rig.worker.settings.query_timeout for rig in together.rigs.values()] == [9, 9]
        together.reloaded = together.fleet.settings.with_value("query_timeout", "4")
        await order(together, Reload())
        assert [rig.worker.settings.query_timeout for rig in together.rigs.values()] == [4, 4]
        assert together.fleet.settings.query_timeout == 4


async def test_settings_that_one_cannot_take_are_taken_by_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Together(3, script) as together:
        problem = Problem("server.crt", 0, "client_tls_cert_file", "cannot be read")
        monkeypatch.setattr(together[2].worker, "problems_with", lambda settings: [problem])
        before = together.fleet.settings
        error = await refusal(together, Set("query_timeout", "9"))
        assert (error.message, error.detail) == ("SET failed", str(problem))
        assert together.fleet.settings is before
        assert {rig.worker.settings.query_timeout for rig in together.rigs.values()} == {before.query_timeout}


async def test_settings_that_the_supervisor_cannot_take_reach_nobody() -> None:
    async with Together(2, script) as together:
        together.reloaded = together.fleet.settings.with_value("query_timeout", "4")
        together.refused = [Problem("log", 0, "logfile", "could not open the log")]
        assert (await refusal(together, Reload())).message.startswith("RELOAD failed")
        assert together[1].worker.settings.query_timeout != 4
        assert together.fleet.reloads == {"failed": 1}
        for rig in together.rigs.values():
            assert rig.errors == ["log: logfile: could not open the log None"]
            rig.errors.clear()


async def test_who_joins_in_the_middle_of_a_change_takes_part_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ORDER_SECONDS", 0.3)
    async with Together(1, script) as together:
        await eventually(lambda: not together.fleet._asking)
        together.silence(1)
        changing = asyncio.create_task(order(together, Set("query_timeout", "9")))
        await asyncio.sleep(0)
        late = (await together.add(2)).worker
        await changing
        assert late.settings.query_timeout == 9
        together.wake(1)
        await eventually(lambda: together[1].worker.settings.query_timeout == 9)


async def test_a_worker_that_cannot_take_what_was_agreed_to_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    together = Together(2, script)
    async with together:

        def fail(settings: object) -> None:
            raise RuntimeError("no")

        monkeypatch.setattr(together[2].worker, "apply", fail)
        await order(together, Set("query_timeout", "9"))
        assert together.discarded == [2]
        assert "worker 2 failed over Commit: no" in caplog.text
        together[2].errors.clear()
        together[1].errors.clear()


async def test_a_shutdown_is_begun_once_for_all() -> None:
    async with Together(2, script) as together:
        await together[2].worker.orders.execute(Shutdown(ShutdownMode.WAIT_FOR_CLIENTS))
        assert together.stopped == [ShutdownMode.WAIT_FOR_CLIENTS]
        assert (await refusal(together, Resume())).message == "pooler is shutting down"


async def test_a_cancel_request_reaches_its_client_from_any_worker() -> None:
    async with Together(3, script) as together:
        holder = await together[2].client()
        await holder.ask("begin")
        together[2].worker.manager.pause("app")
        waiter = await together[2].client()
        waiter.send(m.query("never sent"))
        pool = next(iter(together[2].worker.manager.pools.values()))
        await eventually(lambda: pool.waiting)
        assert waiter.key[0] & 0xFF == 2
        for number, secret in ((1, b"1234"), (3, waiter.key[1])):
            assert pool.waiting
            sender = await together[number].connect()
            sender.send(m.cancel_request(waiter.key[0], secret))
            assert await sender.rest() == b""
        (error,) = m.errors(await waiter.until())
        assert error["C"] == "57014"
        await holder.ask("commit")


async def test_a_cancel_request_is_passed_on_though_its_sender_hangs_up() -> None:
    async with Together(2, script) as together:
        holder = await together[2].client()
        await holder.ask("begin")
        together[2].worker.manager.pause("app")
        waiter = await together[2].client()
        waiter.send(m.query("never sent"))
        pool = next(iter(together[2].worker.manager.pools.values()))
        await eventually(lambda: pool.waiting)
        sender = await together[1].connect()
        sender.send(m.cancel_request(*waiter.key))
        sender.close()
        assert m.errors(await waiter.until())[0]["C"] == "57014"
        await holder.ask("commit")


async def test_a_key_of_nobody_is_refused_wherever_it_points_to() -> None:
    async with Together(2, script) as together:
        for number in (0, 1, 2, 7):
            sender = await together[1].connect()
            sender.send(m.cancel_request(5 << 8 | number, b"1234"))
            assert await sender.rest() == b""


async def test_an_order_is_carried_out_though_its_console_goes_away() -> None:
    async with Together(2, script) as together:
        await order(together, Pause())
        giving = asyncio.create_task(together[1].worker.orders.execute(Resume()))
        await asyncio.sleep(0)
        giving.cancel()
        await eventually(lambda: not any(paused(together)))
        assert not together.fleet.is_paused(None)

"""What is shown of several workers, also of those that died or stand still."""

import asyncio
import logging
import time

import pytest

from proxy import gathering as module
from proxy.metrics.prometheus import PARTS, registry_of
from proxy.snapshot import StatsSnapshot
from proxy.source import Snapshots
from tests.proxy.test_observer import script
from tests.support import messages as m
from tests.support.fleet import Together
from tests.support.rig import eventually


def total(snapshots: Snapshots, database: str = "app") -> StatsSnapshot:
    (row,) = [row for row in snapshots.stats() if row.database == database]
    return row


def sample(snapshots: Snapshots, name: str, **labels: str) -> float:
    value = registry_of(snapshots).get_sample_value(name, labels)
    assert value is not None
    return value


async def test_a_console_in_any_worker_shows_all() -> None:
    async with Together(3, script) as together:
        peers = [await together[number].client() for number in (1, 2, 2)]
        for peer in peers:
            await peer.ask("begin")
        for number in (1, 3):
            shown = await together[number].worker.source.take(("clients", "servers", "pools", "lists"))
            clients, servers = list(shown.clients()), list(shown.servers())
            assert len({client.id for client in clients}) == len({client.ptr for client in clients}) == 3
            assert {client.link for client in clients} == {server.ptr for server in servers}
            (pool, _) = shown.pools()
            assert (pool.cl_active, pool.sv_active) == (3, 3)
            lists = shown.lists()
            assert (lists.pools, lists.used_clients, lists.used_servers) == (2, 3, 3)
            assert not shown.silent()


async def test_show_of_a_console_is_that_of_the_pooler() -> None:
    async with Together(2, script, admin_users="alice") as together:
        await together[2].client()
        console = await together[1].client(database="pgbouncer")
        rows = m.rows(await console.ask("SHOW CLIENTS"))
        assert sorted(row[2] or "" for row in rows) == ["app", "pgbouncer"]
        workers = m.rows(await console.ask("SHOW WORKERS"))
        assert [(row[0], row[2], row[3]) for row in workers] == [("1", "running", "1"), ("2", "running", "1")]
        assert m.command_tags(await console.ask("PAUSE")) == ["PAUSE"]
        assert together[2].worker.is_paused(None)
        assert m.rows(await console.ask("SHOW STATE"))[1] == ["paused", "yes"]


async def test_who_does_not_answer_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_SECONDS", 0.05)
    async with Together(2, script, admin_users="alice") as together:
        peer = await together[2].client()
        await peer.ask("1")
        before = await together.fleet.gathering.take(PARTS)
        together.silence(2)
        console = await together[1].client(database="pgbouncer")
        got = await console.ask("SHOW CLIENTS")
        (notice,) = [m.fields_of(message.body) for message in got if message.tag == b"N"]
        assert notice["M"] == "worker 2 did not answer and is left out"
        assert len(m.rows(got)) == 1
        shown = await together.fleet.gathering.take(PARTS)
        assert [row.state for row in shown.workers()] == ["running", "silent"]
        assert total(shown).total.query_count == 1, "a counter does not go back"
        assert not total(shown).period
        name = "howdah_worker_cpu_seconds_total"
        assert sample(shown, name, worker="2") == sample(before, name, worker="2") > 0
        together.wake(2)
        assert not (await together.fleet.gathering.take(PARTS)).silent()


async def test_counters_do_not_go_back_when_a_worker_dies() -> None:
    async with Together(2, script) as together:
        gathering = together.fleet.gathering
        for number in (1, 2):
            peer = await together[number].client()
            await peer.ask("1")
            together[number].worker.lobby.tls.failures["client"] += 1
        before = await gathering.take(PARTS)
        together.lose(2)
        after = await gathering.take(PARTS)
        assert total(after).total == total(before).total
        assert after.reasons().logins == before.reasons().logins == {"trust": 2}
        assert after.tls().failures == {"client": 2, "server": 0}
        assert after.reasons().reloads == {"ok": 1}
        name = "howdah_worker_cpu_seconds_total"
        assert sample(after, name, worker="2") >= sample(before, name, worker="2") > 0
        await together.add(2)
        again = await gathering.take(PARTS)
        assert sample(again, name, worker="2") > sample(before, name, worker="2")
        assert total(again).total.query_count == 2


async def test_a_worker_that_dies_while_it_is_asked_is_counted_once() -> None:
    async with Together(2, script) as together:
        gathering = together.fleet.gathering
        for number in (1, 2):
            await (await together[number].client()).ask("1")
        together.silence(1)
        asking = asyncio.create_task(gathering.take(PARTS))
        await eventually(lambda: 2 in gathering._last)
        together.lose(2)
        together.wake(1)
        assert total(await asking).total.query_count == 2


async def test_names_of_databases_of_the_dead_are_not_kept_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETIRED_MOST", 2)
    fallback = {"*": {"host": "127.0.0.1", "port": 1}}
    async with Together(2, script, databases=fallback) as together:
        for name in "abcd":
            assert together[2].worker.has_database(name)
            manager = together[2].worker.manager
            pool = manager.pool(manager.databases[name], "alice")
            pool.stats.query_count = 1
        await together.fleet.gathering.take(PARTS)
        together.lose(2)
        rows = (await together.fleet.gathering.take(PARTS)).stats()
        assert len([row for row in rows if row.database in "abcd*"]) == 3
        assert sum(row.total.query_count for row in rows) == 4


async def test_a_failure_of_one_leaves_the_others_to_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Together(2, script) as together:
        monkeypatch.setattr(together[1].worker.observer, "pools", lambda: 1 // 0)
        shown = await together.fleet.gathering.take(("pools",))
        assert shown.silent() == (1,)
        assert len(shown.pools()) == 1
        assert "worker 1 cannot say how it is" in caplog.text
        for rig in together.rigs.values():
            rig.errors.clear()


async def test_what_the_supervisor_knows_needs_nobody() -> None:
    async with Together(1, script) as together:
        together.silence(1)
        shown = await together.fleet.gathering.take(("state", "config"))
        assert shown.state().listening
        assert not shown.silent()
        together.wake(1)


async def test_thousands_of_clients_stop_no_loop_for_long() -> None:
    """The longest stop is printed; that there are stops at all is what is checked here."""
    async with Together(1, script) as together:
        peer = await together[1].client()
        await peer.ask("1")
        worker = together[1].worker
        (client,) = worker.lobby.clients.values()
        worker.lobby.clients.update({number: client for number in range(10_001, 12_501)})
        longest, turns, over = 0.0, 0, asyncio.Event()

        async def watch() -> None:
            nonlocal longest, turns
            while not over.is_set():
                began = time.perf_counter()
                await asyncio.sleep(0)
                longest, turns = max(longest, time.perf_counter() - began), turns + 1

        watching = asyncio.create_task(watch())
        shown = await worker.source.take(("clients",))
        over.set()
        await watching
        logging.getLogger("howdah").info("longest stop %.1f ms in %d turns", longest * 1000, turns)
        for number in range(10_001, 12_501):
            del worker.lobby.clients[number]
        assert turns > 2500 / 200
        assert len(list(shown.clients())) > 1

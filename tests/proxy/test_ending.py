"""How a worker ends that has lost its supervisor; the other ways are in test_worker and test_member."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import ending
from proxy.announcements import Drained, Stop
from proxy.control import ShutdownMode
from tests.support import messages as m
from tests.support.one_of_many import OneOfMany
from tests.support.rig import eventually
from tests.support.running import process_as_before
from tests.support.script import Conversation


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with process_as_before():
        yield


def transactions(conversation: Conversation) -> None:
    """A PostgreSQL in which begin and commit mean something."""
    conversation.welcome()
    status = b"I"
    while (got := conversation.read()).tag != b"X":
        sql = got.body.rstrip(b"\0").decode()
        status = {"begin": b"T", "commit": b"I"}.get(sql, status)
        conversation.answer(sql, status=status)


async def test_an_orphan_without_work_ends_at_once(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        await one.client()
        one.boss.close()
        assert await one.code() == 0


async def test_an_orphan_finishes_its_transactions(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        one.fake.script = transactions
        peer = await one.client()
        await peer.ask("begin")
        one.boss.close()
        await eventually(lambda: one.worker.is_shutting_down())
        assert m.rows(await peer.ask("select 1")) == [["select 1"]]
        assert not one.task.done()
        await peer.ask("commit")
        assert await one.code() == 0


async def test_an_orphan_does_not_wait_for_ever_for_an_idle_client_to_end_its_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ending, "ORPHAN_SECONDS", 0.2)
    async with OneOfMany(tmp_path) as one:
        one.fake.script = transactions
        peer = await one.client()
        await peer.ask("begin")
        one.boss.close()
        assert (await peer.error())["M"] == "pooler is shutting down"
        assert await one.code() == 0
    assert "servers still in use 0.2 s later: 1, exiting" in caplog.text


async def test_an_orphan_does_not_wait_for_sessions_between_transactions(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path, pool_mode="session") as one:
        one.fake.script = transactions
        idle, busy = await one.client(), await one.client()
        await idle.ask("select 1")
        await busy.ask("begin")
        one.boss.close()
        assert (await idle.error())["M"] == "server shutting down"
        assert m.rows(await busy.ask("select 2")) == [["select 2"]]
        await busy.ask("commit")
        assert await one.code() == 0


async def test_a_shutdown_with_a_supervisor_waits_for_sessions(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path, pool_mode="session") as one:
        peer = await one.client()
        await peer.ask("select 1")
        one.boss.send(Stop(ShutdownMode.WAIT_FOR_SERVERS))
        await eventually(lambda: one.worker.is_shutting_down())
        assert m.rows(await peer.ask("select 2")) == [["select 2"]]
        assert not one.said(Drained)
        peer.send(m.terminate())
        await eventually(lambda: one.said(Drained) == [Drained(ShutdownMode.WAIT_FOR_SERVERS)])


async def test_an_orphan_in_the_middle_of_a_shutdown_ends_by_itself(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        peer = await one.client()
        one.boss.send(Stop(ShutdownMode.WAIT_FOR_CLIENTS))
        await eventually(lambda: one.worker.is_shutting_down())
        assert m.rows(await peer.ask("select 1")) == [["select 1"]]
        one.boss.close()
        assert await one.code() == 0


async def test_a_drained_worker_that_is_orphaned_ends(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        one.boss.send(Stop(ShutdownMode.WAIT_FOR_CLIENTS))
        await eventually(lambda: one.said(Drained))
        one.boss.close()
        assert await one.code() == 0

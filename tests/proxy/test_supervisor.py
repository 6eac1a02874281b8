"""The supervisor over workers that the test plays: whom it makes, gives up, replaces; the end of all."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from config.settings import Settings
from proxy import supervisor
from proxy.announcements import Begin, Count, Drained, End, Heartbeat, Serving, Stop
from proxy.control import Shutdown, ShutdownMode
from proxy.link import Link
from proxy.nursery import Nursery
from proxy.supervisor import Supervisor
from tests.support.ports import free_port
from tests.support.rig import PATIENCE, eventually


class Actor:
    """A worker: a process that sleeps, and the other end of the link."""

    def __init__(self, sock: socket.socket) -> None:
        self.heard: list[object] = []
        self.lost = False
        self.link = Link(sock, lambda message, _: self.heard.append(message), self._lose)
        self.link.start()
        self.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    def _lose(self) -> None:
        self.lost = True

    def said(self, kind: type) -> list[object]:
        return [message for message in self.heard if isinstance(message, kind)]

    def serve(self) -> None:
        self.link.send(Serving(self.process.pid))

    def die(self) -> None:
        """As by kill -9: the process goes, and with it its end of the link."""
        self.process.kill()
        self.process.wait()
        self.link.close()


class FakeNursery:
    """Makes actors."""

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.ready = True
        self.restarts = 0
        self.stopped = False
        self.tells = True
        self.forked: Callable[[int, int], None] = lambda number, pid: None
        self.refilled: Callable[[], None] = lambda: None

    def start(self, forked: Callable[[int, int], None], refilled: Callable[[], None]) -> None:
        self.forked, self.refilled = forked, refilled

    def fork(self, number: int, sock: socket.socket) -> None:
        if self.tells:
            self.actors.append(Actor(sock.dup()))
            self.forked(number, self.actors[-1].process.pid)

    def restart(self) -> None:
        self.restarts += 1

    def stop(self) -> None:
        self.stopped = True


class Stage:
    """A running supervisor and its actors."""

    def __init__(self, **more: object) -> None:
        values = {"listen_addr": "127.0.0.1", "listen_port": free_port(), "unix_socket_dir": "", "workers": 2}
        self.nursery = FakeNursery()
        self.settings = Settings.model_validate({**values, **more})
        self.supervisor = Supervisor(self.settings, "howdah.ini", cast(Nursery, self.nursery))
        self.told: list[tuple[str, int]] = []
        for name in ("joined", "serving", "left", "ended"):
            getattr(self.supervisor, f"on_{name}").append(self._note(name))
        self.task: asyncio.Task[int]

    def _note(self, name: str) -> Callable[[object], None]:
        return lambda handle: self.told.append((name, handle.number))  # type: ignore[attr-defined]

    @property
    def actors(self) -> list[Actor]:
        return self.nursery.actors

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler = lambda *_: None  # type: ignore[method-assign]
        self.task = loop.create_task(self.supervisor.main())
        await eventually(lambda: self.supervisor.signals.started.is_set() or self.task.done())

    async def serve(self) -> None:
        await self.start()
        for actor in self.actors:
            actor.serve()
        await eventually(lambda: self.supervisor.is_up)

    async def code(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.task

    async def close(self) -> None:
        for actor in self.actors:
            actor.die()
        if not self.task.done():
            self.supervisor.shutdown(ShutdownMode.IMMEDIATE)
        await self.code()
        for actor in self.actors:
            actor.die()


@pytest.fixture(autouse=True)
def nobody_else_buries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of these tests are children of the test."""
    monkeypatch.setattr(supervisor, "reap", lambda: None)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    await stage.serve()
    yield stage
    await stage.close()


async def test_workers_are_told_what_to_be_and_the_pooler_is_up_when_all_serve(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    stage = Stage()
    await stage.start()
    one, two = stage.actors
    await eventually(lambda: one.said(Begin) and two.said(Begin))
    assert one.said(Begin) == [Begin(1, stage.settings, "howdah.ini", False, 0)]
    assert two.said(Begin) == [Begin(2, stage.settings, "howdah.ini", False, 0)]
    one.serve()
    await eventually(lambda: ("serving", 1) in stage.told)
    assert "process up" not in caplog.text
    two.serve()
    await eventually(lambda: "process up" in caplog.text)
    assert "2 workers" in caplog.text
    assert stage.told == [("joined", 1), ("joined", 2), ("serving", 1), ("serving", 2)]
    await stage.close()


async def test_a_worker_that_dies_is_lost_then_ended_then_replaced(stage: Stage) -> None:
    stage.told.clear()
    stage.supervisor.roster.places[1].started_at -= 60
    stage.actors[0].die()
    await eventually(lambda: len(stage.actors) == 3)
    assert stage.told == [("left", 1), ("ended", 1), ("joined", 1)]
    assert stage.supervisor.workers[1].restarts == 1
    assert stage.supervisor.workers[1].pid == stage.actors[2].process.pid


async def test_the_last_words_of_a_dead_worker_count(stage: Stage) -> None:
    """The end of its process may be heard of before what it has said."""
    handle = stage.supervisor.workers[1]
    stage.actors[0].link.send(Count(0, 5, 0))
    seen: list[int] = []
    stage.supervisor.on_left.append(lambda _: seen.append(handle.servers))
    stage.actors[0].link.send(Heartbeat(9, 0.0))
    assert handle.child is not None
    stage.actors[0].process.kill()
    stage.actors[0].process.wait()
    stage.actors[0].link.close()
    handle.child._end()
    assert seen == [9]


async def test_a_worker_whose_link_is_broken_is_killed(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.actors[0].link.close()
    await eventually(lambda: stage.actors[0].process.poll() is not None)
    assert "is lost" in caplog.text
    await eventually(lambda: ("ended", 1) in stage.told)


async def test_a_worker_that_is_silent_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PERIOD", 0.02)
    stage = Stage(worker_timeout="0.1")
    await stage.serve()
    silent, talking = stage.actors

    async def talk() -> None:
        while silent.process.poll() is None:
            talking.link.send(Heartbeat(0, 0.0))
            await asyncio.sleep(0.01)

    async with asyncio.timeout(PATIENCE):
        await talk()
    assert silent.process.returncode == -signal.SIGKILL
    assert talking.process.poll() is None
    await stage.close()


async def test_a_worker_that_is_never_made_means_another_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "PERIOD", 0.02)
    stage = Stage(worker_timeout="0.1", workers=1)
    stage.nursery.tells = False
    # Somebody has the other end, and does nothing.
    kept: list[socket.socket] = []
    monkeypatch.setattr(stage.nursery, "fork", lambda _, sock: kept.append(sock.dup()))
    await stage.start()
    await eventually(lambda: stage.nursery.restarts)
    assert stage.told == [("joined", 1), ("left", 1), ("ended", 1)]
    for sock in kept:
        sock.close()
    await stage.close()


async def test_without_a_template_nobody_is_made_until_there_is_one() -> None:
    stage = Stage()
    stage.nursery.ready = False
    await stage.start()
    assert stage.actors == []
    stage.nursery.ready = True
    stage.nursery.refilled()
    assert len(stage.actors) == 2
    await stage.close()


async def test_descriptors_that_run_out_delay_a_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(workers=1)

    def fail() -> tuple[socket.socket, socket.socket]:
        monkeypatch.undo()
        raise OSError("Too many open files")

    monkeypatch.setattr(socket, "socketpair", fail)
    await stage.start()
    assert "cannot make worker 1: Too many open files" in caplog.text
    await eventually(lambda: len(stage.actors) == 1)
    await stage.close()


async def test_a_message_that_nobody_knows_harms_nobody(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    reading, writing = os.pipe()
    stage.actors[0].link.send("what?", [reading])
    os.close(reading)
    await eventually(lambda: "nobody knows what to do with str" in caplog.text)
    assert len(stage.supervisor.workers) == 2
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"who reads?")
    os.close(writing)
    caplog.clear()


# --- the end of all ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [ShutdownMode.WAIT_FOR_CLIENTS, ShutdownMode.WAIT_FOR_SERVERS])
async def test_workers_end_when_all_are_drained(stage: Stage, mode: ShutdownMode) -> None:
    one, two = stage.actors
    await stage.supervisor.execute(Shutdown(mode))
    await eventually(lambda: one.said(Stop) == two.said(Stop) == [Stop(mode)])
    one.link.send(Drained(mode))
    await asyncio.sleep(0.02)
    assert one.said(End) == []
    two.link.send(Drained(mode))
    await eventually(lambda: one.said(End) and two.said(End))
    assert not stage.task.done()
    one.die()
    await eventually(lambda: len(stage.supervisor.workers) == 1)
    two.link.send(Drained(mode))
    await asyncio.sleep(0.02)
    assert two.said(End) == [End()]
    two.die()
    assert await stage.code() == 0
    assert stage.nursery.stopped
    assert len(stage.actors) == 2


async def test_what_was_drained_for_another_shutdown_does_not_count(stage: Stage) -> None:
    one, two = stage.actors
    stage.supervisor.shutdown(ShutdownMode.WAIT_FOR_CLIENTS)
    one.link.send(Drained(ShutdownMode.WAIT_FOR_CLIENTS))
    await eventually(lambda: stage.supervisor.workers[1].drained)
    stage.supervisor.shutdown(ShutdownMode.WAIT_FOR_SERVERS)
    two.link.send(Drained(ShutdownMode.WAIT_FOR_SERVERS))
    await eventually(lambda: stage.supervisor.workers[2].drained)
    assert one.said(End) == two.said(End) == []
    one.link.send(Drained(ShutdownMode.WAIT_FOR_SERVERS))
    await eventually(lambda: one.said(End) and two.said(End))


async def test_a_worker_that_dies_meanwhile_is_not_waited_for(stage: Stage) -> None:
    one, two = stage.actors
    stage.supervisor.shutdown(ShutdownMode.WAIT_FOR_CLIENTS)
    two.link.send(Drained(ShutdownMode.WAIT_FOR_CLIENTS))
    one.die()
    await eventually(lambda: two.said(End))
    two.die()
    assert await stage.code() == 0


async def test_who_does_not_take_leave_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FAREWELL", 0.05)
    stage.supervisor.shutdown(ShutdownMode.IMMEDIATE)
    assert await stage.code() == 0
    await eventually(lambda: {actor.process.poll() for actor in stage.actors} == {-signal.SIGKILL})


async def test_who_breaks_its_link_and_does_not_end_is_killed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_FAREWELL", 0.05)
    one, two = stage.actors
    stage.supervisor.shutdown(ShutdownMode.WAIT_FOR_CLIENTS)
    two.die()
    one.link.close()
    assert await stage.code() == 0
    await eventually(lambda: one.process.poll() == -signal.SIGKILL)


async def test_a_pooler_without_workers_ends_at_once() -> None:
    stage = Stage()
    stage.nursery.ready = False
    await stage.start()
    stage.supervisor.shutdown(ShutdownMode.WAIT_FOR_CLIENTS)
    assert await stage.code() == 0


async def test_a_port_in_use_ends_the_start_with_code_1(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    with socket.create_server(("127.0.0.1", stage.settings.listen_port)):
        await stage.start()
        assert await stage.code() == 1
    assert stage.nursery.stopped
    assert stage.actors == []

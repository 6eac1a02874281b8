"""The supervisor's side of the template: workers are forked, their ends told, a dead template replaced."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.nursery import Nursery, describe
from tests.support.rig import eventually


def become(sock: socket.socket) -> int:
    """A worker that ends with its link, or as it is told."""
    with sock:
        word = sock.recv(16)
        return int(word) if word else 0


class Rearing:
    """A nursery and what it has told."""

    def __init__(self) -> None:
        self.nursery = Nursery(become)
        self.forked: dict[int, int] = {}
        self.refills = 0

    def start(self) -> None:
        self.nursery.start(self.forked.__setitem__, self._refilled)

    def _refilled(self) -> None:
        self.refills += 1

    def fork(self, number: int) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self.nursery.fork(number, theirs)
        return ours


@pytest.fixture
async def rearing() -> AsyncIterator[Rearing]:
    rearing = Rearing()
    rearing.start()
    yield rearing
    rearing.nursery.stop()


@pytest.mark.both_loops
async def test_workers_are_forked_and_their_ends_logged(
    rearing: Rearing, caplog: pytest.LogCaptureFixture
) -> None:
    with rearing.fork(1) as first, rearing.fork(2) as second:
        await eventually(lambda: len(rearing.forked) == 2)
        first.sendall(b"3")
        await eventually(lambda: f"process {rearing.forked[1]} has ended with code 3" in caplog.text)
        os.kill(rearing.forked[2], signal.SIGKILL)
        await eventually(lambda: f"process {rearing.forked[2]} was killed by SIGKILL" in caplog.text)
        assert second.recv(1) == b""


def is_buried(pid: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


@pytest.mark.both_loops
async def test_a_dead_template_is_replaced_and_buried(
    rearing: Rearing, caplog: pytest.LogCaptureFixture
) -> None:
    dead = rearing.nursery.pid
    os.kill(dead, signal.SIGKILL)
    await eventually(lambda: rearing.refills == 1)
    assert rearing.nursery.ready
    assert rearing.nursery.pid != dead
    assert f"the template of the workers (process {dead}) has ended" in caplog.text
    assert is_buried(dead)
    with rearing.fork(7):
        await eventually(lambda: rearing.forked)


async def test_a_template_that_stands_still_is_ended_and_replaced(rearing: Rearing) -> None:
    dead = rearing.nursery.pid
    os.kill(dead, signal.SIGSTOP)
    ours = rearing.fork(1)
    rearing.nursery.restart()
    await eventually(lambda: rearing.refills == 1)
    # The worker that was never made has no other end.
    assert ours.recv(1) == b""
    ours.close()


async def test_without_a_template_nothing_is_forked_and_nobody_is_told(rearing: Rearing) -> None:
    os.kill(rearing.nursery.pid, signal.SIGKILL)
    await eventually(lambda: not rearing.nursery.ready)
    with rearing.fork(1) as ours:
        assert ours.recv(1) == b""
    await eventually(lambda: rearing.refills == 1)


async def test_a_template_that_cannot_be_made_is_tried_again(
    rearing: Rearing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("proxy.nursery._DELAY", 0.01)

    def fail(_: object) -> tuple[int, socket.socket]:
        monkeypatch.undo()
        raise OSError("no more processes")

    monkeypatch.setattr("proxy.template.start", fail)
    os.kill(rearing.nursery.pid, signal.SIGKILL)
    await eventually(lambda: rearing.refills == 1)
    assert "cannot make a template of the workers: no more processes" in caplog.text


async def test_the_end_of_the_nursery_ends_the_template_and_is_no_reason_for_another() -> None:
    rearing = Rearing()
    rearing.start()
    pid = rearing.nursery.pid
    rearing.nursery.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await asyncio.sleep(0)
    assert not rearing.nursery.ready


async def test_a_template_that_stands_still_does_not_keep_the_nursery_from_ending() -> None:
    rearing = Rearing()
    rearing.start()
    os.kill(rearing.nursery.pid, signal.SIGSTOP)
    rearing.nursery.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(rearing.nursery.pid, 0)


async def test_a_nursery_that_never_began_leaves_nothing() -> None:
    rearing = Rearing()
    rearing.nursery.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(rearing.nursery.pid, 0)


def test_the_end_of_a_process_is_described() -> None:
    assert describe(9) == "was killed by SIGKILL"
    assert describe(0x300) == "has ended with code 3"

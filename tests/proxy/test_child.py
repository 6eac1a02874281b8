"""Processes are heard of and ended, children or not, with descriptors for processes and without."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from proxy.child import Child

DEADLINE = 5


@pytest.fixture(params=["with descriptors", "without"])
def sleeper(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that does nothing for long."""
    if request.param == "without":
        monkeypatch.delattr(os, "pidfd_open")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.both_loops
async def test_its_end_is_heard_of_once(sleeper: "subprocess.Popen[bytes]") -> None:
    ends = []
    over = asyncio.Event()

    def ended() -> None:
        ends.append(1)
        over.set()

    child = Child(sleeper.pid, ended)
    assert (child.pid, child.has_ended) == (sleeper.pid, False)
    child.kill()
    # Whoever looks for it by its number finds it until it is buried.
    await asyncio.to_thread(sleeper.wait)
    async with asyncio.timeout(DEADLINE):
        await over.wait()
    assert (child.has_ended, ends) == (True, [1])
    child.kill()


async def test_one_that_has_gone_already_is_heard_of_too(sleeper: "subprocess.Popen[bytes]") -> None:
    sleeper.kill()
    await asyncio.to_thread(sleeper.wait)
    over = asyncio.Event()
    Child(sleeper.pid, over.set)
    async with asyncio.timeout(DEADLINE):
        await over.wait()


async def test_one_that_is_forgotten_is_heard_of_no_more(sleeper: "subprocess.Popen[bytes]") -> None:
    before = len(os.listdir("/proc/self/fd"))
    over = asyncio.Event()
    child = Child(sleeper.pid, over.set)
    child.forget()
    assert len(os.listdir("/proc/self/fd")) == before
    sleeper.kill()
    await asyncio.to_thread(sleeper.wait)
    await asyncio.sleep(0.1)
    assert not over.is_set()


async def test_a_child_of_ours_need_not_be_buried_to_be_heard_of(sleeper: "subprocess.Popen[bytes]") -> None:
    over = asyncio.Event()
    Child(sleeper.pid, over.set)
    sleeper.kill()
    async with asyncio.timeout(DEADLINE):
        await over.wait()

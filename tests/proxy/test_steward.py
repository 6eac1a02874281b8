"""The supervisor's ledger on the event loop; what it decides is in the tests of shares."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from proxy import steward as module
from proxy.pool.interfaces import PoolKey
from proxy.pool.leasing import Arrival, Claim, Connected, Grant, How, Report, Returned, Take, Yielded
from proxy.seats import Left, Seat, Seated
from proxy.steward import Steward
from tests.support.doubles import make_settings
from tests.support.rig import eventually

KEY = PoolKey("app", "alice")


class FakeHandle:
    """A worker as the supervisor knows it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.link = self
        self.calls = self
        self.answerers: dict[type, Any] = {}
        self.is_full = False
        self.sent: list[Any] = []
        self.descriptors: list[int] = []

    def send(self, message: object, descriptors: tuple[int, ...] = ()) -> None:
        if descriptors and self.is_full:
            raise OSError("too many open files")
        self.sent.append(message)
        self.descriptors.extend(os.dup(descriptor) for descriptor in descriptors)

    def said(self) -> list[Any]:
        said, self.sent = self.sent, []
        return [message for message in said if not isinstance(message, Claim)]


class FakeOverseer:
    """A supervisor of two workers."""

    def __init__(self, pool_size: int = 1, **settings: object) -> None:
        self.settings = make_settings(default_pool_size=pool_size, **settings)
        self.workers: dict[int, Any] = {number: FakeHandle(number) for number in (1, 2)}
        self.on_joined: list[Callable[[Any], None]] = []
        self.on_left: list[Callable[[Any], None]] = []
        self.on_ended: list[Callable[[Any], None]] = []
        self.steward = Steward(self)
        self.handlers: dict[type, Any] = dict(self.steward.handlers())
        for handle in self.workers.values():
            self.on_joined[0](handle)

    def hears(self, worker: int, message: Any, *descriptors: int) -> None:
        self.handlers[type(message)](self.workers[worker], message, descriptors)

    def loses(self, worker: int) -> None:
        handle = self.workers.pop(worker)
        self.on_left[0](handle)
        self.on_ended[0](handle)


async def test_what_the_ledger_says_goes_out_at_once() -> None:
    overseer = FakeOverseer()
    overseer.hears(1, Report(KEY, 1, since=5))
    assert overseer.workers[1].said() == [Grant(KEY)]
    overseer.hears(2, Report(KEY, 1, since=6))
    overseer.hears(1, Returned(KEY))
    assert overseer.workers[2].said() == [Grant(KEY)]


async def test_a_server_goes_through_with_its_socket_and_nothing_stays_open() -> None:
    overseer = FakeOverseer()
    overseer.hears(1, Report(KEY, 1, since=5))
    overseer.hears(1, Report(KEY, 0, spare=1))
    overseer.hears(2, Report(KEY, 1, since=6))
    (*_, take) = overseer.workers[1].said()
    assert isinstance(take, Take)
    read, write = os.pipe()
    overseer.hears(1, Yielded(take.number, KEY, How.MOVED, b"it"), write)
    assert overseer.workers[2].said() == [Arrival(KEY, b"it")]
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(write)
    (copy,) = overseer.workers[2].descriptors
    os.close(copy)
    assert os.read(read, 1) == b""
    os.close(read)


async def test_the_ledger_is_reminded_while_it_waits() -> None:
    overseer = FakeOverseer()
    overseer.hears(1, Report(KEY, 1, since=5, load=5))
    overseer.hears(1, Report(KEY, 1, since=5, load=5))
    overseer.hears(2, Report(KEY, 1, since=6, load=5))
    overseer.hears(2, Report(KEY, 0))
    assert any(isinstance(message, Claim) for message in overseer.workers[1].sent)
    overseer.hears(1, Report(KEY, 0))
    await eventually(lambda: overseer.workers[1].sent[-1] == Claim(KEY, made=False))


async def test_new_limits_hold_at_once() -> None:
    overseer = FakeOverseer(pool_size=1)
    overseer.hears(1, Report(KEY, 1, since=5))
    overseer.hears(2, Report(KEY, 1, since=6))
    assert overseer.workers[2].said() == []
    overseer.settings = make_settings(default_pool_size=2)
    overseer.steward.changed()
    assert overseer.workers[2].said() == [Grant(KEY)]


async def test_of_limits_no_more_are_remembered_than_clients_may_think_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    overseer = FakeOverseer()
    for number in range(8):
        key = PoolKey("app", f"user{number}")
        overseer.hears(1, Report(key, 2, since=5))
        assert overseer.workers[1].said() == [Grant(key)]
    assert len(overseer.steward._limits) <= 3


async def test_a_lease_without_a_connection_comes_back_a_moment_after_its_worker_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.02)
    overseer = FakeOverseer()
    overseer.hears(1, Report(KEY, 1, since=5))
    overseer.hears(2, Report(KEY, 1, since=6))
    overseer.loses(1)
    assert overseer.workers[2].said() == []
    assert overseer.steward.shares.book.of_pool(KEY) == 1
    await eventually(lambda: overseer.workers[2].said() == [Grant(KEY)])


def server_of(overseer: FakeOverseer, worker: int) -> tuple[socket.socket, int]:
    """A worker opens a server under a lease it has; returns PostgreSQL's end, and the inode of the other."""
    theirs, postgres = socket.socketpair()
    with theirs:
        overseer.hears(worker, Connected(KEY), os.dup(theirs.fileno()))
        return postgres, os.fstat(theirs.fileno()).st_ino


async def test_a_lease_comes_back_when_postgresql_has_closed_the_server_of_a_worker_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.02)
    overseer = FakeOverseer()
    overseer.hears(1, Report(KEY, 1, since=5))
    postgres, _ = server_of(overseer, 1)
    overseer.hears(2, Report(KEY, 1, since=6))
    overseer.loses(1)
    await eventually(lambda: "PostgreSQL is busy with 1 servers of lost workers" in caplog.text)
    assert overseer.workers[2].said() == []
    all_closed = asyncio.create_task(overseer.steward.until_none("app"))
    await overseer.steward.until_none("another")
    assert not all_closed.done()
    postgres.close()
    await eventually(lambda: overseer.workers[2].said() == [Grant(KEY)])
    assert not all_closed.done()
    overseer.hears(2, Returned(KEY))
    await all_closed
    await overseer.steward.until_none(None)


async def test_a_server_counts_for_the_worker_that_has_it_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.02)
    overseer = FakeOverseer()
    overseer.hears(1, Report(KEY, 1, since=5))
    postgres, inode = server_of(overseer, 1)
    overseer.hears(1, Report(KEY, 0, spare=1))
    overseer.hears(2, Report(KEY, 1, since=6))
    (*_, take) = overseer.workers[1].said()
    overseer.hears(1, Yielded(take.number, KEY, How.MOVED, b"it", inode))
    assert overseer.workers[2].said() == [Arrival(KEY, b"it", inode)]
    overseer.loses(2)
    overseer.hears(1, Report(KEY, 1, since=7))
    assert postgres.recv(1) == b"", "PostgreSQL hears that there is nobody any more"
    postgres.close()
    await eventually(lambda: overseer.workers[1].said() == [Grant(KEY)])


async def test_no_copy_outlives_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    overseer = FakeOverseer(pool_size=2)
    overseer.hears(1, Report(KEY, 1, since=5))
    first, inode = server_of(overseer, 1)
    # Its login is tried again, encrypted.
    overseer.hears(1, Connected(KEY, instead=inode))
    assert first.recv(1) == b""
    second, inode = server_of(overseer, 1)
    overseer.hears(1, Returned(KEY, inode))
    assert second.recv(1) == b""
    first.close()
    second.close()


async def test_a_worker_that_held_nothing_leaves_nothing() -> None:
    overseer = FakeOverseer()
    overseer.loses(1)
    overseer.hears(2, Report(KEY, 1, since=6))
    overseer.steward.shares.lost(2, 0)
    await asyncio.sleep(0)
    assert overseer.steward.shares.book.of_pool(KEY) == 1


async def test_clients_are_counted_over_all_workers() -> None:
    overseer = FakeOverseer(max_db_client_connections=2)
    overseer.hears(1, Seated("app", "alice"))
    ask = overseer.workers[2].answerers[Seat]
    assert ask(Seat("app", "bob")) == ""
    assert ask(Seat("app", "bob")) == "max_db_client_connections"
    overseer.hears(1, Left("app", "alice"))
    assert ask(Seat("app", "bob")) == ""
    overseer.loses(2)
    assert overseer.steward.seating.of_database("app") == 0


async def test_a_server_for_which_there_is_no_room_on_its_way_gives_its_lease_back() -> None:
    overseer = FakeOverseer()
    overseer.hears(1, Report(KEY, 1, since=5))
    overseer.hears(1, Report(KEY, 0, spare=1))
    overseer.hears(2, Report(KEY, 1, since=6))
    (*_, take) = overseer.workers[1].said()
    read, write = os.pipe()
    overseer.workers[2].is_full = True
    overseer.hears(1, Yielded(take.number, KEY, How.MOVED, b"it"), write)
    os.close(read)
    assert overseer.workers[2].said() == [Arrival(KEY, b"it")]
    assert overseer.workers[2].descriptors == []
    overseer.hears(2, Returned(KEY))
    assert overseer.steward.shares.book.of_pool(KEY) == 0


async def test_a_reminder_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    overseer = FakeOverseer()
    overseer.hears(1, Report(KEY, 1, since=5))
    calls = []

    def sweep(now: int) -> bool:
        calls.append(now)
        if len(calls) == 1:
            raise ValueError
        return False

    monkeypatch.setattr(overseer.steward.shares, "sweep", sweep)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await eventually(lambda: len(calls) == 2)


async def test_at_the_end_no_copy_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    overseer = FakeOverseer(pool_size=2)
    overseer.hears(1, Report(KEY, 2, since=5))
    busy, _ = server_of(overseer, 1)
    overseer.hears(2, Report(KEY, 1, since=6))
    idle, _ = server_of(overseer, 2)
    overseer.loses(1)
    overseer.steward.close()
    for postgres in (busy, idle):
        assert postgres.recv(1) == b""
        postgres.close()

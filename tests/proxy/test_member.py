"""A worker that is one of many: whom it takes over, what it reports, what it is told."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings
from proxy.announcements import Adopt, Begin, Count, Drained, End, Heartbeat, Serving, Stop
from proxy.control import ShutdownMode
from proxy.frames import encode
from proxy.member import Member
from tests.support import messages as m
from tests.support.one_of_many import OneOfMany
from tests.support.rig import eventually
from tests.support.running import process_as_before


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with process_as_before():
        yield


@pytest.mark.both_loops
async def test_a_client_handed_over_is_served(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        await eventually(lambda: one.said(Serving) == [Serving(os.getpid())])
        peer = await one.client()
        assert m.rows(await peer.ask("select 1")) == [["select 1"]]
        # Its ids, and the key to cancel with, name the worker.
        assert {client % 64 for client in one.worker.lobby.clients} == {3}
        assert peer.key[0] & 0xFF == 3


async def test_a_client_is_reported_before_anything_is_read_from_it(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        theirs, ours = socket.socketpair()
        with ours, theirs:
            ours.send(m.startup({"user": "alice", "database": "app"}))
            one.boss.send(Adopt(0), [theirs.fileno()])
            while not one.said(Count):
                waiting = theirs.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
                assert waiting == b"\0"
                await asyncio.sleep(0)
            assert one.said(Count)[0].adopted == 1


async def test_while_the_report_of_a_client_is_queued_nothing_is_read_from_it(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        loop, boss = asyncio.get_running_loop(), one.boss_socket
        loop.remove_reader(boss.fileno())
        one.member.link.send(bytes(1_000_000))
        theirs, ours = socket.socketpair()
        with ours, theirs:
            ours.send(m.startup({"user": "alice", "database": "app"}))
            one.boss.send(Adopt(0), [theirs.fileno()])
            before = one.member.link.unsent
            await eventually(lambda: one.member.link.unsent > before)
            for _ in range(10):
                await asyncio.sleep(0.001)
            assert theirs.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"\0"
            assert not one.said(Count)
            # The supervisor reads again: now it is told, and then the client is served.
            one.boss.start()
            await eventually(lambda: one.said(Count))
            assert one.said(Count)[0] == Count(1, 1, 0)
            await eventually(lambda: one.worker.lobby.clients)


async def test_clients_of_whom_the_supervisor_never_heard_are_closed_at_the_end(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        asyncio.get_running_loop().remove_reader(one.boss_socket.fileno())
        one.member.link.send(bytes(1_000_000))
        before = one.member.link.unsent
        peer = await one.adopt()
        await eventually(lambda: one.member.link.unsent > before)
        one.boss.close()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await peer.read()
        assert await one.code() == 0


async def test_clients_are_counted_as_they_come_and_go(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        first, second = await one.client(), await one.client()
        await one.client("pgbouncer")
        await eventually(lambda: one.said(Count)[-1] == Count(3, 3, 1))
        first.close()
        await eventually(lambda: one.said(Count)[-1] == Count(3, 2, 1))
        second.reset()
        await eventually(lambda: one.said(Count)[-1] == Count(3, 1, 1))


async def test_a_crowd_is_reported_by_few_messages(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        for _ in range(50):
            await one.adopt()
        await eventually(lambda: one.said(Count)[-1] == Count(50, 50, 0))
        assert len(one.said(Count)) < 100


async def test_clients_of_other_workers_count_for_max_client_conn(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path, max_client_conn=5) as one:
        peer = await one.adopt(others=5)
        peer.send(m.startup({"user": "alice", "database": "app"}))
        assert (await peer.error())["M"] == "no more connections allowed (max_client_conn)"
        peer = await one.adopt(others=4)
        await peer.login()


async def test_a_client_that_has_gone_before_it_comes_is_none(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        theirs, ours = socket.socketpair()
        ours.close()
        with theirs:
            one.boss.send(Adopt(0), [theirs.fileno()])
        await eventually(lambda: one.said(Count) and one.said(Count)[-1] == Count(1, 0, 0))
        await one.client()


async def test_a_client_whose_descriptor_found_no_room_is_counted_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with OneOfMany(tmp_path) as one:
        one.boss.send(Adopt(0))
        await eventually(lambda: one.said(Count))
        assert one.said(Count)[-1] == Count(1, 0, 0)
        assert "out of file descriptors" in caplog.text


async def test_what_is_no_socket_is_closed(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        reading, writing = os.pipe()
        one.boss.send(Adopt(0), [reading])
        os.close(reading)
        await eventually(lambda: one.said(Count))
        with pytest.raises(BrokenPipeError):
            os.write(writing, b"x")
        os.close(writing)


async def test_heartbeats_come_five_times_in_worker_timeout(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path, worker_timeout=0.1) as one:
        await eventually(lambda: len(one.said(Heartbeat)) >= 5)
        assert one.said(Heartbeat)[-1].servers == 0
        settings = one.worker.manager.settings.with_value("worker_timeout", "1000")
        one.worker.apply(settings)
        await eventually(lambda: True)
        before = len(one.said(Heartbeat))
        await asyncio.sleep(0.1)
        assert len(one.said(Heartbeat)) <= before + 1


async def test_servers_are_reported_as_they_come_and_go(tmp_path: Path) -> None:
    """They need descriptors, and the supervisor shares out those that are left among newcomers."""
    async with OneOfMany(tmp_path, worker_timeout=1000) as one:
        await (await one.client()).ask("1")
        await eventually(lambda: [each.servers for each in one.said(Heartbeat)] == [0, 1])
        one.worker.manager.kill_servers(None)
        await eventually(lambda: [each.servers for each in one.said(Heartbeat)] == [0, 1, 0])


async def test_a_shutdown_ends_when_the_supervisor_says_that_all_are_drained(tmp_path: Path) -> None:
    async with OneOfMany(tmp_path) as one:
        peer = await one.client()
        one.boss.send(Stop(ShutdownMode.WAIT_FOR_CLIENTS))
        await eventually(lambda: one.worker.is_shutting_down())
        assert m.rows(await peer.ask("1")) == [["1"]]
        assert not one.said(Drained)
        peer.close()
        await eventually(lambda: one.said(Drained) == [Drained(ShutdownMode.WAIT_FOR_CLIENTS)])
        assert not one.task.done()
        one.boss.send(End())
        assert await one.code() == 0


async def test_other_messages_go_to_whoever_wants_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with OneOfMany(tmp_path) as one:
        got: list[object] = []
        reading, writing = os.pipe()
        one.member.handlers[str] = lambda message, descriptors: got.append((message, len(descriptors)))
        one.member.handlers[int] = lambda message, descriptors: message / 0
        one.boss.send("for you", [reading])
        one.boss.send(1)
        one.boss.send(1.5)
        await eventually(lambda: "float" in caplog.text)
        assert got == [("for you", 1)]
        assert "a message from the supervisor: int" in caplog.text
        assert not one.task.done()
        os.close(reading)
        os.close(writing)
    caplog.clear()


@pytest.mark.parametrize("said", [encode("no message for it"), b"\xff" * 9, b""])
def test_who_hears_no_first_message_is_nobody(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(said)
        ours.shutdown(socket.SHUT_WR)
        member = Member(theirs)
        assert member.begin() is None
        member.link.close()


def test_what_follows_the_first_message_is_not_lost() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        begin = Begin(2, Settings(), "howdah.ini", False, 0)
        ours.sendall(encode(begin) + encode(Stop(ShutdownMode.IMMEDIATE)))
        member = Member(theirs)
        assert member.begin() == begin
        told: list[object] = []
        member.handlers[Stop] = lambda stop, _: told.append(stop.mode)

        async def start() -> None:
            member.link.start()
            await eventually(lambda: told)

        asyncio.run(start())
        assert told == [ShutdownMode.IMMEDIATE]
        member.link.close()

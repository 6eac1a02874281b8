"""The pump in a loop: crowds that come and go, and peers and systems that have little to give."""

import asyncio
import errno
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from proxy import transports
from tests.support.pump import pump_module
from tests.support.rig import eventually
from tests.support.sockets import Noted, rest, tcp_pair


@pytest.fixture
async def pump(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[object]:
    """The pump of the running loop."""
    monkeypatch.setitem(sys.modules, "proxy.pump", pump_module())
    monkeypatch.setattr(transports, "is_pump_built", lambda: True)
    pump = transports.pump_of(asyncio.get_running_loop())
    assert pump is not None
    yield pump
    await eventually(lambda: not len(pump))


async def test_ten_thousand_connections_that_come_and_go_leave_nothing(pump: object) -> None:
    accepted: list[Noted] = []

    def accept() -> Noted:
        one = Noted()
        one.on_data = lambda data: one.transport.write(data)
        accepted.append(one)
        return one

    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    doors = await transports.serve(accept, listening, 32)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        accepted.clear()
        callers = [Noted() for _ in range(100)]
        for number, caller in enumerate(callers):
            await transports.connect(caller, *listening.getsockname())
            caller.transport.write(b"x" * 10)
            if number % 3 == 0:
                caller.transport.abort()
            else:
                caller.on_data = lambda data, caller=caller: caller.transport.close()  # type: ignore[misc]
        await eventually(lambda: len(accepted) == 100 and all(one.lost for one in accepted + callers))  # noqa: B023
    assert len(os.listdir("/proc/self/fd")) <= before
    doors.close()


async def test_what_was_said_before_it_was_accepted_is_heard_in_the_same_turn(pump: object) -> None:
    heard: list[bytes] = []

    def accept() -> Noted:
        one = Noted()
        asyncio.get_running_loop().call_soon(lambda: heard.append(bytes(one.got)))
        return one

    listening = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(listening.getsockname()) as caller, listening:
        caller.send(b"hello")
        doors = await transports.serve(accept, listening, 32)
        await eventually(lambda: heard)
        doors.close()
    assert heard == [b"hello"]


async def test_where_descriptors_run_out_newcomers_wait_and_nothing_spins(
    pump: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(transports, "PAUSE", 0.05)
    accepted: list[Noted] = []

    def accept() -> Noted:
        accepted.append(Noted())
        return accepted[-1]

    listening = socket.create_server(("127.0.0.1", 0))
    doors = await transports.serve(accept, listening, 32)
    caller = socket.create_connection(listening.getsockname())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        await eventually(lambda: caplog.messages.count(f"accept() failed: {os.strerror(errno.EMFILE)}") >= 2)
        assert len(caplog.messages) < 20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await eventually(lambda: accepted)
    accepted[0].transport.write(b"welcome")
    accepted[0].transport.close()
    caller.setblocking(False)
    assert await rest(caller) == b"welcome"
    caller.close()
    doors.close()


async def test_a_peer_that_takes_little_at_a_time_gets_all(pump: object) -> None:
    ours, far = tcp_pair()
    one = Noted()
    await transports.adopt(ours, one)
    whole = bytes(range(256)) * 2048 * 8
    one.transport.write(whole)
    one.transport.close()
    got = bytearray()
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(far, 1 if len(got) < 500 else 3_000):
        got += data
    assert got == whole
    await eventually(lambda: one.lost)
    far.close()

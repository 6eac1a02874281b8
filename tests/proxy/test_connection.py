import asyncio
import logging
import socket
from collections.abc import Generator

import pytest

from protocol.errors import ProtocolError
from protocol.framer import Collector
from protocol.login import Derive, Reply, Step
from protocol.looks import LOGIN_CAPS, SERVER_LOGIN_CAPS
from proxy.connection import NOWHERE, UNIX, WRITE_HIGH, Connection, ConnectionLost
from tests.support import messages as m
from tests.support.rig import eventually
from tests.support.transport import ListTransport


class Owner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.failures: list[Exception] = []
        self.trouble: Exception | None = None

    def connected(self) -> None:
        self.told.append("connected")

    def writing_paused(self) -> None:
        self.told.append("paused")

    def writing_resumed(self) -> None:
        self.told.append("resumed")

    def failed(self, error: Exception) -> None:
        self.failures.append(error)
        if self.trouble is not None:
            raise self.trouble

    def lost(self) -> None:
        self.told.append("lost")
        if self.trouble is not None:
            raise self.trouble


def made(**extra: object) -> tuple[Connection, Owner, ListTransport]:
    owner = Owner()
    connection = Connection(owner)
    transport = ListTransport(extra or None)
    connection.connection_made(transport)
    return connection, owner, transport


async def derive(step: Derive) -> bytes:
    return b"derived " + step.password


def test_the_write_methods_are_the_transports_own() -> None:
    connection, owner, transport = made()
    connection.write(b"one")
    connection.writelines([b"t", b"wo"])
    assert transport.writes == [b"one", b"two"]
    assert connection.write == transport.write
    assert owner.told == ["connected"]


def test_received_bytes_go_to_whoever_is_the_receiver() -> None:
    connection, _, _ = made()
    got: list[bytes] = []
    connection.receiver = lambda data, now: got.append(data)
    connection.data_received(b"one")
    other: list[bytes] = []
    connection.receiver = lambda data, now: other.append(data)
    connection.data_received(b"two")
    assert (got, other) == ([b"one"], [b"two"])


@pytest.mark.parametrize("error", [ProtocolError("bad"), ValueError("ours")])
def test_what_a_receiver_raises_is_told_to_the_owner(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    connection, owner, _ = made()

    def receive(data: bytes, now: int) -> None:
        raise error

    connection.receiver = receive
    connection.data_received(b"x")
    assert owner.failures == [error]
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert bool(logged) == isinstance(error, ValueError)


def test_an_owner_that_fails_over_a_failure_has_its_connection_aborted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection, owner, transport = made()
    owner.trouble = KeyError("worse")

    def receive(data: bytes, now: int) -> None:
        raise ValueError

    connection.receiver = receive
    connection.data_received(b"x")
    assert transport.aborted


def test_an_owner_that_fails_over_the_end_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    connection, owner, _ = made()
    owner.trouble = KeyError("worse")
    connection.connection_lost(None)
    assert connection.closed
    assert "closing a connection failed" in caplog.text


def test_the_owner_hears_of_full_and_empty_buffers() -> None:
    connection, owner, _ = made()
    assert not connection.paused_since
    connection.pause_writing()
    assert connection.paused_since
    connection.resume_writing()
    assert not connection.paused_since
    assert owner.told == ["connected", "paused", "resumed"]


def test_pausing_twice_pauses_once() -> None:
    connection, _, transport = made()
    connection.pause_reading()
    connection.pause_reading()
    assert not transport.reading
    connection.resume_reading()
    connection.resume_reading()
    assert transport.reading


def test_a_closed_connection_is_neither_paused_nor_ended() -> None:
    connection, _, transport = made()
    connection.connection_lost(None)
    connection.pause_reading()
    connection.end()
    assert transport.reading
    assert not transport.ended


def test_the_end_is_an_end_of_file_and_still_received_behind() -> None:
    connection, _, transport = made()
    got: list[bytes] = []
    connection.receiver = lambda data, now: got.append(data)
    connection.end()
    assert transport.ended
    connection.data_received(b"late")
    assert got == [b"late"]


def test_addresses_of_both_ends() -> None:
    connection, _, _ = made(peername=("10.0.0.1", 5000), sockname=("::1", 6432, 0, 0))
    assert connection.peer() == ("10.0.0.1", 5000)
    assert connection.local() == ("::1", 6432)
    with socket.socket(socket.AF_UNIX) as unix:
        connection, _, _ = made(peername="", sockname="/tmp/.s.PGSQL.6432", socket=unix)
        assert connection.peer() == connection.local() == UNIX
    connection, _, _ = made(peername=None)
    assert connection.peer() == NOWHERE
    assert connection.socket() is None


def test_only_a_unix_socket_is_local() -> None:
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as tcp:
        assert made(peername="", socket=unix)[0].is_local()
        assert not made(peername=("10.0.0.1", 0), socket=tcp)[0].is_local()
    assert not made(peername=None, socket=None)[0].is_local(), "it is gone"


def test_unsent_bytes_are_the_transports() -> None:
    connection, _, transport = made()
    transport.unsent = 17
    assert connection.unsent() == 17


# Conversations.


async def test_what_came_before_anybody_listened_is_not_lost() -> None:
    connection, _, _ = made()
    connection.data_received(b"ear")
    connection.data_received(b"ly")
    got = bytearray()
    await connection.received(got.extend)
    assert got == b"early"


async def read(connection: Connection, collector: Collector) -> tuple[int, bytes]:
    """The next whole message, as logins read them."""
    while (message := collector.next()) is None:
        await connection.received(collector.feed)
    return message


async def test_a_message_is_collected_from_its_pieces() -> None:
    connection, _, _ = made()
    collector = Collector(LOGIN_CAPS)
    reading = asyncio.create_task(read(connection, collector))
    await asyncio.sleep(0)
    for byte in m.password("secret"):
        connection.data_received(bytes([byte]))
        await asyncio.sleep(0)
    assert await reading == (ord("p"), b"secret\0")


async def test_a_connection_lost_in_the_middle_ends_the_wait() -> None:
    connection, _, _ = made()
    reading = asyncio.create_task(read(connection, Collector(LOGIN_CAPS)))
    await asyncio.sleep(0)
    connection.data_received(b"p\0")
    await asyncio.sleep(0)
    connection.connection_lost(None)
    with pytest.raises(ConnectionLost):
        await reading
    with pytest.raises(ConnectionLost):
        await connection.received(bytearray().extend)


async def test_a_message_too_large_for_a_login_is_refused_before_it_is_there() -> None:
    connection, _, _ = made()
    connection.data_received(b"p\x7f\xff\xff\xff")
    with pytest.raises(ProtocolError):
        await read(connection, Collector(LOGIN_CAPS))


async def test_what_comes_while_nobody_reads_is_kept_up_to_a_limit() -> None:
    connection, _, transport = made()
    collector = Collector(LOGIN_CAPS)
    connection.collect(collector)
    connection.data_received(b"x" * WRITE_HIGH)
    assert transport.reading
    connection.data_received(b"x")
    assert not transport.reading
    assert collector.size == WRITE_HIGH + 1


async def test_a_conversation_is_driven_to_its_result() -> None:
    def conversation() -> Generator[Step, Reply, str]:
        first = yield b"hello"
        assert first == (ord("R"), b"one")
        second = yield b""
        assert second == (ord("R"), b"two")
        key = yield Derive(b"pw", b"salt", 1)
        assert key == b"derived pw"
        third = yield b"bye"
        assert third == (ord("Z"), b"I")
        return "done"

    connection, _, transport = made()
    task = asyncio.create_task(connection.converse(conversation(), Collector(SERVER_LOGIN_CAPS), derive))
    await asyncio.sleep(0)
    assert transport.take() == b"hello"
    connection.data_received(m.message(b"R", b"one") + m.message(b"R", b"two") + m.ready_for_query())
    assert await task == "done"
    assert transport.take() == b"bye"


async def test_a_conversation_that_raises_raises() -> None:
    def conversation() -> Generator[Step, Reply, None]:
        yield b""
        raise ProtocolError("no")

    connection, _, _ = made()
    connection.data_received(m.ready_for_query())
    with pytest.raises(ProtocolError, match="no"):
        await connection.converse(conversation(), Collector(SERVER_LOGIN_CAPS), derive)


async def test_until_lost_sees_the_end_and_nothing_else() -> None:
    connection, _, _ = made()
    connection.receiver = lambda data, now: None
    waiting = asyncio.create_task(connection.until_lost())
    await asyncio.sleep(0)
    connection.data_received(b"x")
    await asyncio.sleep(0)
    assert not waiting.done()
    connection.connection_lost(None)
    await waiting
    await connection.until_lost()


@pytest.mark.both_loops
async def test_a_real_transport_of_either_loop_fits() -> None:
    loop = asyncio.get_running_loop()
    owner = Owner()
    ours: list[Connection] = []

    def accept() -> Connection:
        ours.append(Connection(owner))
        return ours[-1]

    server = await loop.create_server(accept, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    writer.write(b"ping")
    await eventually(lambda: ours)
    got = bytearray()
    await ours[0].received(got.extend)
    assert got == b"ping"
    assert ours[0].peer()[0] == ours[0].local()[0] == "127.0.0.1"
    ours[0].write(b"pong")
    ours[0].end()
    assert await reader.read() == b"pong"
    writer.close()
    await ours[0].until_lost()
    assert owner.told == ["connected", "lost"]
    server.close()

"""TLS begun on a connection, over real sockets and on both loops."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy import transports
from proxy.connection import WRITE_HIGH, Connection, ConnectionLost
from proxy.tls import TlsError
from tests.support.rig import eventually
from tests.support.tls_ends import certificate, client_context, server_context

pytestmark = pytest.mark.both_loops


class Owner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.connection = Connection(self)
        self.received: list[bytes] = []

    def listen(self) -> None:
        self.connection.receiver = lambda data, now: self.received.append(data)

    def connected(self) -> None: ...

    def writing_paused(self) -> None:
        self.told.append("paused")

    def writing_resumed(self) -> None:
        self.told.append("resumed")

    def failed(self, error: Exception) -> None:
        self.told.append(error)
        self.connection.abort()

    def lost(self) -> None:
        self.told.append("lost")


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, Connection, Owner, Owner]]:
    """Both ends of a connection, and their owners: client and server."""
    accepted: list[Owner] = []

    def accept() -> Connection:
        accepted.append(Owner())
        return accepted[-1].connection

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listener = await transports.serve(accept, listening, 1)
    ours = Owner()
    await transports.connect(ours.connection, *listening.getsockname())
    await eventually(lambda: accepted and accepted[0].connection.made)
    yield ours.connection, accepted[0].connection, ours, accepted[0]
    ours.connection.abort()
    accepted[0].connection.abort()
    listener.close()
    await eventually(lambda: ours.connection.closed and accepted[0].connection.closed)


async def shake_hands(client: Connection, server: Connection) -> None:
    await asyncio.gather(
        client.start_tls(client_context(), server_side=False, server_hostname="localhost"),
        server.start_tls(server_context(), server_side=True),
    )


async def test_from_the_handshake_on_all_is_encrypted_and_arrives() -> None:
    async with connected() as (client, server, _, _):
        await shake_hands(client, server)
        assert client.tls is not None
        assert server.tls is not None
        assert client.tls.text == server.tls.text != ""
        assert client.tls.peer_certificate() == certificate().der
        client.write(b"hello")
        got = bytearray()
        await server.received(got.extend)
        server.writelines([b"wel", b"come"])
        heard = bytearray()
        await client.received(heard.extend)
        assert bytes(got + heard) == b"hellowelcome"


async def test_bytes_of_the_handshake_that_were_read_already_are_taken() -> None:
    async with connected() as (client, server, _, _):
        begun = asyncio.create_task(client.start_tls(client_context(), server_side=False))
        hello = bytearray()
        await server.received(hello.extend)
        await server.start_tls(server_context(), server_side=True, received=bytes(hello))
        await begun


async def test_bytes_of_the_handshake_that_nobody_has_asked_for_yet_are_taken() -> None:
    async with connected() as (client, server, _, _):
        begun = asyncio.create_task(client.start_tls(client_context(), server_side=False))
        await eventually(lambda: server.heard)
        await server.start_tls(server_context(), server_side=True)
        await begun


async def test_what_is_said_right_behind_the_handshake_is_kept_for_who_asks() -> None:
    async with connected() as (client, server, _, _):
        accepted = asyncio.create_task(server.start_tls(server_context(), server_side=True))
        await client.start_tls(client_context(), server_side=False)
        client.write(b"early")
        await accepted
        got = bytearray()
        await server.received(got.extend)
        assert got == b"early"


async def test_a_reader_that_does_not_read_pauses_the_writer_and_only_so_long() -> None:
    async with connected() as (client, server, _, owner):
        await shake_hands(client, server)
        client.pause_reading()
        text = bytes(1 << 20)
        written = 0
        while "paused" not in owner.told:
            server.write(text)
            written += len(text)
            await asyncio.sleep(0)
        assert server.unsent() > WRITE_HIGH
        assert server.paused_since
        size = 0

        def receive(data: bytes, now: int) -> None:
            nonlocal size
            size += len(data)

        client.receiver = receive
        client.resume_reading()
        await eventually(lambda: size == written)
        assert owner.told == ["paused", "resumed"]
        assert not server.paused_since


async def test_closing_says_goodbye_and_loses_nothing() -> None:
    async with connected() as (client, server, ours, theirs):
        await shake_hands(client, server)
        theirs.listen()
        client.write(bytes(300_000))
        client.close()
        await eventually(lambda: server.closed and client.closed)
        assert sum(map(len, theirs.received)) == 300_000
        assert ours.told == theirs.told == ["lost"]


async def test_behind_our_end_the_other_side_is_still_heard() -> None:
    async with connected() as (client, server, ours, _):
        await shake_hands(client, server)
        ours.listen()
        server.write(b"last")
        assert client.end()
        await client.until_lost()
        assert ours.received == [b"last"]


async def test_a_connection_lost_during_the_handshake_is_lost() -> None:
    async with connected() as (client, server, _, _):
        accepting = asyncio.create_task(server.start_tls(server_context(), server_side=True))
        await asyncio.sleep(0)
        client.abort()
        with pytest.raises(ConnectionLost):
            await accepting
        with pytest.raises(ConnectionLost):
            await server.start_tls(server_context(), server_side=True)


async def test_a_handshake_that_fails_says_why() -> None:
    async with connected() as (client, server, _, owner):
        client.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(TlsError, match="http request"):
            await server.start_tls(server_context(), server_side=True)
        server.write(b"not in the clear")
        server.close()
        await client.until_lost()
        assert b"clear" not in client._early
        assert owner.told == ["lost"]


async def test_a_certificate_for_another_name_is_refused() -> None:
    context = client_context()
    context.load_verify_locations(cadata=certificate().der)
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    async with connected() as (client, server, _, _):
        accepting = asyncio.create_task(server.start_tls(server_context(), server_side=True))
        with pytest.raises(TlsError, match="certificate verify failed: Hostname mismatch"):
            await client.start_tls(context, server_side=False, server_hostname="elsewhere")
        client.close()
        # In TLS 1.3 a server is done before it is told.
        await asyncio.gather(accepting, return_exceptions=True)
        await eventually(lambda: server.closed)


async def test_bytes_in_the_clear_behind_the_handshake_end_the_connection() -> None:
    async with connected() as (client, server, _, owner):
        await shake_hands(client, server)
        client.transport.write(b"Q\0\0\0\x0dselect 1\0")
        await eventually(lambda: server.closed)
        assert [str(each) for each in owner.told] == ["TLS error: wrong version number", "lost"]

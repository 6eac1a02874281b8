import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from protocol.errors import ProtocolError
from protocol.framer import Collector
from protocol.looks import LOGIN_CAPS
from protocol.startup import CancelRequest, Startup
from proxy.connection import Connection, ConnectionLost
from proxy.eager import Eager
from proxy.entry import agree_on_version, first_packet
from proxy.errors import PoolerError
from proxy.log import Prefix
from proxy.tls import TlsError
from tests.support import messages as m
from tests.support.tls_ends import End, SwitchTransport, client_context, server_context
from tests.support.transport import ListTransport

LOGIN = m.startup({"user": "alice"})
PREFIX = Prefix("C", 1, None, None, "unix")


class Nobody:
    def connected(self) -> None: ...
    def writing_paused(self) -> None: ...
    def writing_resumed(self) -> None: ...
    def failed(self, error: Exception) -> None: ...
    def lost(self) -> None: ...


class Entry:
    """A connection on which `first_packet` waits."""

    def __init__(self) -> None:
        self.connection = Connection(Nobody())
        self.transport = ListTransport()
        self.connection.connection_made(self.transport)
        self.collector = Collector(LOGIN_CAPS)
        self.task = asyncio.create_task(first_packet(self.connection, self.collector, PREFIX))

    async def says(self, data: bytes, *, at_a_time: int = 100_000) -> None:
        for at in range(0, len(data), at_a_time):
            await asyncio.sleep(0)
            self.connection.data_received(data[at : at + at_a_time])
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.mark.parametrize("at_a_time", [1, 3, 1000])
async def test_a_startup_packet_may_come_in_pieces(at_a_time: int) -> None:
    entry = Entry()
    await entry.says(LOGIN, at_a_time=at_a_time)
    assert await entry.task == Startup(m.PROTOCOL_3_0, {b"user": b"alice"})


async def test_what_follows_the_packet_goes_to_the_collector() -> None:
    entry = Entry()
    await entry.says(LOGIN + m.password("early"))
    await entry.task
    assert entry.collector.next() == (ord("p"), b"early\0")


async def test_each_kind_of_encryption_is_declined_once() -> None:
    entry = Entry()
    await entry.says(m.ssl_request())
    await entry.says(m.gssenc_request())
    assert entry.transport.take() == b"NN"
    await entry.says(LOGIN)
    assert isinstance(await entry.task, Startup)


@pytest.mark.parametrize("request_", [m.ssl_request(), m.gssenc_request()])
async def test_asking_twice_for_the_same_encryption_ends_it(request_: bytes) -> None:
    entry = Entry()
    await entry.says(request_)
    await entry.says(request_)
    assert await entry.task is None
    assert entry.transport.take() == b"N"


@pytest.mark.parametrize("behind", [b"x", LOGIN, m.query("insert")])
async def test_bytes_behind_a_request_for_encryption_are_an_error(behind: bytes) -> None:
    entry = Entry()
    await entry.says(m.ssl_request() + behind)
    with pytest.raises(ProtocolError, match="received unencrypted data after SSL request"):
        await entry.task
    assert entry.transport.take() == b""


async def test_a_cancel_request_is_returned() -> None:
    entry = Entry()
    await entry.says(m.cancel_request(4711, b"abcd"))
    assert await entry.task == CancelRequest(4711, b"abcd")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\7",
        b"\0\0\0\0",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff\0\0\0\0",
        m.packet(m.int32(80877102) + b"\0" * 6),
        m.packet(m.int32(80877102) + b"\0" * 300),
        m.packet(m.int32(80877103) + b"\0"),
        m.packet(b"\0\0\0\0" * 2500),
    ],
)
async def test_nonsense_is_told_to_the_log_alone(nonsense: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "howdah")
    entry = Entry()
    await entry.says(nonsense)
    assert await entry.task is None
    assert entry.transport.take() == b""
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith("C-0x1: (nodb)/(nouser)@unix closing: ")
    assert caplog.text.isprintable() or caplog.text.rstrip("\n").isprintable()


@pytest.mark.parametrize("body", [b"user\0alice", b"user\0alice\0", b"\0x\0\0", b"user\0\0"])
async def test_a_broken_startup_packet_is_an_error_that_can_be_told(body: bytes) -> None:
    entry = Entry()
    await entry.says(m.packet(m.int32(m.PROTOCOL_3_0) + body))
    with pytest.raises(ProtocolError):
        await entry.task


@pytest.mark.parametrize("sent", [b"", b"\0\0\0", LOGIN[:10]])
async def test_a_client_that_leaves_has_said_nothing(sent: bytes) -> None:
    entry = Entry()
    await entry.says(sent)
    entry.connection.connection_lost(None)
    with pytest.raises(ConnectionLost):
        await entry.task


@pytest.mark.parametrize(
    ("asked", "agreed"), [(0x30000, 0x30000), (0x30001, 0x30001), (0x30002, 0x30002), (0x3270F, 0x30002)]
)
def test_the_newest_common_version_is_spoken(asked: int, agreed: int) -> None:
    assert agree_on_version(Startup(asked, {})) == agreed


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (m.PROTOCOL_2_0, "old V2 protocol not supported"),
        (0x40000, "unsupported frontend protocol 4.0: server supports 3.0 to 3.2"),
        (0x10001, "unsupported frontend protocol 1.1: server supports 3.0 to 3.2"),
    ],
)
def test_other_major_versions_are_refused(version: int, text: str) -> None:
    with pytest.raises(PoolerError) as error:
        agree_on_version(Startup(version, {}))
    assert (error.value.message, error.value.sqlstate) == (text, "0A000")


# TLS.


class SecureEntry(Entry):
    """The same where TLS is offered; `client` is the other end of it."""

    def __init__(self) -> None:
        self.connection = Connection(Nobody())
        self.wire = SwitchTransport()
        self.connection.connection_made(self.wire)
        self.collector = Collector(LOGIN_CAPS)
        offered = server_context()
        self.task = asyncio.create_task(first_packet(self.connection, self.collector, PREFIX, offered))
        self.client = End(client_context(), False)

    async def shake_hands(self) -> None:
        """Carry all that each has to say to the other."""
        while (hello := self.client.wire.take()) or (answer := self.wire.take()):
            if hello:
                protocol = self.wire.protocol or self.connection
                assert isinstance(protocol, asyncio.Protocol)
                protocol.data_received(hello)
            else:
                self.client.tls.data_received(answer)
            for _ in range(3):
                await asyncio.sleep(0)

    async def says_inside(self, data: bytes) -> None:
        self.client.write(data)
        await self.shake_hands()


async def asked() -> SecureEntry:
    entry = SecureEntry()
    await entry.says(m.ssl_request())
    assert entry.wire.take() == b"S"
    entry.client.tls.begin(b"")
    await entry.shake_hands()
    return entry


async def direct() -> SecureEntry:
    entry = SecureEntry()
    entry.client.tls.begin(b"")
    await entry.shake_hands()
    return entry


@pytest.mark.parametrize("begin", [asked, direct])
async def test_the_startup_packet_comes_inside_tls(begin: Callable[[], Awaitable[SecureEntry]]) -> None:
    entry = await begin()
    await entry.says_inside(LOGIN + m.password("early"))
    assert isinstance(await entry.task, Startup)
    assert entry.collector.next() == (ord("p"), b"early\0")
    assert entry.connection.tls is not None


@pytest.mark.parametrize("begin", [asked, direct])
@pytest.mark.parametrize("request_", [m.ssl_request(), m.gssenc_request()])
async def test_a_request_for_encryption_inside_tls_ends_it(
    begin: Callable[[], Awaitable[SecureEntry]], request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "howdah")
    entry = await begin()
    await entry.says_inside(request_)
    assert await entry.task is None
    assert caplog.text.rstrip().endswith("request inside TLS")


async def test_a_cancel_request_may_come_inside_tls() -> None:
    entry = await asked()
    await entry.says_inside(m.cancel_request(4711, b"abcd"))
    assert await entry.task == CancelRequest(4711, b"abcd")


async def test_bytes_behind_the_request_end_it_before_the_handshake() -> None:
    """CVE-2021-3935, CVE-2021-43766, CVE-2021-23214, CVE-2024-34083: they passed for the client's own."""
    entry = SecureEntry()
    await entry.says(m.ssl_request() + LOGIN)
    with pytest.raises(ProtocolError, match="received unencrypted data after SSL request"):
        await entry.task
    assert entry.wire.take() == b""


async def test_a_startup_packet_in_place_of_the_handshake_is_not_read() -> None:
    """CVE-2023-40217: Python's ssl gave out what came before a handshake that never was."""
    entry = SecureEntry()
    await entry.says(m.ssl_request())
    assert isinstance(entry.wire.protocol, asyncio.Protocol)
    entry.wire.protocol.data_received(LOGIN)
    with pytest.raises(TlsError):
        await entry.task
    assert entry.collector.size == 0


async def test_direct_tls_for_another_protocol_is_told_to_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "howdah")
    entry = SecureEntry()
    context = client_context()
    context.set_alpn_protocols(["http/1.1"])
    entry.client = End(context, False)
    entry.client.tls.begin(b"")
    await entry.shake_hands()
    assert await entry.task is None
    assert "direct TLS without the protocol (ALPN) postgresql" in caplog.text


async def test_direct_tls_where_there_is_none_is_told_to_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "howdah")
    entry = Entry()
    client = End(client_context(), False)
    client.tls.begin(b"")
    await entry.says(client.wire.take())
    assert await entry.task is None
    assert entry.transport.take() == b""
    assert "direct TLS is not offered here" in caplog.text


class Hasty:
    """As a client's connection: what it says is read within the callbacks that bring it, up to the TLS."""

    def __init__(self) -> None:
        self.connection = Connection(Nobody())
        self.wire = SwitchTransport()
        self.connection.connection_made(self.wire)
        self.client = End(client_context(), False)
        self.result: object = None
        self.connection.eager = Eager(self._run())
        self.connection.eager.start()

    async def _run(self) -> None:
        try:
            self.result = await first_packet(self.connection, Collector(LOGIN_CAPS), PREFIX, server_context())
        except (TlsError, ProtocolError) as error:
            self.result = error

    async def shake_hands(self) -> None:
        await turns()
        while (hello := self.client.wire.take()) or (answer := self.wire.take()):
            if hello:
                reader = self.connection if self.connection.tls is None else self.connection.tls
                reader.data_received(hello)
            else:
                self.client.tls.data_received(answer)
            await turns()


async def turns() -> None:
    """A task starts, wakes and ends."""
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("cut", [0, 4])
async def test_what_comes_before_the_layer_is_there_is_no_part_of_what_is_encrypted(cut: int) -> None:
    entry = Hasty()
    for piece in (m.ssl_request()[:cut], m.ssl_request()[cut:]):
        if piece:
            entry.connection.data_received(piece)
    assert entry.wire.take() == b"S"
    entry.connection.data_received(m.startup({"user": "evil"}))
    await turns()
    entry.client.tls.begin(b"")
    await entry.shake_hands()
    assert isinstance(entry.result, TlsError)


@pytest.mark.parametrize("cut", [0, 4])
async def test_a_client_that_shakes_hands_in_the_very_turn_is_heard(cut: int) -> None:
    entry = Hasty()
    for piece in (m.ssl_request()[:cut], m.ssl_request()[cut:]):
        if piece:
            entry.connection.data_received(piece)
    assert entry.wire.take() == b"S"
    entry.client.tls.begin(b"")
    entry.connection.data_received(entry.client.wire.take())
    await entry.shake_hands()
    assert not entry.client.tls.handshaking

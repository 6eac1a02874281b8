"""Both ends of TLS in memory: what one writes is handed to the other when a test says so, in any pieces.

Law: no loop and no sockets; the layers are the product's own.
"""

import asyncio
import ssl
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain, repeat
from pathlib import Path

from proxy.tls import TlsContext, TlsLayer
from tests.support.certificates import Pair, self_signed
from tests.support.transport import ListTransport


class SwitchTransport(ListTransport):
    """Can be given another protocol, as real ones."""

    protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


@cache
def certificate() -> Pair:
    """One for all tests: nobody checks it."""
    return self_signed()


@cache
def server_context(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> TlsContext:
    """One for all tests that need nothing else."""
    context = new_server_context(certificate())
    context.maximum_version = version
    return context


def new_server_context(pair: Pair) -> TlsContext:
    """Shows this certificate, and remembers which."""
    context = TlsContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["postgresql"])
    with tempfile.TemporaryDirectory() as folder:
        files = pair.write(Path(folder), "own")
        context.load_cert_chain(files.certificate, files.key)
    context.certificate = pair.der
    return context


def client_context() -> TlsContext:
    context = TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["postgresql"])
    return context


class End:
    """A connection as its layer sees it; `told` has what it heard, in order."""

    def __init__(self, context: ssl.SSLContext, server_side: bool, name: str | None = None) -> None:
        self.transport: asyncio.Transport = SwitchTransport()
        self.write: Callable[[bytes | memoryview], None] = self.transport.write
        self.writelines: Callable[[Iterable[bytes | memoryview]], None] = self.transport.writelines
        self.received: list[bytes] = []
        self.receiver: Callable[[bytes, int], None] = lambda data, now: self.received.append(data)
        self.told: list[object] = []
        self.tls = TlsLayer(self, context, server_side, name)

    @property
    def wire(self) -> SwitchTransport:
        assert isinstance(self.transport, SwitchTransport)
        return self.transport

    def pause_writing(self) -> None:
        self.told.append("paused")

    def resume_writing(self) -> None:
        self.told.append("resumed")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")

    def wake(self) -> None:
        self.told.append("woken")

    def blame(self, error: Exception) -> None:
        self.told.append(error)


def begun(context: ssl.SSLContext | None = None, server: ssl.SSLContext | None = None) -> tuple[End, End]:
    """A client and a server whose handshake has begun."""
    client = End(context or client_context(), False, "localhost")
    other = End(server or server_context(), True)
    other.tls.begin(b"")
    client.tls.begin(b"")
    return client, other


def joined(sizes: Iterable[int] = (), server: ssl.SSLContext | None = None) -> tuple[End, End]:
    """A client and a server that have shaken hands."""
    client, other = begun(server=server)
    settle(client, other, sizes)
    assert not client.tls.handshaking
    assert not other.tls.handshaking
    return client, other


def settle(client: End, server: End, sizes: Iterable[int] = ()) -> None:
    """Carry bytes to and fro, in pieces of these sizes (then of the last), until nobody has any."""
    cuts = _sizes(sizes)
    while (out := client.wire.take()) or (back := server.wire.take()):
        for source, target in ((out, server), (b"" if out else back, client)):
            carry(source, target, cuts)


def carry(data: bytes, target: End, cuts: Iterator[int]) -> None:
    """Hand the bytes over in pieces."""
    while data:
        size = next(cuts)
        target.tls.data_received(data[:size])
        data = data[size:]


def _sizes(sizes: Iterable[int]) -> Iterator[int]:
    known = list(sizes) or [1 << 20]
    return chain(known, repeat(known[-1]))


def records(stream: bytes) -> list[int]:
    """Lengths of the records in a stream of whole ones."""
    found = []
    while stream:
        length = int.from_bytes(stream[3:5], "big")
        found.append(length)
        stream = stream[5 + length :]
    return found

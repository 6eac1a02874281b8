"""TLS inside a connection: OpenSSL between two pieces of memory, and the connection's socket on the far side.

Laws of this file:
- One chunk received is one call of the connection's receiver, as without TLS; nothing decrypted is kept.
- One `write` or `writelines` is one write to the transport, whose count of unsent bytes stays the only one.
- A record carries at most 8 KiB: libpq's asynchronous interface makes that much room before it reads, and
  does not see what it left inside OpenSSL.
- Texts of errors are OpenSSL's; they name reasons, never keys or data.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter_ns, time
from typing import Final, Protocol

from protocol.errors import ProtocolError
from proxy.certificates import endpoint_hash, read_certificate

RECORD: Final = 8192
"""Most bytes of plain text in a record of ours; PostgreSQL's have no more either."""
# What a record of the other side can hold.
_MOST: Final = 16384
# OpenSSL's memory grows to the longest piece it was ever given, and stays so: long chunks go in by pieces.
_PIECE: Final = 16384
# Who asks for answers of OpenSSL's own (key updates) and leaves this much unread is cut off; what we write
# ourselves stays well below.
_UNREAD: Final = 1 << 20
# In OpenSSL's words for what the other side says before it goes.
_ALERT: Final = "alert"
_NO_MEMORY: Final = ssl.MemoryBIO()


class TlsError(OSError):
    """TLS could not be begun, or has been broken; the text says why."""


class TlsContext(ssl.SSLContext):
    """A context that remembers which certificate (DER) it shows; `failed` is called for each handshake that
    fails.
    """

    certificate: bytes | None = None
    failed: Callable[[], object] = staticmethod(lambda: None)


class Encrypted(Protocol):
    """A connection as its TLS layer sees it."""

    transport: asyncio.Transport
    receiver: Callable[[bytes, int], None]
    write: Callable[[bytes | memoryview], None]
    writelines: Callable[[Iterable[bytes | memoryview]], None]

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def wake(self) -> None: ...
    def blame(self, error: Exception) -> None: ...


class TlsLayer(asyncio.Protocol):
    """What a transport that carries TLS delivers to. `handshaking` until the handshake is done; `failure` is
    why there is no TLS, or no more.
    """

    __slots__ = (
        "_certificate",
        "_connection",
        "_deaf",
        "_decrypt",
        "_encrypt",
        "_failed",
        "_incoming",
        "_object",
        "_outgoing",
        "_ready",
        "_transport",
        "alpn",
        "cipher",
        "failure",
        "handshaking",
        "resumed",
        "version",
    )

    def __init__(
        self, connection: Encrypted, context: ssl.SSLContext, server_side: bool, server_hostname: str | None
    ) -> None:
        self._connection = connection
        self._transport = connection.transport
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object: ssl.SSLObject | None = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        # They are called for every chunk, and OpenSSL's own object saves the call of a wrapper each time.
        worker: ssl.SSLObject = getattr(self._object, "_sslobj", self._object)
        self._encrypt: Callable[[bytes | memoryview], int] = worker.write
        self._decrypt: Callable[[int], bytes] = worker.read
        own = context if isinstance(context, TlsContext) else None
        self._certificate = own.certificate if own is not None and server_side else None
        self._failed = own.failed if own is not None else TlsContext.failed
        self._ready = self._deaf = False
        self.version = ""
        self.cipher = ""
        self.alpn: str | None = None
        self.resumed = False
        self.handshaking = True
        self.failure: TlsError | None = None

    def begin(self, received: bytes) -> None:
        """Take the transport over and begin the handshake; the connection is woken when it is over.

        Until then, and after a failure, nothing is written.
        """
        self._connection.write = self._connection.writelines = _unwritten
        self._transport.set_protocol(self)
        if received:
            self.data_received(received)
            return
        try:
            self._shake_hands()
        except ssl.SSLWantReadError:
            self._flush()
        except OSError as error:
            self._fail(error)

    @property
    def text(self) -> str:
        """Version and cipher, as logs and SHOW have them; empty before there is either."""
        return f"{self.version}/{self.cipher}" if self.version else ""

    def peer_certificate(self) -> bytes | None:
        """The certificate that the other side has shown (DER); None if there was none."""
        return self._object.getpeercert(binary_form=True) if self._object is not None else None

    def binding(self) -> bytes | None:
        """The data of tls-server-end-point; None where the server's certificate defines none."""
        server = self._certificate or self.peer_certificate()
        return endpoint_hash(server) if server is not None else None

    # Called by the loop.

    def data_received(self, data: bytes) -> None:
        """Decrypt a chunk, and pass on all that was in it. One whole record is the usual case."""
        if not self._ready or len(data) > _PIECE:
            self._received([], data)
            return
        self._incoming.write(data)
        try:
            plain = self._decrypt(_MOST)
        except ssl.SSLWantReadError:
            self._flush()
            return
        except OSError as error:
            self._end(error)
            return
        if not plain or self._incoming.pending or self._outgoing.pending:
            self._received([plain], b"")
            return
        connection = self._connection
        try:
            connection.receiver(plain, perf_counter_ns())
        except Exception as error:
            connection.blame(error)

    def _received(self, found: list[bytes], data: bytes) -> None:
        """Whatever a chunk may hold: `found` is what has been decrypted of it."""
        if self._deaf:
            return
        over: OSError | None = None if all(found) else ssl.SSLZeroReturnError()
        for piece in (data,) if len(data) <= _PIECE else _pieces(data):
            if over is not None:
                break
            over = self._open(piece, found)
        if self._outgoing.pending:
            self._flush()
        if any(found):
            self._deliver(b"".join(found))
        if over is not None:
            self._end(over)

    def pause_writing(self) -> None:
        """The transport is full."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """The transport has room again."""
        self._connection.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed. OpenSSL's memory is given back now, not when the last reference goes."""
        connection = self._connection
        connection.write = connection.writelines = _unwritten
        self._deaf = True
        self._ready = False
        self._object = None
        self._encrypt, self._decrypt = _nothing_encrypted, _nothing_decrypted
        self._incoming = self._outgoing = _NO_MEMORY
        connection.connection_lost(exc)

    # Writing.

    def write(self, data: bytes | memoryview) -> None:
        """Send, in as few records as it takes."""
        if len(data) > RECORD:
            self._write_long(data)
        elif data:
            try:
                self._encrypt(data)
            except OSError as error:
                self._fail(error)
                return
            self._transport.write(self._outgoing.read())

    def writelines(self, parts: Iterable[bytes | memoryview]) -> None:
        """Send the parts, small ones together in one record."""
        self.write(b"".join(parts))

    def _write_long(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        sealed = []
        try:
            for at in range(0, len(view), RECORD):
                self._encrypt(view[at : at + RECORD])
                sealed.append(self._outgoing.read())
        except OSError as error:
            self._fail(error)
            return
        self._transport.writelines(sealed)

    def say_goodbye(self) -> None:
        """Send close_notify: nothing more comes from us. What the other side still sends is received."""
        if self._object is None or self.handshaking or self.failure is not None:
            return
        # It complains that the other side has not said so too.
        with contextlib.suppress(OSError):
            self._object.unwrap()
        self._connection.write = self._connection.writelines = _unwritten
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())

    # Inside.

    def _shake_hands(self) -> None:
        """One step of the handshake. Raises SSLWantReadError while it is not over."""
        assert self._object is not None
        self._object.do_handshake()
        self.resumed = bool(self._object.session_reused)
        if self.resumed:
            self._look_again()
        self.handshaking = False
        self._ready = True
        self.version = self._object.version() or ""
        cipher = self._object.cipher()
        self.cipher = cipher[0] if cipher is not None else ""
        self.alpn = self._object.selected_alpn_protocol()
        self._connection.write = self.write
        self._connection.writelines = self.writelines
        self._flush()
        self._connection.wake()

    def _look_again(self) -> None:
        """OpenSSL looks at certificates in long handshakes only. Raises TlsError for one that has expired."""
        certificate = self.peer_certificate()
        try:
            if certificate is not None and read_certificate(certificate).expires <= time():
                raise TlsError("certificate verify failed: certificate has expired")
        except ValueError as error:
            raise TlsError(f"certificate verify failed: {error}") from None

    def _open(self, piece: bytes | memoryview, found: list[bytes]) -> OSError | None:
        """Decrypt what is whole by now; returns why nothing more can come, None if it can."""
        incoming = self._incoming
        incoming.write(piece)
        try:
            if self.handshaking:
                self._shake_hands()
            while incoming.pending:
                plain = self._decrypt(_MOST)
                if not plain:
                    return ssl.SSLZeroReturnError()
                found.append(plain)
        except ssl.SSLWantReadError:
            return None
        except OSError as error:
            return error
        return None

    def _end(self, reason: OSError) -> None:
        if isinstance(reason, ssl.SSLZeroReturnError):
            # The other side has said goodbye; without TLS it is the end of file that closes.
            self.say_goodbye()
            self._transport.close()
        else:
            self._fail(reason)

    def _deliver(self, plain: bytes) -> None:
        connection = self._connection
        try:
            connection.receiver(plain, perf_counter_ns())
        except Exception as error:
            connection.blame(error)

    def _flush(self) -> None:
        """Send what OpenSSL has to say of its own accord: its handshake, tickets, answers and alerts."""
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())
            if self._transport.get_write_buffer_size() > _UNREAD:
                self._fail(TlsError("the other side does not read what it asks for"))

    def _fail(self, error: OSError) -> None:
        """There is no TLS any more: the alert goes out, and nothing else."""
        if self.failure is not None:
            return
        connection = self._connection
        self._deaf = True
        self._ready = False
        self.failure = TlsError(describe(error))
        connection.write = connection.writelines = _unwritten
        self._flush()
        if self.handshaking or _ALERT in str(self.failure):
            # What the other side has against ours it may say when our side is done.
            self._failed()
        if self.handshaking:
            connection.wake()
        else:
            connection.blame(ProtocolError(f"TLS error: {self.failure}"))


def describe(error: OSError) -> str:
    """OpenSSL's reason, without the place in its source."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message.rstrip('.')}"
    reason: str | None = getattr(error, "reason", None)
    return reason.lower().replace("_", " ") if reason else str(error.args[-1] if error.args else error)


def _pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[at : at + _PIECE] for at in range(0, len(view), _PIECE))


def _unwritten(data: object) -> None:
    """In the place of `write` and `writelines` while there is no TLS to write through."""


def _nothing_encrypted(data: object) -> int:
    return 0


def _nothing_decrypted(size: int) -> bytes:
    return b""

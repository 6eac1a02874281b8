"""The asyncio shell of a client or a server connection: its transport, its flow control, its conversations.

Laws of this file:
- Received bytes go to `receiver(data, now)`, whoever that is at the moment; nothing is parsed here.
- `write` and `writelines` are the transport's own methods, so that the hot path makes no extra call; where
  there is TLS they are its layer's, and the transport delivers to the layer.
- Whatever an owner's callback raises ends this connection and no other.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter_ns
from typing import Any, Final, TypeVar, cast

from protocol.errors import ProtocolError
from protocol.framer import Collector
from protocol.login import Conversation, Derive
from proxy.eager import Eager
from proxy.owner import NOBODY, Owner
from proxy.talk import Talk
from proxy.tls import TlsLayer
from proxy.transports import detach
from proxy.turnstile import Gate

logger = logging.getLogger("howdah")

WRITE_HIGH: Final = 64 * 1024
"""Unsent bytes on a connection from which its other side is read no further."""
WRITE_LOW: Final = 16 * 1024

UNIX: Final = ("unix", 0)
"""Where somebody is who came by a unix socket."""
NOWHERE: Final = ("unknown", 0)
"""Where somebody is who had reset a TCP connection before it was accepted."""

Receiver = Callable[[bytes, int], None]
# For the receiver: compiled code would take an int out of its object, and make another for the call.
_clock: Final[Callable[[], Any]] = perf_counter_ns
T = TypeVar("T")


class ConnectionLost(Exception):
    """The other side closed in the middle of a conversation."""


class Connection(asyncio.Protocol):
    """One socket. `paused_since` is when writing was paused (ns), 0 while it is not. `heard`: before its
    login was over, the other side has said something. `tls` is None on a connection in the clear, `gate`
    where nothing holds back what comes, `eager` where no coroutine runs that waits for this connection.
    """

    __slots__ = (
        "_early",
        "_reading",
        "_waiter",
        "closed",
        "eager",
        "gate",
        "heard",
        "made",
        "owner",
        "paused_since",
        "receiver",
        "tls",
        "transport",
        "write",
        "writelines",
    )

    transport: asyncio.Transport
    write: Callable[[bytes | memoryview], None]
    writelines: Callable[[Iterable[bytes | memoryview]], None]
    receiver: Receiver

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.receiver = self.keep
        self._early = b""
        self.paused_since = 0
        self.closed = False
        self.made = False
        self.heard = False
        self.tls: TlsLayer | None = None
        self.gate: Gate | None = None
        self.eager: Eager | None = None
        self._reading = True
        self._waiter: asyncio.Future[None] | None = None

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport and take its methods."""
        self.made = True
        # Not every loop's transports are subclasses of asyncio's; their methods are the same.
        transport = cast(asyncio.Transport, transport)
        self.transport = transport
        self.write = transport.write
        self.writelines = transport.writelines
        transport.set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)
        self.owner.connected()

    def data_received(self, data: bytes) -> None:
        """Pass received bytes on."""
        try:
            # A slot that is called at once is looked up the slow way (Python 3.11): so this name.
            receiver = self.receiver
            receiver(data, _clock())
        except Exception as error:
            self.blame(error)

    def pause_writing(self) -> None:
        """The transport holds more than WRITE_HIGH bytes."""
        self.paused_since = perf_counter_ns()
        self.owner.writing_paused()

    def resume_writing(self) -> None:
        """The transport has sent most of what it held."""
        self.paused_since = 0
        self.owner.writing_resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, by whomever."""
        self.closed = True
        self.wake()
        try:
            self.owner.lost()
        except Exception:
            logger.exception("closing a connection failed")
        # Rings of references would keep all of it until the collector looks at everything that lives.
        self.owner, self.receiver, self.gate = NOBODY, unheard, None

    # Used by owners.

    def pause_reading(self) -> None:
        """Read no further until `resume_reading`."""
        if self._reading and not self.closed:
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if not self._reading and not self.closed:
            self._reading = True
            self.transport.resume_reading()

    def open_gate(self) -> None:
        """Let all that comes through at once, from now on."""
        gate, self.gate = self.gate, None
        if gate is not None and not self.closed:
            gate.open()

    def end(self) -> bool:
        """Send what is unsent, then end of file; what the other side still sends is received.

        False if the connection is gone already, or going, so that no news of its end need be waited for.
        """
        if not self.made or self.closed or self.transport.is_closing() or not self.transport.can_write_eof():
            return False
        try:
            if self.tls is not None:
                self.tls.say_goodbye()
            self.transport.write_eof()
        except OSError:
            # The other side has reset the connection, which the loop is about to tell us.
            return True
        except RuntimeError:
            # A connect that was cancelled at its very end: the loop has closed the handle and tells nobody.
            return False
        return True

    def close(self) -> None:
        """Send what is unsent, and close."""
        if self.tls is not None:
            self.tls.say_goodbye()
        self.transport.close()

    def abort(self) -> None:
        """Close at once, whatever is unsent; nothing to do for a connection that is gone or never was."""
        if self.made and not self.closed:
            self.transport.abort()

    def detach(self) -> socket.socket:
        """Give the socket away; of this connection nobody hears any more, and its owner is not told.

        Raises RuntimeError for a connection that is encrypted, closed or closing, or has something unsent.
        """
        if self.tls is not None or self.closed or not self.made:
            raise RuntimeError("only an open connection in the clear can be given away")
        sock = detach(self.transport)
        self.closed = True
        self.owner, self.receiver, self.gate = NOBODY, unheard, None
        return sock

    def unsent(self) -> int:
        """Bytes given to `write` that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size()

    def peer(self) -> tuple[str, int]:
        """Address and port of the other side; UNIX on a unix socket, NOWHERE for who is gone."""
        name = self.transport.get_extra_info("peername")
        if isinstance(name, tuple):
            return _address(name)
        return UNIX if self.is_local() else NOWHERE

    def local(self) -> tuple[str, int]:
        """Our own address and port of this connection."""
        return _address(self.transport.get_extra_info("sockname"))

    def socket(self) -> socket.socket | None:
        """The socket underneath, for its options."""
        found: socket.socket | None = self.transport.get_extra_info("socket")
        return found

    def is_local(self) -> bool:
        """Whether it is a unix socket. Addresses do not tell: a port may be 0, and who is gone has none."""
        found = self.socket()
        return found is not None and found.family == socket.AF_UNIX

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        received: bytes = b"",
    ) -> None:
        """Encrypt from here on; returns when the handshake is done. `received`: what has come of it already.

        Raises TlsError where the handshake fails, and ConnectionLost.
        """
        # What comes before the layer is there belongs to the handshake, and to nobody else.
        self.receiver = self.keep
        if self.eager is not None:
            # The layer tells of the end of the handshake in the middle of what it does.
            await self.eager.in_task()
        if self.closed:
            raise ConnectionLost
        received, self._early = received + self._early, b""
        layer = self.tls = TlsLayer(self, context, server_side, server_hostname)
        if self.gate is None:
            layer.begin(received)
        else:
            layer.begin(b"")
            self.gate.stand_before(layer, received)
        self.resume_reading()
        while layer.handshaking and layer.failure is None:
            await self._woken()
        if layer.failure is not None:
            raise layer.failure

    def keep(self, data: bytes, now: int) -> None:
        """Receiver while nobody listens: the other side may speak before its login has begun."""
        self.heard = True
        self._early += data

    # Conversations: logins, where speed does not matter.

    def collect(self, collector: Collector) -> None:
        """Keep what comes while nobody reads, up to WRITE_HIGH bytes."""

        def receive(data: bytes, now: int) -> None:
            collector.feed(data)
            if collector.size > WRITE_HIGH:
                self.pause_reading()

        self.receiver = receive

    async def received(self, feed: Callable[[bytes], None]) -> None:
        """Wait until something was received and given to `feed`. Raises ConnectionLost."""
        if self._early:
            early, self._early = self._early, b""
            feed(early)
            return
        if self.closed:
            raise ConnectionLost

        def receive(data: bytes, now: int) -> None:
            self.heard = True
            feed(data)
            self.wake()

        self.receiver = receive
        self.resume_reading()
        await self._woken()

    async def until_lost(self) -> None:
        """Return when the connection is closed; what comes until then goes to `receiver`."""
        while not self.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def converse(
        self,
        conversation: Conversation[T],
        collector: Collector,
        derive: Callable[[Derive], Awaitable[bytes]],
    ) -> T:
        """Drive a login to its end and return its result.

        The conversation yields bytes to send, or a key to derive, and is sent the next message, or the key.
        """
        talk = Talk(conversation, collector)
        while True:
            if not talk.go_on(self.write):
                await self._hear(talk, collector)
            if talk.error is not None:
                raise talk.failure()
            if talk.over:
                return talk.result
            talk.derived(await derive(talk.wanted))

    async def _hear(self, talk: Talk[T], collector: Collector) -> None:
        """Let the talk hear what comes, until it is over or wants something else. Raises ConnectionLost."""
        if self._early:
            early, self._early = self._early, b""
            if talk.hear(early, self.write):
                self.collect(collector)
                return
        if self.closed:
            raise ConnectionLost

        def receive(data: bytes, now: int) -> None:
            self.heard = True
            if talk.hear(data, self.write):
                self.collect(collector)
                self.wake()

        self.receiver = receive
        self.resume_reading()
        await self._woken()

    async def _woken(self) -> None:
        if self.eager is not None and not self.eager.is_task:
            await self.eager
        else:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.closed:
            raise ConnectionLost

    def wake(self) -> None:
        """Something has changed: whoever waits may look."""
        if self.eager is not None:
            self.eager.go_on()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def blame(self, error: Exception) -> None:
        """The owner hears of an error in what was received, or of ours over it."""
        if not isinstance(error, ProtocolError):
            logger.error("internal error on a connection", exc_info=error)
        try:
            self.owner.failed(error)
        except Exception:
            logger.exception("closing a connection after an error failed")
            self.abort()


def unheard(data: bytes, now: int) -> None:
    """Receiver of a connection that is closed."""


def _address(name: object) -> tuple[str, int]:
    if isinstance(name, tuple) and len(name) >= 2:
        return str(name[0]), int(name[1])
    return UNIX

"""A PostgreSQL client for hundreds in one event loop: raw bytes out, messages in.

Law: it asks and hears, and judges nothing. A reply ends with as many
ReadyForQuery as were asked for, or with the connection.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, cast

from tests.support import messages as m
from tests.support.messages import Message


@dataclass
class Reply:
    """`closed`: the connection has ended; `torn`: in the middle of a message."""

    messages: list[Message] = field(default_factory=list)
    closed: bool = False
    torn: bool = False


class Hung(Exception):
    """What had to come did not come in time; the text says what did."""


class NonceClient(asyncio.Protocol):
    """`await NonceClient.open(...)`, then `ask`, then `reset` or `close`.

    `heard`: something has come, or the end, since the last request was sent.
    """

    def __init__(self) -> None:
        self.pid, self.secret = 0, b""
        self.heard = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._reply = Reply()
        self._ready = 0
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, address: tuple[str, int], parameters: Mapping[str, str], patience: float) -> Self:
        """Logs in by trust. Raises OSError, Hung, or Refused."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(cls, *address)
        reply = await client.ask(m.startup(dict(parameters)), 1, patience)
        if reply.closed:
            raise Refused(str(m.errors(reply.messages)))
        for message in reply.messages:
            if message.tag == b"K":
                client.pid, client.secret = int.from_bytes(message.body[:4], "big"), message.body[4:]
        return client

    def send(self, data: bytes) -> None:
        self.heard.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def ask(self, data: bytes, ready: int, patience: float) -> Reply:
        """Sends, and hears so many ReadyForQuery or the end of the connection. Raises Hung."""
        self.send(data)
        self._wanted = ready
        if self._ready < ready and not self._reply.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait_for(self._waiter, patience)
            except TimeoutError:
                tail = self._reply.messages[-5:]
                raise Hung(f"{self._ready} of {ready} replies, the end of them {tail}") from None
        self._reply.torn = self._reply.closed and bool(self._buffer)
        reply, self._reply = self._reply, Reply(closed=self._reply.closed)
        self._ready = 0
        return reply

    def close(self) -> None:
        """Terminate, then the end."""
        self.send(m.terminate())
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Leaves at once, whatever is under way; unread data turns it into an RST."""
        if self._transport is not None:
            self._transport.abort()

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.heard.set()
        buffer, at = self._buffer, 0
        buffer += data
        while len(buffer) - at >= 5:
            length = int.from_bytes(buffer[at + 1 : at + 5], "big")
            if len(buffer) - at <= length:
                break
            message = Message(bytes(buffer[at : at + 1]), bytes(buffer[at + 5 : at + 1 + length]))
            self._reply.messages.append(message)
            self._ready += message.tag == b"Z"
            at += 1 + length
        del buffer[:at]
        if self._ready >= self._wanted > 0:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._reply.closed = True
        self.heard.set()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Refused(Exception):
    """A login ended with an error."""


async def cancel(address: tuple[str, int], client: NonceClient, patience: float) -> bool:
    """Sends a CancelRequest; True when the other side has ended that connection, as it must."""
    try:
        reader, writer = await asyncio.open_connection(*address)
    except OSError:
        return False
    try:
        writer.write(m.cancel_request(client.pid, client.secret))
        return await asyncio.wait_for(reader.read(), patience) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

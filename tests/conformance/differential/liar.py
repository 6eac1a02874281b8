"""A relay before PostgreSQL that lies in one way: what the comparison must find, or it proves nothing.

Law: a lie is told of whole messages; everything else passes as it came.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable

from tests.conformance.differential.compare import EARLY, MISSING, MORE, OTHER
from tests.support import messages as m
from tests.support.target import Target

_HONEST = 3
"""Occasions for a lie that each connection lets pass; the login is full of them."""


class Lie:
    """Told on one connection. `asked` and `answered` are given each message and return what goes on."""

    def __init__(self, tag: str, told: Callable[[bytes], bytes], honest: int = _HONEST) -> None:
        self.tag = tag
        self.told = told
        self.honest = honest
        self.occasions = 0

    def asked(self, data: bytes) -> tuple[bytes, bytes]:
        """A message of the client's: what goes to the server, and what back at once."""
        return data, b""

    def answered(self, data: bytes) -> bytes:
        """A message of the server's: what goes to the client."""
        return self.told(data) if self.occasion(data) else data

    def occasion(self, data: bytes) -> bool:
        """Whether the lie is told of this message."""
        self.occasions += data[:1] == self.tag.encode()
        return data[:1] == self.tag.encode() and self.occasions > self.honest


class ToServer(Lie):
    """About what the client asks."""

    def asked(self, data: bytes) -> tuple[bytes, bytes]:
        return (self.told(data) if self.occasion(data) else data), b""

    def answered(self, data: bytes) -> bytes:
        return data


class MadeUp(Lie):
    """ParseComplete is given by the relay, as soon as it sees a Parse."""

    def asked(self, data: bytes) -> tuple[bytes, bytes]:
        return data, m.message(b"1") if data[:1] == b"P" else b""

    def answered(self, data: bytes) -> bytes:
        return b"" if data[:1] == b"1" else data


_NOTICE = m.error_response("00000", "nobody said so", tag=b"N")


def another_value(data: bytes) -> bytes:
    """The same row with other figures."""
    return data[:7] + data[7:].replace(b"1", b"2")


LIES: dict[str, tuple[Callable[[], Lie], set[str]]] = {
    "loses a CloseComplete": (lambda: Lie("3", lambda data: b""), {OTHER, MISSING}),
    "sends a ReadyForQuery twice": (lambda: Lie("Z", lambda data: data * 2), {OTHER, MORE, EARLY}),
    "tells another value": (lambda: Lie("D", another_value), {OTHER}),
    "tells another error": (lambda: Lie("E", lambda data: data.replace(b"C2", b"C3")), {OTHER}),
    "tells another transaction status": (lambda: Lie("Z", lambda data: data[:-1] + b"T"), {OTHER}),
    "adds a notice": (
        lambda: Lie("C", lambda data: m.error_response("00000", "n", tag=b"N") + data),
        {OTHER},
    ),
    "does not pass on a Flush": (lambda: ToServer("H", lambda data: b""), {MISSING}),
    "adds a Flush": (lambda: ToServer("D", lambda data: data + m.flush()), {EARLY}),
    "makes up a ParseComplete": (lambda: MadeUp("", lambda data: data), {EARLY, OTHER}),
}
"""Each lie, and as what it may be seen."""


class Liar:
    """The relay, for as long as the block lasts; the target is where to connect to it."""

    def __init__(self, upstream: Target, lie: Callable[[], Lie]) -> None:
        self._upstream = upstream
        self._lie = lie
        self._server: asyncio.Server
        self._serving: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Target:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return Target("liar", host, port, self._upstream.user, self._upstream.database)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._relay(reader, writer)
        self._serving.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        server, to_server = await asyncio.open_connection(self._upstream.host, self._upstream.port)
        self._writers.append(to_server)
        lie = self._lie()

        def ask(data: bytes) -> None:
            onward, back = lie.asked(data)
            write(to_server, onward)
            write(writer, back)

        def answer(data: bytes) -> None:
            write(writer, lie.answered(data))

        to_server.write(await packet(reader))
        await asyncio.gather(passed_on(reader, ask, to_server), passed_on(server, answer, writer))


def write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Unless whoever should read it has left."""
    if data and not writer.is_closing():
        writer.write(data)


async def packet(reader: asyncio.StreamReader, tag: bytes = b"") -> bytes:
    """The rest of a message whose tag was read, or a startup packet."""
    length = await reader.readexactly(4)
    return tag + length + await reader.readexactly(struct.unpack("!I", length)[0] - 4)


async def passed_on(
    reader: asyncio.StreamReader, pass_on: Callable[[bytes], None], writer: asyncio.StreamWriter
) -> None:
    """Every message in one direction, and then the end."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            pass_on(await packet(reader, await reader.readexactly(1)))
    writer.close()

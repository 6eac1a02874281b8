"""A PostgreSQL that is no more than its wire: trust for everybody, answers from a function."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from protocol import tags
from protocol.authentication import AuthenticationOk
from protocol.backend import (
    CommandComplete,
    DataRow,
    ErrorResponse,
    FieldDescription,
    ReadyForQuery,
    RowDescription,
)
from protocol.framer import Collector
from protocol.looks import frontend_caps
from protocol.messages import Message
from protocol.startup import Startup, packet_length, parse_startup
from proxy.demo.client import Address

READY = ReadyForQuery(tags.STATUS_IDLE)
GREETING = (AuthenticationOk(), READY)
HOST = "127.0.0.1"


def rows(names: Sequence[str], *values: Sequence[str | None]) -> list[Message]:
    """The answer to a query that returns rows of text."""
    fields = [FieldDescription(name.encode(), 0, 0, 25, -1, -1, 0) for name in names]
    data = [DataRow([None if cell is None else cell.encode() for cell in row]) for row in values]
    return [RowDescription(fields), *data, CommandComplete(b"SELECT"), READY]


def done(tag: str = "OK") -> list[Message]:
    return [CommandComplete(tag.encode()), READY]


def error(severity: str, sqlstate: str, message: str) -> ErrorResponse:
    return ErrorResponse.make(severity, sqlstate, message)


class FakeServer:
    """Counts what happens; `greet` decides on a login, `answer` on a query.

    A list that does not end with ReadyForQuery is followed by a hang-up.
    """

    def __init__(self) -> None:
        self.port = 0
        self.logins = 0
        self.startups: list[Startup] = []
        self.queries: list[str] = []
        self.farewells = 0
        self._heard = asyncio.Event()
        self.greet: Callable[[int], Sequence[Message]] = lambda number: GREETING
        self.answer: Callable[[str], Sequence[Message]] = lambda query: done()

    def address(self, **changes: str) -> Address:
        parts = {"database": "app", "user": "alice", "password": "secret"} | changes
        return Address(HOST, self.port, parts["database"], parts["user"], parts["password"])

    async def heard(self, queries: int) -> None:
        """Return when so many queries have come; TimeoutError after ten seconds."""
        async with asyncio.timeout(10):
            while len(self.queries) < queries:
                self._heard.clear()
                await self._heard.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readexactly(4)
            length = packet_length(head) or 0
            startup = parse_startup(head + await reader.readexactly(length - 4))
            assert isinstance(startup, Startup)
            self.startups.append(startup)
            self.logins += 1
            if self._say(writer, self.greet(self.logins)):
                await self._converse(reader, writer)
        writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        collector = Collector(frontend_caps())
        while data := await reader.read(65536):
            collector.feed(data)
            while (message := collector.next()) is not None:
                if message[0] == tags.TERMINATE:
                    self.farewells += 1
                    return
                query = message[1].rstrip(b"\0").decode()
                self.queries.append(query)
                self._heard.set()
                if not self._say(writer, self.answer(query)):
                    return

    def _say(self, writer: asyncio.StreamWriter, messages: Sequence[Message]) -> bool:
        for message in messages:
            writer.write(message.encode())
        return bool(messages) and messages[-1] == READY


@contextlib.asynccontextmanager
async def fake_server() -> AsyncIterator[FakeServer]:
    """One that listens until the end of the block."""
    fake = FakeServer()
    server = await asyncio.start_server(fake.serve, HOST, 0)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        server.close()
        await server.wait_closed()

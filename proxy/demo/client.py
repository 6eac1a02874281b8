"""A PostgreSQL client as small as it gets: log in, run simple queries, read rows as text.

The law of this file: one query at a time, no TLS, no types. The demo opens hundreds of these in one event
loop, and asks the console through one.
"""

import asyncio
import functools
from dataclasses import dataclass, field
from typing import Self, cast

from protocol import tags
from protocol.backend import DataRow, ErrorResponse, RowDescription
from protocol.errors import ProtocolError
from protocol.framer import Collector
from protocol.frontend import Query, Terminate
from protocol.login import (
    Conversation,
    Derive,
    Greeting,
    LoginError,
    PlainSecret,
    Reply,
    ServerRefused,
    server_login,
)
from protocol.looks import BACKEND, SERVER_LOGIN_CAPS
from protocol.startup import encode_startup

CLOSE_SECONDS = 5.0

Row = dict[str, str | None]


class Refused(Exception):
    """The server answered with an error, or hung up; `sqlstate` is empty in the second case."""

    def __init__(self, message: str, sqlstate: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect, and as whom."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)

    def uri(self) -> str:
        """What psql takes as its argument. User, password and database must need no quoting."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"


@functools.lru_cache
def salted(order: Derive) -> bytes:
    """The salted password of SCRAM; hundreds of clients share one password and pay for it once."""
    return order.run()


class Client(asyncio.Protocol):
    """One connection; `await Client.open(address)`, then `query`, then `close`."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._collector = Collector(SERVER_LOGIN_CAPS)
        self._login: Conversation[Greeting] | None = None
        self._transport: asyncio.Transport | None = None
        self._error: ErrorResponse | None = None
        self._names: list[str] = []
        self._rows: list[Row] = []
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[list[Row]] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()

    @classmethod
    async def open(cls, address: Address) -> Self:
        """Connect and log in; raises Refused, or OSError when nobody listens."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: cls(address), address.host, address.port)
        try:
            await client._answer
        except BaseException:
            client._abort()
            raise
        return client

    async def query(self, text: str) -> list[Row]:
        """Run one simple query and return the rows of all its results; raises Refused."""
        if self._transport is None or self._transport.is_closing():
            raise Refused("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._rows = []
        self._transport.write(Query(text.encode()).encode())
        return await self._answer

    async def close(self) -> None:
        """Say goodbye, and wait until the server has hung up."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(Terminate().encode())
        try:
            await asyncio.wait_for(asyncio.shield(self._closed), CLOSE_SECONDS)
        except TimeoutError:
            self._abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        user = self._address.user.encode()
        parameters = {b"user": user, b"database": self._address.database.encode()}
        self._transport.write(encode_startup(parameters | {b"application_name": b"howdah demo"}))
        self._login = server_login(user, PlainSecret(self._address.password.encode()))
        self._proceed(None)

    def data_received(self, data: bytes) -> None:
        self._collector.feed(data)
        try:
            while (message := self._collector.next()) is not None:
                if self._login is not None:
                    self._proceed(message)
                else:
                    self._on_reply(*message)
        except ServerRefused as exc:
            self._fail(_refused(exc.error))
        except LoginError as exc:
            self._fail(Refused(exc.message, exc.sqlstate))
        except ProtocolError as exc:
            self._fail(Refused(exc.message))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Refused(str(exc) if exc else "server closed the connection unexpectedly"))
        if not self._closed.done():
            self._closed.set_result(None)

    def _proceed(self, reply: Reply | None) -> None:
        assert self._login is not None
        assert self._transport is not None
        try:
            step = next(self._login) if reply is None else self._login.send(reply)
            while isinstance(step, Derive):
                step = self._login.send(salted(step))
        except StopIteration:
            self._login = None
            self._collector.caps = BACKEND
            self._answer.set_result([])
            return
        if step:
            self._transport.write(step)

    def _on_reply(self, tag: int, body: bytes) -> None:
        if tag == tags.ROW_DESCRIPTION:
            self._names = [each.name.decode() for each in RowDescription.decode(body).fields]
        elif tag == tags.DATA_ROW:
            values = DataRow.decode(body).values
            texts = (None if value is None else value.decode() for value in values)
            self._rows.append(dict(zip(self._names, texts, strict=True)))
        elif tag == tags.ERROR_RESPONSE:
            self._error = ErrorResponse.decode(body)
        elif tag == tags.READY_FOR_QUERY and not self._answer.done():
            error, self._error = self._error, None
            if error is None:
                self._answer.set_result(self._rows)
            else:
                self._answer.set_exception(_refused(error))

    def _fail(self, error: Refused) -> None:
        if self._error is not None:
            error = _refused(self._error)
        if not self._answer.done():
            self._answer.set_exception(error)
        self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _refused(error: ErrorResponse) -> Refused:
    return Refused(f"{error.severity}: {error.message}", error.sqlstate)

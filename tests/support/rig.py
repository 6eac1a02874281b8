"""The parts of a worker in one event loop with the test: a fake PostgreSQL behind it, raw clients before it.

    async with Rig(auth_type="trust") as rig:
        peer = await rig.connect()
        await peer.login()
        await peer.ask("select 1")

Law: whatever the parts log as an internal error, or the loop has to report, fails the test at its end.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from config.settings import Settings
from proxy.client import Client
from proxy.reasons import ClientClosed
from proxy.transports import Doors, serve
from proxy.worker import Worker
from tests.support import messages as m
from tests.support.messages import Fields, Message
from tests.support.script import FakeServer, Script, default_script

PATIENCE = 10.0
"""Seconds until what should have happened counts as not happening."""


async def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Return when the condition holds; fail when it does not within PATIENCE."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while not condition():
        assert loop.time() < deadline, what or "it did not happen"
        await asyncio.sleep(0.002)


class Peer:
    """A raw client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.parameters: dict[str, str] = {}
        self.key = (0, b"")

    def send(self, *data: bytes) -> None:
        self._writer.write(b"".join(data))

    async def read(self) -> Message:
        """The next message. Raises IncompleteReadError at the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            header = await self._reader.readexactly(5)
            return Message(header[:1], await self._reader.readexactly(int.from_bytes(header[1:], "big") - 4))

    async def byte(self) -> bytes:
        """The answer to a request for encryption."""
        return await self._reader.readexactly(1)

    async def until(self, tag: bytes = b"Z") -> list[Message]:
        """Messages up to the first with this tag."""
        got = [await self.read()]
        while got[-1].tag != tag:
            got.append(await self.read())
        return got

    async def rest(self) -> bytes:
        """Everything until the other end closes."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""

    async def error(self) -> Fields:
        """The one message that is left, an error, behind which the connection ends."""
        data = await self.rest()
        assert data[:1] == b"E", data
        assert int.from_bytes(data[1:5], "big") == len(data) - 1, f"more than one message: {data!r}"
        return m.fields_of(data[5:])

    async def login(
        self, user: str = "alice", database: str = "app", version: int = m.PROTOCOL_3_0, **more: str
    ) -> list[Message]:
        """Send a startup packet and read up to ReadyForQuery; no password is asked for."""
        self.send(m.startup({"user": user, "database": database, **more}, version=version))
        return await self.welcome()

    async def welcome(self) -> list[Message]:
        """Read up to ReadyForQuery and remember what came on the way."""
        got = await self.until()
        for message in got:
            if message.tag == b"S":
                name, value = message.body[:-1].decode().split("\0")
                self.parameters[name] = value
            elif message.tag == b"K":
                self.key = int.from_bytes(message.body[:4], "big"), message.body[4:]
        return got

    async def ask(self, sql: str) -> list[Message]:
        """Run a simple query."""
        self.send(m.query(sql))
        return await self.until()

    async def password(self) -> Message:
        """The next message, which must be a request for a password."""
        got = await self.read()
        assert got.tag == b"R", got
        return got

    def close(self) -> None:
        self._writer.close()

    async def gone(self) -> None:
        """Close, and wait until nothing of the connection is left in the loop."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def reset(self) -> None:
        """Break the connection."""
        self._writer.transport.abort()


class Rig:
    """`worker` is built and not started: no listeners of its own, no signals, no sweeps."""

    def __init__(
        self,
        script: Script = default_script,
        *,
        database: Mapping[str, object] | None = None,
        databases: Mapping[str, Mapping[str, object]] | None = None,
        **settings: object,
    ) -> None:
        self.fake = FakeServer(script)
        self.errors: list[str] = []
        own = {"host": self.fake.host, "port": self.fake.port, **(database or {})}
        defaults: dict[str, object] = {
            "auth_type": "trust",
            "credentials": {"alice": "secret", "bob": "secret"},
            "pool_mode": "transaction",
        }
        self.settings = Settings.model_validate(
            {"databases": {"app": own, **(databases or {})}, **defaults, **settings}
        )
        self.worker: Worker
        self._handler = _Errors(self.errors)
        self._listener: Doors | None = None
        self._port = 0
        self._peers: list[Peer] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.errors.append(str(context)))
        logging.getLogger("howdah").addHandler(self._handler)
        self.worker = self.make_worker()
        lobby = self.worker.lobby
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self._port = listening.getsockname()[1]
        self._listener = await serve(lambda: Client(lobby).behind_gate(), listening, 100)
        return self

    def make_worker(self) -> Worker:
        """The worker, when the loop runs."""
        return Worker(self.settings, "no-such-file.ini")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        worker = self.worker
        assert self._listener is not None
        self._listener.close()
        for peer in self._peers:
            await peer.gone()
        for client in list(worker.lobby.clients.values()):
            client.finish(None, ClientClosed.SHUTDOWN)
        worker.manager.pause(None)
        try:
            self.fake.close()
            worker.manager.kill_servers(None)
            if error is None:
                await eventually(lambda: not worker.manager.servers_left(None), "servers are left")
        finally:
            worker.deriver.close()
            logging.getLogger("howdah").removeHandler(self._handler)
        if error is None:
            assert not self.errors

    async def connect(self) -> Peer:
        """A client has connected and said nothing."""
        assert self._listener is not None
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self._port))
        self._peers.append(peer)
        return peer

    async def client(self, user: str = "alice", database: str = "app") -> Peer:
        """A client has logged in."""
        peer = await self.connect()
        await peer.login(user, database)
        return peer


class _Errors(logging.Handler):
    def __init__(self, texts: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(f"{record.getMessage()} {record.exc_info}")

"""A started worker in the event loop of the test, with a configuration file and a fake PostgreSQL.

Law: signals are noted and never installed; tests call what the loop would have called.
"""

import asyncio
import gc
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import config
from proxy import log
from proxy.control import ShutdownMode
from proxy.worker import Worker
from tests.support.ports import free_port
from tests.support.rig import PATIENCE, Peer, eventually
from tests.support.script import FakeServer


@contextmanager
def process_as_before() -> Iterator[None]:
    """A worker freezes what lives at its start, and a reload sets up the log: tests want it all back."""
    root, ours = logging.getLogger(), logging.getLogger("howdah")
    levels, propagate = (root.level, ours.level), ours.propagate
    yield
    for handler in [handler for handler in root.handlers if isinstance(handler, log.Handler)]:
        root.removeHandler(handler)
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    ours.propagate = propagate
    gc.unfreeze()


class Running:
    """A worker that has started, on ports and a socket directory of its own."""

    def __init__(self, tmp_path: Path, **more: object) -> None:
        self.fake = FakeServer()
        self.path = tmp_path / "howdah.ini"
        self.auth = tmp_path / "userlist.txt"
        self.auth.write_text('"alice" "secret"\n')
        self.port = free_port()
        self.more = {"pool_mode": "transaction", **more}
        self.write()
        self.signals: dict[int, tuple[object, ...]] = {}
        self.worker = Worker(config.load(str(self.path)), str(self.path))
        self.task: asyncio.Task[int]
        self._peers: list[Peer] = []
        self._directory = tmp_path

    def write(self, extra: str = "") -> None:
        settings = "".join(f"{key} = {value}\n" for key, value in self.more.items())
        self.path.write_text(
            f"[databases]\napp = host={self.fake.host} port={self.fake.port}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir = {self.path.parent}\n"
            f"auth_type = trust\nauth_file = {self.auth}\nadmin_users = alice\nmetrics_addr =\n"
            f"{settings}{extra}"
        )

    async def __aenter__(self) -> "Running":
        loop = asyncio.get_running_loop()
        loop.add_signal_handler = self._note  # type: ignore[assignment, method-assign]
        self.task = loop.create_task(self.worker.main())
        await eventually(lambda: self.worker.started.is_set() or self.task.done())
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.task.done():
            self.worker.shutdown(ShutdownMode.IMMEDIATE)
        async with asyncio.timeout(PATIENCE):
            await self.task
        for peer in self._peers:
            await peer.gone()
        self.fake.close()

    def _note(self, number: int, *call: object) -> None:
        self.signals[number] = call

    def signal(self, number: signal.Signals) -> None:
        """What the loop calls when this signal comes."""
        handler, *arguments = self.signals[number]
        assert callable(handler)
        handler(*arguments)

    async def client(self, database: str = "app") -> Peer:
        peer = await self.connect()
        await peer.login(database=database)
        return peer

    async def connect(self) -> Peer:
        """A client has connected by TCP and said nothing."""
        self._peers.append(Peer(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self._peers[-1]

    async def by_unix_socket(self, database: str, user: str = "alice") -> Peer:
        peer = await self.connect_by_unix_socket()
        await peer.login(user, database)
        return peer

    async def connect_by_unix_socket(self) -> Peer:
        path = self._directory / f".s.PGSQL.{self.port}"
        self._peers.append(Peer(*await asyncio.open_unix_connection(str(path))))
        return self._peers[-1]

    async def code(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.task

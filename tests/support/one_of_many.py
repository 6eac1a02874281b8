"""A worker that is one of many, in the event loop of the test, which plays its supervisor.

Law: what the worker says is kept, in order; what it is told goes over a real socket pair. It may open as many
servers as it wants.
"""

import asyncio
import socket
from pathlib import Path
from typing import Self, TypeVar

import config
from proxy.announcements import Adopt, Stop
from proxy.control import ShutdownMode
from proxy.link import Calls, Link
from proxy.member import Member
from proxy.pool.leasing import Grant, Report
from proxy.worker import Worker
from tests.support.rig import PATIENCE, Peer, eventually
from tests.support.script import FakeServer

T = TypeVar("T")


class OneOfMany:
    """`boss` is the supervisor's end of the link, over `boss_socket`."""

    def __init__(self, tmp_path: Path, number: int = 3, **more: object) -> None:
        self.fake = FakeServer()
        (tmp_path / "userlist.txt").write_text('"alice" "secret"\n')
        lines = "".join(f"{key} = {value}\n" for key, value in more.items())
        path = tmp_path / "howdah.ini"
        path.write_text(
            f"[databases]\napp = host={self.fake.host} port={self.fake.port}\n[pgbouncer]\n"
            f"auth_type = trust\nauth_file = {tmp_path}/userlist.txt\nadmin_users = alice\nworkers = 4\n"
            f"pool_mode = transaction\n{lines}"
        )
        ours, theirs = socket.socketpair()
        self.heard: list[object] = []
        self.lost = False
        self.boss_socket = ours
        self.boss = Link(ours, self._hear, self._lose)
        self.calls = Calls(self.boss)
        self.member = Member(theirs)
        settings = config.load(str(path))
        self.worker = Worker(settings, str(path), number=number, member=self.member)
        self.task: asyncio.Task[int]
        self._peers: list[Peer] = []

    def _hear(self, message: object, descriptors: tuple[int, ...]) -> None:
        if self.calls.receive(message):
            return
        self.heard.append(message)
        if isinstance(message, Report):
            for _ in range(message.lacking):
                self.boss.send(Grant(message.key))

    def _lose(self) -> None:
        self.lost = True

    def said(self, kind: type[T]) -> list[T]:
        """What the worker has said of this kind."""
        return [message for message in self.heard if isinstance(message, kind)]

    async def __aenter__(self) -> Self:
        self.boss.start()
        self.task = asyncio.get_running_loop().create_task(self.worker.main())
        await eventually(lambda: self.worker.started.is_set())
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.task.done():
            self.boss.send(Stop(ShutdownMode.IMMEDIATE))
            if self.boss.closed:
                self.worker.ending.begin(ShutdownMode.IMMEDIATE)
        await self.code()
        for peer in self._peers:
            await peer.gone()
        self.boss.close()
        self.member.link.close()
        self.fake.close()

    async def code(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self.task

    async def adopt(self, others: int = 0) -> Peer:
        """A client comes, and is handed over."""
        theirs, ours = socket.socketpair()
        with theirs:
            self.boss.send(Adopt(others), [theirs.fileno()])
        self._peers.append(Peer(*await asyncio.open_unix_connection(sock=ours)))
        return self._peers[-1]

    async def client(self, database: str = "app") -> Peer:
        peer = await self.adopt()
        await peer.login(database=database)
        return peer

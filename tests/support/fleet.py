"""Several workers and what a supervisor has of the console, all in the event loop of the test.

    async with Together(2) as all:
        peer = await all[1].client()
        await all.fleet.control.execute(Pause())

Law: between worker and fleet is nothing but the link that processes have, too.
"""

import asyncio
import socket
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Self

from config.problems import ConfigError
from config.settings import Settings
from proxy.announcements import Altered
from proxy.control import ShutdownMode
from proxy.fleet import Fleet
from proxy.handle import WorkerHandle
from proxy.member import Member
from proxy.snapshot import ConfigRow, ReasonCounts, StateSnapshot, WorkerSnapshot
from proxy.steward import Steward
from proxy.worker import Worker
from tests.support.rig import Rig
from tests.support.script import FakeServer, Script, default_script


class OneOf(Rig):
    """A worker of several; its end of the link is `member`."""

    def __init__(self, number: int, sock: socket.socket, script: Script, **settings: Any) -> None:
        super().__init__(script, **settings)
        self.fake.close()
        self.number = number
        self.member = Member(sock)

    def make_worker(self) -> Worker:
        return Worker(self.settings, "no-such-file.ini", number=self.number, member=self.member)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.member.start(self.settings, [])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.member.stop()
        self.member.link.close()
        await super().__aexit__(kind, error, trace)


class Together:
    """Worker 1 to `count` before one fake PostgreSQL; `together[2]` is the second."""

    def __init__(self, count: int = 2, script: Script = default_script, **settings: Any) -> None:
        self._count, self._script = count, script
        self._options = settings
        self._stack = AsyncExitStack()
        self.rigs: dict[int, OneOf] = {}
        self.workers: dict[int, WorkerHandle] = {}
        self.on_joined: list[Callable[[WorkerHandle], None]] = []
        self.on_left: list[Callable[[WorkerHandle], None]] = []
        self.on_ended: list[Callable[[WorkerHandle], None]] = []
        self._handlers: dict[type, Callable[[WorkerHandle, Any, tuple[int, ...]], None]] = {}
        self.reloaded: Settings | None = None
        self.refused: list[Any] = []
        self.stopped: list[ShutdownMode] = []
        self.discarded: list[int] = []
        self.fleet: Fleet
        self.steward: Steward

    def __getitem__(self, number: int) -> OneOf:
        return self.rigs[number]

    async def __aenter__(self) -> Self:
        self._fake = self._stack.enter_context(FakeServer(self._script))
        self._options["database"] = {"host": self._fake.host, "port": self._fake.port}
        first = Rig(self._script, **self._options)
        first.fake.close()
        self.settings = first.settings
        self.steward = Steward(self)
        self._handlers |= self.steward.handlers()
        self._handlers[Altered] = self._pass_on
        self.fleet = Fleet(
            first.settings,
            load=lambda: self.reloaded or self.fleet.settings,
            check=self._check,
            apply=lambda settings: None,
            stop=self.stopped.append,
            discard=self.discarded.append,
            own=self._own,
            until_none=self.steward.until_none,
        )
        for number in range(1, self._count + 1):
            await self.add(number)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for rig in self.rigs.values():
            rig.member.link.close()
        for handle in list(self.workers.values()):
            self._lost(handle)
        await self._stack.__aexit__(kind, error, trace)

    async def add(self, number: int) -> OneOf:
        """A worker has begun to serve."""
        ours, theirs = socket.socketpair()
        rig = OneOf(number, theirs, self._script, **self._options)
        await self._stack.enter_async_context(rig)
        handle = WorkerHandle(number, ours, 0, self._receive, self._lost)
        handle.link.start()
        self.rigs[number], self.workers[number] = rig, handle
        for told in self.on_joined:
            told(handle)
        self.fleet.joined(handle)
        return rig

    def _receive(self, handle: WorkerHandle, message: object, descriptors: tuple[int, ...]) -> None:
        if not handle.calls.receive(message) and (handler := self._handlers.get(type(message))) is not None:
            handler(handle, message, descriptors)

    def _pass_on(self, handle: WorkerHandle, message: object, _: object) -> None:
        for other in self.workers.values():
            if other is not handle:
                other.link.send(message)

    def _lost(self, handle: WorkerHandle) -> None:
        if self.workers.pop(handle.number, None) is handle:
            handle.link.close()
            handle.calls.lost()
            for told in (*self.on_left, *self.on_ended):
                told(handle)
            self.fleet.left(handle)

    def lose(self, number: int) -> None:
        """The worker is killed: all that is heard of it is the end of its link."""
        handle = self.workers[number]
        # Closed with something unread, a socket tells the other end of a failure, not of its end.
        with suppress(BlockingIOError):
            while handle.link._sock.recv(65536):
                pass
        self._lost(handle)
        self.rigs[number].worker.ending.mode = ShutdownMode.IMMEDIATE

    def silence(self, number: int) -> None:
        """The worker stands still: it reads nothing any more."""
        link = self.rigs[number].member.link
        asyncio.get_running_loop().remove_reader(link._sock.fileno())

    def wake(self, number: int) -> None:
        """It goes on."""
        self.rigs[number].member.link.start()

    def _check(self, settings: Settings) -> None:
        if self.refused:
            raise ConfigError(self.refused)

    def _own(self, parts: Collection[str]) -> dict[str, Any]:
        rows = [
            ConfigRow(key, value or "", default or "", True)
            for key, value, default, _ in self.fleet.settings.rows()
        ]
        numbers = range(1, self._count + 1)
        return {
            "state": StateSnapshot(paused=self.fleet.halts.paused),
            "config": rows,
            "workers": [WorkerSnapshot(number, 1000 + number, restarts=number) for number in numbers],
            "reasons": ReasonCounts(reloads={"ok": 1}),
        }

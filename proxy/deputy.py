"""A worker's part in what concerns the whole pooler: does what the supervisor says, asks it for the rest.

Laws of this file: orders take effect in the order in which they come; what would take a worker long, a
snapshot of thousands of clients, is done in parts between which everybody else has his turn.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

from config.problems import Problem
from config.settings import Settings
from protocol import sqlstate as codes
from proxy import log
from proxy.announcements import Altered
from proxy.bundle import Looked, Merged, Piece, needed, pack
from proxy.control import (
    Daemon,
    DatabaseOrder,
    Disable,
    Enable,
    Kill,
    KillClient,
    Order,
    OrderRefused,
    Pause,
    Reconnect,
    Resume,
    WaitClose,
)
from proxy.halts import Halted
from proxy.inquiries import (
    Agreed,
    Cancel,
    Commit,
    Do,
    Execute,
    Gather,
    Join,
    Prepare,
    Refusal,
    TakeSnapshot,
    Undo,
    Until,
)
from proxy.link import CallFailed, Calls, LinkLost
from proxy.tasks import Tasks

_logger: Final = logging.getLogger("howdah")


class Subordinate(Daemon, Protocol):
    """What is asked of the worker besides."""

    @property
    def settings(self) -> Settings: ...

    @property
    def looked(self) -> Looked:
        """Its own snapshots."""

    def problems_with(self, settings: Settings) -> list[Problem]:
        """What would keep it from applying them."""

    def apply(self, settings: Settings) -> None:
        """Take new settings. Raises ConfigError."""

    async def cancel(self, pid: int, secret: bytes) -> bool:
        """Deal with a cancel request for a client of its own; False if there is none with this key."""


class Deputy:
    """Answers over `calls`, and asks over it: the source and the control of the worker's consoles. `tell`
    sends what is no question.
    """

    def __init__(self, worker: Subordinate, calls: Calls, tell: Callable[[object], None]) -> None:
        self._worker = worker
        self._calls = calls
        self._tell = tell
        self._altered: dict[str, None] = {}
        self._prepared: Settings | None = None
        self._asking = Tasks()
        calls.answerers |= {
            TakeSnapshot: self._take,
            Join: self._join,
            Do: self._do,
            Until: self._until,
            Prepare: self._prepare,
            Commit: self._commit,
            Cancel: lambda cancel: self._worker.cancel(cancel.pid, cancel.secret),
        }

    # What the consoles of this worker ask for.

    async def take(self, parts: Collection[str]) -> Merged:
        """The snapshots of all workers. Waits for them."""
        gathered = await self._ask(Gather(needed(parts)))
        return Merged(gathered.bundles, gathered.silent)

    async def execute(self, order: Order) -> None:
        """Have an order carried out everywhere. Raises OrderRefused.

        Waiting may be given up; what takes effect at once does so even if its console goes away.
        """
        asking = self._asking.share(self._ask(Execute(order)))
        waits = isinstance(order, Pause | WaitClose)
        refusal = await (asking if waits else asyncio.shield(asking))
        if isinstance(refusal, Refusal):
            raise OrderRefused(refusal.message, refusal.sqlstate, refusal.detail)

    async def undo(self, order: Order) -> None:
        """Take back an order whose waiting was given up on purpose."""
        await self._ask(Undo(order))

    async def _ask(self, question: object) -> Any:
        try:
            return await self._calls.ask(question)
        except LinkLost as error:
            raise OrderRefused("pooler is shutting down", codes.ADMIN_SHUTDOWN) from error
        except CallFailed as error:
            raise OrderRefused("internal error", codes.INTERNAL_ERROR, str(error)) from error

    async def pass_on(self, pid: int, secret: bytes) -> bool:
        """Pass on a cancel request for a client of another worker; False if nobody has this key.

        Whoever sent it may hang up at once: it is on its way all the same.
        """
        found: bool = await asyncio.shield(self._asking.share(self._pass_on(Cancel(pid, secret))))
        return found

    async def _pass_on(self, cancel: Cancel) -> bool:
        try:
            found: bool = await self._calls.ask(cancel)
        except LinkLost:
            return False
        return found

    def altered(self, database: str) -> None:
        """The schema of a database was changed by a client: once for each turn of the loop, say so."""
        if not self._altered:
            asyncio.get_running_loop().call_soon(self._tell_altered)
        self._altered[database] = None

    def _tell_altered(self) -> None:
        self._tell(Altered(tuple(self._altered)))
        self._altered.clear()

    # What the supervisor asks for.

    async def _take(self, question: TakeSnapshot) -> tuple[Piece, ...]:
        pieces = list[Piece]()
        for piece in pack(self._worker.looked, question.parts):
            if piece is not None:
                pieces.append(piece)
            await asyncio.sleep(0)
        return tuple(pieces)

    async def _join(self, join: Join) -> None:
        if join.settings != self._worker.settings:
            self._worker.apply(join.settings)
        await self._halt(join.halted)

    async def _halt(self, halted: Halted) -> None:
        worker = self._worker
        if halted.paused:
            await worker.pause(None)
        for name in filter(worker.has_database, halted.differing):
            await (worker.resume(name) if halted.paused else worker.pause(name))
        for name in filter(worker.has_database, halted.disabled):
            await worker.disable(name)

    async def _do(self, do: Do) -> Any:
        worker, order = self._worker, do.order
        if isinstance(order, KillClient):
            return int(await worker.kill_client(order.client))
        assert isinstance(order, DatabaseOrder)
        name = order.database
        if name is not None and not worker.has_database(name):
            return ()
        match order:
            case Pause():
                await worker.pause(name)
            case Resume():
                await worker.resume(name)
            case Disable():
                await worker.disable(name or "")
            case Enable():
                await worker.enable(name or "")
            case Reconnect():
                await worker.reconnect(name)
            case Kill():
                await worker.kill(name)
                return tuple(worker.paused_databases())
        return ()

    async def _until(self, until: Until) -> None:
        wait = self._worker.paused if isinstance(until.order, Pause) else self._worker.closed
        await wait(until.order.database)

    async def _prepare(self, prepare: Prepare) -> Agreed:
        # Should this fail, what was prepared before must not be taken in its place.
        self._prepared = None
        problems = self._worker.problems_with(prepare.settings)
        if not problems:
            self._prepared = prepare.settings
        return Agreed(tuple(problems))

    async def _commit(self, commit: Commit) -> None:
        settings, self._prepared = self._prepared, None
        if settings is None:
            raise RuntimeError("these settings were not agreed to")
        self._worker.apply(settings)
        if commit.reopen:
            log.reopen()

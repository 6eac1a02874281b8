"""All workers as the one daemon that orders are given to.

Laws of this file: what it is told it tells everybody before it waits for anybody, so all hear the same orders
in the same order; who joins later is told the state that these have led to. Settings are taken by all or by
none. A worker that stands still does what it was told when it goes on, or is replaced by one that knows.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from config.changes import applicable, changes
from config.problems import ConfigError, Problem
from config.settings import Settings
from proxy import log, process
from proxy.control import (
    Control,
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
    ShutdownMode,
    WaitClose,
)
from proxy.gathering import Gathering, Respondent
from proxy.halts import Halts
from proxy.inquiries import (
    Agreed,
    Cancel,
    Commit,
    Do,
    Execute,
    Gather,
    Gathered,
    Join,
    Prepare,
    Refusal,
    Undo,
    Until,
)
from proxy.link import CallFailed, LinkLost
from proxy.tasks import Tasks

ORDER_SECONDS: Final = 5.0
"""How long a worker is waited for that has an order to carry out."""

_logger: Final = logging.getLogger("howdah")


class Fleet:
    """To `Control` it is the daemon. `load` reads the configuration, `check` and `apply` are the supervisor's
    own part in new settings (both raise ConfigError), `stop` begins a shutdown, `discard` ends a worker;
    `until_none` returns when there is no server of a database, also none that a dead worker has left behind.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        check: Callable[[Settings], None],
        apply: Callable[[Settings], None],
        stop: Callable[[ShutdownMode], None],
        discard: Callable[[int], None],
        own: Callable[[Collection[str]], dict[str, Any]],
        until_none: Callable[[str | None], Awaitable[None]],
    ) -> None:
        self.settings = settings
        self.halts = Halts()
        self.workers: dict[int, Respondent] = {}
        self.control = Control(self)
        self.gathering = Gathering(self.workers, own)
        self.shutting_down = False
        self.reloads: Counter[str] = Counter()
        self._load, self._check, self._apply = load, check, apply
        self._stop, self._discard, self._until_none = stop, discard, until_none
        self._changing = asyncio.Lock()
        self._asking = Tasks()

    # Workers coming and going.

    def joined(self, worker: Respondent) -> None:
        """A worker has begun to serve, and can be asked things; it hears of the state first of all."""
        self.workers[worker.number] = worker
        worker.calls.answerers |= {
            Gather: self._gather,
            Execute: self._execute,
            Undo: lambda undo: self.control.undo(undo.order),
            Cancel: self._cancel,
        }
        self._tell(worker, Join(self.halts.present(), self.settings))

    def left(self, worker: Respondent) -> None:
        """A worker has gone; may be said twice."""
        if self.workers.get(worker.number) is worker:
            del self.workers[worker.number]
            self.gathering.left(worker.number)

    # What workers ask for.

    async def _gather(self, gather: Gather) -> Gathered:
        return await self.gathering.gather(gather.parts)

    def _execute(self, execute: Execute) -> "asyncio.Task[Refusal | None]":
        # Begun at once: who withdraws the question before we get to it takes nothing back.
        return self._asking.share(self._carry_out(execute))

    async def _carry_out(self, execute: Execute) -> Refusal | None:
        try:
            await self.control.execute(execute.order)
        except OrderRefused as error:
            return Refusal(error.message, error.sqlstate, error.detail)
        except Exception:
            _logger.exception("carrying out %s failed", execute.order)
            raise
        return None

    async def _cancel(self, cancel: Cancel) -> bool:
        owner = self.workers.get(cancel.pid & 0xFF)
        if owner is None:
            return False
        try:
            found: bool = await owner.calls.ask(cancel)
        except (LinkLost, CallFailed):
            return False
        return found

    # Telling all of them.

    def _tell(self, worker: Respondent, message: object) -> "asyncio.Task[Any]":
        return self._asking.start(self._ask(worker, message))

    async def _ask(self, worker: Respondent, message: object) -> Any:
        try:
            return await worker.calls.ask(message)
        except LinkLost:
            return None
        except CallFailed as error:
            _logger.error("worker %d failed over %s: %s", worker.number, type(message).__name__, error)
            if isinstance(message, Join | Commit):
                # It would go on with other settings than all the rest.
                self._discard(worker.number)
            return None

    async def _all(self, message: object, *, patient: bool = False) -> list[Any]:
        """The answers of those that gave one in time; who is patient has no limit."""
        tasks = {self._tell(worker, message): worker for worker in list(self.workers.values())}
        if not tasks:
            return []
        try:
            _, late = await asyncio.wait(tasks, timeout=None if patient else ORDER_SECONDS)
        except asyncio.CancelledError:
            for task in tasks if patient else ():
                task.cancel()
            raise
        for task in late:
            _logger.warning("worker %d does not answer", tasks[task].number)
        return [task.result() for task in tasks if task.done()]

    async def _do(self, order: Order) -> list[Any]:
        return await self._all(Do(order))

    # What Control asks of the daemon.

    def has_database(self, name: str) -> bool:
        """Whether the database is configured, or can be made from `*`."""
        return self.settings.database(name) is not None

    def is_paused(self, database: str | None) -> bool:
        """Whether the database, or for None the pooler as a whole, is paused."""
        return self.halts.is_paused(database)

    def paused_databases(self) -> Sequence[str]:
        """The databases paused by name, or by a kill."""
        return self.halts.paused_databases()

    def is_shutting_down(self) -> bool:
        """Whether a shutdown has begun."""
        return self.shutting_down

    async def pause(self, database: str | None) -> None:
        """Lend no servers any more."""
        self.halts.pause(database, True)
        for worker in self.workers.values():
            self._tell(worker, Do(Pause(database)))

    async def paused(self, database: str | None) -> None:
        """Return when no worker has a server left open, and none is on its way between two."""
        await self._until(Pause(database))
        await self._until_none(database)

    async def resume(self, database: str | None) -> None:
        """Lend again."""
        self.halts.pause(database, False)
        await self._do(Resume(database))

    async def disable(self, database: str) -> None:
        """Let nobody log in."""
        self.halts.disable(database, True)
        await self._do(Disable(database))

    async def enable(self, database: str) -> None:
        """Let clients log in again."""
        self.halts.disable(database, False)
        await self._do(Enable(database))

    async def reconnect(self, database: str | None) -> None:
        """Close each server when it is free."""
        await self._do(Reconnect(database))

    async def closed(self, database: str | None) -> None:
        """Return when no worker has a server left that is marked to be closed."""
        for _ in range(2):
            # What was on its way between two the first time has arrived by the second.
            await self._until(WaitClose(database))

    async def _until(self, order: DatabaseOrder) -> None:
        await self._all(Until(order), patient=True)

    async def kill(self, database: str | None) -> None:
        """Drop clients and servers; the databases are paused from now on, those made from `*`, too."""
        configured = [name for name in self.settings.databases if name != "*"]
        for name in configured if database is None else [database]:
            self.halts.pause(name, True)
        killed = await self._do(Kill(database))
        if database is None:
            names = {name for databases in killed for name in databases or ()}
            for name in names - set(self.halts.paused_databases()):
                self.halts.pause(name, True)
                await self._do(Pause(name))

    async def kill_client(self, client: int) -> bool:
        """Disconnect one client, wherever it is."""
        return any(await self._do(KillClient(client)))

    def shutdown(self, mode: ShutdownMode) -> None:
        """Begin to shut down."""
        self.shutting_down = True
        self._stop(mode)

    # Settings.

    async def reload(self) -> None:
        """Read the configuration again. Raises ConfigError and changes nothing if it is wrong for anybody."""
        process.notify_reloading()
        try:
            async with self._changing:
                await self._change(self._load(), Commit(reopen=True))
        except ConfigError as error:
            for problem in error.problems:
                _logger.error("%s", problem)
            self.reloads["failed"] += 1
            raise
        else:
            self.reloads["ok"] += 1
        finally:
            process.notify_ready()

    async def set_setting(self, key: str, value: str) -> None:
        """Change one setting until the next reload."""
        async with self._changing:
            await self._change(self.settings.with_value(key, value), Commit())

    async def _change(self, settings: Settings, commit: Commit) -> None:
        for key in changes(self.settings, settings).restart_keys:
            _logger.warning("%s has changed, which takes effect after a restart", key)
        settings = applicable(self.settings, settings)
        self._check(settings)
        asked = list(self.workers.values())
        problems = list[Problem]()
        for answer in await self._all(Prepare(settings)):
            if isinstance(answer, Agreed):
                problems += [problem for problem in answer.problems if problem not in problems]
        if problems:
            raise ConfigError(problems)
        self._apply(settings)
        self.settings = settings
        self.halts.forget(self.has_database)
        # Who came meanwhile was told of the old ones.
        for worker in self.workers.values():
            if worker not in asked:
                self._tell(worker, Prepare(settings))
        if commit.reopen:
            log.reopen()
        await self._all(commit)

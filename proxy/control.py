"""Orders, and the one place that carries them out, whoever gave them: the console or a signal.

Laws of this file: an order is plain frozen data, so it can be sent to another process. `Control` knows
PgBouncer's rules and texts, the `Daemon` does the work and does not ask again. Only PAUSE and WAIT_CLOSE
wait, and only these end when the task that executes them is cancelled.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol

from config.problems import ConfigError, NotChangeable, UnknownSetting
from protocol import sqlstate as codes
from proxy.names import ADMIN_DATABASES
from proxy.tasks import Tasks


class OrderRefused(Exception):
    """An order that was not carried out; `message` is PgBouncer's text, `detail` what more is known."""

    def __init__(
        self, message: str, sqlstate: str = codes.PROTOCOL_VIOLATION, detail: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate
        self.detail = detail


class ShutdownMode(Enum):
    """What a shutdown waits for; the values are the words of the console."""

    IMMEDIATE = ""
    WAIT_FOR_SERVERS = "WAIT_FOR_SERVERS"
    WAIT_FOR_CLIENTS = "WAIT_FOR_CLIENTS"


@dataclass(frozen=True, slots=True)
class Order:
    """Something the pooler is told to do."""


@dataclass(frozen=True, slots=True)
class Reload(Order):
    """Read the configuration again; all of it counts, or nothing."""


@dataclass(frozen=True, slots=True)
class Set(Order):
    """Change one setting until the next reload."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Suspend(Order):
    """Stop all traffic for a takeover by another process. Refused."""


@dataclass(frozen=True, slots=True)
class Shutdown(Order):
    """Stop the process, at once or when there is nothing left to wait for."""

    mode: ShutdownMode = ShutdownMode.IMMEDIATE


@dataclass(frozen=True, slots=True)
class KillClient(Order):
    """Disconnect one client, by its id in SHOW CLIENTS."""

    client: int


@dataclass(frozen=True, slots=True)
class DatabaseOrder(Order):
    """An order about one database, or about all of them (None)."""

    doing: ClassVar[str]
    """How PgBouncer's texts call it."""
    needs_database: ClassVar[bool] = False

    database: str | None = None


@dataclass(frozen=True, slots=True)
class Pause(DatabaseOrder):
    """Close servers as they are released and let queries wait; done when no server is left."""

    doing: ClassVar[str] = "pause"


@dataclass(frozen=True, slots=True)
class Resume(DatabaseOrder):
    """Undo Pause and Kill."""

    doing: ClassVar[str] = "resume"


@dataclass(frozen=True, slots=True)
class Disable(DatabaseOrder):
    """Refuse new clients."""

    doing: ClassVar[str] = "disable"
    needs_database: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Enable(DatabaseOrder):
    """Undo Disable."""

    doing: ClassVar[str] = "enable"
    needs_database: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Reconnect(DatabaseOrder):
    """Close each server at its next release and open a new one in its place."""

    doing: ClassVar[str] = "reconnect"


@dataclass(frozen=True, slots=True)
class WaitClose(DatabaseOrder):
    """Wait until the servers that a reconnect or a reload marked are gone."""

    doing: ClassVar[str] = "wait in"


@dataclass(frozen=True, slots=True)
class Kill(DatabaseOrder):
    """Drop clients and servers at once and leave the database paused."""

    doing: ClassVar[str] = "kill"


class Daemon(Protocol):
    """What carries an order out: one process, which does it at once, or all workers. A database of None means
    all of them, that of the console excepted."""

    def has_database(self, name: str) -> bool:
        """Whether the database is configured, or can be made from `*` (then it is made)."""

    def is_paused(self, database: str | None) -> bool:
        """Whether the database, or for None the pooler as a whole, is paused."""

    def paused_databases(self) -> Collection[str]:
        """The databases paused by name, or by a kill."""

    def is_shutting_down(self) -> bool: ...

    async def pause(self, database: str | None) -> None:
        """Lend no servers any more; waits for none to close."""

    async def paused(self, database: str | None) -> None:
        """Return when no server is left open. May be cancelled."""

    async def resume(self, database: str | None) -> None: ...

    async def disable(self, database: str) -> None: ...

    async def enable(self, database: str) -> None: ...

    async def reconnect(self, database: str | None) -> None: ...

    async def closed(self, database: str | None) -> None:
        """Return when no server marked to be closed is left. May be cancelled."""

    async def kill(self, database: str | None) -> None:
        """Drop clients and servers; the databases are paused from now on."""

    async def kill_client(self, client: int) -> bool:
        """Disconnect the client with `admin forced disconnect`; False if there is none with this id."""

    async def reload(self) -> None:
        """Read the configuration again. Raises ConfigError and changes nothing if it is wrong."""

    async def set_setting(self, key: str, value: str) -> None:
        """Raises UnknownSetting, NotChangeable, or ConfigError for a value that does not fit."""

    def shutdown(self, mode: ShutdownMode) -> None:
        """Begin to shut down; returns at once."""


class Orders(Protocol):
    """Where orders are given."""

    async def execute(self, order: Order) -> None:
        """Carry the order out and wait for its effect where it has PgBouncer wait. Raises OrderRefused."""

    async def undo(self, order: Order) -> None:
        """Take back an order whose waiting was given up on purpose: a PAUSE lets traffic flow again."""


class Control:
    """Carries orders out, one by one or side by side."""

    def __init__(self, daemon: Daemon, admin_databases: Collection[str] = ADMIN_DATABASES) -> None:
        self._daemon = daemon
        self._admin_databases = admin_databases
        self._pauses: dict[asyncio.Future[None], str | None] = {}
        self._reloads = Tasks()

    async def execute(self, order: Order) -> None:
        """Carry the order out and wait for its effect where it has PgBouncer wait.

        Raises OrderRefused. If cancelled while it waits, what was begun stays (see `undo`).
        """
        match order:
            case DatabaseOrder():
                await self._execute_on_database(order)
            case Reload():
                await self._reload()
            case Set():
                await self._set(order)
            case KillClient():
                if not await self._daemon.kill_client(order.client):
                    raise OrderRefused("client not found")
            case Shutdown():
                self._daemon.shutdown(order.mode)
            case _:
                raise OrderRefused("SUSPEND is not supported", codes.FEATURE_NOT_SUPPORTED)

    async def undo(self, order: Order) -> None:
        """Take back an order whose waiting was given up on purpose: a PAUSE lets traffic flow again."""
        if isinstance(order, Pause) and not self._daemon.is_shutting_down():
            await self._lift(order.database)

    async def _execute_on_database(self, order: DatabaseOrder) -> None:
        self._check(order)
        match order:
            case Pause():
                await self._pause(order.database)
            case Resume():
                await self._resume(order.database)
            case Disable():
                await self._daemon.disable(order.database or "")
            case Enable():
                await self._daemon.enable(order.database or "")
            case Reconnect():
                await self._daemon.reconnect(order.database)
            case Kill():
                await self._daemon.kill(order.database)
            case WaitClose():
                await self._daemon.closed(order.database)
            case _:
                raise TypeError(f"no such order: {order!r}")

    def _check(self, order: DatabaseOrder) -> None:
        """Raise OrderRefused unless the order fits the database it names and the state of the pooler."""
        if isinstance(order, Pause | Kill) and self._daemon.is_paused(None):
            raise OrderRefused("already suspended/paused")
        if order.database is None:
            if order.needs_database:
                raise OrderRefused("a database is required")
            return
        if order.database in self._admin_databases:
            if isinstance(order, Resume):
                raise OrderRefused(f"database {order.database} is not paused")
            raise OrderRefused(f"cannot {order.doing} admin db: {order.database}")
        if not self._daemon.has_database(order.database):
            raise OrderRefused(f"no such database: {order.database}")

    async def _pause(self, database: str | None) -> None:
        await self._daemon.pause(database)
        waiting = asyncio.ensure_future(self._daemon.paused(database))
        self._pauses[waiting] = database
        try:
            await waiting
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if waiting in self._pauses or (task is not None and task.cancelling()):
                raise
            raise OrderRefused("PAUSE was undone by RESUME", codes.QUERY_CANCELED) from None
        finally:
            self._pauses.pop(waiting, None)

    async def _resume(self, database: str | None) -> None:
        if database is not None:
            if not self._daemon.is_paused(database):
                raise OrderRefused(f"database {database} is not paused")
            await self._lift(database)
            return
        if self._daemon.is_shutting_down():
            raise OrderRefused("pooler is shutting down")
        if self._daemon.is_paused(None):
            await self._lift(None)
            return
        # A KILL without a name paused the databases one by one: this RESUME is its opposite.
        paused = list(self._daemon.paused_databases())
        if not paused:
            raise OrderRefused("pooler is not paused/suspended")
        for name in paused:
            await self._lift(name)

    async def _lift(self, database: str | None) -> None:
        """End a pause, also for those who still wait for it to be complete."""
        for waiting in [future for future, name in self._pauses.items() if name == database]:
            del self._pauses[waiting]
            waiting.cancel()
        await self._daemon.resume(database)

    async def _reload(self) -> None:
        # Whoever asked may go away in the middle: a reload is never left half done.
        try:
            await asyncio.shield(self._reloads.share(self._daemon.reload()))
        except ConfigError as error:
            text = "RELOAD failed, see logs for additional details"
            raise OrderRefused(text, codes.CONFIG_FILE_ERROR, str(error)) from error

    async def _set(self, order: Set) -> None:
        try:
            await self._daemon.set_setting(order.key, order.value)
        except (ConfigError, NotChangeable, UnknownSetting) as error:
            raise OrderRefused("SET failed", detail=str(error)) from error

"""One event loop: build everything, hand it to each other, run, shut down.

The one file that knows all the others; it decides nothing that another could decide.
"""

import asyncio
import contextlib
import itertools
import logging
import random
import signal
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import config
from config.changes import applicable, changes
from config.problems import ConfigError, Problem
from config.settings import Settings
from config.types import EventLoop
from proxy import log, process
from proxy.admin.commands import Identity
from proxy.admin.console import GREETING, Console
from proxy.cancel import Canceller
from proxy.changes import Changes
from proxy.client import Client
from proxy.control import Control, Order, OrderRefused, Pause, Reload, Resume, Shutdown, ShutdownMode
from proxy.derive import Deriver
from proxy.dialler import Dialler
from proxy.errors import Killed, LoginRefused, PoolerError, ShuttingDown
from proxy.garbage import Garbage
from proxy.identity import whereabouts
from proxy.listener import Listener, ListenError
from proxy.lobby import ConsoleSession, Lobby
from proxy.observer import Observer
from proxy.pool.database import Database
from proxy.pool.janitor import PERIOD, Janitor
from proxy.pool.manager import PoolManager
from proxy.reasons import ClientClosed, ServerClosed
from proxy.resolver import Resolver
from proxy.source import Source
from proxy.statsline import stats_line
from proxy.version import version_text

logger = logging.getLogger("howdah")

# Time for PostgreSQL to take leave of the last connections before the process ends (s).
_FAREWELL: Final = 1.0
_ORDERS: Final[dict[signal.Signals, Order]] = {
    signal.SIGHUP: Reload(),
    signal.SIGUSR1: Pause(),
    signal.SIGUSR2: Resume(),
    signal.SIGINT: Shutdown(ShutdownMode.WAIT_FOR_SERVERS),
    signal.SIGTERM: Shutdown(ShutdownMode.WAIT_FOR_CLIENTS),
    signal.SIGQUIT: Shutdown(ShutdownMode.IMMEDIATE),
}
"""PgBouncer's signals, as they are since 1.23."""


def run(settings: Settings, path: str, *, quiet: bool, verbose: int) -> int:
    """Run the daemon to its end; returns the exit code: 0 after a shutdown that was asked for, 1
    otherwise.
    """
    factory = asyncio.new_event_loop
    if settings.event_loop is EventLoop.UVLOOP:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(Worker(settings, path, quiet=quiet, verbose=verbose).main())


class Worker:
    """Owns listeners, shutdown and the janitor's timer; to `Control` it is the daemon."""

    def __init__(self, settings: Settings, path: str, *, quiet: bool = False, verbose: int = 0) -> None:
        self._path = path
        self._quiet = quiet
        self._verbose = verbose
        self.clock = time.perf_counter_ns
        self.changes = Changes()
        self.deriver = Deriver()
        self.resolver = Resolver(lambda: self.manager.settings)
        numbers = itertools.count(1)
        self.dialler = Dialler(
            self.clock, random.SystemRandom(), self.resolver, self.deriver, self.changes.notify, numbers
        )
        self.manager = PoolManager(settings, self.dialler, random.SystemRandom(), self.clock)
        self.canceller = Canceller(self.dialler, lambda: self.manager.settings.cancel_wait_timeout)
        self.dialler.send_cancel = self.canceller.send
        self.lobby = Lobby(self.manager, self.deriver, self._open_console, self.clock, numbers)
        self.lobby.on_leave = self.changes.notify
        self.lobby.tls.apply(settings)
        self.dialler.contexts = self.lobby.tls.for_servers
        self.control = Control(self)
        self.listener = Listener(lambda: Client(self.lobby).behind_gate())
        self.garbage = Garbage()
        self.lobby.turnstile.tidy = self.garbage.young
        self.janitor = Janitor(self.manager, self.clock())
        self.observer = Observer(self.lobby, self.dialler, self.resolver, self.listener, self.clock)
        self.source: Source = self.observer
        self._stop_http: Callable[[], Awaitable[None]] | None = None
        self._orders: set[asyncio.Task[None]] = set()
        self.started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._shutdown: ShutdownMode | None = None
        self._descriptors = process.DescriptorWatch()

    # Running.

    async def main(self) -> int:
        """Start, run until told to stop, and stop."""
        settings = self.manager.settings
        loop = asyncio.get_running_loop()
        for number in _ORDERS:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            await self.listener.start(settings, process.passed_sockets())
            if settings.metrics_addr:
                await self._start_http(settings)
        except (ListenError, process.ProcessError) as error:
            logger.critical("%s", error)
            self.listener.stop()
            return 1
        self._sweep_later(loop.time())
        self.garbage.settle()
        build = self.observer.build()
        logger.info("process up: %s, %s", version_text(compiled=build.compiled), build.event_loop)
        process.notify_ready()
        self.started.set()
        await self._stopped.wait()
        await self._stop()
        return 0

    async def _start_http(self, settings: Settings) -> None:
        # The HTTP library costs 12 MiB: only who wants metrics pays for it.
        from proxy.metrics.http import HttpError, HttpServer

        server = HttpServer(settings.metrics_addr, settings.metrics_port, self.observer)
        try:
            await server.start()
        except HttpError as error:
            raise ListenError(str(error)) from error
        self._stop_http = server.stop

    def _sweep_later(self, began: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(began + PERIOD, self._sweep, began + PERIOD)

    def _sweep(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        self.observer.lag = max(loop.time() - due, 0.0)
        try:
            if self.janitor.sweep(self.clock()) and self.manager.settings.log_stats:
                line = stats_line(self.observer.stats())
                logger.info("%s", line)
                process.notify_status(line)
            if self._shutdown is ShutdownMode.WAIT_FOR_SERVERS:
                self._refuse_waiting()
            self._watch_descriptors()
            self.lobby.tls.watch()
            self.garbage.sweep(self.lobby)
        except Exception:
            logger.exception("maintenance failed")
        self._sweep_later(max(due, loop.time() - PERIOD))

    def _watch_descriptors(self) -> None:
        used = len(self.lobby.clients) + self.manager.servers_left(None)
        if self._descriptors.look(used, self.clock()):
            logger.warning("running out of file descriptors: %d connections", used)

    async def _stop(self) -> None:
        self.lobby.shutting_down = True
        self.listener.stop()
        if self._stop_http is not None:
            await self._stop_http()
        waited = self._shutdown is not ShutdownMode.IMMEDIATE
        if waited:
            await self._let_consoles_answer()
        farewell = ShuttingDown("pooler is shutting down") if waited else None
        for client in list(self.lobby.clients.values()):
            client.finish(farewell, ClientClosed.SHUTDOWN)
        self.manager.kill_servers(None, ServerClosed.SHUTDOWN)
        try:
            async with asyncio.timeout(_FAREWELL):
                await self.changes.until(lambda: not self.manager.servers_left(None))
        except TimeoutError:
            logger.warning("%d servers have not closed", self.manager.servers_left(None))
        for task in self._orders:
            task.cancel()
        self.deriver.close()
        self.lobby.doorkeeper.close()

    async def _let_consoles_answer(self) -> None:
        consoles = [client.console for client in self.lobby.clients.values() if client.console is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                for console in consoles:
                    await console.settled()

    # Orders from signals.

    def _on_signal(self, number: signal.Signals) -> None:
        order = _ORDERS[number]
        if isinstance(order, Shutdown) and self._shutdown is not None:
            order = Shutdown(ShutdownMode.IMMEDIATE)
        logger.info("got %s, %s", number.name, _describe(order))
        task = asyncio.get_running_loop().create_task(self._execute(order))
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)

    async def _execute(self, order: Order) -> None:
        # A signal may come before there is anything to be told.
        await self.started.wait()
        try:
            await self.control.execute(order)
        except OrderRefused as error:
            logger.error("%s", error.message)
        except Exception:
            logger.exception("carrying out %s failed", order)

    # What Control asks of the daemon.

    def has_database(self, name: str) -> bool:
        """Whether the database is configured, or can be made from `*` (then it is made)."""
        try:
            self.manager.database(name, self.clock())
        except PoolerError:
            return False
        return True

    def is_paused(self, database: str | None) -> bool:
        """Whether the database, or for None the pooler as a whole, is paused."""
        return self.manager.paused if database is None else self._database(database).paused

    def paused_databases(self) -> Collection[str]:
        """The databases paused by name, or by a kill."""
        return [name for name, database in self.manager.databases.items() if database.paused]

    def is_shutting_down(self) -> bool:
        """Whether a shutdown has begun."""
        return self._shutdown is not None

    async def pause(self, database: str | None) -> None:
        """Lend no servers any more."""
        self.manager.pause(database)

    async def paused(self, database: str | None) -> None:
        """Return when no server is left open."""
        await self.changes.until(lambda: not self.manager.servers_left(database))

    async def resume(self, database: str | None) -> None:
        """Lend again."""
        self.manager.resume(database)

    async def disable(self, database: str) -> None:
        """Let nobody log in."""
        self.manager.disable(database, True)

    async def enable(self, database: str) -> None:
        """Let clients log in again."""
        self.manager.disable(database, False)

    async def reconnect(self, database: str | None) -> None:
        """Close each server when it is free."""
        self.manager.reconnect(database)

    async def closed(self, database: str | None) -> None:
        """Return when no server marked to be closed is left."""
        await self.changes.until(lambda: not self.manager.closing(database))

    async def kill(self, database: str | None) -> None:
        """Drop clients and servers; the databases are paused from now on."""
        for name in list(self.manager.databases) if database is None else [database]:
            self.manager.pause(name)
            for client in list(self.lobby.clients.values()):
                if client.database is not None and client.database.name == name:
                    client.finish(Killed(), ClientClosed.KILLED)
            self.manager.kill_servers(name)

    async def kill_client(self, client: int) -> bool:
        """Disconnect one client."""
        known = self.lobby.clients.get(client)
        if known is None:
            return False
        known.finish(Killed(), ClientClosed.KILLED)
        return True

    async def reload(self) -> None:
        """Read the configuration again. Raises ConfigError and changes nothing if it is wrong."""
        process.notify_reloading()
        try:
            self._apply(config.load(self.manager.settings.conffile or self._path))
            log.reopen()
        except ConfigError as error:
            for problem in error.problems:
                logger.error("%s", problem)
            self.observer.reloads["failed"] += 1
            raise
        else:
            self.observer.reloads["ok"] += 1
        finally:
            process.notify_ready()

    async def set_setting(self, key: str, value: str) -> None:
        """Change one setting until the next reload."""
        self._apply(self.manager.settings.with_value(key, value))

    def _apply(self, settings: Settings) -> None:
        for key in changes(self.manager.settings, settings).restart_keys:
            logger.warning("%s has changed, which takes effect after a restart", key)
        settings = applicable(self.manager.settings, settings)
        try:
            log.check(settings)
        except OSError as error:
            text = f"could not open the log: {error}"
            raise ConfigError([Problem(settings.logfile or "log", 0, "logfile", text)]) from error
        self.lobby.tls.apply(settings)
        log.setup(settings, quiet=self._quiet, verbose=self._verbose)
        self.manager.apply(settings)
        self.lobby.apply()
        self.listener.apply(settings)

    def shutdown(self, mode: ShutdownMode) -> None:
        """Begin to shut down."""
        self._shutdown = mode
        self.lobby.shutting_down = True
        self.observer.draining = True
        process.notify_stopping()
        if mode is ShutdownMode.IMMEDIATE:
            self._stopped.set()
            return
        self.listener.stop_tcp()
        if mode is ShutdownMode.WAIT_FOR_SERVERS:
            self.manager.pause(None)
            self._refuse_waiting()
            condition = self._no_servers
        else:
            condition = self._no_clients
        task = asyncio.get_running_loop().create_task(self._stop_when(condition, mode))
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)

    async def _stop_when(self, condition: Callable[[], bool], mode: ShutdownMode) -> None:
        await self.changes.until(condition)
        if self._shutdown is mode:
            what = "server" if mode is ShutdownMode.WAIT_FOR_SERVERS else "client"
            logger.info("%s connections dropped, exiting", what)
            self._stopped.set()

    def _no_servers(self) -> bool:
        return not self.manager.servers_left(None)

    def _no_clients(self) -> bool:
        return not self.lobby.ordinary_clients()

    def _refuse_waiting(self) -> None:
        for pool in self.manager.pools_of(None):
            pool.refuse_waiting(ShuttingDown("server shutting down"), ClientClosed.SHUTDOWN)

    def _database(self, name: str) -> Database:
        return self.manager.databases[name]

    # The console.

    def _open_console(
        self, client: Client, user: str, own: bool
    ) -> tuple[ConsoleSession, dict[bytes, bytes]]:
        settings = self.manager.settings
        is_admin = own or user in settings.admin_users
        is_stats = is_admin or user in settings.stats_users or settings.auth_type.value == "any"
        if not is_stats:
            raise LoginRefused("not allowed", "42501")
        where = whereabouts(client.connection.socket(), client.address)
        identity = Identity(client.id, user, is_admin, is_stats, where)
        console = Console(
            identity,
            lambda data: client.connection.write(data),
            lambda: client.finish(None, ClientClosed.CLIENT_LEFT),
            self.source,
            self.control,
            self.manager.console_stats,
        )
        return console, dict(GREETING)


def _describe(order: Order) -> str:
    if isinstance(order, Shutdown):
        return {
            ShutdownMode.IMMEDIATE: "fast exit",
            ShutdownMode.WAIT_FOR_SERVERS: "shutting down, waiting for all servers to be released",
            ShutdownMode.WAIT_FOR_CLIENTS: "shutting down, waiting for all clients disconnect",
        }[order.mode]
    return {Reload: "re-reading config", Pause: "pausing all activity", Resume: "continuing from pause"}[
        type(order)
    ]

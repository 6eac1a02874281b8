"""One event loop: build everything, hand it to each other, run, shut down.

The one file that knows all the others; it decides nothing that another could decide.
"""

import asyncio
import itertools
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable, Collection

import config
from config.changes import applicable, changes
from config.problems import ConfigError, Problem
from config.settings import Settings
from config.types import MAX_WORKERS
from proxy import log, metrics, process, tls_contexts
from proxy.admin.commands import Identity
from proxy.admin.console import GREETING, Console
from proxy.announcements import Altered
from proxy.bundle import Looked
from proxy.cancel import CancelKeys, Canceller
from proxy.changes import Changes
from proxy.client import Client
from proxy.control import Control, Orders, ShutdownMode
from proxy.deputy import Deputy
from proxy.derive import Deriver
from proxy.dialler import Dialler
from proxy.ending import Ending
from proxy.errors import Killed, LoginRefused, PoolerError
from proxy.garbage import Garbage
from proxy.identity import whereabouts
from proxy.listener import Listener, ListenError
from proxy.lobby import ConsoleSession, Lobby
from proxy.loops import loop_factory
from proxy.member import Member
from proxy.moving import remote_leases
from proxy.observer import Observer
from proxy.pool.database import Database
from proxy.pool.janitor import PERIOD, Janitor
from proxy.pool.manager import PoolManager
from proxy.reasons import ClientClosed
from proxy.resolver import Resolver
from proxy.seats import Seats
from proxy.signals import Signals
from proxy.source import Source
from proxy.statsline import stats_line
from proxy.version import version_text

logger = logging.getLogger("howdah")


def run(settings: Settings, path: str, *, quiet: bool, verbose: int) -> int:
    """Run the daemon to its end; returns the exit code: 0 after a shutdown that was asked for, 1
    otherwise.
    """
    with asyncio.Runner(loop_factory=loop_factory(settings)) as runner:
        return runner.run(Worker(settings, path, quiet=quiet, verbose=verbose).main())


def serve(sock: socket.socket) -> int:
    """Be one of many workers, over this end of a link to the supervisor; returns the exit code."""
    member = Member(sock)
    begin = member.begin()
    if begin is None:
        return 1
    log.setup(begin.settings, quiet=begin.quiet, verbose=begin.verbose)
    with asyncio.Runner(loop_factory=loop_factory(begin.settings)) as runner:
        worker = Worker(
            begin.settings,
            begin.path,
            quiet=begin.quiet,
            verbose=begin.verbose,
            number=begin.number,
            member=member,
        )
        return runner.run(worker.main())


class Worker:
    """Owns listeners, shutdown and the janitor's timer; to `Control` it is the daemon.

    One of many has a number, and a member that tells it what the supervisor wants; the only one has neither.
    """

    def __init__(
        self,
        settings: Settings,
        path: str,
        *,
        quiet: bool = False,
        verbose: int = 0,
        number: int = 0,
        member: Member | None = None,
    ) -> None:
        self._path = path
        self._quiet = quiet
        self._verbose = verbose
        self.number = number
        self._member = member
        self.clock = time.perf_counter_ns
        self.changes = Changes()
        self.deriver = Deriver()
        self.resolver = Resolver(lambda: self.manager.settings)
        # What the ids of clients and servers are made of: no two workers have one in common.
        numbers = itertools.count(number, MAX_WORKERS) if number else itertools.count(1)
        self._build_servers(settings, numbers)
        self._build_clients(settings, numbers)
        self.control = Control(self)
        self.listener: Listener | Member = Listener(self.make_client) if member is None else member
        self.janitor = Janitor(self.manager, self.clock())
        self.observer = Observer(self.lobby, self.dialler, self.resolver, self.listener, self.clock, number)
        self.source: Source = self.observer
        self.orders: Orders = self.control
        self._stop_http: Callable[[], Awaitable[None]] | None = None
        self.signals = Signals(lambda order: self.control.execute(order), self.is_shutting_down)
        self.started = self.signals.started
        self.ending = Ending(self.manager, self.lobby, self.changes, self.listener)
        self._descriptors = process.DescriptorWatch()
        if member is not None:
            self._join(member)

    def _build_servers(self, settings: Settings, numbers: "itertools.count[int]") -> None:
        self.dialler = Dialler(
            self.clock, random.SystemRandom(), self.resolver, self.deriver, self.changes.notify, numbers
        )
        leases = None if self._member is None else remote_leases(self._member, self.dialler, numbers)
        self.manager = PoolManager(
            settings, self.dialler, random.SystemRandom(), self.clock, leases, self.number
        )
        self.canceller = Canceller(self.dialler, lambda: self.manager.settings.cancel_wait_timeout)
        self.dialler.send_cancel = self.canceller.send

    def _build_clients(self, settings: Settings, numbers: "itertools.count[int]") -> None:
        self.lobby = Lobby(self.manager, self.deriver, self._open_console, self.clock, numbers)
        self.lobby.cancel_keys = CancelKeys(self.number)
        self.lobby.on_leave = self._on_leave
        self.lobby.tls.apply(settings)
        self.dialler.contexts = self.lobby.tls.for_servers
        self.garbage = Garbage()
        self.lobby.turnstile.tidy = self.garbage.young

    def _join(self, member: Member) -> None:
        """Be one of many: what a lone worker decides, the supervisor does."""
        member.belong_to(self)
        deputy = Deputy(self, member.calls, member.link.send)
        self.source = self.orders = deputy
        self.lobby.elsewhere = deputy.pass_on
        self.manager.on_altered = deputy.altered
        member.handlers[Altered] = lambda message, _: self.manager.altered_elsewhere(message.databases)
        self.lobby.seats = Seats(member.link, member.calls, lambda: self.manager.settings)
        self.ending.drained = member.drained

    # Running.

    async def main(self) -> int:
        """Start, run until told to stop, and stop."""
        settings = self.manager.settings
        if self._member is None:
            self.signals.install()
        try:
            await self.listener.start(settings, process.passed_sockets())
            if self._member is None:
                self._stop_http = await metrics.serve(settings, self.observer)
        except (ListenError, process.ProcessError) as error:
            logger.critical("%s", error)
            self.listener.stop()
            return 1
        self._sweep_later(asyncio.get_running_loop().time())
        self.garbage.settle()
        if self._member is None:
            it = self.observer.build()
            logger.info("process up: %s, %s", version_text(compiled=it.compiled, pump=it.pump), it.event_loop)
            process.notify_ready()
        self.started.set()
        await self.ending.over.wait()
        await self._stop()
        return 0

    async def _stop(self) -> None:
        self.listener.stop()
        if self._stop_http is not None:
            await self._stop_http()
        await self.ending.take_leave()
        self.signals.stop()
        self.deriver.close()
        self.lobby.doorkeeper.close()

    def _sweep_later(self, began: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_at(began + PERIOD, self._sweep, began + PERIOD)

    def _sweep(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        self.observer.lag = max(loop.time() - due, 0.0)
        try:
            period_over = self.janitor.sweep(self.clock())
            if period_over and self.manager.settings.log_stats and self._member is None:
                line = stats_line(self.observer.stats())
                logger.info("%s", line)
                process.notify_status(line)
            self.ending.sweep()
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
        return self.ending.mode is not None

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
        self.apply(applicable(self.manager.settings, settings))

    def apply(self, settings: Settings) -> None:
        """Take settings that do not ask for a restart. Raises ConfigError and changes nothing."""
        if problems := self._problems_with_log(settings):
            raise ConfigError(problems)
        self.lobby.tls.apply(settings)
        log.setup(settings, quiet=self._quiet, verbose=self._verbose)
        self.manager.apply(settings)
        self.lobby.apply()
        self.listener.apply(settings)

    @staticmethod
    def _problems_with_log(settings: Settings) -> list[Problem]:
        try:
            log.check(settings)
        except OSError as error:
            text = f"could not open the log: {error}"
            return [Problem(settings.logfile or "log", 0, "logfile", text)]
        return []

    def shutdown(self, mode: ShutdownMode) -> None:
        """Begin to shut down."""
        if self._member is None:
            process.notify_stopping()
        self.observer.draining = True
        self.ending.begin(mode)

    # What its member asks of one of many.

    def make_client(self) -> asyncio.Protocol:
        """What a new connection delivers to."""
        return Client(self.lobby).behind_gate()

    def _on_leave(self) -> None:
        self.changes.notify()
        if self._member is not None:
            self._member.count()

    def orphaned(self) -> None:
        """The supervisor has gone: finish the transactions, take nobody, and end."""
        if self.ending.mode is not ShutdownMode.IMMEDIATE:
            logger.error("the supervisor has gone, ending when the servers are free")
            self.observer.draining = True
            self.ending.orphan()

    def end(self) -> None:
        """All workers are drained: take leave."""
        self.ending.over.set()

    # What its deputy asks of one of many.

    @property
    def settings(self) -> Settings:
        """The present settings."""
        return self.manager.settings

    @property
    def looked(self) -> Looked:
        """What it says of itself."""
        return self.observer

    def problems_with(self, settings: Settings) -> list[Problem]:
        """What would keep it from applying these settings."""
        return [*self._problems_with_log(settings), *tls_contexts.problems(settings)]

    async def cancel(self, pid: int, secret: bytes) -> bool:
        """Deal with a cancel request for a client of its own; False if there is none with this key."""
        return await self.lobby.cancel(pid, secret)

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
            self.orders,
            self.manager.console_stats,
        )
        return console, dict(GREETING)

"""The parent of the workers: has them made, watched and replaced, and all of them end together.

Laws of this file: it reads no client and knows no pool; a worker is told from a later one of its number by
its handle. A worker whose link is lost is of no use any more, but keeps its place until its process has gone.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from config.settings import Settings
from config.types import EventLoop
from proxy import process
from proxy.announcements import Begin, Count, Drained, End, Heartbeat, Serving, Stop
from proxy.binding import Binding, ListenError
from proxy.child import Child
from proxy.control import Order, Shutdown, ShutdownMode
from proxy.entrance import Entrance
from proxy.frames import close_all
from proxy.handle import WorkerHandle
from proxy.headquarters import Headquarters
from proxy.loops import loop_factory
from proxy.nursery import Nursery, reap
from proxy.roster import Roster
from proxy.signals import Signals
from proxy.steward import Steward
from proxy.template import Become
from proxy.version import is_compiled, is_pump_built, version_text

logger = logging.getLogger("howdah")

PERIOD: Final = 0.25
"""How often deadlines are looked at (s)."""
# Time for workers to take leave before they are killed (s).
_FAREWELL: Final = 5.0

Handler = Callable[[WorkerHandle, Any, tuple[int, ...]], None]


def run(settings: Settings, path: str, become: Become, *, quiet: bool, verbose: int) -> int:
    """Run the daemon with its workers to its end; returns the exit code: 0 after a shutdown that was asked
    for, 1 otherwise. `become` is what a worker does.
    """
    nursery = Nursery(become)
    with asyncio.Runner(loop_factory=loop_factory(settings)) as runner:
        supervisor = Supervisor(settings, path, nursery, quiet=quiet, verbose=verbose)
        Headquarters(supervisor, path, quiet=quiet, verbose=verbose)
        return runner.run(supervisor.main())


class Supervisor:
    """`workers` are those whose link is up. `handlers` has a function for each kind of message from them.

    `on_joined` are told of a worker before it is sent anything but what it is to be, `on_serving` before it
    is given clients, `on_left` when its link is lost, `on_ended` when its process has gone, and with it all
    that it had open. `on_start` may raise ListenError.
    """

    def __init__(
        self, settings: Settings, path: str, nursery: Nursery, *, quiet: bool = False, verbose: int = 0
    ) -> None:
        self.settings = settings
        self.workers: dict[int, WorkerHandle] = {}
        self.handlers: dict[type, Handler] = {
            Serving: self._on_serving,
            Count: self._on_count,
            Heartbeat: self._on_heartbeat,
            Drained: self._on_drained,
        }
        self.on_joined: list[Callable[[WorkerHandle], None]] = []
        self.on_serving: list[Callable[[WorkerHandle], None]] = []
        self.on_left: list[Callable[[WorkerHandle], None]] = []
        self.on_ended: list[Callable[[WorkerHandle], None]] = []
        self.on_start: list[Callable[[], Awaitable[None]]] = []
        self.on_stop: list[Callable[[], Awaitable[None]]] = []
        self.steward = Steward(self)
        self.handlers.update(self.steward.handlers())
        self.mode: ShutdownMode | None = None
        self.execute: Callable[[Order], Awaitable[None]] = self._execute
        self.signals = Signals(lambda order: self.execute(order), lambda: self.mode is not None)
        self.roster = Roster(settings.workers)
        self.binding = Binding()
        self.entrance = Entrance(self.binding, self.roster, self.workers)
        self.nursery = nursery
        self.is_up = False
        self._begin: Callable[[int], Begin] = lambda number: Begin(
            number, self.settings, path, quiet, verbose
        )
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._leaving = False
        self._over = asyncio.Event()

    # Running.

    async def main(self) -> int:
        """Start, run until told to stop, and stop."""
        self.signals.install()
        self.nursery.start(self._on_forked, self._fill)
        try:
            self.binding.bind(self.settings, process.passed_sockets())
            for start in self.on_start:
                await start()
        except (ListenError, process.ProcessError) as error:
            logger.critical("%s", error)
            self.binding.close()
            self.nursery.stop()
            return 1
        self.entrance.listen(self.settings)
        self._fill()
        self._watch()
        self.signals.started.set()
        await self._over.wait()
        for timer in self._timers.values():
            timer.cancel()
        for stop in self.on_stop:
            await stop()
        self.entrance.close()
        self.steward.close()
        self.nursery.stop()
        self.signals.stop()
        return 0

    def _after(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Call once, later; a call of this name that was to come before is forgotten."""
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, call)

    def _now(self) -> float:
        return time.monotonic()

    def _watch(self) -> None:
        self._after("watch", PERIOD, self._watch)
        for number in self.roster.overdue(self._now(), self.settings.worker_timeout, PERIOD):
            if (handle := self.workers.get(number)) is not None:
                self._replace(handle)
        self.entrance.resume()

    def _replace(self, handle: WorkerHandle) -> None:
        silent = f"{handle} has given no sign of life for {self.settings.worker_timeout:g} s"
        if handle.child is not None:
            logger.error("%s, killing it", silent)
            handle.child.kill()
        else:
            logger.error("%s, making another template", silent)
            self.nursery.restart()
            self._on_lost(handle)

    # Workers come and go.

    def _fill(self) -> None:
        """Have a worker made for each place that is free, now or when it is time."""
        if self.mode is not None or not self.nursery.ready:
            return
        for number in self.roster.vacant(self._now()):
            self._make(number)
        if (at := self.roster.next_start()) is not None:
            self._after("fill", at - self._now(), self._fill)

    def _make(self, number: int) -> None:
        self.roster.started(number, self._now())
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            logger.error("cannot make worker %d: %s", number, error)
            self.roster.ended(number, self._now())
            return
        restarts = self.roster.places[number].restarts
        handle = WorkerHandle(number, ours, restarts, self._receive, self._on_lost)
        handle.link.start()
        self.workers[number] = handle
        handle.link.send(self._begin(number))
        # If this fails, nobody has the other end, and the link is lost at once.
        with theirs:
            try:
                self.nursery.fork(number, theirs)
            except OSError as error:
                logger.error("cannot make %s: %s", handle, error)
        for told in self.on_joined:
            told(handle)

    def _on_forked(self, number: int, pid: int) -> None:
        handle = self.workers.get(number)
        if handle is not None and handle.child is None:
            handle.child = Child(pid, lambda: self._on_ended(handle))

    def _on_serving(self, handle: WorkerHandle, message: Serving, _: object) -> None:
        self._on_forked(handle.number, message.pid)
        self.roster.serves(handle.number, self._now())
        logger.info("%s serves", handle)
        for told in self.on_serving:
            told(handle)
        self.entrance.resume()
        if self.roster.complete and not self.is_up:
            self.is_up = True
            pump = is_pump_built() and self.settings.event_loop is EventLoop.UVLOOP
            version = version_text(compiled=is_compiled(), pump=pump)
            logger.info("process up: %s, %d workers", version, len(self.workers))
            process.notify_ready()

    def _on_lost(self, handle: WorkerHandle) -> None:
        if self.workers.get(handle.number) is not handle:
            return
        del self.workers[handle.number]
        handle.link.close()
        handle.calls.lost()
        if self.mode is None:
            clients = self.roster.places[handle.number].clients - len(handle.unadopted)
            logger.error("%s is lost, and %d clients with it", handle, clients)
        self.roster.lost(handle.number)
        for told in self.on_left:
            told(handle)
        self.entrance.lost(handle)
        if handle.child is None:
            self._on_ended(handle)
        elif self.mode is None:
            handle.child.kill()
        else:
            # It may be at its last lines in the log.
            asyncio.get_running_loop().call_later(_FAREWELL, handle.child.kill)
        self._end_if_drained()

    def _on_ended(self, handle: WorkerHandle) -> None:
        reap()
        # What it has said last counts: which clients it has taken over.
        handle.link.finish()
        self.roster.ended(handle.number, self._now())
        for told in self.on_ended:
            told(handle)
        self._fill()
        if self.mode is not None and self.roster.empty:
            logger.info("all workers have ended, exiting")
            self._over.set()

    # What workers say.

    def _receive(self, handle: WorkerHandle, message: object, descriptors: tuple[int, ...]) -> None:
        if self.workers.get(handle.number) is not handle or handle.calls.receive(message):
            close_all(descriptors)
            return
        handler = self.handlers.get(type(message))
        if handler is None:
            logger.error("nobody knows what to do with %s of %s", type(message).__name__, handle)
            close_all(descriptors)
            return
        try:
            handler(handle, message, descriptors)
        except Exception:
            logger.exception("a message from %s", handle)

    def _on_count(self, handle: WorkerHandle, message: Count, _: object) -> None:
        now = self._now()
        self.roster.counted(handle.number, message.adopted, message.clients, message.special, now)
        self.entrance.adopted(handle, message.adopted)

    def _on_heartbeat(self, handle: WorkerHandle, message: Heartbeat, _: object) -> None:
        self.roster.heard(handle.number, self._now())
        handle.servers, handle.lag = message.servers, message.lag

    # The end of all.

    async def _execute(self, order: Order) -> None:
        if isinstance(order, Shutdown):
            self.shutdown(order.mode)

    def shutdown(self, mode: ShutdownMode) -> None:
        """Begin to shut down."""
        self.mode = mode
        process.notify_stopping()
        for handle in self.workers.values():
            handle.link.send(Stop(mode))
        if mode is ShutdownMode.IMMEDIATE:
            self._take_leave()
        else:
            self.entrance.close_tcp()
            self._end_if_drained()
        if self.roster.empty:
            self._over.set()

    def _on_drained(self, handle: WorkerHandle, message: Drained, _: object) -> None:
        handle.drained = message.mode
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        mode = self.mode
        if (
            mode is None
            or self._leaving
            or any(handle.drained is not mode for handle in self.workers.values())
        ):
            return
        for handle in self.workers.values():
            handle.link.send(End())
        if mode is not ShutdownMode.IMMEDIATE:
            what = "server" if mode is ShutdownMode.WAIT_FOR_SERVERS else "client"
            logger.info("%s connections dropped, exiting", what)
        self._take_leave()

    def _take_leave(self) -> None:
        self._leaving = True
        self.entrance.close()
        self._after("farewell", _FAREWELL, self._kill_all)

    def _kill_all(self) -> None:
        for handle in list(self.workers.values()):
            logger.warning("%s does not end, killing it", handle)
            if handle.child is not None:
                handle.child.kill()
            else:
                self._on_lost(handle)

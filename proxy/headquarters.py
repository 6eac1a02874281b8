"""What the supervisor has besides its workers: the control of all, /metrics, the line of statistics.

Law of this file: it joins a supervisor with a fleet; neither of them knows the other.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any, Final

import config
from config.problems import ConfigError, Problem
from config.settings import Settings
from proxy import log, metrics, process
from proxy.announcements import Altered
from proxy.control import Order
from proxy.fleet import Fleet
from proxy.snapshot import MICROSECONDS, ConfigRow, ReasonCounts, StateSnapshot, WorkerSnapshot
from proxy.statsline import stats_line

if TYPE_CHECKING:
    from proxy.handle import WorkerHandle
    from proxy.supervisor import Supervisor

logger = logging.getLogger("howdah")

COUNT_SECONDS: Final = 5.0
"""How often workers are asked what they have counted: so much of it goes at most with one that dies (s)."""
_COUNTERS: Final = ("stats", "reasons", "statement_counts", "tls", "workers")


class Headquarters:
    """Of one supervisor, which it gets hold of."""

    def __init__(self, supervisor: "Supervisor", path: str, *, quiet: bool = False, verbose: int = 0) -> None:
        self._supervisor = supervisor
        self._path, self._quiet, self._verbose = path, quiet, verbose
        self.fleet = Fleet(
            supervisor.settings,
            load=self._load,
            check=self._check,
            apply=self._apply,
            stop=supervisor.shutdown,
            discard=self._discard,
            own=self._own,
            until_none=supervisor.steward.until_none,
        )
        self._stop_http: Callable[[], Awaitable[None]] | None = None
        self._counting: asyncio.Task[None] | None = None
        supervisor.execute = self.execute
        supervisor.handlers[Altered] = self._pass_on
        supervisor.on_serving.append(self.fleet.joined)
        supervisor.on_left.append(self.fleet.left)
        supervisor.on_start.append(self.start)
        supervisor.on_stop.append(self.stop)

    async def execute(self, order: Order) -> None:
        """Carry out an order, given by a signal. Raises OrderRefused."""
        await self.fleet.control.execute(order)

    def _pass_on(self, handle: "WorkerHandle", message: Altered, _: object) -> None:
        """What one worker has seen all others have to know."""
        for other in self._supervisor.workers.values():
            if other is not handle:
                other.link.send(message)

    async def start(self) -> None:
        """Serve HTTP where it is wanted. Raises ListenError."""
        settings = self._supervisor.settings
        self._counting = asyncio.get_running_loop().create_task(self._keep_counts())
        self._stop_http = await metrics.serve(settings, self.fleet.gathering)

    async def stop(self) -> None:
        """The end."""
        if self._counting is not None:
            self._counting.cancel()
        if self._stop_http is not None:
            await self._stop_http()

    async def _keep_counts(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            left = began + self.fleet.settings.stats_period - loop.time()
            await asyncio.sleep(min(left, COUNT_SECONDS))
            is_over = loop.time() - began >= self.fleet.settings.stats_period
            if is_over:
                began = loop.time()
            try:
                # The gathering remembers what it was told.
                counts = await self.fleet.gathering.take(_COUNTERS)
                if is_over:
                    self._log_statistics(stats_line(counts.stats()))
            except Exception:
                logger.exception("cannot make the statistics")

    def _log_statistics(self, line: str) -> None:
        if self.fleet.settings.log_stats:
            logger.info("%s", line)
            process.notify_status(line)

    # The supervisor's own part in new settings.

    def _load(self) -> Settings:
        return config.load(self.fleet.settings.conffile or self._path)

    @staticmethod
    def _check(settings: Settings) -> None:
        try:
            log.check(settings)
        except OSError as error:
            text = f"could not open the log: {error}"
            raise ConfigError([Problem(settings.logfile or "log", 0, "logfile", text)]) from error

    def _apply(self, settings: Settings) -> None:
        log.setup(settings, quiet=self._quiet, verbose=self._verbose)
        self._supervisor.settings = settings
        self._supervisor.entrance.apply(settings)
        self._supervisor.steward.changed()

    def _discard(self, number: int) -> None:
        handle = self._supervisor.workers.get(number)
        if handle is not None and handle.child is not None:
            logger.error("%s is out of step with the others, replacing it", handle)
            handle.child.kill()

    # The supervisor's own part in what is shown.

    def _own(self, parts: Collection[str]) -> dict[str, Any]:
        supervisor, fleet = self._supervisor, self.fleet
        known: dict[str, Callable[[], Any]] = {
            "state": lambda: StateSnapshot(
                paused=fleet.halts.paused,
                listening=supervisor.entrance.listening,
                draining=supervisor.mode is not None,
            ),
            "config": self._config,
            "workers": self._workers,
            "reasons": lambda: ReasonCounts(reloads=dict(fleet.reloads)),
        }
        return {part: make() for part, make in known.items() if part in parts}

    def _config(self) -> list[ConfigRow]:
        rows = self.fleet.settings.rows()
        return [
            ConfigRow(key, value or "", default or "", live == "yes") for key, value, default, live in rows
        ]

    def _workers(self) -> list[WorkerSnapshot]:
        rows = []
        for place in self._supervisor.roster:
            handle = self._supervisor.workers.get(place.number)
            state = "running" if place.serving else "starting"
            rows.append(
                WorkerSnapshot(
                    place.number,
                    handle.pid if handle is not None else 0,
                    state if self._supervisor.mode is None else "stopping",
                    clients=place.clients,
                    servers=handle.servers if handle is not None else 0,
                    lag_us=int(handle.lag * MICROSECONDS) if handle is not None else 0,
                    restarts=place.restarts,
                )
            )
        return rows

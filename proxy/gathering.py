"""The supervisor's side of what is shown: it asks every worker, and keeps the counts of those that died.

Laws of this file: whoever does not answer in time is left out and named, except for its counters, of which
the last known are taken: a counter that was shown never goes back. What only passes through, for a console in
a worker, is not looked into.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Protocol

from proxy import merge
from proxy.bundle import Bundle, Merged, Piece, needed, unpack, value
from proxy.inquiries import Gathered, TakeSnapshot
from proxy.link import CallFailed, Calls, LinkLost
from proxy.pool.manager import ALL_AUTOMATIC, RETIRED_MOST
from proxy.snapshot import StatsSnapshot, WorkerSnapshot, sum_of

SNAPSHOT_SECONDS: Final = 3.0
"""How long a worker's snapshot is waited for."""
OWN: Final = frozenset({"state", "config", "peers", "peer_pools"})
"""Parts that the supervisor knows by itself."""

_logger: Final = logging.getLogger("howdah")
_MERGE: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "stats": merge.stats,
    "reasons": merge.reasons,
    "statement_counts": merge.statement_counts,
    "tls": merge.tls,
}
"""The parts with counters, and how those of several add up."""


class Respondent(Protocol):
    """A worker that can be asked; what else the supervisor knows of it is in `handle`."""

    @property
    def number(self) -> int: ...
    @property
    def calls(self) -> Calls: ...


class Gathering:
    """`workers` are those there are, `own` makes the parts that the supervisor adds, those of OWN and
    `workers` and `reasons`: as many as are asked for and it knows of."""

    def __init__(
        self, workers: Mapping[int, Respondent], own: Callable[[Collection[str]], Mapping[str, Any]]
    ) -> None:
        self._workers = workers
        self._own = own
        self._last: dict[int, dict[str, Any]] = {}
        self._gone: dict[str, Any] = {}
        self._processor: dict[int, int] = {}

    async def take(self, parts: Collection[str]) -> Merged:
        """As a source: for /metrics, and for the log."""
        gathered = await self.gather(needed(parts))
        return Merged(gathered.bundles, gathered.silent)

    async def gather(self, parts: Collection[str]) -> Gathered:
        """What everybody says."""
        asked = TakeSnapshot(tuple(part for part in parts if part not in OWN))
        workers = list(self._workers.values()) if asked.parts else []
        answers = await asyncio.gather(*(self._ask(worker, asked) for worker in workers))
        bundles, silent = list[Bundle](), list[int]()
        for worker, pieces in zip(workers, answers, strict=True):
            if self._workers.get(worker.number) is not worker:
                continue  # it has gone meanwhile: what it counted is among what the supervisor has
            if pieces is None:
                silent.append(worker.number)
                pieces = self._known(worker.number, asked.parts)
            bundles.append(Bundle(worker.number, pieces))
        return Gathered((Bundle(0, tuple(self._pieces(parts, silent))), *bundles), tuple(silent))

    async def _ask(self, worker: Respondent, question: TakeSnapshot) -> tuple[Piece, ...] | None:
        try:
            async with asyncio.timeout(SNAPSHOT_SECONDS):
                pieces: tuple[Piece, ...] = await worker.calls.ask(question)
        except (TimeoutError, LinkLost):
            return None
        except CallFailed as error:
            _logger.error("worker %d cannot say how it is: %s", worker.number, error)
            return None
        if self._workers.get(worker.number) is worker:
            self._remember(worker.number, pieces)
        return pieces

    # What was counted.

    def _remember(self, number: int, pieces: Iterable[Piece]) -> None:
        last = self._last.setdefault(number, {})
        for piece in pieces:
            if piece[0] in _MERGE or piece[0] == "workers":
                last[piece[0]] = unpack(piece)

    def _known(self, number: int, parts: Collection[str]) -> tuple[Piece, ...]:
        last = self._last.get(number, {})
        return tuple(
            value(part, _ended(part, last[part])) for part in parts if part in _MERGE and part in last
        )

    def _used(self, number: int) -> int:
        """Processor time that a worker was last known to have used (µs)."""
        rows: list[WorkerSnapshot] = self._last.get(number, {}).get("workers", [])
        return sum(row.cpu_us for row in rows)

    def left(self, number: int) -> None:
        """The worker of this number has gone for good."""
        self._processor[number] = self._processor.get(number, 0) + self._used(number)
        last = self._last.pop(number, {})
        for part, content in last.items():
            if part == "workers":
                continue
            before = [self._gone[part]] if part in self._gone else []
            self._gone[part] = _MERGE[part]([*before, _ended(part, content)])
        if "stats" in self._gone:
            self._gone["stats"] = _bounded(self._gone["stats"])

    def _pieces(self, parts: Collection[str], silent: Collection[int]) -> Iterable[Piece]:
        own = self._own(parts)
        for part in parts:
            if part == "workers":
                yield value(part, [self._row(row, silent) for row in own[part]])
            elif part in _MERGE:
                known = [source[part] for source in (self._gone, own) if part in source]
                if known:
                    yield value(part, _MERGE[part](known))
            elif part in own:
                yield value(part, own[part])

    def _row(self, row: WorkerSnapshot, silent: Collection[int]) -> WorkerSnapshot:
        state = "silent" if row.worker in silent and row.state == "running" else row.state
        figures = {"clients": row.clients, "servers": row.servers, "lag_us": row.lag_us}
        before = self._processor.get(row.worker, 0)
        if row.worker in silent:
            before += self._used(row.worker)
        return WorkerSnapshot(row.worker, row.pid, state, cpu_us=before, restarts=row.restarts, **figures)


def _ended(part: str, content: Any) -> Any:
    """Counters of who does not count any more."""
    return [merge.ended(row) for row in content] if part == "stats" else content


def _bounded(rows: list[StatsSnapshot]) -> list[StatsSnapshot]:
    """Clients make up names of databases: beyond a limit their counts go together."""
    kept = [row for row in rows if row.database != ALL_AUTOMATIC]
    rest = [*kept[RETIRED_MOST:], *(row for row in rows if row.database == ALL_AUTOMATIC)]
    return [*kept[:RETIRED_MOST], sum_of(rest, ALL_AUTOMATIC)] if rest else kept

"""The snapshots of several workers made into one, as if there were a single process.

Laws of this file: pure, values in and values out; what one worker says is never changed by what another says,
only added to it. Settings are the same everywhere, so of what only repeats them the first is taken. Where
there may be very many, nothing here takes long at a stretch.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from heapq import merge
from itertools import chain
from typing import Any, Final, TypeVar

from proxy.pool_list import joined
from proxy.snapshot import (
    COUNTS,
    Counts,
    CrowdSnapshot,
    DatabaseSnapshot,
    DnsHostSnapshot,
    ListsSnapshot,
    PoolSnapshot,
    ReasonCounts,
    StatementCounts,
    StatementSnapshot,
    StateSnapshot,
    StatsSnapshot,
    UserSnapshot,
    WorkerSnapshot,
)
from proxy.tls_snapshot import CertificateSnapshot, TlsSnapshot

LISTED: Final = ("databases", "users", "pools", "dns_hosts")
"""The parts whose length `lists` needs: what is known to several workers counts once."""
PART: Final = 1000
"""How many statements are dealt with in one go."""

_Named = TypeVar("_Named", DatabaseSnapshot, UserSnapshot)
_Key = TypeVar("_Key")


def pools(parts: Iterable[Iterable[PoolSnapshot]], console: str) -> list[PoolSnapshot]:
    """One row for each database and user: clients and servers add up, the longest wait is the longest of
    all. The console's own row stays the last."""
    rows = joined(chain.from_iterable(parts))
    return sorted(rows, key=lambda row: row.database == console)


def named(parts: Iterable[Iterable[_Named]]) -> list[_Named]:
    """Databases or users by name, with the connections of all workers."""
    found: dict[str, _Named] = {}
    for row in chain.from_iterable(parts):
        known = found.get(row.name)
        if known is not None:
            row = replace(
                known,
                current_connections=known.current_connections + row.current_connections,
                current_client_connections=known.current_client_connections + row.current_client_connections,
            )
        found[row.name] = row
    return list(found.values())


def databases(parts: Iterable[Iterable[DatabaseSnapshot]], console: str) -> list[DatabaseSnapshot]:
    """Databases by name; that of the console stays the last."""
    return sorted(named(parts), key=lambda row: row.name == console)


def users(parts: Iterable[Iterable[UserSnapshot]]) -> list[UserSnapshot]:
    """Users by name, in the order of the names."""
    return sorted(named(parts), key=lambda row: row.name)


def stats(parts: Iterable[Iterable[StatsSnapshot]]) -> list[StatsSnapshot]:
    """Statistics by database.

    A worker counts by its own clock: what it did in its last period is scaled to the longest of all periods,
    so that averages per second add up.
    """
    found: dict[str, list[StatsSnapshot]] = {}
    for row in chain.from_iterable(parts):
        found.setdefault(row.database, []).append(row)
    return [_added(database, rows) for database, rows in found.items()]


def _added(database: str, rows: Sequence[StatsSnapshot]) -> StatsSnapshot:
    period = max(row.period for row in rows)
    total, recent = Counts(), Counts()
    for row in rows:
        total += row.total
        if row.period:
            recent += row.recent if row.period == period else _scaled(row.recent, period, row.period)
    return StatsSnapshot(database, total, recent, period)


def _scaled(counts: Counts, to: int, of: int) -> Counts:
    return Counts(*(getattr(counts, name) * to // of for name in COUNTS))


def ended(row: StatsSnapshot) -> StatsSnapshot:
    """What is left of a worker that has gone: all it ever did, and nothing that it did recently."""
    return StatsSnapshot(row.database, row.total)


def lists(parts: Iterable[ListsSnapshot], lengths: Mapping[str, int]) -> ListsSnapshot:
    """Numbers of things: sums, but those of LISTED are what was counted after merging."""
    sums = Counter[str]()
    for part in parts:
        sums.update({field.name: getattr(part, field.name) for field in fields(part)})
    sums["databases"], sums["users"], sums["pools"] = (
        lengths[name] for name in ("databases", "users", "pools")
    )
    sums["dns_names"] = lengths["dns_hosts"]
    return ListsSnapshot(**sums)


def statement_counts(parts: Iterable[StatementCounts]) -> StatementCounts:
    """Sums."""
    hits = misses = evictions = 0
    for part in parts:
        hits, misses, evictions = hits + part.hits, misses + part.misses, evictions + part.evictions
    return StatementCounts(hits, misses, evictions)


def dns_hosts(parts: Iterable[Iterable[DnsHostSnapshot]]) -> list[DnsHostSnapshot]:
    """Each name once, with the answer that is remembered longest."""
    found: dict[str, DnsHostSnapshot] = {}
    for row in chain.from_iterable(parts):
        known = found.get(row.hostname)
        if known is None or row.ttl > known.ttl:
            found[row.hostname] = row
    return list(found.values())


def tls(parts: Iterable[TlsSnapshot]) -> TlsSnapshot:
    """Each certificate once; failures add up."""
    found: dict[tuple[object, ...], CertificateSnapshot] = {}
    failures = Counter[str]()
    for part in parts:
        failures.update(part.failures)
        for each in part.certificates:
            found.setdefault((each.side, each.file, each.subject, each.expires), each)
    return TlsSnapshot(tuple(found.values()), dict(failures))


def state(parts: Collection[StateSnapshot]) -> StateSnapshot:
    """What holds for one holds for the pooler: only the supervisor listens, and only it is told first."""
    return StateSnapshot(
        paused=any(part.paused for part in parts),
        suspended=any(part.suspended for part in parts),
        listening=any(part.listening for part in parts),
        draining=any(part.draining for part in parts),
    )


def reasons(parts: Iterable[ReasonCounts]) -> ReasonCounts:
    """Sums of every counter."""
    sums: dict[str, Any] = {}
    for part in parts:
        for field in fields(part):
            value = getattr(part, field.name)
            if isinstance(value, int):
                sums[field.name] = sums.get(field.name, 0) + value
            else:
                sums[field.name] = summed((sums.get(field.name, {}), value))
    return ReasonCounts(**sums)


def summed(parts: Iterable[Mapping[_Key, int]]) -> dict[_Key, int]:
    """Counters by key, those that are 0 too."""
    sums: dict[_Key, int] = {}
    for part in parts:
        for key, count in part.items():
            sums[key] = sums.get(key, 0) + count
    return sums


def crowd(parts: Collection[CrowdSnapshot]) -> CrowdSnapshot:
    """Sums."""
    return CrowdSnapshot(summed(part.clients for part in parts), summed(part.encryption for part in parts))


def workers(parts: Iterable[Iterable[WorkerSnapshot]]) -> list[WorkerSnapshot]:
    """One row for each worker: who it is, as the supervisor says first, and what it says of itself.

    The supervisor's row has the processor time of those that had the number before.
    """
    found: dict[int, WorkerSnapshot] = {}
    for row in chain.from_iterable(parts):
        known = found.get(row.worker)
        if known is not None:
            row = replace(row, state=known.state, restarts=known.restarts, cpu_us=known.cpu_us + row.cpu_us)
        found[row.worker] = row
    return [found[number] for number in sorted(found)]


def statements(parts: Iterable[Iterable[Sequence[StatementSnapshot]]]) -> Iterator[StatementSnapshot | None]:
    """Each text once for its database and user, the most used first; None is a moment for others.

    Each of `parts` is the list of one worker, in pieces. Texts are shown cut: two that one worker tells apart
    stay apart, so the number of the occurrence belongs to what is compared.
    """
    found: dict[tuple[object, ...], StatementSnapshot] = {}
    for part in parts:
        seen = Counter[tuple[object, ...]]()
        for piece in part:
            for row in piece:
                key = row.database, row.user, row.text
                seen[key] += 1
                place = *key, seen[key]
                known = found.get(place)
                found[place] = row if known is None else _joined(known, row)
            yield None
    rows = list(found.values())
    # Uses and place in one number: so many tuples would set the garbage collector going over everything.
    total = len(rows)
    runs: list[list[int]] = []
    for at in range(0, total, PART):
        run = enumerate(rows[at : at + PART], at)
        runs.append(sorted((row.uses * total - place for place, row in run), reverse=True))
        yield None
    for rank in merge(*runs, reverse=True):
        yield rows[-rank % total]


def _joined(one: StatementSnapshot, other: StatementSnapshot) -> StatementSnapshot:
    return replace(
        one,
        clients=one.clients + other.clients,
        uses=one.uses + other.uses,
        servers=one.servers + other.servers,
        bytes=one.bytes + other.bytes,
        generation=max(one.generation, other.generation),
    )

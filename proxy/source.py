"""Where the console and the metrics get what they show: from this process at once, or from all workers.

Law of this file: it has no more than names and types. The parts of a snapshot are called as its methods.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

from proxy.snapshot import (
    BuildInfo,
    ClientSnapshot,
    ConfigRow,
    CrowdSnapshot,
    DatabaseSnapshot,
    DnsHostSnapshot,
    ListsSnapshot,
    PeerPoolSnapshot,
    PeerSnapshot,
    PoolSnapshot,
    ReasonCounts,
    ServerSnapshot,
    StatementCounts,
    StatementSnapshot,
    StateSnapshot,
    StatsSnapshot,
    UserSnapshot,
    WorkerSnapshot,
)
from proxy.tls_snapshot import TlsSnapshot


class Snapshots(Protocol):
    """Makes the parts when they are asked for; each call describes one moment."""

    def pools(self) -> Sequence[PoolSnapshot]:
        """Every pool, that of the console too."""

    def clients(self) -> Iterable[ClientSnapshot]:
        """Every client, also those that log in, send a cancel or use the console."""

    def servers(self) -> Iterable[ServerSnapshot]:
        """Every server, also those that log in or carry a cancel."""

    def databases(self) -> Sequence[DatabaseSnapshot]:
        """Every database, configured or made from `*`, and that of the console."""

    def users(self) -> Sequence[UserSnapshot]:
        """Every user known by name."""

    def stats(self) -> Sequence[StatsSnapshot]:
        """One per database that has a pool."""

    def lists(self) -> ListsSnapshot: ...

    def prepared_statements(self) -> Iterator[StatementSnapshot | None]:
        """The most used first, made one by one; None is a moment for others to have their turn."""

    def statement_counts(self) -> StatementCounts: ...

    def config(self) -> Sequence[ConfigRow]:
        """Every setting, ordered by key."""

    def peers(self) -> Sequence[PeerSnapshot]: ...
    def peer_pools(self) -> Sequence[PeerPoolSnapshot]: ...
    def dns_hosts(self) -> Sequence[DnsHostSnapshot]: ...
    def tls(self) -> TlsSnapshot: ...
    def state(self) -> StateSnapshot: ...
    def reasons(self) -> ReasonCounts: ...

    def build(self) -> BuildInfo: ...

    def loop_lag(self) -> float | None:
        """How late the event loop ran its latest timer, in seconds; None if it is not measured."""

    def crowd(self) -> CrowdSnapshot: ...

    def workers(self) -> Sequence[WorkerSnapshot]:
        """Every worker, ordered by number."""

    def silent(self) -> Sequence[int]:
        """Workers that did not answer in time: what they would have said is missing."""


class Source(Protocol):
    """Gives snapshots to whoever asks."""

    async def take(self, parts: Collection[str]) -> Snapshots:
        """These parts; others may be missing. Waits only where somebody else has to be asked."""

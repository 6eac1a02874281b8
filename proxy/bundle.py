"""What one worker says of itself, packed to be sent; and the bundles of all of them as one set of snapshots.

Laws of this file: a bundle is made and read piece by piece, none of which takes long, however many clients
there are; what only passes it on need not look into it. Out of it come only values of `snapshot`.
"""

import io
import pickle
import platform
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Protocol

from config.databases import CONSOLE
from proxy import merge, snapshot, tls_snapshot
from proxy.crowd import Crowd
from proxy.frames import type_defined_in
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
from proxy.source import Snapshots
from proxy.tls_snapshot import TlsSnapshot
from proxy.version import VERSION

SIZE: Final = 200
"""Rows in a piece of what there may be many of."""

Piece = tuple[str, bytes]
"""Of one part: its name, and its value or some of its rows, pickled."""

_ROWS: Final[dict[str, Any]] = {
    "clients": ClientSnapshot,
    "servers": ServerSnapshot,
    "prepared_statements": StatementSnapshot,
}
# Tuples of their values are packed in a third of the time that the objects take.
_values: Final[dict[str, Callable[[object], tuple[object, ...]]]] = {
    name: attrgetter(*kind.__match_args__) for name, kind in _ROWS.items()
}
_MODULES: Final = {module.__name__ for module in (snapshot, tls_snapshot)}


@dataclass(frozen=True, slots=True)
class Bundle:
    """Some parts of the snapshot of one worker; 0 is the supervisor."""

    worker: int
    pieces: tuple[Piece, ...] = ()


class Looked(Snapshots, Protocol):
    """Snapshots of one process, its clients in parts too."""

    def client_parts(self, size: int) -> Iterator[Sequence[ClientSnapshot]]: ...


def needed(parts: Iterable[str]) -> tuple[str, ...]:
    """The parts that each worker has to give for these ones to be merged."""
    wanted = dict.fromkeys(parts)
    if "lists" in wanted:
        wanted |= dict.fromkeys(merge.LISTED)
    return tuple(wanted)


def pack(looked: Looked, parts: Collection[str]) -> Iterator[Piece | None]:
    """Piece by piece; None is a moment for others, as is each piece."""
    for part in parts:
        match part:
            case "clients":
                for some in looked.client_parts(SIZE):
                    yield _rows(part, some)
            case "servers":
                servers = list(looked.servers())
                for at in range(0, len(servers), SIZE):
                    yield _rows(part, servers[at : at + SIZE])
            case "prepared_statements":
                yield from _pack_statements(looked)
            case "crowd":
                yield from _pack_crowd(looked)
            case _:
                yield value(part, getattr(looked, part)())


def value(part: str, content: object) -> Piece:
    """A part in one piece."""
    return part, pickle.dumps(content, 5)


def _rows(part: str, rows: Iterable[object]) -> Piece:
    return value(part, list(map(_values[part], rows)))


def _pack_statements(looked: Looked) -> Iterator[Piece | None]:
    some: list[StatementSnapshot] = []
    for statement in looked.prepared_statements():
        if statement is None:
            yield None
            continue
        some.append(statement)
        if len(some) == SIZE:
            yield _rows("prepared_statements", some)
            some.clear()
    yield _rows("prepared_statements", some)


def _pack_crowd(looked: Looked) -> Iterator[Piece | None]:
    crowd = Crowd()
    for some in looked.client_parts(SIZE):
        crowd.add_clients(some)
        yield None
    crowd.add_servers(looked.servers())
    yield value("crowd", crowd.counted())


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if module in _MODULES:
            found = type_defined_in(module, name)
            if found is not None:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a snapshot")


def unpack(piece: Piece) -> Any:
    """The value, or the rows, in a piece."""
    content = _Unpickler(io.BytesIO(piece[1])).load()
    kind = _ROWS.get(piece[0])
    return content if kind is None else [kind(*row) for row in content]


class Merged:
    """The snapshots of several processes as one."""

    def __init__(self, bundles: Sequence[Bundle], silent: Sequence[int] = ()) -> None:
        self._bundles = bundles
        self._silent = silent

    def _pieces(self, bundle: Bundle, part: str) -> Iterator[Any]:
        return (unpack(piece) for piece in bundle.pieces if piece[0] == part)

    def _each(self, part: str) -> Iterator[Any]:
        for bundle in self._bundles:
            yield from self._pieces(bundle, part)

    def _first(self, part: str) -> Any:
        return next(self._each(part))

    def _all_rows(self, part: str) -> Iterator[Any]:
        for rows in self._each(part):
            yield from rows

    def pools(self) -> Sequence[PoolSnapshot]:
        """Every pool, those of all workers added up."""
        return merge.pools(self._each("pools"), CONSOLE)

    def clients(self) -> Iterable[ClientSnapshot]:
        """Every client, unpacked as it is asked for."""
        return self._all_rows("clients")

    def servers(self) -> Iterable[ServerSnapshot]:
        """Every server, unpacked as it is asked for."""
        return self._all_rows("servers")

    def databases(self) -> Sequence[DatabaseSnapshot]:
        """Every database."""
        return merge.databases(self._each("databases"), CONSOLE)

    def users(self) -> Sequence[UserSnapshot]:
        """Every user."""
        return merge.users(self._each("users"))

    def stats(self) -> Sequence[StatsSnapshot]:
        """One per database."""
        return merge.stats(self._each("stats"))

    def lists(self) -> ListsSnapshot:
        """Numbers of things."""
        lengths = {
            "databases": len(self.databases()),
            "users": len(self.users()),
            "pools": len(self.pools()),
            "dns_hosts": len(self.dns_hosts()),
        }
        return merge.lists(self._each("lists"), lengths)

    def prepared_statements(self) -> Iterator[StatementSnapshot | None]:
        """The most used first."""
        part = "prepared_statements"
        return merge.statements(self._pieces(bundle, part) for bundle in self._bundles)

    def statement_counts(self) -> StatementCounts:
        """Sums."""
        return merge.statement_counts(self._each("statement_counts"))

    def config(self) -> Sequence[ConfigRow]:
        """The same in all."""
        rows: Sequence[ConfigRow] = self._first("config")
        return rows

    def peers(self) -> Sequence[PeerSnapshot]:
        """The same in all."""
        rows: Sequence[PeerSnapshot] = next(self._each("peers"), ())
        return rows

    def peer_pools(self) -> Sequence[PeerPoolSnapshot]:
        """There are none."""
        rows: Sequence[PeerPoolSnapshot] = next(self._each("peer_pools"), ())
        return rows

    def dns_hosts(self) -> Sequence[DnsHostSnapshot]:
        """Remembered answers."""
        return merge.dns_hosts(self._each("dns_hosts"))

    def tls(self) -> TlsSnapshot:
        """Certificates, and handshakes that failed."""
        return merge.tls(self._each("tls"))

    def state(self) -> StateSnapshot:
        """What the whole pooler is doing."""
        return merge.state(list(self._each("state")))

    def reasons(self) -> ReasonCounts:
        """Sums."""
        return merge.reasons(self._each("reasons"))

    def build(self) -> BuildInfo:
        """The same in all; while there is no worker, what is known of it without."""
        build: BuildInfo = next(self._each("build"), BuildInfo(VERSION, platform.python_version(), ""))
        return build

    def loop_lag(self) -> float | None:
        """That of the process which is latest."""
        return max((lag for lag in self._each("loop_lag") if lag is not None), default=None)

    def crowd(self) -> CrowdSnapshot:
        """Sums."""
        return merge.crowd(list(self._each("crowd")))

    def workers(self) -> Sequence[WorkerSnapshot]:
        """One for each worker."""
        return merge.workers(self._each("workers"))

    def silent(self) -> Sequence[int]:
        """Workers that did not answer in time."""
        return self._silent

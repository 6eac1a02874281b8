"""What workers and the ledger above them tell each other about leases.

A worker says how its pools stand (`Report`) and gives leases back (`Returned`); the ledger grants them,
makes known that somebody elsewhere lacks servers (`Claim`), and takes servers back (`Take`). Each `Take` is
answered by one `Yielded`. Every message means what it says whatever else is on its way.

An `inode` says which server is meant, for its socket has the same in all processes; 0 is none.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from proxy.pool.interfaces import PoolKey


class Message:
    """Travels as its values in their order: to ask a dataclass for its fields takes longer than all else."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __reduce__(self) -> "tuple[type[Message], tuple[object, ...]]":
        return type(self), tuple([getattr(self, name) for name in self.__match_args__])


@dataclass(frozen=True, slots=True)
class Report(Message):
    """How one pool of a worker stands; the newest counts.

    `lacking`: servers its clients wait for. `since`: since when (ns) the first of them waits; None: nobody
    waits, the pool is below its minimum. `reserve`: it may go into its reserve. `load`: clients that have or
    want a server. `spare`: idle servers it can do without.
    """

    key: PoolKey
    lacking: int
    since: int | None = None
    reserve: bool = False
    load: int = 0
    spare: int = 0


@dataclass(frozen=True, slots=True)
class Connected(Message):
    """There is a connection under a lease of this pool; its socket is beside the message. `instead`: of
    another that it replaces.
    """

    key: PoolKey
    instead: int = 0


@dataclass(frozen=True, slots=True)
class Returned(Message):
    """A lease is given back: its server is gone, or it was not needed any more."""

    key: PoolKey
    inode: int = 0


class How(IntEnum):
    """What became of a `Take`."""

    MOVED = 0
    """The server is in the cargo, its socket beside the message; its lease goes with it."""
    CLOSING = 1
    """The server is being closed; its lease is returned when PostgreSQL has closed."""
    KEPT = 2
    """There was none to give."""


@dataclass(frozen=True, slots=True)
class Yielded(Message):
    """The answer to a `Take`."""

    number: int
    key: PoolKey
    how: How
    cargo: bytes = b""
    inode: int = 0


@dataclass(frozen=True, slots=True)
class Grant(Message):
    """One server may be opened. What the pool still lacks it asks for anew."""

    key: PoolKey


@dataclass(frozen=True, slots=True)
class Claim(Message):
    """Whether somebody elsewhere lacks a server such as this pool has: then it reports its load and what it
    can spare.
    """

    key: PoolKey
    made: bool


@dataclass(frozen=True, slots=True)
class Take(Message):
    """Give one server away. `move`: it can be used as it is; else it is to be closed. `due`: although own
    clients may wait for it, at the next release.
    """

    number: int
    key: PoolKey
    move: bool
    due: bool


@dataclass(frozen=True, slots=True)
class Forget(Message):
    """A `Take` that is not answered yet is void; the answer is then `KEPT`."""

    number: int


@dataclass(frozen=True, slots=True)
class Arrival(Message):
    """A server of another worker, with its lease; its socket is beside the message."""

    key: PoolKey
    cargo: bytes
    inode: int = 0


@dataclass(frozen=True, slots=True)
class Below(Message):
    """How many servers of a pool workers of lower numbers hold: those count first for its minimum."""

    key: PoolKey
    count: int


FromWorker = Report | Connected | Returned | Yielded
FromLedger = Grant | Claim | Take | Forget | Arrival | Below

"""Texts of prepared statements that clients share, and which of them are prepared on a server.

Laws of this file:
- What makes two statements the same is all that PostgreSQL's parser sees: the text, the types of the
  parameters, the user, and the settings that change how it reads them.
- Each preparation on a server has a name of its own that is never used again.
- A statement is on a server only after ParseComplete; until then nobody but its session relies on it.
"""

from collections.abc import Callable
from typing import Final

from config.types import MAX_WORKERS
from proxy.pool.interfaces import PoolKey
from proxy.pool.parameters import Applied, Values

PREFIX: Final = b"howdah_"
"""How the names begin under which statements are prepared on servers."""
MISSING: Final = PREFIX + b"0"
"""The name of a statement that no server has: PostgreSQL itself then says so, at the right moment."""
OVERHEAD: Final = 512
"""Bytes that are counted for a statement beside its text, wherever it is kept."""

Key = tuple[PoolKey, bytes, Values, Applied]
"""Whose servers, the text, and what it is read under. Users differ in more than is tracked: a role may have a
search_path of its own.
"""


class Statement:
    """`text` is the body of its Parse behind the name: query, number and types of parameters.

    `ddl` is the database's count of schema changes when it was first parsed, `shape` what its rows looked
    like then (None if that is not known), `verified` the count at which they were last seen to look so;
    `parameters` are the types of its parameters as far as they are known, as a Parse has them.
    `clients` is how many names stand for it at present, `uses` how often a client has prepared or bound it.
    """

    __slots__ = (
        "clients",
        "ddl",
        "key",
        "parameters",
        "shape",
        "shared",
        "text",
        "uses",
        "values",
        "verified",
    )

    def __init__(self, key: Key, ddl: int, *, shared: bool) -> None:
        self.key = key
        self.text = key[1]
        self.values = key[2]
        self.ddl = ddl
        self.verified = ddl
        self.shape: bytes | None = None
        self.parameters: bytes | None = None
        self.shared = shared
        self.clients = 0
        self.uses = 0

    @property
    def size(self) -> int:
        """Bytes that are counted for it."""
        return OVERHEAD + len(self.text)


class Preparation:
    """A statement on one server. `used`: when it was last asked for (ns). `group`: which of its session's
    groups of messages prepared it, of importance until it is `confirmed` by ParseComplete. `checking`:
    whether its rows still look as they did is being asked.
    """

    __slots__ = ("checking", "confirmed", "group", "name", "statement", "used")

    def __init__(self, name: bytes, statement: Statement, group: int, now: int) -> None:
        self.name = name
        self.statement = statement
        self.group = group
        self.checking = False
        self.confirmed = False
        self.used = now


class Registry:
    """All shared statements of a worker. `limits` gives how many may be kept, and how many bytes; 0 is no
    limit.

    Statements no client has a name for stay until there is no room, the longest unwanted going first.
    """

    __slots__ = ("_names", "_step", "_unwanted", "evicted", "hits", "limits", "misses", "size", "statements")

    def __init__(self, limits: Callable[[], tuple[int, int]], worker: int = 0) -> None:
        self.limits = limits
        self.statements: dict[Key, Statement] = {}
        self.size = 0
        self.hits = 0
        self.misses = 0
        self.evicted = 0
        self._unwanted: dict[Statement, None] = {}
        # Servers change workers: names of one of many are a number apart from those of all others.
        self._names = worker
        self._step = MAX_WORKERS if worker else 1

    def next_name(self) -> bytes:
        """A name for a preparation."""
        self._names += self._step
        return PREFIX + b"%d" % self._names

    def seen(self, name: bytes) -> None:
        """A server came with a statement of this name, maybe from a worker before this one of its number."""
        number = int(name.removeprefix(PREFIX))
        if number > self._names and (number - self._names) % self._step == 0:
            self._names = number

    def find(
        self, pool: PoolKey, text: bytes, values: Values, applied: Applied, ddl: int
    ) -> Statement | None:
        """The statement for what a client prepares; None if there is no room for it.

        After a schema change (`ddl` tells) it is a new one: who prepared before goes on with the old one.
        """
        key = (pool, text, values, applied)
        known = self.statements.get(key)
        if known is not None and known.ddl == ddl:
            return known
        if known is not None:
            self._forget(known)
        made = Statement(key, ddl, shared=True)
        if not self._make_room(made.size):
            return None
        self.statements[key] = made
        self.size += made.size
        self._unwanted[made] = None
        return made

    def wanted(self, statement: Statement) -> None:
        """One more name stands for it."""
        statement.clients += 1
        if statement.clients == 1:
            self._unwanted.pop(statement, None)

    def unwanted(self, statement: Statement) -> None:
        """One name fewer stands for it."""
        statement.clients -= 1
        if not statement.clients and statement.shared:
            self._unwanted[statement] = None

    def _make_room(self, size: int) -> bool:
        count, most = self.limits()
        while (count and len(self.statements) >= count) or (most and self.size + size > most):
            if not self._unwanted:
                return False
            self._forget(next(iter(self._unwanted)))
        return True

    def _forget(self, statement: Statement) -> None:
        self._unwanted.pop(statement, None)
        statement.shared = False
        self.size -= statement.size
        del self.statements[statement.key]


class ServerStatements:
    """What is prepared on one server; of what is `pending` no ParseComplete has come. `crowded`: some of it
    is to be closed before the next transaction.

    `unnamed` is whatever its session has put there to recognise the unnamed statement by.
    """

    __slots__ = ("_doomed", "crowded", "pending", "prepared", "size", "unnamed")

    def __init__(self) -> None:
        self.prepared: dict[Statement, Preparation] = {}
        self.size = 0
        self.crowded = False
        self.unnamed: object | None = None
        self._doomed: list[bytes] = []
        self.pending: dict[Preparation, None] = {}

    def __len__(self) -> int:
        return len(self.prepared)

    def add(self, preparation: Preparation, most: int, most_bytes: int) -> None:
        """A Parse for it is being sent. Above `most` statements or `most_bytes` the server is crowded."""
        statement = preparation.statement
        before = self.prepared.get(statement)
        if before is not None:
            self._doom(before)
        else:
            self.size += statement.size
        self.prepared[statement] = preparation
        self.pending[preparation] = None
        if len(self.prepared) > most or (most_bytes and self.size > most_bytes):
            self.crowded = True

    def confirm(self, preparation: Preparation) -> None:
        """ParseComplete came for it."""
        if self.pending.pop(preparation, preparation) is None:
            preparation.confirmed = True

    def is_pending(self, preparation: Preparation) -> bool:
        """Whether nothing is known of its Parse yet."""
        return preparation in self.pending

    def remove(self, preparation: Preparation) -> None:
        """Its Parse failed or was thrown away, or nobody may rely on it any more."""
        self.pending.pop(preparation, None)
        if self.prepared.get(preparation.statement) is preparation:
            del self.prepared[preparation.statement]
            self.size -= preparation.statement.size

    def retire(self, preparation: Preparation) -> None:
        """It is of no use any more: close it when there is time."""
        self.remove(preparation)
        self._doom(preparation)

    def arrived(self, name: bytes, statement: Statement | None, now: int) -> None:
        """The server brought this from another worker; without a statement nobody here can use it."""
        if statement is None:
            self._doomed.append(name)
            self.crowded = True
            return
        preparation = Preparation(name, statement, -1, now)
        preparation.confirmed = True
        self.prepared[statement] = preparation
        self.size += statement.size

    @property
    def doomed(self) -> tuple[bytes, ...]:
        """Names that are to be closed."""
        return tuple(self._doomed)

    def adopt(self, preparation: Preparation, statement: Statement) -> None:
        """It turns out to be a preparation of another statement."""
        self.remove(preparation)
        before = self.prepared.get(statement)
        if before is not None:
            self._doom(before)
        else:
            self.size += statement.size
        preparation.statement = statement
        self.prepared[statement] = preparation

    def parted(self) -> None:
        """Its session has left: what no ParseComplete has come for is not relied upon."""
        for preparation in list(self.pending):
            self.retire(preparation)

    def clear(self) -> None:
        """DISCARD ALL or DEALLOCATE ALL was executed; what is pending was sent behind it."""
        self.prepared = {preparation.statement: preparation for preparation in self.pending}
        self.size = sum(statement.size for statement in self.prepared)
        self._doomed = []

    def retire_all(self) -> None:
        """A query of ours may have undone any of it."""
        for preparation in list(self.prepared.values()):
            self.retire(preparation)
        self.unnamed = None

    def overdue(self, most: int, most_bytes: int) -> list[bytes]:
        """Names to be closed now, between two transactions: the least recently used above the limits."""
        oldest = sorted(self.prepared.values(), key=_used)
        for preparation in oldest:
            if len(self.prepared) <= most and not (most_bytes and self.size > most_bytes):
                break
            self.retire(preparation)
        names, self._doomed = self._doomed, []
        self.crowded = False
        return names

    def put_back(self, name: bytes) -> None:
        """A Close of ours was thrown away unanswered."""
        self._doomed.append(name)
        self.crowded = True

    def _doom(self, preparation: Preparation) -> None:
        self._doomed.append(preparation.name)
        self.crowded = True


def _used(preparation: Preparation) -> int:
    return preparation.used

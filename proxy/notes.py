"""What is remembered about requests that name prepared statements until they are answered or thrown away.

Law: plain data; `prepared` alone makes and reads it.
"""

from typing import TYPE_CHECKING, Final

from proxy.pool.statements import OVERHEAD

if TYPE_CHECKING:
    from proxy.pool.parameters import Values
    from proxy.pool.statements import Preparation, Statement

SENT: Final = 0
WAITS: Final = 1
REST_DROPPED: Final = 2
"""What became of a message: it is accounted for; it has to come again; also its rest is not to be sent."""

NAME_MOST: Final = 63
"""PostgreSQL compares so many bytes of a name (NAMEDATALEN - 1)."""

CALLED: Final = 0
"""A client's Bind or Describe of a name it has."""
REPEATED: Final = 1
"""A Parse of ours, ahead of a message that needs the statement."""
PARSED: Final = 2
"""A client's Parse, under a name of ours."""
KNOWN: Final = 3
"""A client's Parse of what is prepared already: sent as a Close of nothing, which fails when a Parse does."""
CLOSED: Final = 4
"""A client's Close of a name it has."""
EVICTED: Final = 5
"""A Close of ours."""
REFUSED: Final = 6
"""A client's Parse that is one too many: sent as one that fails."""
MISSED: Final = 7
"""A client's Bind or Describe of a name it does not have."""
AGAIN: Final = 8
"""A client's Parse of a name it has: sent under the name of the preparation that is in the way."""
UNNAMED: Final = 9
"""A Parse of ours of the client's unnamed statement."""
DEALLOCATED: Final = 10
"""A client's DEALLOCATE of a name it has, as a simple query."""

DESCRIBED: Final = 11
"""A Describe of ours, to know what the rows of a new statement look like, or whether they still do."""
STALE: Final = 12
"""A client's Bind or Describe of a name whose rows no longer look as it was told: sent as one of a name that
nobody has."""

CLOSED_UNNAMED: Final = 13
"""A client's Close of its unnamed statement."""

SETTING: Final = 14
"""A statement of ours that changes settings for a Parse, or a Sync of ours."""

FREED: Final = 15
"""A client's Execute of a DEALLOCATE of a name it has: sent as that of another, made for it."""

CLOSING: Final = frozenset((CLOSED, DEALLOCATED, FREED))
"""Kinds of requests that do away with a name."""
SKIPPED: Final = frozenset((REPEATED, EVICTED, UNNAMED, DESCRIBED, SETTING))
"""Kinds of requests the client knows nothing of."""


class Name:
    """One name of a client's, and the note about each Bind and Describe of it. `pending` is what is still to
    be answered about the name itself; `before` what it stood for until then. `stale`: its rows no longer look
    as the client was told. `gone`: it stands for nothing any more.
    """

    __slots__ = ("before", "closed", "gone", "kind", "name", "pending", "size", "stale", "statement")

    def __init__(self, name: bytes, statement: "Statement", before: "Name | None") -> None:
        self.kind = CALLED
        self.name = name
        self.statement = statement
        self.size = OVERHEAD + len(name) + len(statement.text)
        self.pending: Note | None = None
        self.before = before
        self.closed = False
        self.stale = False
        self.gone = False

    def closing(self, note: "Note") -> None:
        """A Close or DEALLOCATE of it is being sent."""
        note.entry = self
        note.prior = self.pending
        self.closed = True
        self.pending = note


class Note:
    """About one request that is outstanding. `group` tells in which of the client's groups of messages it
    stands; `name` is as the client wrote it, `values` are the server's parameters when it was sent, `text` is
    what the kind needs. `prior` is the note that was pending of the same name before.
    """

    __slots__ = ("entry", "group", "kind", "name", "preparation", "prior", "text", "values")

    def __init__(self, kind: int, group: int, name: bytes = b"") -> None:
        self.kind = kind
        self.group = group
        self.name = name
        self.entry: Name | None = None
        self.preparation: Preparation | None = None
        self.prior: Note | None = None
        self.text = b""
        self.values: Values | None = None

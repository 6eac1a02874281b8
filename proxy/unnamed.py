"""The unnamed statement of one client, which PostgreSQL keeps per server and its client for its own.

Laws of this file (hot: see session):
- What a server has is told by identity: its session puts there the very object it keeps.
- What PostgreSQL discards after an error is undone.
"""

from typing import TYPE_CHECKING, Final

from protocol import tags
from protocol.outstanding import NOTED
from proxy.notes import CLOSED_UNNAMED, Note

if TYPE_CHECKING:
    from protocol.outstanding import Outstanding
    from proxy.pool.statements import ServerStatements

# A longer Parse is not kept: the statement is lost with the server (bytes).
_KEPT_MOST: Final = 64 * 1024
# What is received in a chunk of at most so many bytes is kept as that.
_SMALL: Final = 2_048
_ENDS: Final = frozenset((tags.QUERY, tags.SYNC, tags.FUNCTION_CALL))


class Kept:
    """Where a Parse's body behind the name is: from `start` to `stop` of `buffer`. No bytes: it was too long
    to keep.
    """

    __slots__ = ("buffer", "start", "stop")

    def __init__(self, buffer: bytes, start: int, stop: int) -> None:
        self.buffer = buffer
        self.start = start
        self.stop = stop


class Unnamed:
    """`kept` is the statement, None if the client has none, since a request in the `group` of this number.
    `past` is what it was before each of the requests that are outstanding behind others and change it.
    """

    __slots__ = ("group", "kept", "past")

    def __init__(self) -> None:
        self.kept: Kept | None = None
        self.group = 0
        self.past: list[tuple[Kept | None, object | None]] = []

    def parsed(
        self,
        outstanding: "Outstanding",
        there: "ServerStatements",
        buffer: bytes,
        start: int,
        stop: int,
        end: int,
    ) -> None:
        """A Parse of it is about to be pushed."""
        if stop > end or stop - start > _KEPT_MOST:
            kept = Kept(b"", 0, 0)
        elif len(buffer) <= _SMALL:
            kept = Kept(buffer, start + 6, stop)
        else:
            kept = Kept(buffer[start + 6 : stop], 0, stop - start - 6)
        if outstanding.queue:
            self.past.append((self.kept, there.unnamed))
        there.unnamed = self.kept = kept

    def lost(self, outstanding: "Outstanding", there: "ServerStatements") -> None:
        """A Query or a Close that does away with it is about to be pushed."""
        if outstanding.queue:
            self.past.append((self.kept, there.unnamed))
        there.unnamed = self.kept = None

    def not_there(self, there: "ServerStatements") -> None:
        """What was to be repeated there was not: this also holds once what came behind it is undone."""
        there.unnamed = None
        self.past = [(kept, None) for kept, _ in self.past]

    def failed(self, outstanding: "Outstanding", there: "ServerStatements") -> None:
        """An error came, not accounted for yet: undo what PostgreSQL discards."""
        queue = outstanding.queue
        if not queue or queue[0] & 0xFF in _ENDS or not (self.past or queue[0] == tags.PARSE):
            return
        about = iter(outstanding.notes)
        discarded = later = 0
        behind = False
        for request in queue:
            note = next(about) if request & NOTED else None
            tag = request & 0xFF
            if tag == tags.SYNC:
                behind = True
            elif request == tags.PARSE or tag == tags.QUERY or _closes(note):
                later += behind
                discarded += not behind
        if not discarded:
            return
        first = len(self.past) - later - discarded
        # Of a Parse that fails itself PostgreSQL has let go of the statement before it looked at the new one.
        before = (None, None) if queue[0] == tags.PARSE or first < 0 else self.past[first]
        if later:
            self.past = [before, *self.past[len(self.past) - later + 1 :]]
        else:
            self.kept, there.unnamed = before


def _closes(note: object | None) -> bool:
    return isinstance(note, Note) and note.kind == CLOSED_UNNAMED

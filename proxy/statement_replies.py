"""Replies to requests that name prepared statements: what the client gets, and what is known now.

Laws of this file (hot: see session):
- The client reads its own names, never ours.
- A group is repeated only where the client cannot notice: it was sent alone and whole, nothing of it has been
  answered, and whoever cached what its rows look like asks anew.
"""

import re
from typing import TYPE_CHECKING, Final

from protocol import rename, sqlstate, tags
from protocol.backend import ErrorResponse
from proxy import notes
from proxy.notes import Name, Note
from proxy.pool.statements import PREFIX, Preparation
from proxy.statement_book import ENDS_GROUP, StatementBook

if TYPE_CHECKING:
    from proxy.pieces import Messages
    from proxy.server import Server

_PARSE_COMPLETE: Final = bytes((tags.PARSE_COMPLETE, 0, 0, 0, 4))
# A group that is repeated is of so many bytes at most.
_KEPT_MOST: Final = 64 * 1024
# Errors that tell that a plan no longer fits, or that a statement is not where it should be.
_STALE_PLAN: Final = b"0A000"
_NOT_THERE: Final = b"26000"
_GONE: Final = frozenset((b"XX000", b"42704"))
# Drivers tell it by the name of PostgreSQL's routine from other things that are not supported.
_STALE: Final = ErrorResponse(
    {
        "S": b"ERROR",
        "V": b"ERROR",
        "C": _STALE_PLAN,
        "M": b"cached plan must not change result type",
        "F": b"plancache.c",
        "R": b"RevalidateCachedQuery",
    }
)
_OUR_NAME: Final = re.compile(b'"%b[0-9]+"' % PREFIX)
_OF_UNNAMED: Final = b"unnamed prepared statement"


class StatementReplies(StatementBook):
    """The part of `Prepared` that hears from the server."""

    __slots__ = ()

    def answered(self, server: "Server", note: Note, tag: int, body: bytes) -> bytes | None:
        """A reply came to a request with a note; returns what the client gets for it, None for that very
        reply.
        """
        kind = note.kind
        preparation = note.preparation
        if kind == notes.DESCRIBED:
            if preparation is not None and tag != tags.PARAMETER_DESCRIPTION:
                self._described(server, preparation, rename.shape(body))
            return b""
        if kind in notes.SKIPPED:
            if preparation is not None:
                server.statements.confirm(preparation)
            return b""
        if kind == notes.DEALLOCATED:
            return self._deallocating_answered(server, note, tag)
        if kind == notes.PARSED and preparation is not None:
            server.statements.confirm(preparation)
        elif kind == notes.AGAIN:
            self._parsed_after_all(server, note)
        if note.entry is not None:
            self._settle(note.entry, note)
        return _PARSE_COMPLETE if kind == notes.KNOWN else None

    def _settle(self, entry: Name, note: Note) -> None:
        """What was asked about a name has been done."""
        entry.before = None
        if entry.pending is note:
            entry.pending = None
            if note.kind == notes.CLOSED:
                self._drop(entry)
        elif entry.pending is not None and entry.pending.prior is note:
            entry.pending.prior = None

    def _described(self, server: "Server", preparation: Preparation, shape: bytes) -> None:
        statement = preparation.statement
        if not preparation.checking:
            if statement.shape is None:
                statement.shape = shape
            return
        preparation.checking = False
        if statement.shape == shape:
            statement.verified = self._pool.database.ddl
            return
        # This is a new statement in all but its text. The old one stays for the names that stand for it: each
        # client has to be told.
        fresh = self._statement(server, statement.text) or self._private(server, statement.text)
        fresh.shape = shape
        server.statements.adopt(preparation, fresh)
        for known in self.names.values():
            if known.statement is statement:
                known.stale = True

    def _deallocating_answered(self, server: "Server", note: Note, tag: int) -> bytes | None:
        """Of two statements sent, the client knows of the second."""
        if tag == tags.COMMAND_COMPLETE and not note.text:
            note.text = b"PREPARE"
            return b""
        if tag == tags.COMMAND_COMPLETE:
            self._deallocate(server, note)
        return None

    def _parsed_after_all(self, server: "Server", note: Note) -> None:
        """The name was free: what stood in the way was deallocated in the same group of messages."""
        preparation = note.preparation
        statement = self._statement(server, note.text)
        if preparation is None:
            return
        preparation.confirmed = True
        statement = statement or self._private(server, note.text)
        server.statements.adopt(preparation, statement)
        before = self.names.get(note.name)
        if before is not None:
            self._drop(before)
        self._take(note.name, statement, note, None)
        self.names[note.name].pending = None

    def error(self, server: "Server", buffer: bytes, start: int, stop: int, end: int) -> bytes | None:
        """An ErrorResponse came: undo what is not going to happen, and say what the client gets in the place
        of its part in `buffer[:end]`; None for that very part.
        """
        sent = self.sent
        # Nothing of what was sent has been answered.
        repeatable = (
            sent is not None and stop <= end and self._owed_to_client(server.outstanding) == len(sent[3])
        )
        failed = self._discard(server)
        head = buffer[start + 5 : min(stop, end)]
        code = _sqlstate(head)
        name = b""
        if isinstance(failed, Name):
            name = failed.name
            if self.names.get(name) is failed and _tells_of_stale(code, head):
                self._renew(server, failed, code)
                if repeatable and self._may_repeat(code):
                    return self._repeat_group()
        elif isinstance(failed, Note):
            name = failed.name
            if failed.kind == notes.DEALLOCATED:
                self._not_deallocated(failed)
            elif failed.kind == notes.STALE and stop <= end:
                return self._told_of_stale(server, failed, repeatable)
            elif failed.kind == notes.REFUSED and stop <= end:
                text = failed.text.decode()
                return ErrorResponse.make("ERROR", sqlstate.CONFIGURATION_LIMIT_EXCEEDED, text).encode()
        elif not (name := self._alias(head)):
            return None
        return self._in_own_words(buffer, start, stop, end, name)

    def _discard(self, server: "Server") -> object | None:
        """Account for an error; returns the note of what failed."""
        outstanding = server.outstanding
        self.unnamed.failed(outstanding, server.statements)
        failed, unanswered = outstanding.error()
        for dropped in reversed(unanswered):
            if isinstance(dropped, Note):
                self._undo(server, dropped)
        if self._deallocating:
            ends = sum(request & 0xFF in ENDS_GROUP for request in outstanding.queue)
            self._deallocating = [note for note in self._deallocating if note.group != self.group - ends]
        return failed

    def _told_of_stale(self, server: "Server", note: Note, repeatable: bool) -> bytes:
        """What PostgreSQL would have said of a statement whose rows no longer look as they did."""
        known = self.names.get(note.name)
        if known is not None:
            self._renew(server, known, _STALE_PLAN)
        if repeatable and self._may_repeat(_STALE_PLAN):
            return self._repeat_group()
        return _STALE.encode()

    def _alias(self, head: bytes) -> bytes:
        """The client's name for one of ours in an error of something that has no note."""
        found = _OUR_NAME.search(head) if self._aliases else None
        return self._aliases.get(found[0][1:-1], b"") if found is not None else b""

    def _repeat_group(self) -> bytes:
        self.repeating, self.sent = self.sent, None
        return b""

    @staticmethod
    def _not_deallocated(note: Note) -> None:
        entry = note.entry
        if entry is not None and entry.pending is note:
            entry.pending = note.prior
            entry.closed = False

    def _renew(self, server: "Server", known: Name, code: bytes) -> None:
        """The next use of this name shall prepare its text afresh."""
        statement = known.statement
        preparation = server.statements.prepared.get(statement)
        if code == _NOT_THERE:
            if preparation is not None:
                server.statements.remove(preparation)
            return
        known.stale = False
        if preparation is not None and statement.verified == self._pool.database.ddl:
            # The change of the schema did not pass through here.
            self._pool.database.ddl += 1
        self._move(known, self._statement(server, statement.text) or self._private(server, statement.text))

    def _in_own_words(self, buffer: bytes, start: int, stop: int, end: int, name: bytes) -> bytes | None:
        """The client's name for the statement in the place of ours."""
        limit = min(stop, end)
        found = _OUR_NAME.search(buffer, start, limit)
        if found is None:
            return None
        new = b'"' + name + b'"' if name else _OF_UNNAMED
        old = found[0] if name else b"prepared statement " + found[0]
        return rename.replaced_in_error(buffer, start, stop, end, old, new)

    def _may_repeat(self, code: bytes) -> bool:
        """Whether the group that failed can be sent once more without the client noticing."""
        assert self.sent is not None
        _, _, lead, messages = self.sent
        possible = not lead and code in (_NOT_THERE, _STALE_PLAN)
        return possible and self._is_repeatable(messages, 0, asks_anew=code == _STALE_PLAN)

    @staticmethod
    def _is_repeatable(messages: "Messages", start: int, *, asks_anew: bool = True) -> bool:
        """Whether these are one whole group from `start` on, and whoever cached what its rows look like asks
        anew in it.
        """
        kinds = [message[0] for message in messages]
        return (
            messages[0][1] == start
            and messages[-1][2] - start <= _KEPT_MOST
            and kinds[-1] == tags.SYNC
            and not ENDS_GROUP.intersection(kinds[:-1])
            and (tags.DESCRIBE in kinds or not asks_anew)
        )

    def _mend(self, server: "Server", known: Name) -> bool:
        """Go on with the text as it is to be prepared now, if that may be done without telling the client."""
        if self.mendable is not known:
            return False
        self._renew(server, known, _STALE_PLAN)
        return True


def _sqlstate(head: bytes) -> bytes:
    """The code in the beginning of an ErrorResponse's body."""
    at = head.find(b"\0C")
    return head[at + 2 : at + 7] if at >= 0 else b""


def _tells_of_stale(code: bytes, head: bytes) -> bool:
    """Whether the plan of a statement that was called no longer fits, or the statement is not there."""
    if code == _STALE_PLAN:
        return b"RevalidateCachedQuery\0" in head or b"cached plan must not change result type" in head
    if code == _NOT_THERE:
        return b'"' + PREFIX in head
    return code in _GONE and (b"cache lookup failed" in head or b"type with OID" in head)

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
from protocol.errors import UnexpectedMessage
from proxy import notes
from proxy.notes import NAME_MOST, Name, Note
from proxy.pool.statements import PREFIX, Preparation
from proxy.statement_groups import asks_anew, is_whole
from proxy.statement_repeats import StatementRepeats

if TYPE_CHECKING:
    from proxy.server import Server

_PARSE_COMPLETE: Final = bytes((tags.PARSE_COMPLETE, 0, 0, 0, 4))
# Errors that tell that a plan no longer fits, or that a statement is not where it should be.
_STALE_PLAN: Final = b"0A000"
_NOT_THERE: Final = b"26000"
_FAILED_BIND: Final = b"22012"
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


class StatementReplies(StatementRepeats):
    """The part of `Prepared` that hears from the server."""

    __slots__ = ()

    def answered(self, server: "Server", note: Note, tag: int, body: bytes) -> bytes | None:
        """A reply came to a request with a note; returns what the client gets for it, None for that very
        reply.
        """
        kind = note.kind
        preparation = note.preparation
        if kind in notes.SKIPPED:
            self._ours_answered(server, note, tag, body)
            return b""
        if kind == notes.DEALLOCATED and tag != tags.COMMAND_COMPLETE:
            if note.entry is not None and note.entry.pending is note:
                self._undo(server, note)
            return None
        if kind == notes.CALLED:
            self.sent = None if tag == tags.PARAMETER_DESCRIPTION else self.sent
            return None
        if kind == notes.PARSED and preparation is not None:
            server.statements.confirm(preparation)
        elif kind == notes.AGAIN:
            self._parsed_after_all(server, note)
        if note.entry is not None:
            self._settle(note.entry, note)
        return _PARSE_COMPLETE if kind == notes.KNOWN else None

    def _ours_answered(self, server: "Server", note: Note, tag: int, body: bytes) -> None:
        preparation = note.preparation
        if preparation is None:
            return
        if note.kind != notes.DESCRIBED:
            server.statements.confirm(preparation)
        elif tag == tags.PARAMETER_DESCRIPTION:
            whole = len(body) >= 2 and len(body) == 2 + 4 * int.from_bytes(body[:2], "big")
            preparation.statement.parameters = body if whole else None
        else:
            self._described(server, note, preparation, rename.shape(body))

    def _settle(self, entry: Name, note: Note) -> None:
        """What was asked about a name has been done."""
        entry.before = None
        if entry.pending is note:
            entry.pending = None
            if note.kind in notes.CLOSING:
                self._drop(entry)
        elif entry.pending is not None and entry.pending.prior is note:
            entry.pending.prior = None

    def _described(self, server: "Server", note: Note, preparation: Preparation, shape: bytes) -> None:
        statement = preparation.statement
        checking, preparation.checking = preparation.checking, False
        if statement.shape is None:
            statement.shape = shape
        elif statement.shape == shape:
            statement.verified = self._pool.database.ddl if checking else statement.verified
        else:
            self._look_otherwise(server, note, preparation, shape, checking=checking)

    def _look_otherwise(
        self, server: "Server", note: Note, preparation: Preparation, shape: bytes, *, checking: bool
    ) -> None:
        """This is a new statement in all but its text. The old one stays for the names that stand for it:
        each client has to be told. Unless it is `checking`, the change did not pass through here, and this
        client is shown the new rows already.
        """
        statement = preparation.statement
        fresh = self._anew(statement) if checking else self._private(statement.text, statement.values)
        fresh.shape, fresh.parameters = shape, statement.parameters
        if server.statements.prepared.get(statement) is preparation:
            server.statements.adopt(preparation, fresh)
        for known in self.names.values():
            if known.statement is statement:
                known.stale = True
        told = note.entry
        if told is not None and not (checking or told.gone) and note.text:
            self._move(told, fresh)
            told.stale = False

    def _parsed_after_all(self, server: "Server", note: Note) -> None:
        """The name was free: what stood in the way was deallocated in the same group of messages."""
        preparation = note.preparation
        if preparation is None:
            return
        preparation.confirmed = True
        values = self._settings(server)
        statement = self._statement(note.text, values) or self._private(note.text, values)
        server.statements.adopt(preparation, statement)
        name = note.name[:NAME_MOST]
        before = self.names.get(name)
        if before is not None:
            self._drop(before)
        self._take(name, statement, note, None)
        self.names[name].pending = None

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
        if self.repeating is not None and b"VERROR\0" in head:
            if stop > end:
                raise UnexpectedMessage("server sent too long an error in reply to a text of ours")
            # Of what is prepared ahead of a group; it is tried again within.
            return b""
        instead = self._failed(server, failed, head, stop <= end, repeatable=repeatable)
        if instead is not None:
            return instead
        if isinstance(failed, Name | Note):
            name = failed.name
        elif not (name := self._alias(head)):
            return None
        return self._in_own_words(buffer, start, stop, end, name)

    def _failed(
        self, server: "Server", failed: object | None, head: bytes, whole: bool, *, repeatable: bool
    ) -> bytes | None:
        """What the client gets in the place of the error of this request; None for the error itself."""
        code = _sqlstate(head)
        called = failed.entry if isinstance(failed, Note) and failed.kind == notes.CALLED else failed
        if isinstance(called, Name):
            if self.names.get(called.name) is called and _tells_of_stale(code, head):
                self._renew(server, called, code)
                if repeatable and self._may_repeat(code, called.name):
                    return self._repeat_group()
        elif isinstance(failed, Note):
            if failed.kind == notes.DEALLOCATED:
                self._undo(server, failed)
            elif failed.kind == notes.STALE and whole and code in (_NOT_THERE, _FAILED_BIND):
                return self._told_of_stale(server, failed, repeatable)
            elif failed.kind == notes.REFUSED and whole:
                text = failed.text.decode()
                return ErrorResponse.make("ERROR", sqlstate.CONFIGURATION_LIMIT_EXCEEDED, text).encode()
        return None

    def _discard(self, server: "Server") -> object | None:
        """Account for an error; returns the note of what failed."""
        outstanding = server.outstanding
        self.unnamed.failed(outstanding, server.statements)
        failed, unanswered = outstanding.error()
        for dropped in reversed(unanswered):
            if isinstance(dropped, Note):
                self._undo(server, dropped)
        return failed

    def _told_of_stale(self, server: "Server", note: Note, repeatable: bool) -> bytes:
        """What PostgreSQL would have said of a statement whose rows no longer look as they did."""
        name = note.name[:NAME_MOST]
        known = self.names.get(name)
        if known is not None:
            self._renew(server, known, _STALE_PLAN)
        if repeatable and self._may_repeat(_STALE_PLAN, name):
            return self._repeat_group()
        return _STALE.encode()

    def _alias(self, head: bytes) -> bytes:
        """The client's name for one of ours in an error of something that has no note."""
        found = _OUR_NAME.search(head) if self._aliases else None
        return self._aliases.get(found[0][1:-1], b"") if found is not None else b""

    def _repeat_group(self) -> bytes:
        self.repeating, self.sent = self.sent, None
        return b""

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
            self._pool.database.alter()
        self._move(known, self._anew(statement))

    def _in_own_words(self, buffer: bytes, start: int, stop: int, end: int, name: bytes) -> bytes | None:
        """The client's name for the statement in the place of ours."""
        limit = min(stop, end)
        found = _OUR_NAME.search(buffer, start, limit)
        if found is None:
            return None
        new = b'"' + name + b'"' if name else _OF_UNNAMED
        old = found[0] if name else b"prepared statement " + found[0]
        return rename.replaced_in_error(buffer, start, stop, end, old, new)

    def _may_repeat(self, code: bytes, name: bytes) -> bool:
        """Whether the group that failed can be sent once more without the client noticing."""
        assert self.sent is not None
        buffer, end, lead, messages = self.sent
        if lead or code not in (_NOT_THERE, _STALE_PLAN) or not is_whole(messages, 0):
            return False
        return code == _NOT_THERE or asks_anew(buffer, end, messages, 0, name)

    def _mend(self, server: "Server", known: Name, start: int, buffer: bytes, end: int) -> bool:
        """Go on with the text as it is to be prepared now, if that may be done without telling the client."""
        mendable, self.mendable = self.mendable, None
        if mendable is not known and not self._may_mend(known, start, buffer, end):
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

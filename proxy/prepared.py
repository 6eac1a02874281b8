"""What one client has prepared: its names, and how its messages are put to whichever server it has.

Laws of this file (hot: see session):
- PostgreSQL itself gives every reply and every error at its moment: what the pooler wants said it makes
  PostgreSQL say, by a message that has that reply.
- What a message changes here is undone when PostgreSQL throws the message away.
- A message that depends on how an earlier group of messages ended waits for that group's ReadyForQuery.
"""

import re
from typing import TYPE_CHECKING, Final

from protocol import rename, sqlstate, tags
from protocol.backend import ErrorResponse
from protocol.errors import ProtocolError
from proxy import notes
from proxy.deallocate import deallocated, may_be
from proxy.notes import Name, Note
from proxy.pieces import Edit, Piece
from proxy.pool.statements import MISSING, OVERHEAD, PREFIX, Preparation, Statement
from proxy.unnamed import Unnamed

if TYPE_CHECKING:
    from protocol.outstanding import Outstanding
    from proxy.pool.parameters import Applied
    from proxy.pool.pool import Pool
    from proxy.server import Server

NAMING: Final = frozenset((tags.PARSE, tags.BIND, tags.DESCRIBE, tags.CLOSE))
"""Tags of the messages that may name a prepared statement."""
ENDS_GROUP: Final = frozenset((tags.QUERY, tags.SYNC, tags.FUNCTION_CALL))
"""Tags of the messages that end a group of messages: what comes next is processed also after an error."""

SENT: Final = 0
WAITS: Final = 1
REST_DROPPED: Final = 2
"""What became of a message: it is accounted for; it has to come again; also its rest is not to be sent."""

_PARSE_COMPLETE: Final = bytes((tags.PARSE_COMPLETE, 0, 0, 0, 4))
_CLOSE_NOTHING: Final = rename.close(MISSING)
_FAILING: Final = rename.parse(MISSING, b"howdah\0\0\0")
# PostgreSQL parses it in a failed transaction, too.
_ALWAYS_PARSED: Final = b"COMMIT\0\0\0"
# A DEALLOCATE may be executed again long after it was parsed: so many of our names in such are remembered.
_ALIASES_MOST: Final = 100
_FLUSH: Final = bytes((tags.FLUSH, 0, 0, 0, 4))

# PostgreSQL compares so much of a name (NAMEDATALEN - 1).
_NAME_MOST: Final = 63
# A group that is repeated is of so many bytes at most.
_KEPT_MOST: Final = 64 * 1024
# So far a queue is searched for what may change settings or plans; behind more, the answer is yes.
_SEARCHED: Final = 64

_CHANGES: Final = frozenset((*ENDS_GROUP, tags.EXECUTE))
_BOTH_UNNAMED: Final = b"\0\0"
_PORTAL: Final = b"P"

# Errors that tell that a plan no longer fits, or that a statement is not where it should be.
_STALE_PLAN: Final = b"0A000"
_NOT_THERE: Final = b"26000"
_GONE: Final = frozenset((b"XX000", b"42704"))
_OUR_NAME: Final = re.compile(b'"%b[0-9]+"' % PREFIX)
_OF_UNNAMED: Final = b"unnamed prepared statement"


class Prepared:
    """Of one session. `group` is counted up at the end of each group of messages; `by_sql`: SQL's PREPARE was
    executed on the server it has; `failed`: it is in a failed transaction; `touched`: some of this was used
    since it got the server. `sent` is what was sent last, if that is all that is outstanding; `repeating`
    what is sent once more when the server is ready; `unsure` are statements of which it is not known under
    which settings they were parsed. `withholds`: replies come that the client has not asked for yet.
    """

    __slots__ = (
        "_aliases",
        "_applied",
        "_deallocating",
        "_pool",
        "by_sql",
        "failed",
        "group",
        "names",
        "repeating",
        "sent",
        "size",
        "touched",
        "unnamed",
        "unsure",
        "withholds",
    )

    def __init__(self, pool: "Pool", applied: "Applied") -> None:
        self._pool = pool
        self._applied = applied
        self.names: dict[bytes, Name] = {}
        self.size = 0
        self.group = 0
        self.touched = False
        self.unnamed = Unnamed()
        self.by_sql = False
        self.failed = False
        self.sent: Piece | None = None
        self.repeating: Piece | None = None
        self.unsure: list[Note] = []
        self.withholds = False
        self._deallocating: list[Note] = []
        self._aliases: dict[bytes, bytes] = {}

    # Requests.

    def request(
        self, server: "Server", tag: int, start: int, stop: int, buffer: bytes, end: int, edits: list[Edit],
        now: int,
    ) -> int:  # fmt: skip
        """Account for a message that may name a statement, and add to `edits` what is to be sent in its
        place. Returns SENT, WAITS or REST_DROPPED; raises ProtocolError for a name that has no end.
        """
        outstanding = server.outstanding
        if outstanding.skipping or outstanding.copying or outstanding.early:
            if outstanding.discards():
                outstanding.push(tag)
                return SENT
        elif tag == tags.BIND and buffer[start + 5 : start + 7] == _BOTH_UNNAMED:
            # What is done below, for most of what comes, without the calls.
            unnamed = self.unnamed
            if (
                unnamed.kept is not None
                and unnamed.kept is server.statements.unnamed
                and (unnamed.group == self.group or not outstanding.queue)
            ):
                outstanding.queue.append(tag)
                return SENT
        elif tag == tags.DESCRIBE and buffer[start + 5 : start + 6] == _PORTAL:
            outstanding.queue.append(tag)
            return SENT
        if tag == tags.QUERY:
            return self._query(server, start, stop, buffer, end, edits)
        if tag == tags.PARSE:
            return self._parse(server, start, stop, buffer, end, edits, now)
        limit = min(stop, end)
        at = rename.name_at(buffer, start, limit)
        name_stop = buffer.find(b"\0", at, limit) if at >= 0 else -1
        if name_stop <= at:
            if name_stop < 0 and stop > end:
                raise ProtocolError("prepared statement name too long", sqlstate.INVALID_NAME)
            if name_stop < 0:
                outstanding.push(tag)
            elif tag == tags.CLOSE:
                self.unnamed.lost(outstanding, server.statements)
                self.unnamed.group = self.group
                self.touched = True
                outstanding.note(tag, Note(notes.CLOSED_UNNAMED, self.group))
            else:
                return self._call_unnamed(server, tag, start, stop, buffer, edits)
            return SENT
        self.touched = True
        name = buffer[at:name_stop]
        if len(name) > _NAME_MOST:
            name = name[:_NAME_MOST]
        known = self.names.get(name)
        if known is not None and known.pending is not None and known.pending.group != self.group:
            return WAITS
        if tag == tags.CLOSE:
            self._close(server, name, known, start, stop, buffer, edits)
            return SENT
        if known is None or known.closed:
            self._miss(server, tag, name, notes.MISSED, start, stop, buffer, edits)
            return SENT
        preparation = self._usable(server, known)
        repeated = b""
        if preparation is not None:
            if preparation.checking:
                return WAITS
            self._pool.statements.hits += 1
        elif self._owes(server, ENDS_GROUP):
            # A DEALLOCATE ALL may be under way.
            return WAITS
        elif known.stale:
            self._miss(server, tag, known.name, notes.STALE, start, stop, buffer, edits)
            return SENT
        elif known.statement.shape is not None and known.statement.verified != self._pool.database.ddl:
            self._verify(server, known, start, edits, now)
            return WAITS
        else:
            preparation, repeated = self._repeat(server, known, now)
        preparation.used = now
        if tag == tags.BIND:
            self._pool.stats.bind_count += 1
            known.statement.uses += 1
        head = rename.renamed(buffer, start, stop, at, name_stop, preparation.name)
        edits.append((start, name_stop, repeated + head))
        outstanding.note(tag, known)
        return SENT

    def _parse(
        self, server: "Server", start: int, stop: int, buffer: bytes, end: int, edits: list[Edit], now: int
    ) -> int:
        outstanding = server.outstanding
        at = start + 5
        name_stop = buffer.find(b"\0", at, min(stop, end))
        if name_stop == at:
            return self._parse_unnamed(server, start, stop, buffer, end, edits, now)
        if name_stop < 0 and stop <= end:
            outstanding.push(tags.PARSE)
            return SENT
        whole = stop <= end
        name = buffer[at:name_stop][:_NAME_MOST] if name_stop >= 0 else b""
        known = self.names.get(name)
        if known is not None and not known.closed and self._owes(server, ENDS_GROUP):
            # Whether the name is still taken may depend on a DEALLOCATE that is under way.
            return WAITS
        if known is not None and known.pending is not None and known.pending.group != self.group:
            return WAITS
        pool = self._pool
        pool.stats.client_parse_count += 1
        text = buffer[name_stop + 1 : stop]
        if whole and known is not None and not known.closed:
            self._parse_again(server, known, text, start, stop, buffer, edits, now)
            return SENT
        full = self._full(name, text) if whole else _too_much("max_client_prepared_bytes")
        statement = None if full else self._statement(server, text)
        if statement is None:
            self._refuse(
                server, full or _too_much("max_shared_statements or max_shared_statement_bytes"), name
            )
            edits.append((start, min(stop, end), _FAILING))
            return SENT if whole else REST_DROPPED
        statement.uses += 1
        note = Note(notes.KNOWN, self.group, name)
        preparation = server.statements.prepared.get(statement)
        if (
            preparation is not None
            and preparation.confirmed
            and not preparation.checking
            and not self.failed
            and not self._owes(server, _CHANGES)
        ):
            pool.statements.hits += 1
            preparation.used = now
            edits.append((start, stop, _CLOSE_NOTHING))
            outstanding.note(tags.CLOSE, note)
        else:
            note.kind = notes.PARSED
            preparation = self._prepare(server, note, statement, now)
            edits.append(
                (start, name_stop, rename.renamed(buffer, start, stop, at, name_stop, preparation.name))
            )
            outstanding.note(tags.PARSE, note)
            if statement.shape is None:
                edits.append((stop, stop, self._describe(server, preparation)))
        self._take(name, statement, note, known)
        return SENT

    def _statement(self, server: "Server", text: bytes) -> Statement | None:
        pool = self._pool
        values = pool.tracked.parsing(server.values)
        return pool.statements.find(pool.key.database, text, values, self._applied, pool.database.ddl)

    def _prepare(self, server: "Server", note: Note, statement: Statement, now: int) -> Preparation:
        """A Parse of the statement is being sent to the server."""
        pool = self._pool
        pool.stats.server_parse_count += 1
        pool.statements.misses += 1
        preparation = Preparation(pool.statements.next_name(), statement, self.group, now)
        common = pool.common
        server.statements.add(preparation, common.max_prepared_statements, common.max_server_prepared_bytes)
        note.preparation = preparation
        if self._owes(server, _CHANGES):
            # The settings it is parsed under are known when the group is over.
            note.values = server.values
            self.unsure.append(note)
        return preparation

    def _usable(self, server: "Server", known: Name) -> Preparation | None:
        """What the server has prepared for this name, if that may be used now."""
        preparation = server.statements.prepared.get(known.statement)
        if preparation is not None and (preparation.confirmed or preparation.group == self.group):
            return preparation
        if known.statement.values is self._pool.tracked.parsing(server.values):
            return None
        # Other clients with the settings it was made for must not get a plan made under these.
        text = known.statement.text
        self._move(known, self._statement(server, text) or self._private(server, text))
        preparation = server.statements.prepared.get(known.statement)
        return preparation if preparation is not None and preparation.confirmed else None

    def _repeat(self, server: "Server", known: Name, now: int) -> tuple[Preparation, bytes]:
        """Have the server prepare what the client has prepared elsewhere."""
        note = Note(notes.REPEATED, self.group, known.name)
        preparation = self._prepare(server, note, known.statement, now)
        server.outstanding.note(tags.PARSE, note)
        return preparation, rename.parse(preparation.name, known.statement.text)

    def _describe(self, server: "Server", preparation: Preparation) -> bytes:
        note = Note(notes.DESCRIBED, self.group)
        note.preparation = preparation
        server.outstanding.note(tags.DESCRIBE, note)
        return rename.describe(preparation.name)

    def _verify(self, server: "Server", known: Name, start: int, edits: list[Edit], now: int) -> None:
        """The schema was changed since the client was told what the rows of its statement look like: ask
        whether they still do. PostgreSQL itself would not let it have others.
        """
        preparation, repeated = self._repeat(server, known, now)
        preparation.checking = True
        # The Flush that brings the answer brings replies for which the client has not asked yet.
        self.withholds = len(server.outstanding.queue) > 1
        edits.append((start, start, repeated + self._describe(server, preparation) + _FLUSH))

    def _parse_again(
        self, server: "Server", known: Name, text: bytes, start: int, stop: int, buffer: bytes,
        edits: list[Edit], now: int,
    ) -> None:  # fmt: skip
        """A name that is taken: PostgreSQL says so, after everything else that may be wrong with the text."""
        preparation = self._usable(server, known)
        repeated = b""
        if preparation is None:
            name = self._pool.statements.next_name()
            repeated = rename.parse(name, _ALWAYS_PARSED)
            outstanding = server.outstanding
            outstanding.note(tags.PARSE, Note(notes.REPEATED, self.group, known.name))
            server.statements.put_back(name)
        else:
            name = preparation.name
        note = Note(notes.AGAIN, self.group, known.name)
        note.preparation = preparation
        note.text = text
        edits.append((start, stop, repeated + rename.parse(name, text)))
        server.outstanding.note(tags.PARSE, note)

    def _refuse(self, server: "Server", why: str, name: bytes) -> None:
        note = Note(notes.REFUSED, self.group, name)
        note.text = why.encode()
        server.outstanding.note(tags.PARSE, note)

    def _full(self, name: bytes, text: bytes) -> str:
        common = self._pool.common
        most = common.max_client_prepared_statements
        if most and len(self.names) >= most:
            return _too_much("max_client_prepared_statements")
        most = common.max_client_prepared_bytes
        if most and self.size + OVERHEAD + len(name) + len(text) > most:
            return _too_much("max_client_prepared_bytes")
        return ""

    def _take(self, name: bytes, statement: Statement, note: Note, before: Name | None) -> None:
        entry = Name(name, statement, before)
        entry.pending = note
        note.entry = entry
        self.names[name] = entry
        self.size += entry.size
        self._pool.statements.wanted(statement)

    def _close(
        self, server: "Server", name: bytes, known: Name | None, start: int, stop: int, buffer: bytes,
        edits: list[Edit],
    ) -> None:  # fmt: skip
        """PostgreSQL answers a Close alike whether there is such a statement or not."""
        if name.startswith(PREFIX):
            edits.append((start, stop, _CLOSE_NOTHING))
        if known is None or known.closed:
            server.outstanding.push(tags.CLOSE)
            return
        note = Note(notes.CLOSED, self.group, name)
        _closing(known, note)
        server.outstanding.note(tags.CLOSE, note)

    def _miss(
        self,
        server: "Server",
        tag: int,
        name: bytes,
        kind: int,
        start: int,
        stop: int,
        buffer: bytes,
        edits: list[Edit],
    ) -> None:
        """A statement the client does not have, unless SQL's PREPARE has made it on this very server."""
        if self.by_sql and kind == notes.MISSED and not name.startswith(PREFIX):
            server.outstanding.push(tag)
            return
        at = rename.name_at(buffer, start, stop)
        name_stop = buffer.index(b"\0", at)
        edits.append((start, name_stop, rename.renamed(buffer, start, stop, at, name_stop, MISSING)))
        server.outstanding.note(tag, Note(kind, self.group, name))

    def _parse_unnamed(
        self, server: "Server", start: int, stop: int, buffer: bytes, end: int, edits: list[Edit], now: int
    ) -> int:
        outstanding = server.outstanding
        known = None
        if self.names and start + 6 < stop <= end and may_be(buffer[start + 6]):
            known = self._deallocated(buffer[start + 6 : stop])
            if known is not None and known.pending is not None and known.pending.group != self.group:
                return WAITS
        self.unnamed.parsed(outstanding, server.statements, buffer, start, stop, end)
        self.unnamed.group = self.group
        if outstanding.queue:
            self.touched = True
        if known is not None and not known.closed:
            self._parse_deallocate(server, known, start, stop, edits, now)
        outstanding.push(tags.PARSE)
        return SENT

    def _parse_deallocate(
        self, server: "Server", known: Name, start: int, stop: int, edits: list[Edit], now: int
    ) -> None:
        """DEALLOCATE of a name that only we know, to be executed later or never: the server gets its own name
        for the statement, so that what follows finds it, or not, as PostgreSQL would.
        """
        preparation = self._usable(server, known)
        repeated = b""
        if preparation is None:
            preparation, repeated = self._repeat(server, known, now)
        note = Note(notes.DEALLOCATED, self.group, known.name)
        note.entry = known
        note.preparation = preparation
        self._deallocating.append(note)
        self.touched = True
        if len(self._aliases) > _ALIASES_MOST:
            self._aliases.clear()
        self._aliases[preparation.name] = known.name
        text = b"DEALLOCATE %b\0\0\0" % preparation.name
        edits.append((start, stop, repeated + rename.parse(b"", text)))

    def _call_unnamed(
        self, server: "Server", tag: int, start: int, stop: int, buffer: bytes, edits: list[Edit]
    ) -> int:
        """The unnamed statement on a server may be another client's."""
        mine = self.unnamed.kept
        outstanding = server.outstanding
        if self.unnamed.group != self.group and self._owes(server, ENDS_GROUP):
            return WAITS
        if mine is not None and mine is server.statements.unnamed:
            outstanding.push(tag)
        elif mine is not None and mine[0]:
            server.statements.unnamed = mine
            edits.append((start, start, rename.parse(b"", mine[0][mine[1] : mine[2]])))
            outstanding.note(tags.PARSE, Note(notes.UNNAMED, self.group))
            outstanding.push(tag)
        else:
            self._miss(server, tag, b"", notes.MISSED, start, stop, buffer, edits)
        return SENT

    def _query(
        self, server: "Server", start: int, stop: int, buffer: bytes, end: int, edits: list[Edit]
    ) -> int:
        """A simple Query that may be a DEALLOCATE of a name that only we know."""
        outstanding = server.outstanding
        known = None
        if self.names and start + 5 < stop <= end and may_be(buffer[start + 5]):
            known = self._deallocated(buffer[start + 5 : stop])
        if known is not None and known.pending is not None and known.pending.group + 1 != self.group:
            self.group -= 1
            return WAITS
        if known is None or known.closed:
            self.unnamed.lost(outstanding, server.statements)
            self.unnamed.group = self.group - 1
            if outstanding.queue:
                self.touched = True
            outstanding.push(tags.QUERY)
            return SENT
        self.unnamed.lost(outstanding, server.statements)
        self.touched = True
        note = Note(notes.DEALLOCATED, self.group, known.name)
        note.entry = known
        note.preparation = self._usable(server, known)
        if note.preparation is not None:
            text = b"DEALLOCATE " + note.preparation.name
            note.text = b"PREPARE"
        else:
            # A Parse that fails ahead of a Query would have that discarded. What is deallocated is another.
            name = self._pool.statements.next_name()
            text = b"PREPARE %b AS SELECT 1;DEALLOCATE %b" % (name, name)
            _closing(known, note)
        edits.append((start, stop, rename.query(text)))
        outstanding.note(tags.QUERY, note)
        return SENT

    def _deallocated(self, text: bytes) -> Name | None:
        """The name of ours that an SQL text deallocates, if that is what it does."""
        name = deallocated(text)
        return self.names.get(name[:_NAME_MOST]) if name is not None else None

    def _owes(self, server: "Server", kinds: frozenset[int]) -> bool:
        """Whether any of these requests is outstanding."""
        queue = server.outstanding.queue
        if len(queue) > _SEARCHED:
            return True
        return any(request & 0xFF in kinds for request in queue)

    # Replies.

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
        entry = note.entry
        if entry is not None and entry.pending is note:
            entry.pending = None
            if kind == notes.CLOSED:
                self._drop(entry)
        elif entry is not None and entry.pending is not None and entry.pending.prior is note:
            entry.pending.prior = None
        if entry is not None and entry.before is not None:
            entry.before = None
        return _PARSE_COMPLETE if kind == notes.KNOWN else None

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

    def _drop(self, entry: Name) -> None:
        """A name no longer stands for its statement."""
        self.size -= entry.size
        self._pool.statements.unwanted(entry.statement)
        if self.names.get(entry.name) is entry:
            del self.names[entry.name]

    def _deallocate(self, server: "Server", note: Note) -> None:
        """A DEALLOCATE was executed."""
        entry = note.entry
        if note.preparation is not None:
            server.statements.remove(note.preparation)
        if entry is not None and (entry.pending is None or entry.pending is note):
            entry.pending = None
            if self.names.get(entry.name) is entry:
                self._drop(entry)

    def ready(self, server: "Server") -> None:
        """A group of messages is over: the settings its statements were parsed under are known now."""
        unsure, self.unsure = self.unsure, []
        for note in unsure:
            preparation = note.preparation
            if preparation is None or server.statements.is_pending(preparation):
                self.unsure.append(note)
            elif preparation.confirmed and server.values is not note.values:
                self._parsed_otherwise(server, note, preparation)

    def _parsed_otherwise(self, server: "Server", note: Note, preparation: Preparation) -> None:
        """A statement was parsed under settings that were changed just before."""
        statement = preparation.statement
        if statement.values is self._pool.tracked.parsing(server.values):
            return
        found = self._statement(server, statement.text) or self._private(server, statement.text)
        server.statements.adopt(preparation, found)
        known = note.entry or self.names.get(note.name)
        if known is not None and known.statement is statement:
            self._move(known, found)

    def _private(self, server: "Server", text: bytes) -> Statement:
        """A statement nobody else gets, for want of room among those that are shared."""
        values = self._pool.tracked.parsing(server.values)
        key = (self._pool.key.database, text, values, self._applied)
        return Statement(key, self._pool.database.ddl, shared=False)

    def _move(self, known: Name, statement: Statement) -> None:
        """A name stands for another statement from now on."""
        self._pool.statements.wanted(statement)
        self._pool.statements.unwanted(known.statement)
        known.statement = statement

    def executed(self, server: "Server", command: bytes) -> None:
        """A command tag came that may say that prepared statements were made or done away with."""
        if command.startswith((b"DEALLOCATE ALL", b"DISCARD ALL")):
            for entry in list(self.names.values()):
                entry.before = None
                if entry.pending is None or entry.closed:
                    entry.pending = None
                    self._drop(entry)
        elif command.startswith(b"DEALLOCATE") and self._deallocating:
            self._deallocate(server, self._deallocating.pop(0))
        elif command.startswith(b"PREPARE"):
            self.by_sql = self.touched = True

    # Errors.

    def error(self, server: "Server", buffer: bytes, start: int, stop: int, end: int) -> bytes | None:
        """An ErrorResponse came: undo what is not going to happen, and say what the client gets in the place
        of its part in `buffer[:end]`; None for that very part.
        """
        outstanding = server.outstanding
        repeatable = self.sent is not None and stop <= end and self._first_reply(outstanding)
        self.unnamed.failed(outstanding, server.statements)
        failed, unanswered = outstanding.error()
        for dropped in reversed(unanswered):
            if isinstance(dropped, Note):
                self._undo(server, dropped)
        if self._deallocating:
            ends = sum(request & 0xFF in ENDS_GROUP for request in outstanding.queue)
            self._deallocating = [note for note in self._deallocating if note.group != self.group - ends]
        head = buffer[start + 5 : min(stop, end)]
        if isinstance(failed, Name):
            code = _sqlstate(head)
            if self.names.get(failed.name) is failed and _tells_of_stale(code, head):
                self._renew(server, failed, code)
                if repeatable and self._may_repeat(code):
                    self.repeating, self.sent = self.sent, None
                    return b""
            return self._in_own_words(buffer, start, stop, end, failed.name)
        if not isinstance(failed, Note):
            found = _OUR_NAME.search(head) if self._aliases else None
            name = self._aliases.get(found[0][1:-1]) if found is not None else None
            return self._in_own_words(buffer, start, stop, end, name) if name is not None else None
        if failed.kind == notes.DEALLOCATED and failed.entry is not None and failed.entry.pending is failed:
            failed.entry.pending = failed.prior
            failed.entry.closed = False
        if failed.kind == notes.STALE and stop <= end:
            known = self.names.get(failed.name)
            if known is not None:
                self._renew(server, known, _STALE_PLAN)
            if repeatable and self._may_repeat(_STALE_PLAN):
                self.repeating, self.sent = self.sent, None
                return b""
            text = "cached plan must not change result type"
            return ErrorResponse.make("ERROR", sqlstate.FEATURE_NOT_SUPPORTED, text).encode()
        if failed.kind == notes.REFUSED and stop <= end:
            text = failed.text.decode()
            return ErrorResponse.make("ERROR", sqlstate.CONFIGURATION_LIMIT_EXCEEDED, text).encode()
        return self._in_own_words(buffer, start, stop, end, failed.name)

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

    def _undo(self, server: "Server", note: Note) -> None:
        """A request that PostgreSQL has thrown away, or refused."""
        kind = note.kind
        entry = note.entry
        preparation = note.preparation
        if kind == notes.DESCRIBED:
            if preparation is not None and preparation.checking:
                server.statements.retire(preparation)
        elif preparation is not None and kind != notes.AGAIN:
            server.statements.remove(preparation)
        if kind == notes.EVICTED:
            server.statements.put_back(note.name)
        elif kind == notes.UNNAMED:
            server.statements.unnamed = None
        elif entry is not None and entry.pending is note:
            entry.pending = note.prior
            if kind == notes.CLOSED:
                entry.closed = False
                return
            current = self.names.get(entry.name) is entry
            self._drop(entry)
            before = entry.before
            if current and before is not None and before.pending is not None:
                self.names[entry.name] = before

    def _first_reply(self, outstanding: "Outstanding") -> bool:
        """Whether nothing of what was sent has been answered yet, as far as the client knows."""
        assert self.sent is not None
        skipped = sum(isinstance(note, Note) and note.kind in notes.SKIPPED for note in outstanding.notes)
        return len(outstanding.queue) - skipped == len(self.sent[3])

    def _may_repeat(self, code: bytes) -> bool:
        """Whether the group that failed can be sent once more without the client noticing: it was sent alone
        and whole, and who cached what its rows look like asks anew.
        """
        assert self.sent is not None
        _, end, lead, messages = self.sent
        if lead or end > _KEPT_MOST or messages[-1][0] != tags.SYNC or messages[-1][2] != end:
            return False
        kinds = [message[0] for message in messages]
        if any(kind in ENDS_GROUP for kind in kinds[:-1]):
            return False
        return code == _NOT_THERE or (code == _STALE_PLAN and tags.DESCRIBE in kinds)

    # Joining and parting.

    def make_room(self, server: "Server") -> bytes:
        """Close what is too much on the server; between transactions only."""
        common = self._pool.common
        names = server.statements.overdue(common.max_prepared_statements, common.max_server_prepared_bytes)
        for name in names:
            note = Note(notes.EVICTED, self.group, name)
            server.outstanding.note(tags.CLOSE, note)
        self._pool.statements.evicted += len(names)
        return b"".join([rename.close(name) for name in names])

    def parted(self) -> None:
        """The session has given its server back."""
        self.touched = False
        self.by_sql = False
        self.failed = False
        self.sent = None
        if self.unnamed.past:
            self.unnamed.past = []
        if self.unsure:
            self.unsure = []
        if self._deallocating:
            self._deallocating = []

    def close(self) -> None:
        """The client is gone."""
        for entry in list(self.names.values()):
            before = entry.before
            self._drop(entry)
            while before is not None:
                if before.pending is not None:
                    self._drop(before)
                before = before.before


def _closing(known: Name, note: Note) -> None:
    """A Close or DEALLOCATE of the name is being sent."""
    note.entry = known
    note.prior = known.pending
    known.closed = True
    known.pending = note


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


def _too_much(setting: str) -> str:
    return f"too many prepared statements (see {setting})"

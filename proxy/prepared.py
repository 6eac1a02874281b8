"""How a client's messages that name prepared statements are put to whichever server it has.

Laws of this file (hot: see session):
- PostgreSQL itself gives every reply and every error at its moment: what the pooler wants said it makes
  PostgreSQL say, by a message that has that reply.
- A message that depends on how an earlier group of messages ended waits for that group's ReadyForQuery.
"""

from typing import TYPE_CHECKING, Final

from protocol import rename, sqlstate, tags
from protocol.errors import ProtocolError
from proxy import notes
from proxy.deallocate import may_be
from proxy.notes import NAME_MOST, Name, Note
from proxy.pieces import Edit
from proxy.pool.statements import MISSING, PREFIX
from proxy.statement_book import CHANGES, ENDS_GROUP, too_much
from proxy.statement_replies import StatementReplies

if TYPE_CHECKING:
    from proxy.server import Server

NAMING: Final = frozenset((tags.PARSE, tags.BIND, tags.DESCRIBE, tags.CLOSE, tags.QUERY))
"""Tags of the messages that may name a prepared statement."""

SENT: Final = 0
WAITS: Final = 1
REST_DROPPED: Final = 2
"""What became of a message: it is accounted for; it has to come again; also its rest is not to be sent."""

_CLOSE_NOTHING: Final = rename.close(MISSING)
_FAILING: Final = rename.parse(MISSING, b"howdah\0\0\0")
# PostgreSQL parses it in a failed transaction, too.
_ALWAYS_PARSED: Final = b"COMMIT\0\0\0"
_FLUSH: Final = bytes((tags.FLUSH, 0, 0, 0, 4))
_BOTH_UNNAMED: Final = b"\0\0"
_PORTAL: Final = b"P"
# A DEALLOCATE may be executed again long after it was parsed: so many of our names in such are remembered.
_ALIASES_MOST: Final = 100


class Prepared(StatementReplies):
    """Of one session; `request` is where its messages come."""

    __slots__ = ()

    def request(
        self, server: "Server", tag: int, start: int, stop: int, buffer: bytes, end: int, edits: list[Edit],
        now: int,
    ) -> int:  # fmt: skip
        """Account for a message that may name a statement, and add to `edits` what is to be sent in its
        place. Returns SENT, WAITS or REST_DROPPED; raises ProtocolError for a name that has no end.
        """
        outstanding = server.outstanding
        if outstanding.skipping or outstanding.copying:
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
            return self._nameless(server, tag, start, stop, name_stop, buffer, end, edits, now)
        self.touched = True
        whole_name = buffer[at:name_stop]
        name = whole_name if len(whole_name) <= NAME_MOST else whole_name[:NAME_MOST]
        known = self.names.get(name)
        if known is not None and self._is_pending(known):
            return WAITS
        if tag == tags.CLOSE:
            self._close(server, name, known, start, stop, buffer, edits)
            return SENT
        if known is None or known.closed:
            self._miss(server, tag, whole_name, notes.MISSED, start, stop, buffer, edits)
            return SENT
        preparation = self._usable(server, known)
        repeated = b""
        if preparation is None:
            if self._owes(server, ENDS_GROUP):
                # A DEALLOCATE ALL may be under way.
                return WAITS
            if known.stale and not self._mend(server, known):
                self._miss(server, tag, known.name, notes.STALE, start, stop, buffer, edits)
                return SENT
            if known.statement.shape is not None and known.statement.verified != self._pool.database.ddl:
                self._verify(server, known, start, edits, now)
                return WAITS
            preparation = self._usable(server, known)
            if preparation is None:
                preparation, repeated = self._repeat(server, known, now)
        elif preparation.checking:
            return WAITS
        else:
            self._pool.statements.hits += 1
        preparation.used = now
        if tag == tags.BIND:
            self._pool.stats.bind_count += 1
            known.statement.uses += 1
        head = rename.renamed(buffer, start, stop, at, name_stop, preparation.name)
        edits.append((start, name_stop, repeated + head))
        outstanding.note(tag, known)
        return SENT

    def _nameless(
        self,
        server: "Server",
        tag: int,
        start: int,
        stop: int,
        name_stop: int,
        buffer: bytes,
        end: int,
        edits: list[Edit],
        now: int,
    ) -> int:
        """A message about a portal, about the unnamed statement, or not in the shape of its kind."""
        if name_stop < 0:
            if stop > end:
                raise ProtocolError("prepared statement name too long", sqlstate.INVALID_NAME)
            server.outstanding.push(tag)
            return SENT
        if tag != tags.CLOSE:
            return self._call_unnamed(server, tag, start, stop, buffer, edits, now)
        self._lose_unnamed(server)
        self.touched = True
        server.outstanding.note(tag, Note(notes.CLOSED_UNNAMED, self.group))
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
        name = buffer[at:name_stop][:NAME_MOST] if name_stop >= 0 else b""
        known = self.names.get(name)
        if known is not None and not known.closed and self._owes(server, ENDS_GROUP):
            # Whether the name is still taken may depend on a DEALLOCATE that is under way.
            return WAITS
        if known is not None and self._is_pending(known):
            return WAITS
        pool = self._pool
        pool.stats.client_parse_count += 1
        text = buffer[name_stop + 1 : stop]
        if whole and known is not None and not known.closed:
            self._parse_again(server, known, text, start, stop, buffer, edits, now)
            return SENT
        full = self._full(name, text) if whole else too_much("max_client_prepared_bytes")
        statement = None if full else self._statement(server, text)
        if statement is None:
            self._refuse(
                server, full or too_much("max_shared_statements or max_shared_statement_bytes"), name
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
            and not self._owes(server, CHANGES)
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

    def _verify(self, server: "Server", known: Name, start: int, edits: list[Edit], now: int) -> None:
        """The schema was changed since the client was told what the rows of its statement look like: ask
        whether they still do. PostgreSQL itself would not let it have others.
        """
        self.mendable = known if self.fresh and self._is_repeatable(self.coming, start) else None
        # The Flush that brings the answer brings replies for which the client has not asked yet.
        self.withholds = self._owed_to_client(server.outstanding) > 0
        preparation, repeated = self._repeat(server, known, now)
        preparation.checking = True
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

    def _close(
        self, server: "Server", name: bytes, known: Name | None, start: int, stop: int, buffer: bytes,
        edits: list[Edit],
    ) -> None:  # fmt: skip
        """PostgreSQL answers a Close alike whether there is such a statement or not."""
        if name.startswith(PREFIX) or len(name) == NAME_MOST:
            # It might be one of ours, or longer than PostgreSQL takes.
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
            if known is not None and self._is_pending(known):
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
        self._part_from_others(server, known)
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
        self, server: "Server", tag: int, start: int, stop: int, buffer: bytes, edits: list[Edit], now: int
    ) -> int:
        """The unnamed statement on a server may be another client's."""
        mine = self.unnamed.kept
        outstanding = server.outstanding
        if self.unnamed.group != self.group and self._owes(server, ENDS_GROUP):
            return WAITS
        if mine is not None and mine is server.statements.unnamed:
            outstanding.push(tag)
        elif mine is not None and mine.buffer:
            server.statements.unnamed = mine
            text = mine.buffer[mine.start : mine.stop]
            known = self._deallocated(text) if text and may_be(text[0]) else None
            if known is None or known.closed:
                edits.append((start, start, rename.parse(b"", text)))
            else:
                self._parse_deallocate(server, known, start, start, edits, now)
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
        outstanding.query_follows(server.status == tags.STATUS_BUSY)
        known = None
        if self.names and start + 5 < stop <= end and may_be(buffer[start + 5]):
            known = self._deallocated(buffer[start + 5 : stop])
        if known is not None and (self._owes(server, ENDS_GROUP) or self._is_pending(known)):
            return WAITS
        if known is None or known.closed:
            self._lose_unnamed(server)
            outstanding.push(tags.QUERY)
            self.group += 1
            return SENT
        self._lose_unnamed(server)
        self.touched = True
        note = Note(notes.DEALLOCATED, self.group, known.name)
        note.entry = known
        self._part_from_others(server, known)
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
        self.group += 1
        return SENT


def _closing(known: Name, note: Note) -> None:
    """A Close or DEALLOCATE of the name is being sent."""
    note.entry = known
    note.prior = known.pending
    known.closed = True
    known.pending = note

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
from proxy.deallocate import may_be, sweeps
from proxy.notes import NAME_MOST, REST_DROPPED, SENT, WAITS, Name, Note
from proxy.pieces import Edit
from proxy.pool.statements import MISSING, PREFIX, Preparation
from proxy.statement_book import too_much
from proxy.statement_groups import ENDS_GROUP
from proxy.statement_sql import ALWAYS_PARSED, StatementSql

if TYPE_CHECKING:
    from proxy.server import Server

_CLOSE_NOTHING: Final = rename.close(MISSING)
_FAILING: Final = rename.parse(MISSING, b"howdah\0\0\0")
_PORTAL: Final = 0x50


class Prepared(StatementSql):
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
        elif tag == tags.BIND and start + 6 < end and not (buffer[start + 5] or buffer[start + 6]):
            # What is done below, for most of what comes, without the calls.
            unnamed = self.unnamed
            if (
                unnamed.kept is not None
                and unnamed.kept is server.statements.unnamed
                and (unnamed.group == self.group or not outstanding.queue)
                and not self._portals
            ):
                outstanding.queue.append(tag)
                return SENT
        elif tag == tags.DESCRIBE and start + 5 < min(stop, end) and buffer[start + 5] == _PORTAL:
            outstanding.queue.append(tag)
            return SENT
        if tag == tags.QUERY:
            return self._query(server, start, stop, buffer, end, edits)
        if tag == tags.PARSE:
            return self._parse(server, start, stop, buffer, end, edits, now)
        if tag == tags.EXECUTE:
            return self._execute(server, start, stop, buffer, end, edits)
        if tag == tags.FUNCTION_CALL:
            return self._function_call(server, start, edits)
        if self._portals:
            self._rebound(tag, start, stop, buffer, end)
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
            self._miss(server, tag, whole_name, start, stop, buffer, edits)
            return SENT
        preparation = self._usable(server, known)
        repeated = b""
        if preparation is None:
            provided = self._provide(server, tag, known, start, stop, buffer, end, edits, now)
            if isinstance(provided, int):
                return provided
            preparation, repeated = provided
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
        outstanding.note(tag, known if name is whole_name else _spelled(known, whole_name, self.group))
        return SENT

    def _provide(
        self,
        server: "Server",
        tag: int,
        known: Name,
        start: int,
        stop: int,
        buffer: bytes,
        end: int,
        edits: list[Edit],
        now: int,
    ) -> tuple[Preparation, bytes] | int:
        """What is called has to be prepared on this server, if that may be done now; else what becomes of the
        message.
        """
        if self._owes(server, ENDS_GROUP):
            # A DEALLOCATE ALL may be under way.
            return WAITS
        if known.stale and not self._mend(server, known, start, buffer, end):
            self._call_stale(server, known, tag, start, stop, buffer, edits)
            return SENT
        if self._is_to_be_verified(known.statement):
            self._verify(server, known, start, buffer, end, edits, now)
            return WAITS
        preparation = self._usable(server, known)
        return (preparation, b"") if preparation else self._repeat(server, known, start, buffer, end, now)

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
            return self._call_unnamed(server, tag, start, stop, buffer, edits)
        self._lose_unnamed(server)
        self.touched = True
        server.outstanding.note(tag, Note(notes.CLOSED_UNNAMED, self.group))
        return SENT

    def _parse(
        self, server: "Server", start: int, stop: int, buffer: bytes, end: int, edits: list[Edit], now: int
    ) -> int:
        outstanding = server.outstanding
        at = start + 5
        if at < min(stop, end) and not buffer[at]:
            return self._parse_unnamed(server, start, stop, buffer, end)
        name_stop = buffer.find(b"\0", at, min(stop, end))
        if name_stop < 0 and stop <= end:
            outstanding.push(tags.PARSE)
            return SENT
        whole = stop <= end
        whole_name = buffer[at:name_stop] if name_stop >= 0 else b""
        name = whole_name[:NAME_MOST]
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
            return self._parse_again(server, known, whole_name, text, start, stop, edits)
        full = self._full(name, text) if whole else too_much("max_client_prepared_bytes")
        statement = None if full else self._statement(text, self._settings(server))
        if statement is None:
            self._refuse(
                server, full or too_much("max_shared_statements or max_shared_statement_bytes"), name
            )
            edits.append((start, min(stop, end), _FAILING))
            return SENT if whole else REST_DROPPED
        statement.uses += 1
        unsettled = self._unsettled(server)
        note = Note(notes.KNOWN, self.group, name)
        preparation = server.statements.prepared.get(statement)
        if (
            preparation is not None
            and preparation.confirmed
            and not preparation.checking
            and not self.failed
            and not unsettled
        ):
            pool.statements.hits += 1
            preparation.used = now
            edits.append((start, stop, _CLOSE_NOTHING))
            outstanding.note(tags.CLOSE, note)
        else:
            note.kind = notes.PARSED
            if unsettled:
                statement = self._unsure(server, note, statement)
            preparation = self._prepare(server, note, statement, now)
            edits.append(
                (start, name_stop, rename.renamed(buffer, start, stop, at, name_stop, preparation.name))
            )
            outstanding.note(tags.PARSE, note)
            if statement.shape is None:
                edits.append((stop, stop, self._describe(server, preparation)))
        self._take(name, statement, note, known)
        if may_be(text[0]):
            self._sweeps = self._sweeps or sweeps(text)
        self._look_at_unnamed(server)
        return SENT

    def _parse_again(
        self, server: "Server", known: Name, name: bytes, text: bytes, start: int, stop: int,
        edits: list[Edit],
    ) -> int:  # fmt: skip
        """A name that is taken: PostgreSQL says so, after everything else that may be wrong with the text."""
        preparation = self._usable(server, known)
        outstanding = server.outstanding
        repeated = b""
        if preparation is not None:
            ours = preparation.name
        elif self._may_be_swept(server):
            self._await_replies(server, start, edits)
            return WAITS
        else:
            ours = self._pool.statements.next_name()
            repeated = rename.parse(ours, ALWAYS_PARSED)
            outstanding.note(tags.PARSE, Note(notes.REPEATED, self.group, name))
            server.statements.put_back(ours)
        note = Note(notes.AGAIN, self.group, name)
        note.preparation = preparation
        note.text = text
        edits.append((start, stop, repeated + rename.parse(ours, text)))
        outstanding.note(tags.PARSE, note)
        return SENT

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
        known.closing(note)
        server.outstanding.note(tags.CLOSE, note)


def _spelled(known: Name, name: bytes, group: int) -> Note:
    """About a call of a name that the client writes longer than it counts."""
    note = Note(notes.CALLED, group, name)
    note.entry = known
    return note

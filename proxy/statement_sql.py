"""SQL that does away with prepared statements, as a simple Query or as the unnamed statement.

Laws of this file (hot: see session):
- What a client deallocates goes as its Close would: the server keeps it for others, and deallocates another
  that is made for it, so that PostgreSQL still says when and whether.
- A DEALLOCATE means whatever has its name when it is executed, however long before it was parsed.
"""

from typing import TYPE_CHECKING, Final

from protocol import rename, tags
from proxy import notes
from proxy.deallocate import deallocated, may_be, sweeps
from proxy.notes import NAME_MOST, SENT, WAITS, Name, Note
from proxy.pieces import Edit
from proxy.pool.statements import MISSING, PREFIX
from proxy.statement_book import NAMING_OR_RUNNING
from proxy.statement_groups import ENDS_GROUP
from proxy.statement_replies import StatementReplies

if TYPE_CHECKING:
    from proxy.server import Server

ALWAYS_PARSED: Final = b"COMMIT\0\0\0"
"""Body of a Parse that PostgreSQL takes in a failed transaction, too."""

_EXECUTES: Final = frozenset((tags.EXECUTE,))
# Of a stale statement: it is bound like that, but then cannot be planned.
_UNPLANNABLE: Final = b"SELECT 1 OPERATOR(pg_catalog./)0\0"
# A DEALLOCATE may be executed again long after it was bound: so many of our names in such are remembered.
_ALIASES_MOST: Final = 100


class StatementSql(StatementReplies):
    """The part of `Prepared` that reads SQL."""

    __slots__ = ()

    def _query(
        self, server: "Server", start: int, stop: int, buffer: bytes, end: int, edits: list[Edit]
    ) -> int:
        """A simple Query, which may be a DEALLOCATE of a name that only we know."""
        outstanding = server.outstanding
        if self._waits_apart(server, start, edits):
            return WAITS
        name = known = None
        if self.names and start + 5 < stop <= end and may_be(buffer[start + 5]):
            name = deallocated(buffer[start + 5 : stop])
            known = self.names.get(name[:NAME_MOST]) if name is not None else None
        if known is not None and (self._owes(server, ENDS_GROUP) or self._is_pending(known)):
            return WAITS
        if known is not None and self._may_be_swept(server):
            self._await_replies(server, start, edits)
            return WAITS
        outstanding.query_follows(server.status == tags.STATUS_BUSY)
        self._lose_unnamed(server)
        if name is None or known is None or known.closed:
            outstanding.push(tags.QUERY)
        else:
            edits.append((start, stop, self._deallocate(server, name, known)))
        self.group += 1
        return SENT

    def _function_call(self, server: "Server", start: int, edits: list[Edit]) -> int:
        if self._waits_apart(server, start, edits):
            return WAITS
        server.outstanding.query_follows(server.status == tags.STATUS_BUSY)
        server.outstanding.push(tags.FUNCTION_CALL)
        self.group += 1
        return SENT

    def _waits_apart(self, server: "Server", start: int, edits: list[Edit]) -> bool:
        """Whether a Query or FunctionCall has to wait, so that it is not in a transaction of which PostgreSQL
        would lose track: see `Outstanding.query_follows`.
        """
        if self.interposed != self.group or self.executing == self.group:
            return False
        if server.outstanding.queue:
            self._await_replies(server, start, edits)
            return True
        self._end_transaction(server, start, edits)
        return False

    def _deallocate(self, server: "Server", name: bytes, known: Name) -> bytes:
        """What stands in for a DEALLOCATE of this name as a simple Query."""
        self.touched = True
        ours = self._pool.statements.next_name()
        parsed = self._parse_to_be_freed(server, name, ours)
        server.outstanding.note(tags.QUERY, _freeing(notes.DEALLOCATED, self.group, name, ours, known))
        return parsed + rename.query(b"DEALLOCATE " + ours)

    def _parse_to_be_freed(self, server: "Server", name: bytes, ours: bytes) -> bytes:
        """Make the statement that is deallocated in the place of the client's. This does not fail, which
        would have a Query behind it discarded.
        """
        server.outstanding.note(tags.PARSE, Note(notes.REPEATED, self.group, name))
        return rename.parse(ours, ALWAYS_PARSED)

    def _may_be_swept(self, server: "Server") -> bool:
        """Whether all names may be done away with by what is being executed in this group."""
        return self._sweeps and self._owes(server, _EXECUTES)

    def _parse_unnamed(self, server: "Server", start: int, stop: int, buffer: bytes, end: int) -> int:
        outstanding = server.outstanding
        self.unnamed.parsed(outstanding, server.statements, buffer, start, stop, end)
        self.unnamed.group = self.group
        if outstanding.queue:
            self.touched = True
        if self.names and start + 6 < stop <= end and may_be(buffer[start + 6]):
            self._look_at_unnamed(server)
        outstanding.push(tags.PARSE)
        return SENT

    def _look_at_unnamed(self, server: "Server") -> None:
        """What is bound of a DEALLOCATE has to be another text: see to it that Bind asks for it."""
        kept = self.unnamed.kept
        if kept is None or not kept.buffer or not may_be(kept.buffer[kept.start]):
            return
        text = kept.buffer[kept.start : kept.stop]
        name = deallocated(text)
        if name is not None and name[:NAME_MOST] in self.names:
            server.statements.unnamed = None
        elif sweeps(text):
            self._sweeps = True

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
        elif mine is not None and mine.buffer:
            text = mine.buffer[mine.start : mine.stop]
            name = deallocated(text) if may_be(text[0]) else None
            if name is None or name[:NAME_MOST] not in self.names:
                server.statements.unnamed = mine
            else:
                server.statements.unnamed = None
                if tag == tags.BIND:
                    text = self._bind_deallocate(buffer, start, stop, name)
            edits.append((start, start, rename.parse(b"", text)))
            outstanding.note(tags.PARSE, Note(notes.UNNAMED, self.group))
            outstanding.push(tag)
        else:
            self._miss(server, tag, b"", start, stop, buffer, edits)
        return SENT

    def _bind_deallocate(self, buffer: bytes, start: int, stop: int, name: bytes) -> bytes:
        """A portal is made of a DEALLOCATE of this name; returns what it executes."""
        ours = self._pool.statements.next_name()
        portal = buffer[start + 5 : buffer.index(b"\0", start + 5, stop)]
        self._portals[portal] = (name, ours)
        self.naming = NAMING_OR_RUNNING
        self.touched = True
        if len(self._aliases) > _ALIASES_MOST:
            self._aliases.clear()
        self._aliases[ours] = name
        return b"DEALLOCATE %b\0\0\0" % ours

    def _rebound(self, tag: int, start: int, stop: int, buffer: bytes, end: int) -> None:
        """A portal may become another or be closed."""
        at = start + 5 if tag == tags.BIND else start + 6
        name_stop = buffer.find(b"\0", at, min(stop, end))
        if name_stop >= 0 and (tag == tags.BIND or (tag == tags.CLOSE and buffer[start + 5 : at] == b"P")):
            self._portals.pop(buffer[at:name_stop], None)

    def _execute(
        self, server: "Server", start: int, stop: int, buffer: bytes, end: int, edits: list[Edit]
    ) -> int:
        """An Execute, while there are portals of a DEALLOCATE."""
        outstanding = server.outstanding
        at = start + 5
        name_stop = buffer.find(b"\0", at, min(stop, end))
        name, ours = self._portals.get(buffer[at:name_stop], (b"", b"")) if name_stop >= 0 else (b"", b"")
        known = self.names.get(name[:NAME_MOST]) if name else None
        if known is not None and (self._owes(server, ENDS_GROUP) or self._is_pending(known)):
            return WAITS
        if known is not None and self._may_be_swept(server):
            self._await_replies(server, start, edits)
            return WAITS
        self.executing = self.group
        if known is None or known.closed or self.failed:
            outstanding.push(tags.EXECUTE)
            return SENT
        edits.append((start, start, self._parse_to_be_freed(server, name, ours)))
        outstanding.note(tags.EXECUTE, _freeing(notes.FREED, self.group, name, ours, known))
        return SENT

    def _miss(
        self, server: "Server", tag: int, name: bytes, start: int, stop: int, buffer: bytes, edits: list[Edit]
    ) -> None:
        """A statement the client does not have, unless SQL's PREPARE has made it on this very server."""
        if self.by_sql and not name.startswith(PREFIX):
            server.outstanding.push(tag)
        else:
            self._call_another(server, Note(notes.MISSED, self.group, name), tag, start, stop, buffer, edits)

    def _call_stale(
        self, server: "Server", known: Name, tag: int, start: int, stop: int, buffer: bytes, edits: list[Edit]
    ) -> None:
        """A statement whose rows no longer look as the client was told. PostgreSQL finds that out after all
        else that may be wrong with a Bind.
        """
        name = MISSING
        parameters = known.statement.parameters
        if tag == tags.BIND and parameters is not None and not self.failed:
            name = self._pool.statements.next_name()
            server.statements.put_back(name)
            edits.append((start, start, rename.parse(name, _UNPLANNABLE + parameters)))
            server.outstanding.note(tags.PARSE, Note(notes.REPEATED, self.group, known.name))
        note = Note(notes.STALE, self.group, known.name)
        self._call_another(server, note, tag, start, stop, buffer, edits, name)

    @staticmethod
    def _call_another(
        server: "Server",
        note: Note,
        tag: int,
        start: int,
        stop: int,
        buffer: bytes,
        edits: list[Edit],
        name: bytes = MISSING,
    ) -> None:
        at = rename.name_at(buffer, start, stop)
        name_stop = buffer.index(b"\0", at)
        edits.append((start, name_stop, rename.renamed(buffer, start, stop, at, name_stop, name)))
        server.outstanding.note(tag, note)


def _freeing(kind: int, group: int, name: bytes, ours: bytes, known: Name) -> Note:
    note = Note(kind, group, name)
    note.text = ours
    known.closing(note)
    return note

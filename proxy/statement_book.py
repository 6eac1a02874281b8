"""What one client has prepared: its names, and what of them its server has.

Laws of this file (hot: see session):
- What is taken down when a message is sent is undone when PostgreSQL throws the message away.
- A preparation is made by `_prepare` alone, and a name comes and goes by `_take` and `_drop` alone.
"""

from typing import TYPE_CHECKING, Final

from protocol import rename, tags
from proxy import notes
from proxy.deallocate import deallocated
from proxy.notes import NAME_MOST, Name, Note
from proxy.pieces import Messages, Piece
from proxy.pool.parameters import setting
from proxy.pool.statements import OVERHEAD, Preparation, Statement
from proxy.unnamed import Unnamed

if TYPE_CHECKING:
    from protocol.outstanding import Outstanding
    from proxy.pool.parameters import Applied, Values
    from proxy.pool.pool import Pool
    from proxy.server import Server

ENDS_GROUP: Final = frozenset((tags.QUERY, tags.SYNC, tags.FUNCTION_CALL))
"""Tags of the messages that end a group of messages: what comes next is processed also after an error."""
CHANGES: Final = frozenset((*ENDS_GROUP, tags.EXECUTE))
"""Tags of the messages that may change settings, plans and what is prepared."""

_CLOSING: Final = frozenset((notes.CLOSED, notes.DEALLOCATED))
# Kinds whose preparation was there before.
_OF_OTHERS: Final = frozenset((notes.AGAIN, notes.DEALLOCATED))
# So far a queue is searched for what may change settings or plans; behind more, the answer is yes.
_SEARCHED: Final = 64


class StatementBook:
    """Of one session. `group` is counted up at the end of each group of messages; `coming` are the messages
    of the chunk at hand. `by_sql`: SQL's PREPARE was executed on the server it has; `failed`: it is in a
    failed transaction; `touched`: some of this was used since it got the server. `sent` is what was sent
    last, if that is all that is outstanding; `repeating` what is sent once more when the server is ready;
    `unsure` are statements of which it is not known under which settings they were parsed. `withholds`:
    replies come that the client has not asked for yet.
    """

    __slots__ = (
        "_aliases",
        "_applied",
        "_deallocating",
        "_pool",
        "by_sql",
        "coming",
        "failed",
        "fresh",
        "group",
        "mendable",
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
        self.coming: Messages = []
        self.failed = False
        self.fresh = False
        self.mendable: Name | None = None
        self.sent: Piece | None = None
        self.repeating: Piece | None = None
        self.unsure: list[Note] = []
        self.withholds = False
        self._deallocating: list[Note] = []
        self._aliases: dict[bytes, bytes] = {}

    def _statement(self, server: "Server", text: bytes) -> Statement | None:
        pool = self._pool
        values = pool.tracked.parsing(server.values)
        return pool.statements.find(pool.key.database, text, values, self._applied, pool.database.ddl)

    def _private(self, server: "Server", text: bytes) -> Statement:
        """A statement nobody else gets, for want of room among those that are shared."""
        values = self._pool.tracked.parsing(server.values)
        key = (self._pool.key.database, text, values, self._applied)
        return Statement(key, self._pool.database.ddl, shared=False)

    def _prepare(self, server: "Server", note: Note, statement: Statement, now: int) -> Preparation:
        """A Parse of the statement is being sent to the server."""
        pool = self._pool
        pool.stats.server_parse_count += 1
        pool.statements.misses += 1
        preparation = Preparation(pool.statements.next_name(), statement, self.group, now)
        common = pool.common
        server.statements.add(preparation, common.max_prepared_statements, common.max_server_prepared_bytes)
        note.preparation = preparation
        if self._owes(server, CHANGES):
            # The settings it is parsed under are known when the group is over.
            note.values = server.values
            self.unsure.append(note)
            self.touched = True
        return preparation

    def _usable(self, server: "Server", known: Name) -> Preparation | None:
        """What the server has prepared for this name, if that may be used now."""
        preparation = server.statements.prepared.get(known.statement)
        if preparation is not None and (preparation.confirmed or preparation.group == self.group):
            return preparation
        values = self._pool.tracked.parsing(server.values)
        if known.statement.values is values or self._settings(server, values, known.statement.values):
            return None
        if self._owes(server, ENDS_GROUP):
            # The message comes again when no earlier group is owed; then more may be possible.
            return None
        # Other clients with the settings it was made for must not get a plan made under these.
        text = known.statement.text
        self._move(known, self._statement(server, text) or self._private(server, text))
        preparation = server.statements.prepared.get(known.statement)
        return preparation if preparation is not None and preparation.confirmed else None

    def _repeat(self, server: "Server", known: Name, now: int) -> tuple[Preparation, bytes]:
        """Have the server prepare what the client has prepared elsewhere, under the settings of then."""
        statement = known.statement
        values = self._pool.tracked.parsing(server.values)
        there: list[bytes] = []
        back: list[bytes] = []
        if statement.values is not values:
            there = self._settings(server, values, statement.values)
            back = self._settings(server, statement.values, values) if there else []
            there = there if back else []
        before = self._set(server, there)
        note = Note(notes.REPEATED, self.group, known.name)
        preparation = self._prepare(server, note, statement, now)
        server.outstanding.note(tags.PARSE, note)
        parsed = rename.parse(preparation.name, statement.text)
        if statement.shape is None:
            parsed += self._describe(server, preparation)
        return preparation, before + parsed + self._set(server, back)

    def _settings(self, server: "Server", have: "Values", want: "Values") -> list[bytes]:
        """Statements that change these settings; none where they would have replies we could not tell from
        the client's, or where the client itself may be about to change them.
        """
        if self._owes(server, CHANGES) or self._ends_in_query():
            return []
        names = self._pool.tracked.names
        changed = [
            setting(name, value)
            for name, has, value in zip(names, have, want, strict=True)
            if has != value and value is not None
        ]
        return changed if all(text.startswith(b"SET ") for text in changed) else []

    def _ends_in_query(self) -> bool:
        """Whether the group of extended messages at hand is followed by a simple Query instead of its Sync:
        PostgreSQL behaves oddly where that stands behind an Execute, of ours too.
        """
        for message in self.coming:
            if message[0] in ENDS_GROUP:
                return message[0] != tags.SYNC
        return False

    def _set(self, server: "Server", settings: list[bytes]) -> bytes:
        """Execute them within the client's group of messages. Both ways being in one transaction, PostgreSQL
        reports none of it.
        """
        outstanding = server.outstanding
        parts = []
        for text in settings:
            name = self._pool.statements.next_name()
            server.statements.put_back(name)
            for tag in (tags.PARSE, tags.BIND, tags.EXECUTE):
                outstanding.note(tag, Note(notes.SETTING, self.group))
            parts.append(rename.parse(name, text + b"\0\0\0") + rename.run(name))
        return b"".join(parts)

    def _describe(self, server: "Server", preparation: Preparation) -> bytes:
        note = Note(notes.DESCRIBED, self.group)
        note.preparation = preparation
        server.outstanding.note(tags.DESCRIBE, note)
        return rename.describe(preparation.name)

    def _full(self, name: bytes, text: bytes) -> str:
        common = self._pool.common
        most = common.max_client_prepared_statements
        if most and len(self.names) >= most:
            return too_much("max_client_prepared_statements")
        most = common.max_client_prepared_bytes
        if most and self.size + OVERHEAD + len(name) + len(text) > most:
            return too_much("max_client_prepared_bytes")
        return ""

    def _take(self, name: bytes, statement: Statement, note: Note, before: Name | None) -> None:
        entry = Name(name, statement, before)
        entry.pending = note
        note.entry = entry
        self.names[name] = entry
        self.size += entry.size
        self._pool.statements.wanted(statement)

    def _drop(self, entry: Name) -> None:
        """A name no longer stands for its statement."""
        if entry.gone:
            return
        entry.gone = True
        self.size -= entry.size
        self._pool.statements.unwanted(entry.statement)
        if self.names.get(entry.name) is entry:
            del self.names[entry.name]

    def _move(self, known: Name, statement: Statement) -> None:
        """A name stands for another statement from now on."""
        self._pool.statements.wanted(statement)
        self._pool.statements.unwanted(known.statement)
        known.statement = statement

    def _is_pending(self, known: Name) -> bool:
        """Whether what the name stands for depends on a group of messages that is not over."""
        return known.pending is not None and known.pending.group != self.group

    @staticmethod
    def _owed_to_client(outstanding: "Outstanding") -> int:
        """How many of the requests that are outstanding the client knows of."""
        ours = sum(isinstance(note, Note) and note.kind in notes.SKIPPED for note in outstanding.notes)
        return len(outstanding.queue) - ours

    def _part_from_others(self, server: "Server", known: Name) -> None:
        """What is deallocated on the server must not be what another name of the client stands for."""
        if sum(other.statement is known.statement for other in self.names.values()) > 1:
            self._move(known, self._private(server, known.statement.text))

    def _lose_unnamed(self, server: "Server") -> None:
        self.unnamed.lost(server.outstanding, server.statements)
        self.unnamed.group = self.group
        if server.outstanding.queue:
            self.touched = True

    def _deallocated(self, text: bytes) -> Name | None:
        """The name of ours that an SQL text deallocates, if that is what it does."""
        name = deallocated(text)
        return self.names.get(name[:NAME_MOST]) if name is not None else None

    def _owes(self, server: "Server", kinds: frozenset[int]) -> bool:
        """Whether any of these requests is outstanding."""
        queue = server.outstanding.queue
        if len(queue) > _SEARCHED:
            return True
        return any(request & 0xFF in kinds for request in queue)

    def _deallocate(self, server: "Server", note: Note) -> None:
        """A DEALLOCATE was executed."""
        entry = note.entry
        if note.preparation is not None:
            server.statements.remove(note.preparation)
        if entry is not None and not entry.gone:
            entry.pending = None
            self._drop(entry)

    def ready(self, server: "Server") -> None:
        """A group of messages is over: the settings its statements were parsed under are known now."""
        if not self.unsure:
            return
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
        if known is not None and known.statement is statement and not known.gone:
            self._move(known, found)

    def executed(self, server: "Server", command: bytes) -> None:
        """A command tag came that may say that prepared statements were made or done away with."""
        if command.startswith((b"DEALLOCATE ALL", b"DISCARD ALL")):
            for entry in list(self.names.values()):
                entry.before = None
                pending = entry.pending
                # What was parsed behind it stays.
                if pending is None or (pending.kind in _CLOSING and pending.prior is None):
                    entry.pending = None
                    self._drop(entry)
        elif command.startswith(b"DEALLOCATE") and self._deallocating:
            self._deallocate(server, self._deallocating.pop(0))
        elif command.startswith(b"PREPARE"):
            self.by_sql = self.touched = True

    def make_room(self, server: "Server") -> bytes:
        """Close what is too much on the server; between transactions only."""
        common = self._pool.common
        before = len(server.statements)
        names = server.statements.overdue(common.max_prepared_statements, common.max_server_prepared_bytes)
        self._pool.statements.evicted += before - len(server.statements)
        for name in names:
            note = Note(notes.EVICTED, self.group, name)
            server.outstanding.note(tags.CLOSE, note)
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

    def _undo(self, server: "Server", note: Note) -> None:
        """A request that PostgreSQL has thrown away, or refused."""
        kind = note.kind
        entry = note.entry
        preparation = note.preparation
        if kind == notes.DESCRIBED:
            if preparation is not None and preparation.checking:
                server.statements.retire(preparation)
        elif preparation is not None and kind not in _OF_OTHERS:
            server.statements.remove(preparation)
        if kind == notes.EVICTED:
            server.statements.put_back(note.name)
        elif kind == notes.UNNAMED:
            server.statements.unnamed = None
        elif entry is not None and entry.pending is note:
            entry.pending = note.prior
            if kind in _CLOSING:
                entry.closed = False
                return
            current = self.names.get(entry.name) is entry
            self._drop(entry)
            before = entry.before
            if current and before is not None and before.pending is not None:
                self.names[entry.name] = before


def too_much(setting: str) -> str:
    """What to tell a client that has reached a limit."""
    return f"too many prepared statements (see {setting})"

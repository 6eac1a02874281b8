"""What one client has prepared: its names, and what of them its server has.

Laws of this file (hot: see session):
- What is taken down when a message is sent is undone when PostgreSQL throws the message away.
- A preparation is made by `_prepare` alone, and a name comes and goes by `_take` and `_drop` alone.
"""

from typing import TYPE_CHECKING, Final

from protocol import rename, tags
from proxy import notes
from proxy.notes import Name, Note
from proxy.pieces import Messages, Piece
from proxy.pool.statements import OVERHEAD, Preparation, Statement
from proxy.statement_groups import ENDS_GROUP
from proxy.unnamed import Unnamed

if TYPE_CHECKING:
    from protocol.outstanding import Outstanding
    from proxy.pool.parameters import Applied, Values
    from proxy.pool.pool import Pool
    from proxy.server import Server

_NAMING: Final = frozenset((tags.PARSE, tags.BIND, tags.DESCRIBE, tags.CLOSE, tags.QUERY))
_RUNNING: Final = frozenset((tags.EXECUTE, tags.FUNCTION_CALL))
NAMING: Final = bytes(tag in _NAMING for tag in range(256))
"""By tag: messages that may name a prepared statement."""
NAMING_OR_RUNNING: Final = bytes(tag in _NAMING or tag in _RUNNING for tag in range(256))
"""Also those that may run something of which there is something to know."""

# So far a queue is searched for what something depends on; behind more, the answer is that it does.
_SEARCHED: Final = 64


class StatementBook:
    """Of one session. `group` is counted up at the end of each group of messages; `coming` are the messages
    of the chunk at hand. `by_sql`: SQL's PREPARE was executed on the server it has; `failed`: it is in a
    failed transaction; `touched`: some of this was used since it got the server. `sent` is what was sent
    last, if that is all that is outstanding; `repeating` what is sent (once more) when the server is ready;
    `unsure` are statements of which it is not known under which settings they were parsed. `withholds`:
    replies come that the client has not asked for yet.

    `naming` tells by tag which messages are to be looked at here. `executing` is the last group in
    which the client has executed something, `interposed` that in which we have. `seen` are the server's
    parameters under which all names were parsed; None where they are various, or that is not known.
    """

    __slots__ = (
        "_ahead",
        "_aliases",
        "_applied",
        "_pool",
        "_portals",
        "_sweeps",
        "_under",
        "by_sql",
        "coming",
        "executing",
        "failed",
        "fresh",
        "group",
        "interposed",
        "mendable",
        "names",
        "naming",
        "repeating",
        "seen",
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
        self.naming = NAMING
        self.executing = -1
        self.interposed = -1
        self.seen: Values | None = None
        # The settings themselves; whether what could be prepared ahead of a group has just been; whether a
        # text was parsed that does away with all statements; portals of a DEALLOCATE, with the name that
        # means and ours for it; and the client's names behind such names of ours.
        self._under: Values | None = None
        self._ahead = False
        self._sweeps = False
        self._portals: dict[bytes, tuple[bytes, bytes]] = {}
        self._aliases: dict[bytes, bytes] = {}

    def _statement(self, text: bytes, values: "Values") -> Statement | None:
        pool = self._pool
        return pool.statements.find(pool.key, text, values, self._applied, pool.database.ddl)

    def _private(self, text: bytes, values: "Values") -> Statement:
        """A statement nobody else gets, for want of room among those that are shared."""
        key = (self._pool.key, text, values, self._applied)
        return Statement(key, self._pool.database.ddl, shared=False)

    def _unsure(self, server: "Server", note: Note, statement: Statement) -> Statement:
        """The settings a text is parsed under are known when the group is over; until then it stands for a
        statement that is nobody else's.
        """
        note.values = server.values
        note.text = b"?" if self.executing == self.group else b""
        self.unsure.append(note)
        self.touched = True
        own = self._private(statement.text, statement.values)
        own.shape, own.parameters = statement.shape, statement.parameters
        return own

    def _anew(self, statement: Statement) -> Statement:
        """The statement for the same text as it is to be prepared now."""
        text, values = statement.text, statement.values
        return self._statement(text, values) or self._private(text, values)

    def _settings(self, server: "Server") -> "Values":
        """What counts of the server's settings, as far as it has reported them."""
        return self._pool.tracked.parsing(server.values)

    def _prepare(self, server: "Server", note: Note, statement: Statement, now: int) -> Preparation:
        """A Parse of the statement is being sent to the server."""
        pool = self._pool
        pool.stats.server_parse_count += 1
        pool.statements.misses += 1
        preparation = Preparation(pool.statements.next_name(), statement, self.group, now)
        common = pool.common
        server.statements.add(preparation, common.max_prepared_statements, common.max_server_prepared_bytes)
        note.preparation = preparation
        return preparation

    def _usable(self, server: "Server", known: Name) -> Preparation | None:
        """What the server has prepared for this name, if that may be used now."""
        preparation = server.statements.prepared.get(known.statement)
        if preparation is not None and (preparation.confirmed or preparation.group == self.group):
            return preparation
        return None

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
        if not self.names:
            self._under = statement.values
        self._read_under(statement.values)
        entry = Name(name, statement, before)
        entry.pending = note
        note.entry = entry
        self.names[name] = entry
        self.size += entry.size
        self._pool.statements.wanted(statement)

    def _read_under(self, values: "Values") -> None:
        """A name stands for a statement that was parsed under these settings."""
        if values is not self._under:
            self._under = None
        self.seen = None

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
        if len(self.names) == 1:
            self._under = statement.values
        self._read_under(statement.values)
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

    def _lose_unnamed(self, server: "Server") -> None:
        self.unnamed.lost(server.outstanding, server.statements)
        self.unnamed.group = self.group
        if server.outstanding.queue:
            self.touched = True

    def _owes(self, server: "Server", kinds: frozenset[int]) -> bool:
        """Whether any of these requests is outstanding."""
        queue = server.outstanding.queue
        if len(queue) > _SEARCHED:
            return True
        return any(request & 0xFF in kinds for request in queue)

    def _unsettled(self, server: "Server") -> bool:
        """Whether something may have changed settings, or what is prepared, of which we have not heard."""
        return self.executing == self.group or self._owes(server, ENDS_GROUP)

    def ready(self, server: "Server") -> None:
        """A group of messages is over: the settings its statements were parsed under are known now."""
        if not self.unsure:
            return
        unsure, self.unsure = self.unsure, []
        for note in unsure:
            preparation = note.preparation
            if preparation is None or server.statements.is_pending(preparation):
                # Its own group is yet to come, and begins with these.
                note.values = server.values
                self.unsure.append(note)
            elif preparation.confirmed:
                self._parsed_otherwise(server, note, preparation)

    def _parsed_otherwise(self, server: "Server", note: Note, preparation: Preparation) -> None:
        """A statement was parsed, perhaps under settings that were changed just before. `text`: they may have
        been changed within the group, ahead of it; if they were changed there at all, nobody can tell.
        """
        begun = self._pool.tracked.parsing(note.values or server.values)
        values = self._settings(server) if note.text else begun
        statement = preparation.statement
        shared = self._statement(statement.text, values) if values is begun else None
        found = shared or self._private(statement.text, values)
        if found.shape is None:
            found.shape, found.parameters = statement.shape, statement.parameters
        if server.statements.prepared.get(statement) is preparation:
            server.statements.adopt(preparation, found)
        known = note.entry or self.names.get(note.name)
        if known is not None and known.statement is statement and not known.gone:
            self._move(known, found)

    def executed(self, server: "Server", command: bytes) -> None:
        """A command tag came that may say that prepared statements were made or done away with."""
        if command.startswith((b"DEALLOCATE ALL", b"DISCARD ALL")):
            for current in list(self.names.values()):
                entry: Name | None = current
                while entry is not None:
                    pending = entry.pending
                    # What was parsed behind it stays.
                    if pending is None or (pending.kind in notes.CLOSING and pending.prior is None):
                        entry.pending = None
                        self._drop(entry)
                    entry = entry.before
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
        self.sent = self.mendable = None
        if self.unnamed.past:
            self.unnamed.past = []
        if self.unsure:
            self.unsure = []
        if self.naming is not NAMING:
            self._portals = {}
            self.naming = NAMING

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
        elif preparation is not None and kind != notes.AGAIN:
            server.statements.remove(preparation)
        if kind == notes.EVICTED:
            server.statements.put_back(note.name)
        elif kind == notes.FREED or kind == notes.DEALLOCATED:
            server.statements.put_back(note.text)
        elif kind == notes.UNNAMED:
            self.unnamed.not_there(server.statements)
        if entry is not None and entry.pending is note:
            entry.pending = note.prior
            if kind in notes.CLOSING:
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

"""How a server is given what its client has prepared elsewhere, as the client had it prepared.

Laws of this file (hot: see session):
- A text is parsed again under the settings of its first Parse, whatever they are by now.
- Where nothing of the client's has been sent yet, that is done in a transaction of its own, so that the
  client's is what it would be without; what fails there is tried again where it is needed.
- A Query behind messages of ours that no execution of the client's preceded must not be in their transaction.
"""

from typing import TYPE_CHECKING, Final

from protocol import rename, tags
from proxy import notes
from proxy.notes import Name, Note
from proxy.pieces import Edit, Piece
from proxy.pool.statements import Preparation, Statement
from proxy.statement_book import NAMING_OR_RUNNING, StatementBook
from proxy.statement_groups import asks_anew, called, is_whole
from proxy.statement_settings import changed, restored

if TYPE_CHECKING:
    from proxy.server import Server

_FLUSH: Final = bytes((tags.FLUSH, 0, 0, 0, 4))
_SYNC: Final = bytes((tags.SYNC, 0, 0, 0, 4))


class StatementRepeats(StatementBook):
    """The part of `Prepared` that prepares for the client."""

    __slots__ = ()

    def ahead(self, server: "Server", piece: Piece, now: int) -> bytes:
        """What is to be sent and answered ahead of a client's group, which then comes again: what the group
        calls, and what was parsed under other settings than the server has. Usually there is none of it.
        """
        values = self._settings(server)
        if self._under is values or not self.names:
            self.seen = server.values if self.names else None
            return b""
        if self._ahead:
            self._ahead = False
            return b""
        buffer, end, _, messages = piece
        parts = []
        for name in called(buffer, end, messages):
            known = self.names.get(name)
            if known is None or known.stale or known.statement.values is values:
                continue
            if known.statement not in server.statements.prepared:
                parts.append(self._prepare_ahead(server, known, now))
        if not parts:
            return b""
        server.outstanding.note(tags.SYNC, Note(notes.SETTING, self.group))
        self.group += 1
        self.touched = self._ahead = True
        self.mendable = None
        self.repeating = piece
        return b"".join(parts) + _SYNC

    def _prepare_ahead(self, server: "Server", known: Name, now: int) -> bytes:
        statement = known.statement
        change = changed(self._pool.tracked.names, None, statement.values, kept=False)
        before = self._execute_of_ours(server, change)
        preparation, parsed = self._parse_of_ours(server, known, now)
        preparation.checking = self._is_to_be_verified(statement)
        return before + parsed

    def _is_to_be_verified(self, statement: Statement) -> bool:
        """Whether the schema was changed since its rows were last seen to look as clients were told."""
        return statement.shape is not None and statement.verified != self._pool.database.ddl

    def _repeat(
        self, server: "Server", known: Name, start: int, buffer: bytes, end: int, now: int
    ) -> tuple[Preparation, bytes]:
        """Have the server prepare what the client has prepared elsewhere, under the settings of then, within
        the client's group of messages.
        """
        statement = known.statement
        asks = asks_anew(buffer, end, self.coming, start, known.name)
        have = None if self._unsettled(server) else self._settings(server)
        if have is statement.values or self.failed:
            return self._parse_of_ours(server, known, now, asks=asks)
        names = self._pool.tracked.names
        before = self._execute_of_ours(server, changed(names, have, statement.values))
        preparation, parsed = self._parse_of_ours(server, known, now, asks=asks)
        back = self._execute_of_ours(server, restored(names, have, statement.values))
        if before:
            self.interposed = self.group
            self.naming = NAMING_OR_RUNNING
        return preparation, before + parsed + back

    def _parse_of_ours(
        self, server: "Server", known: Name, now: int, *, asks: bool = False
    ) -> tuple[Preparation, bytes]:
        """`asks`: the client is about to be shown what its rows look like, which it may have been told
        otherwise, if the schema was changed by somebody who does not come through here.
        """
        note = Note(notes.REPEATED, self.group, known.name)
        preparation = self._prepare(server, note, known.statement, now)
        server.outstanding.note(tags.PARSE, note)
        described = b""
        if asks or known.statement.shape is None or self._is_to_be_verified(known.statement):
            described = self._describe(server, preparation, known, asks=asks)
        return preparation, rename.parse(preparation.name, known.statement.text) + described

    def _execute_of_ours(self, server: "Server", text: bytes) -> bytes:
        if not text:
            return b""
        name = self._pool.statements.next_name()
        server.statements.put_back(name)
        for tag in (tags.PARSE, tags.BIND, tags.EXECUTE):
            server.outstanding.note(tag, Note(notes.SETTING, self.group))
        return rename.parse(name, text + b"\0\0\0") + rename.run(name)

    def _describe(
        self, server: "Server", preparation: Preparation, known: Name | None = None, *, asks: bool = False
    ) -> bytes:
        note = Note(notes.DESCRIBED, self.group)
        note.preparation = preparation
        note.entry = known
        note.text = b"asks" if asks else b""
        server.outstanding.note(tags.DESCRIBE, note)
        return rename.describe(preparation.name)

    def _verify(
        self, server: "Server", known: Name, start: int, buffer: bytes, end: int, edits: list[Edit], now: int
    ) -> None:
        """The schema was changed since the client was told what the rows of its statement look like: ask
        whether they still do. PostgreSQL itself would not let it have others.
        """
        self.mendable = known if self._may_mend(known, start, buffer, end) else None
        # The Flush that brings the answer brings replies for which the client has not asked yet.
        self.withholds = self._owed_to_client(server.outstanding) > 0
        preparation, repeated = self._repeat(server, known, start, buffer, end, now)
        preparation.checking = True
        edits.append((start, start, repeated + _FLUSH))

    def _may_mend(self, known: Name, start: int, buffer: bytes, end: int) -> bool:
        """Whether the group at hand, of which nothing was sent, may go on with the text as it is to be
        prepared now, without the client being told.
        """
        coming = self.coming
        return self.fresh and is_whole(coming, start) and asks_anew(buffer, end, coming, start, known.name)

    def _await_replies(self, server: "Server", start: int, edits: list[Edit]) -> None:
        """Have all answered that was sent; then the message that begins here comes again."""
        self.withholds = self.withholds or self._owed_to_client(server.outstanding) > 0
        self.touched = True
        edits.append((start, start, _FLUSH))

    def _end_transaction(self, server: "Server", start: int, edits: list[Edit]) -> None:
        """End what only messages of ours have begun."""
        server.outstanding.note(tags.SYNC, Note(notes.SETTING, self.group))
        edits.append((start, start, _SYNC))
        self.group += 1
        self.touched = True

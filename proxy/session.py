"""What one client believes it has: it borrows a server, relays, and gives it back.

Laws of this file (hot: no asyncio, no logging, no settings copied, no closures):
- One write per received chunk; the received object itself is forwarded unless a message in it was dropped or
  held.
- `_link` and `_unlink` are the only places where session and server join and part.
- Every request is pushed on the server's `outstanding` before it is written; a release happens only in the
  handler of a ReadyForQuery(I) that leaves nothing owed.
- What a server sends after the ReadyForQuery that released it is never seen by this client.
"""

from typing import TYPE_CHECKING, Final

from config.types import PoolMode
from protocol import sqlstate, tags
from protocol.errors import ProtocolError, UnexpectedMessage
from protocol.framer import (
    BACKEND_LOOK_NAMES,
    BACKEND_LOOK_QUERY,
    FRONTEND_LOOK,
    FRONTEND_LOOK_COPY,
    FRONTEND_LOOK_IDLE,
    FRONTEND_LOOK_NAMES,
    FRONTEND_LOOK_NAMES_COPY,
    FRONTEND_LOOK_NAMES_IDLE,
    Framer,
)
from protocol.outstanding import COMPLETES, MAX_OUTSTANDING, NOTED
from proxy.errors import Canceled, PoolerError, as_fatal, error_response
from proxy.notes import SKIPPED, Name, Note
from proxy.pieces import (
    ANSWERED,
    Edit,
    Messages,
    Piece,
    cut_first_group,
    edited,
    from_message,
    strip,
    with_data,
)
from proxy.pool.parameters import NOTHING_APPLIED, Applied, Values, alignment
from proxy.prepared import NAMING, REST_DROPPED, WAITS, Prepared
from proxy.reasons import ClientClosed, ServerClosed, Unclean
from proxy.statement_book import ENDS_GROUP

if TYPE_CHECKING:
    from protocol.outstanding import Outstanding
    from proxy.connection import Connection
    from proxy.pool.interfaces import SessionClient
    from proxy.pool.pool import Pool
    from proxy.server import Server

# Looking up a member of an enum takes longer than all else that is done with it on the hot path.
_SESSION: Final = PoolMode.SESSION
_STATEMENT: Final = PoolMode.STATEMENT

HELD_MOST: Final = 64 * 1024
"""Bytes a client may send ahead while it waits for a server; then it is read no further."""

# Why the client is not read at the moment.
_SERVER_FULL: Final = 1
_HELD_FULL: Final = 2
_MANY_OWED: Final = 4

_ASYNCHRONOUS: Final = frozenset((tags.NOTICE_RESPONSE, tags.PARAMETER_STATUS, tags.NOTIFICATION_RESPONSE))
READY: Final = bytes((tags.READY_FOR_QUERY, 0, 0, 0, 5, tags.STATUS_IDLE))
# Requests that a ReadyForQuery completes, and replies to a simple Query that complete nothing.
_BY_READY: Final = frozenset((tags.QUERY, tags.SYNC))
_OF_ROWS: Final = frozenset((tags.ROW_DESCRIPTION, tags.COMMAND_COMPLETE))
_BOUND: Final = tags.BIND_COMPLETE
_NOTED_BIND: Final = tags.BIND | NOTED
# What makes PostgreSQL send the replies it has.
_ASKS: Final = frozenset((tags.FLUSH, tags.SYNC, tags.QUERY, tags.FUNCTION_CALL))
_OF_EXECUTION: Final = frozenset((tags.QUERY, tags.EXECUTE))
# Beginnings of the command tags that change what we know of a server or of its database: LISTEN; DEALLOCATE,
# DISCARD, DROP and DO; RESET; ALTER; PREPARE; CREATE; IMPORT.
_TELLING: Final = frozenset((b"LI", b"DE", b"DI", b"DR", b"DO", b"RE", b"AL", b"PR", b"CR", b"IM"))
_SETS: Final = b"SE"
# Which tables tell the framer what to look at in the client's stream: without a server, with one, while that
# takes COPY data.
_LOOKS: Final = (FRONTEND_LOOK_IDLE, FRONTEND_LOOK, FRONTEND_LOOK_COPY)
_LOOKS_NAMES: Final = (FRONTEND_LOOK_NAMES_IDLE, FRONTEND_LOOK_NAMES, FRONTEND_LOOK_NAMES_COPY)


class Session:
    """Of one logged-in client. Times are nanoseconds; `held` is None unless pieces wait: for a server, or, if
    `_stalled`, for the server to answer what was sent before.
    """

    __slots__ = (
        "_cancel_pending",
        "_common",
        "_dropping",
        "_fatal",
        "_held_bytes",
        "_look",
        "_look_copy",
        "_look_idle",
        "_past_telling",
        "_replies",
        "_skip_to_sync",
        "_stalled",
        "_stops",
        "_takes_copy",
        "_withheld",
        "applied",
        "boot",
        "client",
        "closed",
        "connection",
        "framer",
        "held",
        "id",
        "idle_since",
        "notified",
        "pool",
        "prepared",
        "query_started",
        "server",
        "user",
        "values",
        "waiting_since",
        "xact_started",
    )

    def __init__(
        self,
        client: "SessionClient",
        connection: "Connection",
        pool: "Pool",
        caps: tuple[int, ...],
        values: Values,
        applied: Applied = NOTHING_APPLIED,
        boot: Applied = NOTHING_APPLIED,
        user: str = "",
    ) -> None:
        self.id = client.id
        self.user = user
        self.client = client
        self.connection = connection
        self.pool = pool
        self.applied = applied
        self.prepared: Prepared | None = None
        self.framer = Framer(FRONTEND_LOOK_IDLE, caps)
        self._common: object | None = None
        self.settings_changed()
        self.values = values
        self.boot = boot
        self.server: Server | None = None
        self.held: list[Piece] | None = None
        self.closed = False
        self.waiting_since = 0
        self.notified = False
        self.query_started = 0
        self.xact_started = 0
        self.idle_since = 0
        self._dropping = False
        self._fatal = False
        self._held_bytes = 0
        self._skip_to_sync = False
        self._cancel_pending = False
        self._stalled = False
        self._stops = 0
        self._withheld: list[bytes] = []
        self._past_telling = False
        self._takes_copy = False
        # Made once: a method becomes an object each time it is named without being called.
        self._replies = self.from_server

    def settings_changed(self) -> None:
        """Names of prepared statements are looked after, or no longer, from the next server on."""
        pool = self.pool
        self._common = pool.common
        wanted = pool.mode is not _SESSION and pool.common.max_prepared_statements > 0
        if not wanted and self.prepared is not None:
            self.prepared.close()
            self.prepared = None
        elif wanted and self.prepared is None:
            self.prepared = Prepared(pool, self.applied)
        self._look_idle, self._look, self._look_copy = _LOOKS_NAMES if wanted else _LOOKS
        self.framer.look = self._look_idle

    # From the client.

    def from_client(self, data: bytes, now: int) -> None:
        """Bytes came from the client. Raises ProtocolError for what no server must see."""
        framer = self.framer
        messages = framer.feed(data)
        if framer.fault is not None:
            raise framer.fault
        self.pool.stats.bytes_received += len(data)
        server = self.server
        if self.held is None:
            if server is None:
                server = self._borrow(messages, now)
            if server is not None:
                if len(messages) == 1 and messages[0][0] == tags.QUERY and not framer.lead:
                    self._query(server, framer.buffer, framer.end, messages, now)
                else:
                    self._to_server(server, framer.buffer, framer.end, framer.lead, messages, now)
                return
        elif framer.end:
            if self._takes_copy:
                messages = with_data(framer.lead, framer.end + framer.rest, messages)
            self._hold((framer.buffer, framer.end, framer.lead, messages), now)

    def _borrow(self, messages: Messages, now: int) -> "Server | None":
        """A server for what has just come, if there is one at once; else what came is kept, or needs none."""
        framer = self.framer
        piece = framer.buffer, framer.end, framer.lead, messages
        plain = not framer.lead and not self._skip_to_sync
        for message in messages:
            if message[0] not in ANSWERED:
                plain = False
        if plain:
            if not messages:
                return None
            # What `_checkout` does, without the call.
            self.held = [piece]
            self._held_bytes = piece[1]
            server: Server | None = self.pool.checkout(self, now)
            if server is not None and self._link(server, now):
                self.held = None
                return server
            if self._held_bytes > HELD_MOST:
                self._limit_held()
            return None
        if messages or framer.lead:
            self._hold(piece, now)
        return None

    def _query(self, server: "Server", buffer: bytes, end: int, messages: Messages, now: int) -> None:
        """What `_to_server` does with one simple query where nothing is special: most of what ever comes."""
        outstanding = server.outstanding
        prepared = self.prepared
        if (
            outstanding.queue
            or outstanding.skipping
            or (prepared is not None and (prepared.names or server.statements.crowded))
        ):
            self._to_server(server, buffer, end, 0, messages, now)
            return
        if prepared is not None:
            prepared.unnamed.kept = server.statements.unnamed = None
        self.query_started = now
        if server.status == tags.STATUS_IDLE:
            self.xact_started = now
        elif server.status == tags.STATUS_BUSY:
            # Of a group without its Sync everything has been answered: see `query_follows`.
            outstanding.mixed = True
        outstanding.queue.append(tags.QUERY)
        server.status = tags.STATUS_BUSY
        server.framer.look = BACKEND_LOOK_QUERY
        # A slot that is called at once is looked up the slow way (Python 3.11): so this name.
        write = server.connection.write
        write(buffer if end == len(buffer) else buffer[:end])

    def _to_server(
        self, server: "Server", buffer: bytes, end: int, lead: int, messages: Messages, now: int
    ) -> None:
        outstanding = server.outstanding
        queue = outstanding.queue
        prepared = self.prepared
        server.framer.look = BACKEND_LOOK_NAMES
        fresh = not queue and server.status == tags.STATUS_IDLE
        self.query_started = self.query_started if queue else now
        self.xact_started = now if fresh else self.xact_started
        if prepared is not None:
            prepared.coming, prepared.fresh = messages, fresh
            if fresh and server.statements.crowded:
                self._make_room(server, prepared)
        left = False
        edits: list[Edit] = self._drop_lead(lead, end) if self._dropping else []
        plain = not (outstanding.skipping or outstanding.copying)
        if outstanding.copying:
            messages = with_data(lead, end, messages)
        for tag, start, stop in messages:
            if prepared is not None and tag in NAMING:
                outcome = prepared.request(server, tag, start, stop, buffer, end, edits, now)
                if outcome == WAITS:
                    self._stall(from_message(buffer, end, messages, start))
                    end = start
                    break
                self._dropping = outcome == REST_DROPPED
            elif tag in ANSWERED:
                if tag == tags.QUERY or tag == tags.FUNCTION_CALL:
                    outstanding.query_follows(server.status == tags.STATUS_BUSY)
                # What `push` does when nothing is special, without the call.
                if plain:
                    queue.append(tag)
                else:
                    outstanding.push(tag)
                if prepared is not None and tag in ENDS_GROUP:
                    prepared.group += 1
            elif tag == tags.TERMINATE:
                # What came before it is sent, so that what the server owes and what it was sent agree.
                left = True
                end = start
                break
            elif tag == tags.FLUSH:
                if not outstanding.can_flush():
                    edits.append((start, stop, b""))
            elif not outstanding.may_copy():
                # COPY data for a COPY that has ended: PostgreSQL would ignore it, were it still ours to ask.
                edits.append((start, stop, b""))
                self._dropping = stop > end
            elif tag != tags.COPY_DATA:
                outstanding.push(tag)
            else:
                outstanding.data()
        if edits:
            self._write_edited(server, buffer, end, edits)
        elif end:
            server.status = tags.STATUS_BUSY
            write = server.connection.write
            write(buffer if end == len(buffer) else buffer[:end])
        if prepared is not None and prepared.touched:
            prepared.sent = (buffer, end, lead, messages) if fresh and not self._stalled else None
            if prepared.withholds and any(tag in _ASKS and start < end for tag, start, _ in messages):
                self._send_withheld()
        if left:
            self.client.finish(None, ClientClosed.CLIENT_LEFT)
        elif len(queue) > MAX_OUTSTANDING:
            self._stop(_MANY_OWED)

    @staticmethod
    def _write_edited(server: "Server", buffer: bytes, end: int, edits: list[Edit]) -> None:
        parts = edited(buffer, end, edits)
        if parts:
            server.status = tags.STATUS_BUSY
            server.connection.writelines(parts)

    def _stall(self, piece: Piece) -> None:
        """What is left of a chunk has to wait for what was sent before."""
        self.held = [piece]
        self._held_bytes = piece[1]
        self._stalled = True

    def _make_room(self, server: "Server", prepared: Prepared) -> None:
        closing = prepared.make_room(server)
        if closing:
            server.status = tags.STATUS_BUSY
            server.connection.write(closing)

    def _drop_lead(self, lead: int, end: int) -> list[Edit]:
        """The rest of a message of which the beginning was dropped. One that fills its piece may not be all
        of it; where there is none, a message begins.
        """
        self._dropping = lead > 0 and lead == end
        return [(0, lead, b"")] if lead else []

    # Without a server.

    def _hold(self, piece: Piece, now: int) -> None:
        """Keep what came until there is a server for it, and see to it that there will be one."""
        stripped = strip(
            piece,
            dropping=self._dropping,
            skipping=self._skip_to_sync,
            behind=bool(self.held),
            streaming=self.framer.streaming,
        )
        self._dropping = stripped.dropping
        self._skip_to_sync = stripped.skipping
        if stripped.synced:
            self.connection.write(READY)
        if stripped.left:
            self.client.finish(None, ClientClosed.CLIENT_LEFT)
        if self.closed or not stripped.wanted:
            return
        piece = stripped.piece
        if self.held is not None:
            self.held.append(piece)
            self._held_bytes += piece[1]
            self._limit_held()
            return
        server = self._checkout(piece, now)
        if server is not None:
            self._to_server(server, *piece, now)

    def _checkout(self, piece: Piece, now: int) -> "Server | None":
        """A server for this piece, ready for it; None if the piece has to wait."""
        self.held = [piece]
        self._held_bytes = piece[1]
        server: Server | None = self.pool.checkout(self, now)
        if server is None or not self._link(server, now):
            self._limit_held()
            return None
        self.held = None
        return server

    def _limit_held(self) -> None:
        if self._held_bytes > HELD_MOST:
            self._stop(_HELD_FULL)

    def assigned(self, server: "Server", now: int) -> bool:
        """The pool lends this server to us after we waited."""
        if self.closed or self.held is None:
            return False
        if self._link(server, now):
            self._flush_held(now)
        return True

    def _flush_held(self, now: int) -> None:
        held = self.held
        server = self.server
        self.held = None
        if server is None or held is None:
            return
        if len(held) == 1:
            buffer, end, lead, messages = held[0]
            if len(messages) == 1 and messages[0][0] == tags.QUERY and not lead:
                self._query(server, buffer, end, messages, now)
            else:
                self._to_server(server, buffer, end, lead, messages, now)
        else:
            self._flush_pieces(server, held, now)
        if self._stops and self.held is None:
            self._go_on(_HELD_FULL)
        if self._cancel_pending:
            self._cancel_pending = False
            server.cancel(now)

    def _flush_pieces(self, server: "Server", held: list[Piece], now: int) -> None:
        for piece in held:
            if self.closed:
                return
            if self.held is None:
                self._to_server(server, *piece, now)
            else:
                self.held.append(piece)
                self._held_bytes += piece[1]

    def aligned(self, server: "Server", error: bytes | None, now: int) -> None:
        """The SET that gives the server our parameters is done; `error` is PostgreSQL's refusal of it."""
        if error is not None and server.applied and b"C57014\0" in error:
            # It ran under the statement_timeout of the client before: that costs the server, not this client.
            server.close(ServerClosed.UNCLEAN)
            return
        if error is not None:
            self.client.finish(
                PoolerError("invalid server parameter", raw=as_fatal(error)), ClientClosed.SERVER_REFUSED
            )
            return
        server.applied = self.applied
        # What the server reports is the value's proper form; keeping it spares the next SET.
        self.values = server.values
        server.connection.receiver = self._replies
        self._flush_held(now)

    # From the server.

    def from_server(self, data: bytes, now: int) -> None:
        """Bytes came from our server. Raises ProtocolError when they are not what it owed."""
        server = self.server
        assert server is not None
        framer = server.framer
        messages = framer.feed(data)
        outstanding = server.outstanding
        queue = outstanding.queue
        buffer, end, pos = framer.buffer, framer.end, framer.lead
        edits: list[Edit] = []
        for tag, start, stop in messages:
            if start != pos and (not queue or queue[0] not in _OF_EXECUTION):
                outstanding.rows()
            pos = stop
            if tag == tags.READY_FOR_QUERY:
                if queue and not outstanding.copying and queue[0] in _BY_READY:
                    queue.popleft()
                else:
                    outstanding.reply(tag)
                if queue:
                    outstanding.drop_ignored()
                prepared = self.prepared
                if prepared is not None and prepared.touched:
                    if prepared.repeating is not None:
                        self._repeat(server, prepared, buffer, start, stop, edits, now)
                        return
                    prepared.ready(server)
                if self._ready(server, buffer[start + 5] if stop - start == 6 else tags.STATUS_BUSY, now):
                    self._release(server, buffer, stop, edits, now)
                    return
                if self.closed:
                    return
            elif tag == tags.ERROR_RESPONSE:
                self._on_error(server, buffer, start, stop, edits)
            elif tag not in _ASYNCHRONOUS:
                # What `reply` does when nothing is special, without the call.
                head = queue[0] if queue and not outstanding.copying else 0
                if not head:
                    self._noted(server, outstanding.reply(tag), tag, start, stop, edits)
                elif head == COMPLETES[tag]:
                    queue.popleft()
                elif head == tags.QUERY and tag in _OF_ROWS:
                    pass
                elif tag == _BOUND and head == _NOTED_BIND and isinstance(outstanding.notes[0], Name):
                    # Such a note is for an error only.
                    queue.popleft()
                    outstanding.notes.popleft()
                else:
                    note = outstanding.reply(tag)
                    if note is not None:
                        self._noted(server, note, tag, start, stop, edits)
                if tag == tags.COMMAND_COMPLETE:
                    verb = buffer[start + 5 : start + 7]
                    if verb in _TELLING or stop < start + 7:
                        self._executed(server, buffer[start + 5 : min(stop, end)])
                    elif server.applied and verb == _SETS:
                        server.noted(buffer[start + 5 : min(stop, end)])
                    if self._takes_copy:
                        self._copy_over()
                elif tag == tags.COPY_IN_RESPONSE:
                    self._takes_copy = True
                    self.framer.look = self._look_copy
                    self._send_withheld()
            elif tag == tags.PARAMETER_STATUS:
                self.values = server.reported(buffer[start + 5 : stop], self.values)
            elif tag == tags.NOTIFICATION_RESPONSE and not (server.listening or self.pool.mode is _SESSION):
                edits.append((start, stop, b""))
            elif tag == tags.NOTICE_RESPONSE and self.prepared is not None and self.prepared.touched:
                self._on_notice(outstanding, start, stop, edits)
        if pos < end and (not queue or queue[0] not in _OF_EXECUTION):
            outstanding.rows()
        self._to_client(buffer, end, edits)
        if self._fatal or framer.fault is not None or self._stalled or self._stops:
            self._after_replies(server, now)

    def _after_replies(self, server: "Server", now: int) -> None:
        """The client has been given all of a chunk that it gets: what came before a fault, its server's last
        word, or what others wait for.
        """
        server.errored = server.errored or self._fatal
        if server.framer.fault is not None:
            server.framer.lead = 0
            raise server.framer.fault
        if self._stalled and (self.prepared is None or self.prepared.repeating is None):
            self._stalled = False
            self._flush_held(now)
        if self._stops & _MANY_OWED and len(server.outstanding.queue) < MAX_OUTSTANDING // 2:
            self._go_on(_MANY_OWED)

    def _noted(
        self, server: "Server", note: object | None, tag: int, start: int, stop: int, edits: list[Edit]
    ) -> None:
        """A reply to a request we have a note about."""
        if self.prepared is not None and tag == tags.PARAMETER_DESCRIPTION and isinstance(note, Name):
            # The client is told a part of the answer: from now on it would notice a repetition.
            self.prepared.sent = None
        if self.prepared is not None and isinstance(note, Note):
            framer = server.framer
            body = framer.buffer[start + 5 : min(stop, framer.end)]
            instead = self.prepared.answered(server, note, tag, body)
            if instead is not None:
                edits.append((start, stop, instead))

    def _executed(self, server: "Server", command: bytes) -> None:
        """A command tag came that may tell something, or an empty one."""
        if not command:
            raise UnexpectedMessage("server sent a CommandComplete without a tag")
        server.noted(command)
        if self.prepared is not None:
            self.prepared.executed(server, command)

    def _repeat(
        self,
        server: "Server",
        prepared: Prepared,
        buffer: bytes,
        start: int,
        stop: int,
        edits: list[Edit],
        now: int,
    ) -> None:
        """A group failed for want of a plan or a statement, unseen by the client: send it once more."""
        group = prepared.repeating
        prepared.repeating = None
        if stop < len(buffer) or buffer[start + 5] != tags.STATUS_IDLE or group is None:
            raise UnexpectedMessage("server sent more than an error in reply to a group of messages")
        edits.append((start, stop, b""))
        self._to_client(buffer, stop, edits)
        server.status = tags.STATUS_IDLE
        self._stalled = False
        self.held = [group, *(self.held or ())]
        self._flush_held(now)
        prepared.sent = None

    def _to_client(self, buffer: bytes, end: int, edits: list[Edit]) -> None:
        self.pool.stats.bytes_sent += end
        if self._withheld or (self.prepared is not None and self.prepared.withholds):
            self._withheld += edited(buffer, end, edits)
        elif edits:
            parts = edited(buffer, end, edits)
            if parts:
                self.connection.writelines(parts)
        elif end:
            write = self.connection.write
            write(buffer if end == len(buffer) else buffer[:end])

    def _on_notice(self, outstanding: "Outstanding", start: int, stop: int, edits: list[Edit]) -> None:
        note = outstanding.notes[0] if outstanding.queue and outstanding.queue[0] & NOTED else None
        if isinstance(note, Note) and note.kind in SKIPPED:
            # About a text that the client has sent long ago.
            edits.append((start, stop, b""))
        else:
            self._send_withheld()

    def _send_withheld(self) -> None:
        """The client has asked for what was answered, or there is what PostgreSQL sends at once."""
        withheld, self._withheld = self._withheld, []
        if self.prepared is not None:
            self.prepared.withholds = False
        if withheld:
            self.connection.writelines(withheld)

    def _on_error(self, server: "Server", buffer: bytes, start: int, stop: int, edits: list[Edit]) -> None:
        if server.is_fatal(buffer[start + 5 : start + 96]):
            self._fatal = True
        outstanding = server.outstanding
        if self._takes_copy:
            self._copy_over()
        if not outstanding.queue:
            self._send_withheld()
            if not (self._fatal or server.errored):
                outstanding.error()
            return
        end = server.framer.end
        outstanding.drop_ignored()
        if stop <= end:
            outstanding.copy_failed(buffer[start + 5 : stop])
        blurred = outstanding.copying and outstanding.blurred
        prepared = self.prepared
        if prepared is None:
            outstanding.error()
        else:
            instead = prepared.error(server, buffer, start, stop, end)
            if prepared.withholds:
                self._send_withheld()
            if instead is not None:
                edits.append((start, min(stop, end), instead))
                if prepared.repeating is not None:
                    self._stalled = True
                    self.held = []
        if blurred:
            if stop <= end:
                self._to_client(buffer, stop, edits)
                server.framer.lead = 0
            raise UnexpectedMessage("COPY failed among Syncs: the replies to come cannot be told apart")

    def _copy_over(self) -> None:
        self._takes_copy = False
        self.framer.look = self._look

    def _ready(self, server: "Server", status: int, now: int) -> bool:
        """A ReadyForQuery was accounted for; whether it lets the server go."""
        pool = self.pool
        stats = pool.stats
        outstanding = server.outstanding
        server.status = status
        server.errored = False
        stats.query_count += 1
        stats.query_time += now - self.query_started
        if self._takes_copy:
            self._copy_over()
        self.idle_since = now
        if status == tags.STATUS_IDLE:
            if server.altered:
                server.altered_for_good()
            stats.xact_count += 1
            stats.xact_time += now - self.xact_started
            if not outstanding.queue:
                return pool.mode is not _SESSION
            self.query_started = self.xact_started = now
            server.status = tags.STATUS_BUSY
            if self.prepared is not None:
                self.prepared.failed = False
            return False
        if status != tags.STATUS_IN_TRANSACTION and status != tags.STATUS_FAILED:
            raise ProtocolError(f"server sent an unknown transaction status {status}")
        self.query_started = now
        if self.prepared is not None and status == tags.STATUS_FAILED:
            self.prepared.failed = self.prepared.touched = True
        if server.outstanding.queue:
            server.status = tags.STATUS_BUSY
        if self.pool.mode is _STATEMENT:
            self.client.finish(
                PoolerError(
                    "transaction blocks not allowed in statement pooling mode", sqlstate.FEATURE_NOT_SUPPORTED
                ),
                ClientClosed.PROTOCOL,
            )
        return False

    def _release(self, server: "Server", buffer: bytes, stop: int, edits: list[Edit], now: int) -> None:
        """Pass on what is ours of this chunk and give the server back."""
        pool = self.pool
        trailing = b"" if stop == len(buffer) else buffer[stop:]
        if edits:
            self._to_client(buffer, stop, edits)
        else:
            pool.stats.bytes_sent += stop
            # A slot that is called at once is looked up the slow way (Python 3.11): so this name.
            write = self.connection.write
            write(buffer[:stop] if trailing else buffer)
        missing = None if trailing else server.unclean()
        if self.framer.rest and self.held is None:
            missing = Unclean.PARTIAL_REQUEST
        self._unlink(server)
        if trailing:
            server.judge_trailing(trailing, now)
            missing = missing or server.unclean()
        if not server.closing:
            pool.release(server, now, missing)
        if self._stalled:
            self._stalled = False
            self._borrow_again(now)

    # Joining and parting.

    def _link(self, server: "Server", now: int) -> bool:
        """Take the server; False while it is being given our parameters."""
        self.server = server
        if self._common is not self.pool.common:
            self.settings_changed()
        if self.prepared is None:
            server.statements.unnamed = None
        server.used = True
        self.pool.stats.server_assignment_count += 1
        self.framer.look = self._look
        if self.connection.paused_since:
            server.connection.pause_reading()
        if server.values is self.values and server.applied is self.applied:
            server.connection.receiver = self._replies
            return True
        self.query_started = self.xact_started = now
        query = alignment(self.pool.tracked.names, server.values, self.values, server.applied, self.applied)
        if not query:
            server.applied = self.applied
            server.connection.receiver = self._replies
            return True
        server.align(query, self, now)
        return False

    def _unlink(self, server: "Server") -> None:
        """Part from the server; what is to become of it is the caller's business."""
        self.server = None
        self.framer.look = self._look_idle
        self._dropping = self.framer.rest > 0 and self.held is None
        self._cancel_pending = False
        if self.prepared is not None and self.prepared.touched:
            self.prepared.parted()
        server.parted()
        if self.connection.paused_since:
            server.connection.resume_reading()
        if self._stops:
            self._go_on(_SERVER_FULL | _MANY_OWED)

    # What happens to us.

    def refused(self, error: PoolerError, reason: ClientClosed) -> None:
        """The pool has no server for us and will have none."""
        self.client.finish(error, reason)

    def still_waiting(self) -> None:
        """The queue is long (query_wait_notify): say so."""
        self.notified = True
        self.client.notify_waiting()

    def close(self, now: int) -> None:
        """The client is gone or is being told to go: leave the queue, part from the server."""
        if self.closed:
            return
        self.closed = True
        self.pool.leave(self)
        server = self.server
        if server is not None:
            partial = self.framer.streaming and not self._dropping and self.held is None
            self._unlink(server)
            server.abandoned(partial, now)
        self.held = None
        self._replies = _unheard
        if self.prepared is not None:
            self.prepared.close()

    def server_lost(self, server: "Server", error: PoolerError | ProtocolError | None, now: int) -> None:
        """Our server is gone. `error` is what to tell the client; None if the server has said it itself."""
        aligning = self.held is not None and not self._stalled
        self._unlink(server)
        if aligning and not self.closed:
            self._borrow_again(now)
        else:
            framer = server.framer
            # Of a chunk in which there was a fault nothing has been passed on.
            sent = framer.lead if isinstance(error, ProtocolError) else framer.rest
            self._past_telling = sent > 0 or server.errored
            self.client.finish(error, ClientClosed.SERVER_LOST)

    def _borrow_again(self, now: int) -> None:
        """Nothing of ours was sent to the server that went: another will do."""
        server = self.pool.checkout(self, now)
        if server is not None and self._link(server, now):
            self._flush_held(now)

    def cancel(self, now: int) -> None:
        """A CancelRequest came for us."""
        server = self.server
        if server is None:
            if self.held is not None:
                self._cancel_held(now)
        elif self.held is not None and not self._stalled:
            self._cancel_pending = True
        elif server.status == tags.STATUS_BUSY:
            server.cancel(now)

    def _cancel_held(self, now: int) -> None:
        """The first request of those that wait is answered as PostgreSQL would answer a cancelled one."""
        assert self.held is not None
        left, whole = cut_first_group(self.held)
        self.connection.write(error_response(Canceled()) + (READY if whole else b""))
        if self._keep_waiting(left):
            return
        self._skip_to_sync = not whole
        self.pool.leave(self)

    def _keep_waiting(self, left: list[Piece]) -> bool:
        """Wait on with what stood behind a request that is gone, as far as it needs a server by itself; False
        where nothing does.
        """
        streaming = self.framer.streaming
        dropping = streaming and not left
        held: list[Piece] = []
        for number, piece in enumerate(left, 1):
            more = streaming or number < len(left)
            stripped = strip(piece, dropping=dropping, skipping=False, behind=bool(held), streaming=more)
            dropping = stripped.dropping
            if stripped.wanted:
                held.append(stripped.piece)
        self.held = held or None
        self._dropping = dropping
        self._held_bytes = sum(piece[1] for piece in held)
        if self._held_bytes <= HELD_MOST:
            self._go_on(_HELD_FULL)
        return bool(held)

    def is_idle(self) -> bool:
        """Whether the client asks for nothing and is in no transaction."""
        server = self.server
        return self.held is None and (server is None or server.status == tags.STATUS_IDLE)

    def is_past_telling(self) -> bool:
        """Whether an error of ours would be wrong: the client has been sent a part of a message and would
        take it for the rest, or has been told by its server that the connection ends.
        """
        server = self.server
        return self._past_telling or (server is not None and (server.framer.rest > 0 or server.errored))

    def unable_to_write_since(self) -> int:
        """Since when the client takes nothing of what it is sent (ns); 0 if it does."""
        return self.connection.paused_since

    # Flow control: each direction stops by itself.

    def client_full(self) -> None:
        """The client takes its replies too slowly: its server is read no further."""
        if self.server is not None:
            self.server.connection.pause_reading()

    def client_drained(self) -> None:
        """The client has taken most of what was sent to it."""
        if self.server is not None:
            self.server.connection.resume_reading()

    def server_full(self) -> None:
        """The server takes its requests too slowly: the client is read no further."""
        self._stop(_SERVER_FULL)

    def server_drained(self) -> None:
        """The server has taken most of what was sent to it."""
        self._go_on(_SERVER_FULL)

    def _stop(self, why: int) -> None:
        self._stops |= why
        self.connection.pause_reading()

    def _go_on(self, why: int) -> None:
        self._stops &= ~why
        if not self._stops:
            self.connection.resume_reading()


def _unheard(data: bytes, now: int) -> None:
    """Replies for a session that is closed."""

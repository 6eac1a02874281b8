"""What a server answers on its way to the client, and the one place where the server is given back.

Laws of this file (hot: no asyncio, no logging, no settings copied, no closures):
- One write per received chunk; the received object itself is forwarded unless a message in it was dropped.
- Every reply is accounted for in the server's `outstanding`; a release happens only in the handler of a
  ReadyForQuery(I) that leaves nothing owed.
- What a server sends after the ReadyForQuery that released it is never seen by this client.
"""

from typing import TYPE_CHECKING, Final

from config.types import PoolMode
from protocol import sqlstate, tags
from protocol.errors import ProtocolError, UnexpectedMessage
from protocol.outstanding import COMPLETES, MAX_OUTSTANDING, NOTED, OF_COPY
from proxy.errors import PoolerError
from proxy.notes import SKIPPED, Name, Note
from proxy.pieces import Edit, edited
from proxy.prepared import Prepared
from proxy.reasons import ClientClosed, Unclean
from proxy.session_flow import MANY_OWED, SESSION
from proxy.session_waiting import Waiting

if TYPE_CHECKING:
    from protocol.outstanding import Outstanding
    from proxy.server import Server

_STATEMENT: Final = PoolMode.STATEMENT
_BOUND: Final = tags.BIND_COMPLETE
_NOTED_BIND: Final = tags.BIND | NOTED
# Beginnings of the command tags that change what we know of a server or of its database: LISTEN; DEALLOCATE,
# DISCARD, DROP and DO; RESET; ALTER; PREPARE; CREATE; IMPORT.
_TELLING: Final = frozenset((b"LI", b"DE", b"DI", b"DR", b"DO", b"RE", b"AL", b"PR", b"CR", b"IM"))
_SETS: Final = b"SE"
_WITHIN: Final = frozenset((tags.STATUS_IDLE, tags.STATUS_IN_TRANSACTION, tags.STATUS_FAILED))
# Bytes such a command tag may begin with: most begin with none of them, and need not be cut out.
_MAY_TELL: Final = bytes(letter in b"LDRAPCI" for letter in range(256))


class Replies(Waiting):
    """From the server."""

    __slots__ = ()

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
        # So many of `queue`, of this length, are answered: they leave it before anybody else looks at it.
        at, size = 0, len(queue)
        for tag, start, stop in messages:
            head = queue[at] if at < size else 0
            if start != pos and head != tags.QUERY and head != tags.EXECUTE:
                at = outstanding.answered(at)
                outstanding.rows()
                head, size = queue[0], len(queue)
            pos = stop
            if tag == tags.READY_FOR_QUERY:
                if (head == tags.SYNC or head == tags.QUERY) and not outstanding.copying:
                    at += 1
                else:
                    at = outstanding.answered(at)
                    size = self._special(server, tag, start, stop, edits)
                prepared = self.prepared
                touched = prepared is not None and prepared.touched
                status = buffer[start + 5] if stop - start == 6 else tags.STATUS_BUSY
                if at == size:
                    queue.clear()
                    at = size = 0
                elif touched or status not in _WITHIN or queue[at] in OF_COPY or self.pool.mode is _STATEMENT:
                    at = outstanding.answered(at)
                    outstanding.drop_ignored()
                    size = len(queue)
                if touched and prepared is not None:
                    if prepared.repeating is not None:
                        self._repeat(server, prepared, buffer, start, stop, edits, now)
                        return
                    prepared.ready(server)
                if self._ready(server, status, at < size, now):
                    self._release(server, buffer, stop, edits, now)
                    return
                if self.closed:
                    return
            elif (
                tag == tags.COMMAND_COMPLETE
                and (head == tags.QUERY or head == tags.EXECUTE)
                and not outstanding.copying
            ):
                # What `_special` does when nothing is, here and below, without the calls.
                at += head == tags.EXECUTE
                if stop < start + 7 or _MAY_TELL[buffer[start + 5]] or server.applied or self._takes_copy:
                    self._completed(server, buffer, start, stop)
            elif head and head == COMPLETES[tag] and not outstanding.copying:
                at += 1
            elif tag == _BOUND and head == _NOTED_BIND and isinstance(outstanding.notes[0], Name):
                # Such a note is for an error only.
                at += 1
                outstanding.notes.pop(0)
            else:
                at = outstanding.answered(at)
                size = self._special(server, tag, start, stop, edits)
        if at:
            outstanding.answered(at)
        if pos < end and (not queue or (queue[0] != tags.QUERY and queue[0] != tags.EXECUTE)):
            outstanding.rows()
        self._to_client(buffer, end, edits)
        if self._fatal or framer.fault is not None or self._stalled or self._stops:
            self._after_replies(server, now)

    def _special(self, server: "Server", tag: int, start: int, stop: int, edits: list[Edit]) -> int:
        """A reply that is more than the answer to what is owed next, or less; returns how much is owed."""
        outstanding = server.outstanding
        buffer = server.framer.buffer
        if tag == tags.ERROR_RESPONSE:
            self._on_error(server, buffer, start, stop, edits)
        elif tag == tags.PARAMETER_STATUS:
            self.values = server.reported(buffer[start + 5 : stop], self.values)
        elif tag == tags.NOTIFICATION_RESPONSE:
            if not (server.listening or self.pool.mode is SESSION):
                edits.append((start, stop, b""))
        elif tag == tags.NOTICE_RESPONSE:
            if self.prepared is not None and self.prepared.touched:
                self._on_notice(outstanding, start, stop, edits)
        else:
            if (note := outstanding.reply(tag)) is not None:
                self._noted(server, note, tag, start, stop, edits)
            if tag == tags.COMMAND_COMPLETE:
                self._completed(server, buffer, start, stop)
            elif tag == tags.COPY_IN_RESPONSE:
                self._takes_copy = True
                self.framer.look = self._look_copy
                self._send_withheld()
        return len(outstanding.queue)

    def _completed(self, server: "Server", buffer: bytes, start: int, stop: int) -> None:
        """A CommandComplete was accounted for."""
        if stop < start + 7:
            self._executed(server, buffer[start + 5 : stop])
        else:
            verb = buffer[start + 5 : start + 7]
            if verb in _TELLING:
                self._executed(server, buffer[start + 5 : stop])
            elif verb == _SETS and server.applied:
                server.noted(buffer[start + 5 : stop])
        if self._takes_copy:
            self._copy_over()

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
        if self._stops & MANY_OWED and len(server.outstanding.queue) < MAX_OUTSTANDING // 2:
            self._go_on(MANY_OWED)

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
        """A group failed for want of a plan or a statement, unseen by the client, or something was prepared
        ahead of it: send it (once more).
        """
        group = prepared.repeating
        prepared.repeating = None
        if stop < len(buffer) or buffer[start + 5] != tags.STATUS_IDLE or group is None:
            raise UnexpectedMessage("server sent more than an error in reply to a group of messages")
        edits.append((start, stop, b""))
        self._to_client(buffer, stop, edits)
        server.status = tags.STATUS_IDLE
        self._stalled = False
        held = self.held or []
        # A piece is a tuple, which keeps no identity where it is compiled; the list in it does.
        ahead = bool(held) and held[0][3] is group[3]
        self.held = held if ahead else [group, *held]
        self._flush_held(now)
        if not ahead:
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
                if prepared.repeating is not None and self.held is None:
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

    def _ready(self, server: "Server", status: int, owed: bool, now: int) -> bool:
        """A ReadyForQuery was accounted for; whether it lets the server go. `owed`: more is to come."""
        pool = self.pool
        stats = pool.stats
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
            if not owed:
                return pool.mode is not SESSION
            self.query_started = self.xact_started = now
            server.status = tags.STATUS_BUSY
            if self.prepared is not None:
                self.prepared.failed = False
            return False
        if status not in _WITHIN:
            raise ProtocolError(f"server sent an unknown transaction status {status}")
        self.query_started = now
        prepared = self.prepared
        if prepared is not None:
            # ROLLBACK TO and COMMIT AND CHAIN lead from a failed transaction back into a good one.
            prepared.failed = status == tags.STATUS_FAILED
            prepared.touched = prepared.touched or prepared.failed
        if owed:
            server.status = tags.STATUS_BUSY
        if pool.mode is _STATEMENT:
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

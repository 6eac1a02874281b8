"""What a client asks for on its way to the server that its session has.

Laws of this file (hot: no asyncio, no logging, no settings copied, no closures):
- One write per received chunk; the received object itself is forwarded unless a message in it was dropped or
  has to wait.
- Every request is pushed on the server's `outstanding` before it is written.
"""

from typing import TYPE_CHECKING, Final

from protocol import tags
from protocol.looks import BACKEND_LOOK_NAMES, BACKEND_LOOK_QUERY
from protocol.outstanding import MAX_OUTSTANDING
from proxy.notes import REST_DROPPED, WAITS
from proxy.pieces import IS_ANSWERED, Edit, Messages, Piece, edited, from_message, with_data
from proxy.prepared import Prepared
from proxy.reasons import ClientClosed
from proxy.session_flow import MANY_OWED, Flow

if TYPE_CHECKING:
    from proxy.server import Server

# What makes PostgreSQL send the replies it has.
_ASKS: Final = frozenset((tags.FLUSH, tags.SYNC, tags.QUERY, tags.FUNCTION_CALL))


class Requests(Flow):
    """To the server, at once."""

    __slots__ = ()

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
            odd = server.statements.crowded or (prepared.seen is not server.values and prepared.names)
            if fresh and odd and self._prepares_ahead(server, prepared, (buffer, end, lead, messages), now):
                return
        left = False
        edits: list[Edit] = self._drop_lead(lead, end) if self._dropping else []
        plain = not (outstanding.skipping or outstanding.copying)
        if outstanding.copying:
            messages = with_data(lead, end, messages)
        for tag, start, stop in messages:
            if prepared is not None and prepared.naming[tag]:
                outcome = prepared.request(server, tag, start, stop, buffer, end, edits, now)
                if outcome == WAITS:
                    self._stall(from_message(buffer, end, messages, start))
                    end = start
                    break
                self._dropping = outcome == REST_DROPPED
            elif IS_ANSWERED[tag]:
                if tag == tags.QUERY or tag == tags.FUNCTION_CALL:
                    outstanding.query_follows(server.status == tags.STATUS_BUSY)
                # What `push` does when nothing is special, without the call.
                if plain:
                    queue.append(tag)
                else:
                    outstanding.push(tag)
                if prepared is not None and tag == tags.EXECUTE:
                    prepared.executing = prepared.group
                elif prepared is not None:
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
            self._stop(MANY_OWED)

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

    def _prepares_ahead(self, server: "Server", prepared: Prepared, piece: Piece, now: int) -> bool:
        """Ahead of a client's group close what is too much. Whether the group comes again when what it needs
        has been prepared by itself.
        """
        closing = prepared.make_room(server) if server.statements.crowded else b""
        ahead = b"" if piece[2] else prepared.ahead(server, piece, now)
        if closing or ahead:
            server.status = tags.STATUS_BUSY
            server.connection.write(closing + ahead)
        if ahead:
            self._stall(piece)
        return bool(ahead)

    def _drop_lead(self, lead: int, end: int) -> list[Edit]:
        """The rest of a message of which the beginning was dropped. One that fills its piece may not be all
        of it; where there is none, a message begins.
        """
        self._dropping = lead > 0 and lead == end
        return [(0, lead, b"")] if lead else []

    def _send_withheld(self) -> None:
        """The client has asked for what was answered, or there is what PostgreSQL sends at once."""
        withheld, self._withheld = self._withheld, []
        if self.prepared is not None:
            self.prepared.withholds = False
        if withheld:
            self.connection.writelines(withheld)

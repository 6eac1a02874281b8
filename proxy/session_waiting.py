"""How a session comes by a server, what it keeps until then, and how the two part.

Laws of this file (hot: no asyncio, no logging, no settings copied, no closures):
- `_link` and `_unlink` are the only places where session and server join and part.
- What was held goes to the server in the order in which it came, ahead of what comes next.
"""

from typing import TYPE_CHECKING, Final

from protocol import tags
from protocol.backend import READY
from protocol.errors import ProtocolError
from proxy.errors import Canceled, PoolerError, as_fatal, error_response
from proxy.pieces import IS_ANSWERED, Messages, Piece, cut_first_group, strip
from proxy.reasons import ClientClosed, ServerClosed
from proxy.session_flow import HELD_FULL, MANY_OWED, SERVER_FULL
from proxy.session_requests import Requests

if TYPE_CHECKING:
    from proxy.server import Server

HELD_MOST: Final = 64 * 1024
"""Bytes a client may send ahead while it waits for a server; then it is read no further."""


class Waiting(Requests):
    """For a server."""

    __slots__ = ()

    def _borrow(self, messages: Messages, now: int) -> "Server | None":
        """A server for what has just come, if there is one at once; else what came is kept, or needs none."""
        framer = self.framer
        plain = not framer.lead and not self._skip_to_sync
        for message in messages:
            if not IS_ANSWERED[message[0]]:
                plain = False
        if plain:
            if not messages:
                return None
            # What `_checkout` does, without the call, and without what is held where nothing has to wait.
            server: Server | None = self.pool.checkout(self, now)
            if server is not None and server.values is self.values and server.applied is self.applied:
                self._link(server, now)
                return server
            if self.closed:
                return None
            self.held = [(framer.buffer, framer.end, 0, messages)]
            self._held_bytes = framer.end
            if server is not None and self._link(server, now):
                self.held = None
                return server
            if self._held_bytes > HELD_MOST:
                self._stop(HELD_FULL)
            return None
        if messages or framer.lead:
            self._hold((framer.buffer, framer.end, framer.lead, messages), now)
        return None

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
            self._stop(HELD_FULL)

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
        if self._stops and not self._holds():
            self._go_on(HELD_FULL)
        if self._cancel_pending:
            self._cancel_pending = False
            server.cancel(now)

    def _holds(self) -> bool:
        """Whether pieces wait. Where it has just been said that none do, compiled code would not look."""
        return self.held is not None

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

    def _borrow_again(self, now: int) -> None:
        """Nothing of ours was sent to the server that went: another will do."""
        server = self.pool.checkout(self, now)
        if server is not None and self._link(server, now):
            self._flush_held(now)

    def refused(self, error: PoolerError, reason: ClientClosed) -> None:
        """The pool has no server for us and will have none."""
        self.client.finish(error, reason)

    def still_waiting(self) -> None:
        """The queue is long (query_wait_notify): say so."""
        self.notified = True
        self.client.notify_waiting()

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
            self._go_on(HELD_FULL)
        return bool(held)

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
        tracked = self.pool.tracked
        alignment = tracked.alignment(server.values, self.values, server.applied, self.applied)
        if not alignment.message:
            server.applied = self.applied
            server.connection.receiver = self._replies
            return True
        server.align(alignment, now)
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
            self._go_on(SERVER_FULL | MANY_OWED)

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

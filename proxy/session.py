"""What one client believes it has: it borrows a server, relays, and gives it back.

One class in layers, each in a file of its own and each knowing only those before it: `session_flow` (what it
is made of), `session_requests` (to the server), `session_waiting` (until there is one), `session_replies`
(from the server), and here how a client's bytes come in and how it all ends.
"""

from protocol import tags
from proxy.pieces import with_data
from proxy.session_replies import Replies


class Session(Replies):
    """Of one logged-in client."""

    __slots__ = ()

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
            if self._takes_copy and framer.lead < framer.end:
                # Else all of it is of a message that began earlier, and may not be the last of that.
                messages = with_data(framer.lead, framer.end + framer.rest, messages)
            self._hold((framer.buffer, framer.end, framer.lead, messages), now)

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


def _unheard(data: bytes, now: int) -> None:
    """Replies for a session that is closed."""

"""One query of ours on a server, and its reply: for checks, resets, parameters. No session sees any of it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from protocol import tags
from protocol.errors import UnexpectedMessage
from protocol.framer import Collector
from protocol.looks import BACKEND

if TYPE_CHECKING:
    from proxy.server import Server

Done = Callable[["Server", bytes | None, int], None]
"""Called when the query is answered, with PostgreSQL's ErrorResponse if there was one, and the time (ns)."""


class Errand:
    """`error` is the first ErrorResponse of the reply, whole; `row` the body of its first DataRow. `chunk` is
    what was received last, from the beginning of a message on; `complete` when ReadyForQuery has come.
    """

    __slots__ = ("_collector", "chunk", "complete", "done", "error", "row")

    def __init__(self, done: Done, caps: tuple[int, ...] = BACKEND) -> None:
        self.done = done
        self.error: bytes | None = None
        self.row: bytes | None = None
        self.chunk = b""
        self.complete = False
        self._collector = Collector(caps)

    def feed(self, data: bytes, reported: Callable[[bytes], None]) -> bool:
        """Take received bytes; True when the reply is complete. `reported` is told of each ParameterStatus.

        Raises ProtocolError unless the server is idle afterwards.
        """
        collector = self._collector
        self.chunk = self.chunk[len(self.chunk) - collector.size :] + data
        collector.feed(data)
        while (message := collector.next()) is not None:
            tag, body = message
            if tag == tags.ERROR_RESPONSE:
                self.error = self.error or bytes((tag,)) + (len(body) + 4).to_bytes(4, "big") + body
            elif tag == tags.DATA_ROW:
                self.take(body)
            elif tag == tags.PARAMETER_STATUS:
                reported(body)
            elif tag == tags.READY_FOR_QUERY:
                if body != b"I":
                    raise UnexpectedMessage("server is in a transaction after a query of ours")
                self.complete = True
                return True
        return False

    def take(self, row: bytes) -> None:
        """The body of a DataRow came."""
        if self.row is None:
            self.row = row

    def trailing(self) -> bytes:
        """What came behind the reply: it is not part of it."""
        return self._collector.rest()

"""What a session is made of, and when each side of it is read.

Law: each direction stops by itself. A server is read no further while its client takes replies too slowly,
and a client while its server takes requests too slowly, or has to answer too many.
"""

from typing import TYPE_CHECKING, Final

from config.types import PoolMode
from protocol import tags
from protocol.framer import Framer
from protocol.looks import (
    FRONTEND_LOOK,
    FRONTEND_LOOK_COPY,
    FRONTEND_LOOK_IDLE,
    FRONTEND_LOOK_NAMES,
    FRONTEND_LOOK_NAMES_COPY,
    FRONTEND_LOOK_NAMES_IDLE,
)
from proxy.pieces import Piece
from proxy.pool.parameters import NOTHING_APPLIED, Applied, Values
from proxy.pool.parties import SweptSession
from proxy.prepared import Prepared

if TYPE_CHECKING:
    from proxy.connection import Connection
    from proxy.pool.interfaces import SessionClient
    from proxy.pool.pool import Pool
    from proxy.server import Server

# Looking up a member of an enum takes longer than all else that is done with it on the hot path.
SESSION: Final = PoolMode.SESSION
# Why the client is not read at the moment.
SERVER_FULL: Final = 1
HELD_FULL: Final = 2
MANY_OWED: Final = 4
# Which tables tell the framer what to look at in the client's stream: without a server, with one, while that
# takes COPY data.
_LOOKS: Final = (FRONTEND_LOOK_IDLE, FRONTEND_LOOK, FRONTEND_LOOK_COPY)
_LOOKS_NAMES: Final = (FRONTEND_LOOK_NAMES_IDLE, FRONTEND_LOOK_NAMES, FRONTEND_LOOK_NAMES_COPY)


class Flow(SweptSession):
    """The state of one session. Times are nanoseconds; `held` is None unless pieces wait: for a server, or if
    `_stalled` for the server to answer what was sent before.
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
        "client",
        "closed",
        "connection",
        "framer",
        "held",
        "pool",
        "prepared",
        "server",
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
        self.notified = False
        self.waiting_since = 0
        self.query_started = self.xact_started = self.idle_since = 0
        self._dropping = self._skip_to_sync = False
        self._fatal = self._past_telling = False
        self._held_bytes = 0
        self._cancel_pending = False
        self._stalled = False
        self._stops = 0
        self._withheld: list[bytes] = []
        self._takes_copy = False
        # Made once: a method becomes an object each time it is named without being called.
        self._replies = self.from_server

    def settings_changed(self) -> None:
        """Names of prepared statements are looked after, or no longer, from the next server on."""
        pool = self.pool
        self._common = pool.common
        wanted = pool.mode is not SESSION and pool.common.max_prepared_statements > 0
        if not wanted and self.prepared is not None:
            self.prepared.close()
            self.prepared = None
        elif wanted and self.prepared is None:
            self.prepared = Prepared(pool, self.applied)
        self._look_idle, self._look, self._look_copy = _LOOKS_NAMES if wanted else _LOOKS
        self.framer.look = self._look_idle

    def from_server(self, data: bytes, now: int) -> None:
        """Bytes came from the server: see `Replies`."""
        raise NotImplementedError

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
        self._stop(SERVER_FULL)

    def server_drained(self) -> None:
        """The server has taken most of what was sent to it."""
        self._go_on(SERVER_FULL)

    def _stop(self, why: int) -> None:
        self._stops |= why
        self.connection.pause_reading()

    def _go_on(self, why: int) -> None:
        self._stops &= ~why
        if not self._stops:
            self.connection.resume_reading()

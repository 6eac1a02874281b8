"""Why a connection was closed: one word for the log line, the counter and, where a client is told, its text.

Texts are PgBouncer's where it has one, because people search logs for them.
"""

from enum import Enum, StrEnum


class ClientClosed(StrEnum):
    """Why a client connection ended."""

    CLIENT_LEFT = "client close request"
    CLIENT_LOST = "client unexpected eof"
    TLS = "TLS handshake failed"
    LOGIN_FAILED = "login failed"
    PROTOCOL = "protocol error"
    TIMEOUT = "timeout"
    WRITE_TIMEOUT = "client_write_timeout"
    SERVER_LOST = "server conn crashed?"
    SERVER_REFUSED = "server login failed"
    KILLED = "admin forced disconnect"
    SHUTDOWN = "pooler is shutting down"
    INTERNAL = "internal error"
    CANCEL = "cancel request"


class ServerClosed(Enum):
    """Why a server connection was closed."""

    IDLE_TIMEOUT = "server idle timeout"
    LIFETIME = "server lifetime over"
    SERVER_CLOSED = "server conn crashed?"
    SERVER_SHUTDOWN = "server sent a fatal error"
    LOGIN_FAILED = "server login failed"
    UNCLEAN = "unclean server"
    ABANDONED = "client disconnect while server was not ready"
    PROTOCOL = "broken server stream"
    CHECK_FAILED = "test query failed"
    CANCEL_TIMEOUT = "cancel_wait_timeout"
    RECONNECT = "database configuration changed"
    PAUSED = "pause mode"
    EVICTED = "evicted"
    UNSUITABLE = "other startup parameters needed"
    KILLED = "admin forced disconnect"
    SHUTDOWN = "shutdown"
    OVER_LIMIT = "over pool size"


class Unclean(Enum):
    """Which proof was missing when a server could not go back to its pool."""

    BUSY = "no ReadyForQuery"
    IN_TRANSACTION = "transaction open"
    OWED = "replies owed"
    UNSETTLED = "COPY failed among Syncs"
    PARTIAL_REPLY = "half a reply received"
    PARTIAL_REQUEST = "half a request sent"
    UNSENT = "unsent data"
    COPY = "in COPY"

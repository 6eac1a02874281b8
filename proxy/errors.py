"""What a client can be refused for, and the one place that turns it into an ErrorResponse.

Texts are PgBouncer's, because people search for them; SQLSTATEs are PostgreSQL's specific ones.
"""

from protocol import sqlstate as codes
from protocol.backend import ErrorResponse
from protocol.errors import ProtocolError


class PoolerError(Exception):
    """Something the pooler has to tell a client. `raw` is PostgreSQL's own ErrorResponse where there is one.

    `safe_to_retry`: nothing of the request has been sent to a server yet.
    """

    sqlstate: str = codes.PROTOCOL_VIOLATION
    severity: str = "FATAL"
    safe_to_retry: bool = True

    def __init__(self, message: str, sqlstate: str | None = None, raw: bytes | None = None) -> None:
        super().__init__(message)
        self.message = message
        if sqlstate is not None:
            self.sqlstate = sqlstate
        self.raw = raw


class LoginRefused(PoolerError):
    """The client may not come in."""

    sqlstate = codes.INVALID_PASSWORD


class UnknownDatabase(PoolerError):
    """No entry and no `*` for the database asked for."""

    sqlstate = codes.INVALID_CATALOG_NAME

    def __init__(self, database: str) -> None:
        super().__init__(f"no such database: {database}")


class DatabaseDisabled(PoolerError):
    """DISABLE was said of the database."""

    sqlstate = codes.CANNOT_CONNECT_NOW

    def __init__(self, database: str) -> None:
        super().__init__(f'database "{database}" is disabled')


class TooManyClients(PoolerError):
    """One of the limits on clients is reached."""

    sqlstate = codes.TOO_MANY_CONNECTIONS


class ShuttingDown(PoolerError):
    """The pooler takes no newcomers, or ends."""

    sqlstate = codes.ADMIN_SHUTDOWN


class TimedOut(PoolerError):
    """A time limit on the client has passed."""

    sqlstate = codes.QUERY_CANCELED


class Canceled(PoolerError):
    """A cancel request came for a query that still waited for a server."""

    sqlstate = codes.QUERY_CANCELED
    severity = "ERROR"

    def __init__(self) -> None:
        super().__init__("canceling statement due to user request")


class ServerLost(PoolerError):
    """The server connection broke under the client."""

    sqlstate = codes.CONNECTION_FAILURE
    safe_to_retry = False

    def __init__(self, message: str = "server conn crashed?") -> None:
        super().__init__(message)


class ServerRefused(PoolerError):
    """PostgreSQL refused our login; its own words are passed on."""

    sqlstate = codes.CONNECTION_FAILURE


class LoginRetry(PoolerError):
    """PostgreSQL refused a login a moment ago, and is not asked again yet (server_login_retry)."""

    def __init__(self, cause: PoolerError) -> None:
        super().__init__(
            f"server login has been failing, cached error: {cause.message} (server_login_retry)",
            cause.sqlstate,
        )


class Killed(PoolerError):
    """An administrator ended the connection."""

    sqlstate = codes.ADMIN_SHUTDOWN

    def __init__(self) -> None:
        super().__init__("admin forced disconnect")


def error_response(error: PoolerError | ProtocolError) -> bytes:
    """The message a client gets for this error: PostgreSQL's own where it sent one."""
    if isinstance(error, ProtocolError):
        return ErrorResponse.make("FATAL", error.sqlstate, error.message).encode()
    if error.raw is not None:
        return error.raw
    return ErrorResponse.make(error.severity, error.sqlstate, error.message).encode()


def as_fatal(error: bytes) -> bytes:
    """PostgreSQL's ErrorResponse with its severity raised to FATAL, for it ends the client's connection."""
    return error.replace(b"SERROR\0", b"SFATAL\0", 1).replace(b"VERROR\0", b"VFATAL\0", 1)

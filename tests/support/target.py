"""Something a PostgreSQL client can connect to: a server, or a pooler before it.

Law: a test that takes a `Target` may be played at PostgreSQL, at PgBouncer and
at us alike; it uses nothing but the wire.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from tests.support import messages as m
from tests.support.wire import Raw, send_cancel

Connection = psycopg.Connection[TupleRow]
AsyncConnection = psycopg.AsyncConnection[TupleRow]


@dataclass
class Target:
    """Where to connect, and as whom when a test does not care."""

    name: str
    host: str
    port: int
    user: str
    database: str

    def socket(self, timeout: float = 10.0) -> Raw:
        """A connection on which nothing has been said yet."""
        return Raw(self.host, self.port, timeout)

    def raw(
        self,
        database: str | None = None,
        user: str | None = None,
        parameters: Mapping[str, str | bytes] | None = None,
        *,
        timeout: float = 10.0,
        version: int = m.PROTOCOL_3_0,
    ) -> Raw:
        """A raw client that has logged in by trust."""
        raw = self.socket(timeout)
        try:
            raw.login(user or self.user, database or self.database, parameters, version=version)
        except BaseException:
            raw.close()
            raise
        return raw

    def cancel(self, client: Raw) -> None:
        """Sends a CancelRequest for this client and waits until that connection has ended."""
        send_cancel((self.host, self.port), client.greeting.pid, client.greeting.secret)

    def conninfo(self, database: str | None = None, user: str | None = None, **more: str | int) -> str:
        """A libpq connection string, without TLS and with a bounded wait."""
        options = {
            "host": self.host,
            "connect_timeout": 30,
            "sslmode": "disable",
            "gssencmode": "disable",
            **more,
        }
        return make_conninfo(
            port=self.port,
            user=user or self.user,
            dbname=database or self.database,
            **{key: str(value) for key, value in options.items()},
        )

    def connect(self, database: str | None = None, user: str | None = None, **more: str | int) -> Connection:
        """A psycopg connection in autocommit mode; statements are never prepared by name."""
        info = self.conninfo(database, user, **more)
        return psycopg.connect(info, autocommit=True, prepare_threshold=None)

    async def connect_async(
        self, database: str | None = None, user: str | None = None, **more: str | int
    ) -> AsyncConnection:
        info = self.conninfo(database, user, **more)
        return await psycopg.AsyncConnection.connect(info, autocommit=True, prepare_threshold=None)

"""A real PostgreSQL as a test target, with questions about what the pooler did to it.

Law: whatever is asked here goes over a connection of its own, straight to the
server, and is left out of every answer.
"""

from collections.abc import Sequence

import psycopg

from tests.support.fault_proxy import wait_until
from tests.support.postgres import APP_TRUST, PostgresServer
from tests.support.target import Connection, Target

_BUSY = """
select format('%s %s %s: %s', pid, usename, state, left(query, 60)) from pg_stat_activity
where backend_type = 'client backend' and pid <> pg_backend_pid() and state not in ('idle', 'disabled')
"""


class Server(Target):
    """PostgreSQL itself: clients come as an ordinary role, questions are asked as the superuser."""

    def __init__(self, postgres: PostgresServer, database: str) -> None:
        super().__init__("postgresql", postgres.host, postgres.port, APP_TRUST.name, database)
        self.postgres = postgres
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """An autocommit connection for looking on, opened anew after a restart."""
        if self._connection is None or self._connection.broken or self._connection.closed:
            self._connection = psycopg.connect(self.postgres.dsn(self.database), autocommit=True)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def sql(self, text: str, values: Sequence[object] | None = None) -> list[tuple[object, ...]]:
        """Rows of a statement; none for what returns none."""
        cursor = self.connection.execute(text.encode(), values)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def value(self, text: str, values: Sequence[object] | None = None) -> object:
        ((value,),) = self.sql(text, values)
        return value

    def busy_backends(self) -> list[str]:
        """Backends, other than ours, that run a query or sit in a transaction, in words."""
        return [str(row[0]) for row in self.sql(_BUSY)]

    def backends(self, user: str | None = None) -> list[int]:
        """Process ids of all client backends but ours, optionally of one role."""
        rows = self.sql(
            "select pid from pg_stat_activity where backend_type = 'client backend'"
            " and pid <> pg_backend_pid() and (%s::text is null or usename = %s) order by backend_start",
            (user, user),
        )
        return [int(str(row[0])) for row in rows]

    def wait_for_query(self, text: str, within: float = 10.0) -> int:
        """Waits until a backend runs a query that contains this text; returns its process id."""
        found: list[tuple[object, ...]] = []

        def running() -> bool:
            found[:] = self.sql(
                "select pid from pg_stat_activity"
                " where state = 'active' and pid <> pg_backend_pid() and query like %s",
                (f"%{text}%",),
            )
            return bool(found)

        wait_until(running, within, f"a backend runs {text!r}")
        return int(str(found[0][0]))

    def wait_until_quiet(self, within: float = 10.0) -> float:
        """Waits until no backend is busy; the seconds it took."""
        return wait_until(lambda: not self.busy_backends(), within, f"quiet; is {self.busy_backends()}")

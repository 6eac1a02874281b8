"""PostgreSQL itself in the pooler's place, so that a case can be proven by what it takes its law from.

Law: what PostgreSQL has no counterpart of (a console, a pool, another's
server) fails loudly; a case that needs it says `pooler_only`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Self

from tests.support import messages as m
from tests.support import standard
from tests.support.alive import BYSTANDER
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler, Row, Value
from tests.support.server import Server
from tests.support.target import Target
from tests.support.wire import Raw

KIND = "postgresql"

_ENTRIES = {
    standard.APP,
    standard.ONE,
    standard.SESSION,
    standard.SESSION_ONE,
    standard.STATEMENT,
    BYSTANDER,
}
"""Databases of a pooler that all lead to the only one there is."""

_BAD_LOG = ("PANIC", "was terminated by signal", "TRAP:")


class Counterpart(NamedTuple):
    """What a pooler's setting is in PostgreSQL, in SQL with {role} and {value}."""

    set: str
    reset: str


COUNTERPARTS: Mapping[str, Counterpart] = {
    "max_client_conn": Counterpart(
        "alter role {role} connection limit {value}", "alter role {role} connection limit -1"
    ),
    "idle_transaction_timeout": Counterpart(
        "alter role {role} set idle_in_transaction_session_timeout = '{value}s'",
        "alter role {role} reset idle_in_transaction_session_timeout",
    ),
    "client_login_timeout": Counterpart(
        "alter system set authentication_timeout = '{value}s'", "alter system reset authentication_timeout"
    ),
}


class Direct(Pooler):
    """A running server; who stops it is somebody else."""

    kind = KIND

    def __init__(self, server: Server) -> None:
        Target.__init__(self, KIND, server.host, server.port, server.user, server.database)
        self.server = server
        self.log_path = server.postgres.own.log

    def start(self, *, wait: bool = True) -> Self:
        return self

    def stop(self) -> None:
        """Nothing to do."""

    @property
    def pid(self) -> int:
        """The postmaster's."""
        return self.server.postgres.own.pid

    def running(self) -> bool:
        return self.server.postgres.own.running

    def check_log(self, since: int = 0) -> None:
        """Fails when a server process has crashed."""
        found = [bad for bad in _BAD_LOG if bad in self.log(since)]
        assert not found, f"{found} in the log:\n{self.log_tail()}"

    # --- connecting: every entry of a pooler is the same database here -----------------------------

    def raw(
        self,
        database: str | None = None,
        user: str | None = None,
        parameters: Mapping[str, str | bytes] | None = None,
        *,
        timeout: float = 10.0,
        version: int = m.PROTOCOL_3_0,
    ) -> Raw:
        return super().raw(self._real(database), user, parameters, timeout=timeout, version=version)

    def conninfo(self, database: str | None = None, user: str | None = None, **more: str | int) -> str:
        return super().conninfo(self._real(database), user, **more)

    def _real(self, database: str | None) -> str | None:
        return None if database in _ENTRIES else database

    # --- there is no console -------------------------------------------------------------------------

    def admin(self, sql: str, user: str = "") -> list[Row]:
        raise AssertionError(f"PostgreSQL has no console for {sql!r}: the case needs `pooler_only`")

    def show(self, what: str, **where: object) -> list[Row]:
        """Nothing is pooled, so there is nothing to show."""
        return []

    def wait_for_pool(self, database: str, within: float = 10.0, **numbers: int) -> None:
        """Returns at once: nobody waits for a server that is his own."""

    @contextmanager
    def with_settings(self, **changes: Value) -> Iterator[None]:
        """PostgreSQL's counterparts, for the time of the `with`."""
        for name, value in changes.items():
            self._alter(COUNTERPARTS[name].set, value)
        try:
            yield
        finally:
            for name in changes:
                self._alter(COUNTERPARTS[name].reset)

    def _alter(self, statement: str, value: Value = "") -> None:
        self.server.sql(statement.format(role=self.user, value=value))
        if not statement.startswith("alter system"):
            return
        # A new session has what the postmaster knows; its own reload comes whenever it comes.
        before = self.server.postgres.sql("show authentication_timeout")
        self.server.sql("select pg_reload_conf()")
        wait_until(
            lambda: self.server.postgres.sql("show authentication_timeout") != before,
            5,
            "settings read again",
        )

"""Where the model is played: PostgreSQL with a connection for each client, Howdah with two servers for all.

Law: trouble is over before the next step begins, so that no client can be caught by it.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from tests.conformance.model.play import Play
from tests.support.fault_proxy import wait_until
from tests.support.pooler import ADMIN, CONSOLE, Pooler, Value
from tests.support.postgres import PostgresServer
from tests.support.server import Server
from tests.support.standard import build, entry
from tests.support.wire import Raw

PAIR = "pair"
SERVERS = 2
ADMINS = CONSOLE, ADMIN
KEPT = {"few": 1, "some": 3, "many": 200}
"""Statements that a server keeps, by the kind of trouble."""


@contextmanager
def at_postgresql(postgres: PostgresServer) -> Iterator[Play]:
    """Every client has a connection of its own."""
    server = Server(postgres, postgres.new_database())
    with closing(server), Play(server, server.database, server) as play:
        yield play


@contextmanager
def at_howdah(postgres: PostgresServer, **settings: Value) -> Iterator[Play]:
    """Transaction mode; two servers take turns, so that hardly anybody meets the same one twice."""
    with closing(Server(postgres, postgres.new_database())) as server:
        entries = {PAIR: entry(server, pool_size=SERVERS)}
        quiet = {"log_connections": 0, "log_disconnections": 0, "server_round_robin": 1}
        with (
            build(entries, {**quiet, **settings}, user=server.user) as pooler,
            pooler.raw(*ADMINS) as console,
        ):
            trouble = Troubles(pooler, console, server)
            with Play(pooler, PAIR, server, trouble) as play:
                yield play


@dataclass
class Troubles:
    """What happens to the servers of the pooler, or to what they may keep."""

    pooler: Pooler
    console: Raw
    server: Server

    def __call__(self, kind: str) -> None:
        if kind in KEPT:
            self.console.query(f"SET max_prepared_statements = {KEPT[kind]}")
        elif kind == "reconnect":
            self.console.query(f"RECONNECT {PAIR}")
        else:
            self._kill()

    def _kill(self) -> None:
        """The end of a server that no client has at present."""
        idle = self._pids("idle", "used")
        if idle:
            victim = min(idle)
            self.server.sql("select pg_terminate_backend(%s)", [victim])
            wait_until(lambda: victim not in self._pids(), 10, "a server is gone")

    def _pids(self, *states: str) -> set[int]:
        """Process ids of the pool's servers, of those in these states or of all."""
        rows = self.pooler.show("SERVERS", database=PAIR)
        return {int(str(row["remote_pid"])) for row in rows if not states or row["state"] in states}

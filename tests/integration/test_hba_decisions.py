"""PostgreSQL and we let in the same clients by the same rules."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import psycopg
import pytest

from config.hba import Arrival, Method, match
from config.hba_parser import parse_hba
from proxy.doorkeeper import MEMBERSHIP
from proxy.host_names import confirmed_name
from proxy.interfaces import interfaces
from tests.support.fault_proxy import wait_until
from tests.support.postgres import PostgresServer
from tests.support.standard import howdah_only

pytestmark = howdah_only("PgBouncer's rules know fewer words")

LOOPBACK = "127.0.0.1"
USERS = ("u1", "u2", "g1", "app_1", "sup")
DATABASES = ("u1", "g1", "d", "app_2")
_ROLES = (
    *("g1 login", "g2 in role g1", "u1 login in role g2", "u2 login", "app_1 login in role g1"),
    "sup login superuser",
)
_OWN = ("local postgres postgres trust", "host postgres postgres all trust")
_PLACES = (
    *("all", "127.0.0.1/32", "10.0.0.0/8", "samehost", "samenet", "localhost", ".example.org", "LOCALHOST"),
    *("::1/128", "127.0.0.0 255.0.0.0"),
)


def rules(choose: random.Random) -> list[str]:
    databases = ("all", "u1", "d", "sameuser", "samerole", "/^app_", '"all"', "/1$", "replication")
    users = ("all", "u1", "u2", "+g1", "+g2", '"+g1"', r"/^app_\d$", "+u1", "/u")
    lines = []
    for _ in range(choose.randint(1, 5)):
        kind = choose.choice(("local", "host", "hostnossl"))
        parts = [
            kind,
            *(",".join(choose.choices(words, k=choose.choice((1, 1, 2)))) for words in (databases, users)),
        ]
        parts += [] if kind == "local" else [choose.choice(_PLACES)]
        lines.append(" ".join((*parts, choose.choice(("trust", "reject", "trust")))))
    return lines


@dataclass
class Judge:
    """A PostgreSQL with these users and databases, whose rules are changed."""

    server: PostgresServer
    connection: psycopg.Connection[tuple[object, ...]]
    rules: Path

    def use(self, lines: Sequence[str]) -> None:
        """These rules, behind those for the superuser."""
        before = self._loaded()
        self.rules.write_text("\n".join((*_OWN, *lines)) + "\n")
        self.connection.execute("select pg_reload_conf()")
        wait_until(lambda: self._loaded() != before, 10, "rules are read")

    def lets_in(self, host: str, user: str, database: str) -> bool:
        try:
            psycopg.connect(
                host=host,
                port=self.server.port,
                user=user,
                dbname=database,
                sslmode="disable",
                gssencmode="disable",
            ).close()
        except psycopg.OperationalError as error:
            if "pg_hba.conf" not in str(error):
                raise
            return False
        return True

    def roles(self, user: str) -> frozenset[str]:
        rows = self.connection.execute(MEMBERSHIP.replace("$1", "%s").encode(), (user,))
        return frozenset(str(row[0]) for row in rows)

    def _loaded(self) -> object:
        with psycopg.connect(self.server.dsn()) as newcomer:
            return newcomer.execute("select pg_conf_load_time()").fetchone()


@pytest.fixture
def judge(new_postgres: Callable[..., PostgresServer]) -> Iterator[Judge]:
    server = new_postgres()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for role in _ROLES:
            connection.execute(f"create role {role}".encode())
        for database in DATABASES:
            connection.execute(f"create database {database}".encode())
        ((path,),) = connection.execute("show hba_file").fetchall()
        yield Judge(server, connection, Path(str(path)))


def test_postgresql_lets_in_the_same_clients(judge: Judge) -> None:
    choose = random.Random(1)
    roles = {user: judge.roles(user) for user in USERS}
    assert roles["u1"] == {"u1", "g1", "g2"}
    assert roles["sup"] == {"sup"}
    host, own = confirmed_name(LOOPBACK), interfaces()
    for _ in range(12):
        lines = rules(choose)
        judge.use(lines)
        ours, _ = parse_hba("\n".join(lines).encode(), "rules")
        assert len(ours) == len(lines)
        sockets = str(judge.server.socket_directory)
        for user, database, where in itertools.product(USERS, DATABASES, (LOOPBACK, sockets)):
            address = ip_address(where) if where == LOOPBACK else None
            arrival = Arrival(database, user, address, interfaces=own, roles=roles[user], host=host)
            let_in = getattr(match(ours, arrival), "method", None) is Method.TRUST
            assert let_in is judge.lets_in(where, user, database), (lines, arrival)

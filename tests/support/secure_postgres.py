"""A PostgreSQL with TLS, from the system's programs: the embedded ones are built without.

Law: the roles say by their names how they may come in; all others may come either way.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from proxy.demo.binaries import NoPostgres, find
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


@contextmanager
def secure_postgres(
    pki: Pki, files: Files | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[PostgresServer]:
    """One with this certificate, for LOCAL if none is given; trusts clients that the authority has signed."""
    files = files or pki.server()
    try:
        binaries = find(origin="system")
    except NoPostgres:
        pytest.skip("no system PostgreSQL here")
    with started(
        binaries,
        settings={"ssl_ca_file": str(pki.ca), **(settings or {})},
        hba=SECURE_HBA,
        roles=(*ROLES, *SECURE_ROLES),
        tls=(files.certificate, files.key),
    ) as server:
        yield server

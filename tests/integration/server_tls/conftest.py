"""A PostgreSQL with TLS, one without and a terminator for direct TLS, before all of which a pooler stands.

Law: the pooler speaks to these servers only, so that what a test sees of them is the pooler's doing.
"""

from collections.abc import Iterator

import pytest

from tests.support.alive import BYSTANDER
from tests.support.certificates import Pki
from tests.support.pooler import Sections, Settings, Value
from tests.support.postgres import PostgresServer
from tests.support.server import Server
from tests.support.standard import entry
from tests.support.terminator import Terminator, server_context

MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

ENCRYPTED = """
select coalesce((select version from pg_stat_ssl where ssl and pid = pg_backend_pid()), 'plain')
"""
"""The version of TLS that the server says it speaks."""


def trusting(pki: Pki, mode: str, **more: Value) -> dict[str, Value]:
    """The TLS part of a database entry."""
    return {"sslmode": mode, "sslrootcert": str(pki.ca), **more}


@pytest.fixture(scope="session")
def secure(tls_postgres: PostgresServer) -> Iterator[Server]:
    """PostgreSQL with TLS, with a database of its own."""
    server = Server(tls_postgres, tls_postgres.new_database())
    yield server
    server.close()


@pytest.fixture
def terminator(server: Server, pki: Pki) -> Iterator[Terminator]:
    """Stands before the PostgreSQL that has no TLS of its own."""
    context = server_context(pki.server(), client_ca=pki.ca)
    with Terminator((server.host, server.port), context) as terminator:
        yield terminator


def only(server: Server, tls: Settings, **more: Value) -> Sections:
    """A pooler's databases: the one under test, and one whose pool is only a bystander's."""
    own = {**entry(server), **tls}
    return {"app": {**own, **more}, BYSTANDER: {**own, "pool_size": 2}}

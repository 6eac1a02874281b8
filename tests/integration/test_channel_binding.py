"""SCRAM-SHA-256-PLUS through the pooler: each side proves which certificate it has seen."""

import os
import re
from collections.abc import Callable
from functools import cache

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.conftest import Launch
from tests.support import postgres
from tests.support.certificates import Files, Kind, Pki, self_signed
from tests.support.pooler import Pooler
from tests.support.postgres import PostgresServer
from tests.support.scram import verifier
from tests.support.secure_postgres import secure_postgres
from tests.support.server import Server
from tests.support.standard import APP, entry
from tests.support.terminator import Terminator, server_context

ROLE = postgres.APP
PASSWORD = ROLE.password or ""

Shown = Callable[[Kind], Pooler]


def encrypted(launch: Launch, server: Server, files: Files) -> Pooler:
    settings = {
        "auth_type": "scram-sha-256",
        "client_tls_sslmode": "allow",
        "client_tls_cert_file": os.fspath(files.certificate),
        "client_tls_key_file": os.fspath(files.key),
    }
    entries = {APP: entry(server, user=ROLE.name, password=PASSWORD)}
    return launch(entries, settings, secrets={ROLE.name: verifier(PASSWORD)})


@pytest.fixture(scope="module")
def shown(module_launch: Launch, server: Server, pki: Pki) -> Shown:
    """The pooler that shows a certificate of this kind; no test changes anything in it."""
    return cache(lambda kind: encrypted(module_launch, server, pki.server(kind=kind)))


def connect(port: int, pki: Pki, **options: str) -> psycopg.Connection[tuple[object, ...]]:
    where: dict[str, str | int] = {
        "host": "localhost",
        "port": port,
        "user": ROLE.name,
        "password": PASSWORD,
        "dbname": APP,
        "sslmode": "verify-full",
        "sslrootcert": os.fspath(pki.ca),
        **options,
    }
    return psycopg.connect(make_conninfo("", **where), autocommit=True)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("wanted", ["require", "prefer", "disable"])
def test_a_client_that_insists_on_channel_binding_gets_it(
    shown: Shown, pki: Pki, kind: Kind, wanted: str
) -> None:
    with connect(shown(kind).port, pki, channel_binding=wanted) as connection:
        assert connection.execute("select session_user").fetchone() == (ROLE.name,)


def test_a_certificate_that_defines_no_binding_offers_none(launch: Launch, server: Server, pki: Pki) -> None:
    """Its signature has no hash of its own (RFC 5929)."""
    files = pki.write("ed25519", self_signed("localhost", kind="ed25519"))
    pooler = encrypted(launch, server, files)
    trusted = {"sslrootcert": os.fspath(files.certificate)}
    for wanted in ("disable", "prefer"):
        with connect(pooler.port, pki, channel_binding=wanted, **trusted) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="channel binding is required"):
        connect(pooler.port, pki, channel_binding="require", **trusted)


def test_a_wrong_password_is_no_better_for_being_bound(shown: Shown, pki: Pki) -> None:
    with pytest.raises(psycopg.OperationalError, match="SASL authentication failed"):
        connect(shown("ec").port, pki, channel_binding="require", password="wrong")


def test_one_in_the_middle_with_a_certificate_of_its_own_is_noticed(shown: Shown, pki: Pki) -> None:
    """It has a certificate that the client believes, and passes on in the clear what it hears."""
    pooler = shown("ec")
    with Terminator((pooler.host, pooler.port), server_context(pki.server(kind="rsa"))) as middle:
        with pytest.raises(psycopg.OperationalError, match="channel binding"):
            connect(middle.port, pki, channel_binding="require")
        with connect(middle.port, pki, channel_binding="prefer") as connection:
            assert connection.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_the_pooler_insists_on_channel_binding_where_it_is_told_to(
    launch: Launch, pki: Pki, kind: Kind
) -> None:
    with secure_postgres(pki, pki.server(kind=kind)) as secure:
        entries = secure_entries(secure)
        pooler = launch(entries, user=ROLE.name)
        for database in ("preferred", "required", "disabled"):
            with pooler.raw(database) as client:
                assert client.value("select session_user") == ROLE.name
        with pytest.raises(psycopg.OperationalError, match="does not ask for SCRAM-SHA-256"):
            pooler.connect("trusted")
        with pytest.raises(psycopg.OperationalError, match="this connection has none"):
            pooler.connect("clear")


def secure_entries(secure: PostgresServer) -> dict[str, dict[str, str | int | float]]:
    own: dict[str, str | int | float] = {
        "host": secure.host,
        "port": secure.port,
        "dbname": "postgres",
        "user": ROLE.name,
        "password": PASSWORD,
        "sslmode": "require",
    }
    return {
        "preferred": own,
        "required": {**own, "channel_binding": "require"},
        "disabled": {**own, "channel_binding": "disable"},
        "trusted": {**own, "user": postgres.APP_TRUST.name, "channel_binding": "require"},
        "clear": {**own, "sslmode": "disable", "channel_binding": "require"},
    }


def test_the_console_binds_channels_too(shown: Shown, pki: Pki) -> None:
    with connect(
        shown("ec").port,
        pki,
        channel_binding="require",
        user="boss",
        password="boss-secret",
        dbname="pgbouncer",
    ) as console:
        (version,) = console.execute("SHOW VERSION").fetchone() or ("",)
        assert re.match("PgBouncer", str(version))

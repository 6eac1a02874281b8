"""Secrets that can be told by their looks, searched for wherever somebody might look for something else.

Every method, right and wrong, plain, hashed, forced and asked for, at the highest verbosity.
"""

import contextlib
import hashlib
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.demo.postgres import SUPERUSER
from tests.integration.conftest import Launch
from tests.support import postgres
from tests.support.certificates import Pki
from tests.support.pooler import PASSWORDS, Pooler
from tests.support.ports import free_port
from tests.support.scram import verifier
from tests.support.server import Server
from tests.support.standard import entry, howdah_only

pytestmark = howdah_only("what PgBouncer shows and logs is its own affair")

MARK = "mArKeR"
TYPED = f"{MARK}-typed"
PLAIN = f"{MARK}-plain"
HASHED = f"{MARK}-hashed"
FORCED = f"{MARK}-forced"
ASKED = f"{MARK}-asked"
METHODS = ("plain", "md5", "scram-sha-256")


def hash_of(password: str, user: str) -> str:
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


SECRETS = {"plain": PLAIN, "hashed": hash_of(HASHED, "hashed"), "verified": verifier(HASHED)}
SOUGHT = (
    MARK,
    SECRETS["hashed"][3:],
    *SECRETS["verified"].split("$", 2)[2].split(":"),
    postgres.APP.password or "",
    *PASSWORDS.values(),
)
"""What must be nowhere: passwords, hashes, keys."""


@pytest.fixture
def asked(server: Server) -> Iterator[str]:
    """A role whom only PostgreSQL knows."""
    name = "asked_about"
    server.sql(f"drop role if exists {name}")
    server.sql(f"create role {name} login password '{ASKED}'")
    yield name
    server.sql(f"drop role {name}")


def pooler_for(launch: Launch, server: Server, pki: Pki, method: str) -> tuple[Pooler, str]:
    files = pki.server()
    port = free_port()
    settings = {
        "auth_type": method,
        "auth_user": SUPERUSER,
        "auth_dbname": "asking",
        "mock_authentication_nonce": f"{MARK}-nonce",
        "verbose": 3,
        "metrics_addr": "127.0.0.1",
        "metrics_port": port,
        "client_tls_sslmode": "allow",
        "client_tls_cert_file": os.fspath(files.certificate),
        "client_tls_key_file": os.fspath(files.key),
        "admin_users": "boss, plain",
    }
    good = {"user": postgres.APP.name, "password": postgres.APP.password or ""}
    entries = {
        "app": entry(server, **good),
        "refused": entry(server, user=postgres.APP.name, password=FORCED),
        "asking": entry(server),
    }
    return launch(entries, settings, secrets={**SECRETS, SUPERUSER: ""}), f"http://127.0.0.1:{port}/metrics"


def log_in(pooler: Pooler, database: str, user: str, password: str, sslmode: str) -> None:
    """Whatever comes of it."""
    place = psycopg.conninfo.make_conninfo(
        host="127.0.0.1", port=pooler.port, dbname=database, user=user, password=password, sslmode=sslmode
    )
    with contextlib.suppress(psycopg.Error), psycopg.connect(place, autocommit=True) as connection:
        connection.execute("select 1")


def everything_shown(pooler: Pooler) -> str:
    help_text = pooler.admin("SHOW HELP")
    shown = [repr(help_text)]
    for what in (
        "CONFIG",
        "DATABASES",
        "USERS",
        "CLIENTS",
        "SERVERS",
        "POOLS",
        "LISTS",
        "SOCKETS",
        "FDS",
        "MEM",
    ):
        shown.append(repr(pooler.show(what)))
    return "\n".join(shown)


@pytest.mark.parametrize("method", METHODS)
def test_no_secret_is_logged_shown_or_counted(
    launch: Launch, server: Server, pki: Pki, asked: str, method: str
) -> None:
    pooler, metrics = pooler_for(launch, server, pki, method)
    passwords = {"plain": PLAIN, "hashed": HASHED, "verified": HASHED, asked: ASKED, "nobody": TYPED}
    for sslmode in ("disable", "require"):
        for user, password in passwords.items():
            for database in ("app", "refused", "pgbouncer", f"no-{MARK[:3]}"):
                log_in(pooler, database, user, password, sslmode)
                log_in(pooler, database, user, TYPED, sslmode)
    shown = everything_shown(pooler)
    with urllib.request.urlopen(metrics, timeout=10) as answer:
        counted = answer.read().decode()
    found = [
        (secret, place)
        for place, text in (("log", pooler.log()), ("console", shown), ("metrics", counted))
        for secret in SOUGHT
        if secret in text
    ]
    assert not found
    assert "login failed" in pooler.log()
    assert "howdah_authenticated_clients_total" in counted


@pytest.mark.parametrize(
    "line",
    [
        f"other = host=127.0.0.1 password={MARK} oops",
        f"other = host=127.0.0.1 password='{MARK}",
        f"other = host=127.0.0.1 passwort={MARK}",
        f"other = host=127.0.0.1 password=SCRAM-SHA-256${MARK}",
    ],
)
def test_a_mistake_in_the_configuration_is_told_without_the_secret_beside_it(
    launch: Launch, server: Server, line: str
) -> None:
    pooler = launch({"app": entry(server)})
    text = pooler.config.read_text().replace("[databases]", f"[databases]\n{line}", 1)
    pooler.config.write_text(text)
    with pytest.raises(psycopg.Error) as caught:
        pooler.admin("RELOAD")
    assert MARK not in str(caught.value)
    pooler.wait_for_log("pgbouncer.ini:2")
    assert MARK not in pooler.log()


def test_a_mistake_in_the_auth_file_is_told_without_the_secret_beside_it(
    launch: Launch, server: Server
) -> None:
    pooler = launch({"app": entry(server)})
    Path(str(pooler.settings["auth_file"])).write_text(f'"alice" "{MARK}\n"bob" SCRAM-SHA-256${MARK}\n')
    with contextlib.suppress(psycopg.Error):
        pooler.admin("RELOAD")
    assert MARK not in pooler.log()

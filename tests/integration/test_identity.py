"""Logins by what others vouch for: the system's user on the unix socket, and client certificates."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psycopg
import pytest

from tests.integration.conftest import Launch
from tests.support.certificates import EXPIRED, Authority, Files, Pki, self_signed
from tests.support.pooler import ADMIN, Pooler, ordinary_user
from tests.support.rules import CONSOLE_RULE, Rules, refusal
from tests.support.server import Server
from tests.support.standard import APP, databases, howdah_only

pytestmark = howdah_only("maps with expressions, and texts of our own")

ME = pwd.getpwuid(os.getuid()).pw_name
NO_PEER = "unix socket login rejected"
NO_CERTIFICATE = "certificate authentication failed"
SECRETS = {"alice": "alice-secret", "bob": "", ME: "", "carol@example.com": "", "al\\0ice": ""}


@pytest.fixture(scope="module")
def rules() -> Iterator[Rules]:
    with Rules() as rules:
        yield rules


@pytest.fixture(scope="module")
def sockets(rules: Rules) -> Path:
    return rules.sockets


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server, rules: Rules, sockets: Path, pki: Pki) -> Pooler:
    files = pki.server()
    settings = {
        **rules.settings,
        "unix_socket_dir": str(sockets),
        "client_tls_sslmode": "prefer",
        "client_tls_key_file": str(files.key),
        "client_tls_cert_file": str(files.certificate),
        "client_tls_ca_file": str(pki.ca),
    }
    return module_launch(databases(server, user=server.user), settings, secrets=SECRETS)


# --- peer ----------------------------------------------------------------------------------------


def by_socket(pooler: Pooler, sockets: Path, user: str) -> str:
    return refusal(pooler, APP, user, host=str(sockets))


def test_a_peer_is_the_user_that_the_system_knows(pooler: Pooler, rules: Rules, sockets: Path) -> None:
    with rules.at(pooler, "local all all peer"):
        mark = pooler.log_mark()
        assert by_socket(pooler, sockets, ME) == ""
        assert by_socket(pooler, sockets, "alice") == NO_PEER
        pooler.wait_for_log(f'peer login refused: "{ME}" is not the user "alice"', since=mark)


def test_a_peer_is_not_let_in_by_tcp(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "local all all peer"):
        assert refusal(pooler, APP, ME) == "no authentication method is found"


def test_a_map_says_whom_a_peer_may_be(pooler: Pooler, rules: Rules, sockets: Path) -> None:
    maps = (f"m {ME} alice", f"m /^{ME}$ bob", f"other {ME} {ME}")
    with rules.at(pooler, "local all all peer map=m", maps=maps):
        assert by_socket(pooler, sockets, "alice") == ""
        assert by_socket(pooler, sockets, "bob") == ""
        mark = pooler.log_mark()
        assert by_socket(pooler, sockets, ME) == NO_PEER
        pooler.wait_for_log("ident map: m does not have a match", since=mark)
    with rules.at(pooler, "local all all peer map=m", maps=(f"m {ME} all",)):
        assert by_socket(pooler, sockets, ME) == ""
        assert by_socket(pooler, sockets, "carol@example.com") == ""


def test_a_peer_is_only_whom_the_auth_file_names(pooler: Pooler, rules: Rules, sockets: Path) -> None:
    with rules.at(pooler, "local all all peer map=m", maps=(f"m {ME} all",)):
        assert by_socket(pooler, sockets, "stranger") == NO_PEER


@contextmanager
def system_user(name: str) -> Iterator[None]:
    """Be somebody else to whom one connects meanwhile."""
    os.seteuid(pwd.getpwnam(name).pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may be somebody else")
def test_another_system_user_is_another_peer(pooler: Pooler, rules: Rules, sockets: Path) -> None:
    with rules.at(pooler, "local all all peer map=m", maps=("m nobody alice", f"m {ME} bob")):
        with system_user("nobody"):
            assert by_socket(pooler, sockets, "alice") == ""
            assert by_socket(pooler, sockets, "bob") == NO_PEER
        assert by_socket(pooler, sockets, "bob") == ""


def test_the_system_user_that_the_pooler_runs_as_is_an_admin_whatever_the_rules(
    pooler: Pooler, rules: Rules, sockets: Path
) -> None:
    daemon = ordinary_user()
    with rules.at(pooler, "local all all reject", "host all all all reject"):
        mark = pooler.log_mark()
        info = pooler.conninfo("pgbouncer", "pgbouncer", host=str(sockets))
        with system_user(daemon) if daemon else nullcontext():
            console = psycopg.connect(info, autocommit=True)
        with console:
            console.execute("RELOAD")
        pooler.wait_for_log(r"pgbouncer/pgbouncer@unix\(pid \d+, uid \d+\) admin command: RELOAD", since=mark)
        assert refusal(pooler, "pgbouncer", "pgbouncer") == "login rejected"
        if daemon:
            assert refusal(pooler, "pgbouncer", "pgbouncer", host=str(sockets)) == "login rejected"


# --- certificates --------------------------------------------------------------------------------


def by_certificate(pooler: Pooler, pki: Pki, user: str, files: Files | None, **options: str) -> str:
    if files is not None:
        options |= {"sslcert": str(files.certificate), "sslkey": str(files.key)}
    else:
        options |= {"sslcert": "/none", "sslkey": "/none"}
    return refusal(
        pooler, APP, user, sslmode="verify-full", sslrootcert=str(pki.ca), host="localhost", **options
    )


def test_a_certificate_is_in_the_name_of_its_user(pooler: Pooler, rules: Rules, pki: Pki) -> None:
    with rules.at(pooler, "hostssl all all all cert"):
        mark = pooler.log_mark()
        assert by_certificate(pooler, pki, "alice", pki.client("alice")) == ""
        assert by_certificate(pooler, pki, "bob", pki.client("alice")) == NO_CERTIFICATE
        assert by_certificate(pooler, pki, "alice", None) == NO_CERTIFICATE
        assert by_certificate(pooler, pki, "stranger", pki.client("stranger")) == NO_CERTIFICATE
        pooler.wait_for_log('certificate login refused: "alice" is not the user "bob"', since=mark)
        pooler.wait_for_log("certificate login refused: no certificate was shown", since=mark)


def test_a_rule_for_host_takes_certificates_only_with_tls(pooler: Pooler, rules: Rules, pki: Pki) -> None:
    with rules.at(pooler, "host all all all cert"):
        assert by_certificate(pooler, pki, "alice", pki.client("alice")) == ""
        assert refusal(pooler, APP, "alice") == NO_CERTIFICATE


@pytest.mark.parametrize("which", ["other authority", "self-signed", "expired"])
def test_a_certificate_that_nobody_vouches_for_is_no_certificate(
    pooler: Pooler, rules: Rules, pki: Pki, which: str
) -> None:
    pair = {
        "other authority": lambda: Authority("another").client("alice"),
        "self-signed": lambda: self_signed("alice"),
        "expired": lambda: pki.authority.client("alice", valid=EXPIRED),
    }[which]()
    files = pki.write(which.replace(" ", "-"), pair)
    with rules.at(pooler, "hostssl all all all cert"), pytest.raises(psycopg.OperationalError):
        pooler.connect(
            APP,
            "alice",
            sslmode="require",
            sslcert=str(files.certificate),
            sslkey=str(files.key),
        )


def test_maps_are_for_certificates_too(pooler: Pooler, rules: Rules, pki: Pki) -> None:
    carol = pki.client("carol@example.com")
    maps = (r"m /^(.*)@example\.org$ \1", "m carol@example.com alice", 'dn "/^CN=carol@(.*)$" bob')
    with rules.at(
        pooler, "hostssl all bob all cert map=dn clientname=DN", "hostssl all all all cert map=m", maps=maps
    ):
        assert by_certificate(pooler, pki, "alice", carol) == ""
        assert by_certificate(pooler, pki, "carol@example.com", carol) == NO_CERTIFICATE
        assert by_certificate(pooler, pki, "bob", carol) == ""
        assert by_certificate(pooler, pki, "alice", pki.client("alice@example.org")) == ""


@pytest.mark.parametrize(
    ("clientcert", "certificate", "refused"),
    [
        ("verify-ca", None, "connection requires a valid client certificate"),
        ("verify-ca", "bob", ""),
        ("verify-full", None, "connection requires a valid client certificate"),
        ("verify-full", "bob", NO_CERTIFICATE),
        ("verify-full", "alice", ""),
    ],
)
def test_a_certificate_may_be_wanted_besides_a_password(
    pooler: Pooler, rules: Rules, pki: Pki, clientcert: str, certificate: str | None, refused: str
) -> None:
    files = pki.client(certificate) if certificate else None
    with rules.at(pooler, f"hostssl all all all scram-sha-256 clientcert={clientcert}"):
        assert by_certificate(pooler, pki, "alice", files, password="alice-secret") == refused
        if not refused:
            assert "authentication failed" in by_certificate(pooler, pki, "alice", files, password="wrong")


def test_a_nul_in_the_name_of_a_certificate_ends_the_login(pooler: Pooler, rules: Rules, pki: Pki) -> None:
    files = pki.write("nul", pki.authority.client("alice\0.evil.example.com"))
    with rules.at(pooler, "hostssl all all all cert"):
        mark = pooler.log_mark()
        assert by_certificate(pooler, pki, "alice", files) == NO_CERTIFICATE
        pooler.wait_for_log("the common name of the certificate has a NUL inside", since=mark)


def test_rules_tell_encrypted_connections_from_others(pooler: Pooler, rules: Rules, pki: Pki) -> None:
    with rules.at(pooler, "hostssl all all all trust", "hostnossl all all all reject"):
        assert by_certificate(pooler, pki, "alice", None) == ""
        assert refusal(pooler, APP, "alice") == "login rejected"


def test_newcomers_are_asked_for_certificates_as_soon_as_rules_apply(
    launch: Launch, server: Server, pki: Pki
) -> None:
    files = pki.server()
    with Rules() as rules:
        rules.write("hostssl all all all cert")
        settings = {
            **rules.settings,
            "auth_type": "trust",
            "client_tls_sslmode": "require",
            "client_tls_key_file": str(files.key),
            "client_tls_cert_file": str(files.certificate),
            "client_tls_ca_file": str(pki.ca),
        }
        pooler = launch(databases(server, user=server.user), settings, secrets=SECRETS)
        assert by_certificate(pooler, pki, "alice", None) == ""
        console = pooler.conninfo("pgbouncer", ADMIN, sslmode="require")
        with psycopg.connect(console, autocommit=True) as admin:
            admin.execute("SET auth_type = 'hba'")
        assert by_certificate(pooler, pki, "alice", None) == NO_CERTIFICATE
        assert by_certificate(pooler, pki, "alice", pki.client("alice")) == ""


def test_auth_type_cert_needs_no_rules(launch: Launch, server: Server, pki: Pki) -> None:
    files = pki.server()
    settings = {
        "auth_type": "cert",
        "client_tls_sslmode": "verify-full",
        "client_tls_key_file": str(files.key),
        "client_tls_cert_file": str(files.certificate),
        "client_tls_ca_file": str(pki.ca),
    }
    pooler = launch(databases(server, user=server.user), settings, secrets=SECRETS)
    assert by_certificate(pooler, pki, "alice", pki.client("alice")) == ""
    assert by_certificate(pooler, pki, "bob", pki.client("alice")) == NO_CERTIFICATE
    assert by_certificate(pooler, pki, "stranger", pki.client("stranger")) == NO_CERTIFICATE


def test_the_console_is_open_to_a_certificate(pooler: Pooler, rules: Rules, pki: Pki) -> None:
    files = pki.client(ADMIN)
    rules.hba.write_text(f"hostssl pgbouncer {ADMIN} all cert\n{CONSOLE_RULE}\n")
    pooler.admin("RELOAD")
    info = pooler.conninfo(
        "pgbouncer",
        ADMIN,
        sslmode="require",
        sslcert=str(files.certificate),
        sslkey=str(files.key),
    )
    with psycopg.connect(info, autocommit=True) as console:
        assert console.execute("SHOW VERSION").fetchone() is not None
        rules.write()
        console.execute("RELOAD")

"""Certificates shown to clients: replaced under load, bad ones refused, what is shown of them."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.integration.client_tls.conftest import context, shown, trusting
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.certificates import Files, Pki, replace
from tests.support.page import Page
from tests.support.pooler import Pooler, StartFailed
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.standard import APP, databases, howdah_only, one_process

pytestmark = howdah_only("SHOW TLS and /metrics are not PgBouncer's")


@pytest.fixture
def mine(pki: Pki, folder: Path) -> Files:
    """The certificate that a test replaces."""
    return pki.authority.server().write(folder, "mine")


@pytest.fixture
def page() -> Page:
    return Page(free_port())


@pytest.fixture
def pooler(launch: Launch, server: Server, mine: Files, page: Page) -> Pooler:
    return page.of(launch(databases(server), {**shown(mine), **page.settings()}))


def reload_fails(pooler: Pooler) -> None:
    with pytest.raises(psycopg.Error, match="RELOAD failed"):
        pooler.reload()


def subjects(pooler: Pooler) -> list[object]:
    return [row["subject"] for row in pooler.show("TLS", side="client") if row["subject"]]


def serial(pooler: Pooler, pki: Pki) -> str:
    """The serial number of the certificate that a newcomer is shown."""
    plain = socket.create_connection(("127.0.0.1", pooler.port), 5)
    plain.sendall(m.ssl_request())
    assert plain.recv(1) == b"S"
    with context(pki).wrap_socket(plain, server_hostname="localhost") as client:
        certificate = client.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def test_a_new_certificate_is_for_newcomers_and_the_old_connections_live(
    pooler: Pooler, pki: Pki, mine: Files
) -> None:
    with pooler.connect(APP, **trusting(pki)) as connection:
        before = serial(pooler, pki)
        pki.authority.server().write(mine.key.parent, "mine")
        assert serial(pooler, pki) == before
        pooler.reload()
        assert serial(pooler, pki) != before
        assert connection.execute("select 42").fetchone() == (42,)


def test_a_bad_file_leaves_the_old_certificate_and_is_named(pooler: Pooler, pki: Pki, mine: Files) -> None:
    before = serial(pooler, pki)
    key = mine.key.read_bytes()
    with pooler.log_contains(f"{mine.key}: client_tls_key_file: holds no private key"):
        replace(mine.key, key[: len(key) // 2], mode=0o600)
        reload_fails(pooler)
    assert serial(pooler, pki) == before
    with pooler.log_contains(f"{mine.key}: client_tls_key_file: is not the key of"):
        replace(mine.key, pki.authority.server().key_pem, mode=0o600)
        reload_fails(pooler)
    replace(mine.key, key, mode=0o600)
    pooler.reload()
    assert serial(pooler, pki) == before
    assert key.decode().splitlines()[1] not in pooler.log()


def test_set_and_reload_refuse_what_cannot_be(pooler: Pooler, pki: Pki) -> None:
    before = serial(pooler, pki)
    with pytest.raises(psycopg.Error, match="SET failed"):
        pooler.admin("SET client_tls_ciphers = 'nonsense'")
    pooler.admin("SET client_tls_protocols = 'tlsv1.2'")
    with pooler.connect(APP, **trusting(pki)) as connection:
        (row,) = [row for row in pooler.show("CLIENTS", database=APP) if row["tls"]]
        assert str(row["tls"]).startswith("TLSv1.2/ECDHE-")
        assert connection.execute("select 42").fetchone() == (42,)
    with pytest.raises(psycopg.OperationalError, match="protocol version"):
        pooler.connect(APP, **trusting(pki, ssl_min_protocol_version="TLSv1.3"))
    pooler.reload()
    assert serial(pooler, pki) == before


def test_a_bad_file_stops_the_start_with_its_name(launch: Launch, server: Server, mine: Files) -> None:
    replace(mine.certificate, b"nothing\n")
    with pytest.raises(StartFailed, match=r"mine\.crt: client_tls_cert_file: holds no certificate"):
        launch(databases(server), shown(mine))


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("client_tls_key_file", "client_tls_key_file: is needed for client_tls_sslmode require"),
        ("client_tls_cert_file", "client_tls_cert_file: is needed for client_tls_sslmode require"),
    ],
)
def test_tls_without_a_certificate_does_not_start(
    launch: Launch, server: Server, mine: Files, missing: str, reason: str
) -> None:
    with pytest.raises(StartFailed, match=reason):
        launch(databases(server), {**shown(mine, "require"), missing: ""})


def test_certificates_and_connections_are_shown(pooler: Pooler, pki: Pki, page: Page, mine: Files) -> None:
    with pooler.connect(APP, **trusting(pki)) as connection:
        assert connection.execute("select 42").fetchone() == (42,)
        (first, *_) = pooler.show("TLS", side="client")
        assert (first["file"], first["subject"]) == (str(mine.certificate), "CN=localhost")
        years = {str((datetime.now(UTC) + timedelta(days=days)).year) for days in (364, 365)}
        assert str(first["expires"])[:4] in years
        assert first["days"] in (364, 365)
        counted = {
            (row["version"], row["cipher"]): row["connections"]
            for row in pooler.show("TLS")
            if not row["file"]
        }
        assert counted["TLSv1.3", "TLS_AES_256_GCM_SHA384"] == 1
        labels = {"side": "client", "file": str(mine.certificate), "subject": "CN=localhost"}
        left = page.value("howdah_tls_certificate_expiry_seconds", **labels)
        assert 364 * 86400 < left <= 365 * 86400
        kind = {"side": "client", "version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384"}
        assert page.value("howdah_tls_connections", **kind) == 1
        assert page.value("howdah_tls_handshake_failures_total", side="client") == 0
    with pytest.raises(psycopg.OperationalError):
        pooler.connect(APP, **trusting(pki, sslrootcert="system"))
    # A client that trusts nobody finds out when the handshake is over for us.
    with pytest.raises(psycopg.OperationalError):
        pooler.connect(APP, **trusting(pki, ssl_max_protocol_version="TLSv1.2", sslrootcert="system"))
    assert page.value("howdah_tls_handshake_failures_total", side="client") >= 1


def come(pooler: Pooler, made: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """A client by TLS that has been asked something, behind which tickets would have come."""
    plain = socket.create_connection(("127.0.0.1", pooler.port), 5)
    plain.sendall(m.ssl_request())
    assert plain.recv(1) == b"S"
    client = made.wrap_socket(plain, server_hostname="localhost", session=session)
    client.sendall(m.startup({"user": pooler.user, "database": APP}))
    assert client.recv(1) == b"R"
    return client


@one_process("each worker has keys of its own for TLS sessions")
def test_who_comes_again_takes_his_session_up(pooler: Pooler, pki: Pki) -> None:
    made = context(pki)
    with come(pooler, made) as first:
        assert not first.session_reused
        with come(pooler, made, first.session) as again:
            assert again.session_reused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_whose_certificate_counts_is_given_no_ticket(
    launch: Launch, server: Server, pki: Pki, mine: Files, version: ssl.TLSVersion
) -> None:
    pooler = launch(databases(server), shown(mine, "verify-full", client_tls_ca_file=str(pki.ca)))
    made = context(pki)
    made.maximum_version = version
    files = pki.client("alice")
    made.load_cert_chain(files.certificate, files.key)
    with come(pooler, made) as first:
        assert first.session is None or not first.session.has_ticket
        if version is ssl.TLSVersion.TLSv1_3:
            with come(pooler, made, first.session) as again:
                assert not again.session_reused


@pytest.mark.parametrize(
    ("left", "words"),
    [(timedelta(days=10, hours=1), "expires in 10 days"), (-timedelta(hours=1), "has expired")],
)
def test_a_certificate_that_ends_soon_is_warned_of(
    launch: Launch, server: Server, pki: Pki, folder: Path, left: timedelta, words: str
) -> None:
    files = pki.authority.server(valid=(-timedelta(days=99), left)).write(folder, "short")
    pooler = launch(databases(server), shown(files))
    pooler.wait_for_log(
        rf"WARNING \S*short\.crt: the certificate that clients are shown \(CN=localhost\) {words}"
    )


def test_a_hundred_reloads_under_load_disturb_nobody(pooler: Pooler, pki: Pki, mine: Files) -> None:
    """Every tenth brings a new certificate, and one a key that is cut off."""
    stop = threading.Event()
    failures: list[BaseException] = []
    done = [0] * 4

    def work(number: int) -> None:
        try:
            while not stop.is_set():
                with pooler.connect(APP, **trusting(pki)) as connection:
                    for _ in range(20):
                        assert connection.execute("select 42").fetchone() == (42,)
                        done[number] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(done))]
    for thread in threads:
        thread.start()
    try:
        for number in range(100):
            if number == 55:
                key = mine.key.read_bytes()
                replace(mine.key, key[:100], mode=0o600)
                reload_fails(pooler)
                replace(mine.key, key, mode=0o600)
            if number % 10 == 0:
                pki.authority.server().write(mine.key.parent, "mine")
            pooler.admin("RELOAD")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert min(done) > 20

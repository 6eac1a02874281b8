"""The certificates of the tests are what they say, as OpenSSL sees it."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.support import certificates
from tests.support.certificates import EXPIRED, NOT_YET, Authority, Pair, Pki, self_signed
from tests.support.postgres import PostgresServer
from tests.support.secure_postgres import CERTIFIED, PLAIN_ONLY, TLS_ONLY
from tests.support.terminator import ALPN, Terminator, server_context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def handshake(authority: Authority, server: Pair, folder: Path, host: str = "localhost") -> str | None:
    """The TLS version that a client who trusts the authority agrees on with the server."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    client = trusting.wrap_bio(incoming, outgoing, server_hostname=host)
    context = server_context(server.write(folder, "server"))
    peer = context.wrap_bio(outgoing, incoming, server_side=True)
    for side in (client, peer, client, peer):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return client.version()


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
def test_a_server_certificate_is_trusted_for_its_names(
    authority: Authority, tmp_path: Path, kind: certificates.Kind
) -> None:
    for name in ("localhost", "127.0.0.1", "::1"):
        assert handshake(authority, authority.server(kind=kind), tmp_path, name) == "TLSv1.3"


def test_an_intermediate_authority_is_trusted_by_its_chain(authority: Authority, tmp_path: Path) -> None:
    below = Authority("between", above=authority)
    assert handshake(authority, below.server(), tmp_path) == "TLSv1.3"


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (lambda authority: authority.server("elsewhere.example"), "Hostname mismatch"),
        (lambda authority: authority.server(valid=EXPIRED), "certificate has expired"),
        (lambda authority: authority.server(valid=NOT_YET), "certificate is not yet valid"),
        (lambda authority: self_signed(), "self-signed certificate"),
        (lambda authority: Authority("another").server(), "unable to get local issuer"),
    ],
    ids=["elsewhere", "expired", "not yet", "self-signed", "another authority"],
)
def test_a_bad_certificate_is_refused(
    authority: Authority, tmp_path: Path, pair: Callable[[Authority], Pair], reason: str
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        handshake(authority, pair(authority), tmp_path)


def test_a_key_is_for_one_user_only(authority: Authority, tmp_path: Path) -> None:
    files = authority.client("alice").write(tmp_path, "alice")
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert files.certificate.stat().st_mode & 0o777 == 0o644


def test_a_terminator_takes_direct_and_negotiated_tls(
    authority: Authority, tmp_path: Path, postgres: PostgresServer
) -> None:
    files = authority.server().write(tmp_path, "server")
    ca = authority.write(tmp_path)
    with Terminator((postgres.host, postgres.port), server_context(files)) as terminator:
        for negotiation in ("direct", "postgres"):
            with psycopg.connect(
                postgres.dsn(),
                host="localhost",
                hostaddr=terminator.host,
                port=terminator.port,
                sslmode="verify-full",
                sslrootcert=str(ca),
                sslnegotiation=negotiation,
            ) as connection:
                assert connection.execute("select repeat('x', 100000)").fetchone() == ("x" * 100000,)
    assert [each.direct for each in terminator.handshakes] == [True, False]
    assert {(each.alpn, each.host) for each in terminator.handshakes} == {(ALPN, "localhost")}


def test_a_terminator_wants_the_alpn_of_direct_clients(authority: Authority, tmp_path: Path) -> None:
    context = server_context(authority.server().write(tmp_path, "server"))
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    with (
        Terminator(("127.0.0.1", 1), context) as terminator,
        socket.create_connection((terminator.host, terminator.port), 5) as raw,
        trusting.wrap_socket(raw, server_hostname="localhost") as client,
    ):
        assert client.recv(1) == b""


def test_a_secure_postgres_tells_encrypted_clients_from_others(
    tls_postgres: PostgresServer, pki: Pki
) -> None:
    where = f"host={tls_postgres.host} port={tls_postgres.port} dbname=postgres sslrootcert={pki.ca}"
    mine = pki.client(CERTIFIED.name)
    shown = f"sslcert={mine.certificate} sslkey={mine.key}"
    for role, mode in (
        (TLS_ONLY, "verify-full"),
        (CERTIFIED, f"verify-full {shown}"),
        (PLAIN_ONLY, "disable"),
    ):
        with psycopg.connect(f"{where} user={role.name} sslmode={mode}") as connection:
            assert connection.pgconn.ssl_in_use == (role is not PLAIN_ONLY)
    for role, mode in ((TLS_ONLY, "disable"), (CERTIFIED, "verify-full"), (PLAIN_ONLY, "require")):
        with pytest.raises(psycopg.OperationalError, match=r"pg_hba.conf|certificate"):
            psycopg.connect(f"{where} user={role.name} sslmode={mode}")

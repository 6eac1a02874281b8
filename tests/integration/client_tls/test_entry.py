"""Who is let in, by which door: asked for, direct, or in the clear; and what is never obeyed."""

import contextlib
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.integration.client_tls.conftest import context, shown, trusting
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.certificates import Authority, Pki, self_signed
from tests.support.fault_proxy import wait_until
from tests.support.pooler import ADMIN, CONSOLE, Pooler
from tests.support.server import Server
from tests.support.standard import APP, databases, howdah_only
from tests.support.target import Connection

ours_only = howdah_only("not in Debian's PgBouncer")


def hangs_up(raw: socket.socket) -> bool:
    """Whether the other side closes without another word."""
    raw.settimeout(5)
    try:
        return raw.recv(100) == b""
    except ConnectionResetError:
        return True


def row(pooler: Pooler, connection: psycopg.Connection[tuple[object, ...]]) -> dict[str, object]:
    """The client's row of SHOW CLIENTS."""
    (found,) = pooler.show("CLIENTS", port=local_port(connection))
    return found


def local_port(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    with socket.socket(fileno=connection.fileno()) as sock:
        port = int(sock.getsockname()[1])
        sock.detach()
    return port


# --- the doors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full"])
def test_libpq_is_satisfied_in_every_mode(pooler: Pooler, pki: Pki, mode: str) -> None:
    with pooler.connect(APP, **trusting(pki, sslmode=mode)) as connection:
        assert connection.execute("select 42").fetchone() == (42,)
        assert str(row(pooler, connection)["tls"]).startswith("TLSv1.3/TLS_AES_256_GCM_SHA384")


def test_who_does_not_ask_stays_in_the_clear(pooler: Pooler) -> None:
    with pooler.connect(APP, sslmode="disable") as connection:
        assert row(pooler, connection)["tls"] == ""


@ours_only
def test_direct_tls_needs_no_question(pooler: Pooler, pki: Pki) -> None:
    with pooler.connect(APP, **trusting(pki, sslnegotiation="direct")) as connection:
        assert connection.execute("select 42").fetchone() == (42,)


@ours_only
@pytest.mark.parametrize("protocols", [(), ("http/1.1", "h2")])
def test_direct_tls_for_another_protocol_is_hung_up_on(
    pooler: Pooler, pki: Pki, protocols: tuple[str, ...]
) -> None:
    with pooler.log_contains("direct TLS without the protocol .ALPN. postgresql"):
        plain = socket.create_connection(("127.0.0.1", pooler.port))
        with context(pki, *protocols).wrap_socket(plain, server_hostname="localhost") as client:
            assert hangs_up(client)


@ours_only
def test_direct_tls_takes_a_hello_in_any_pieces(pooler: Pooler, pki: Pki) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context(pki, "postgresql").wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", pooler.port), 5) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    plain.sendall(bytes([byte]))
                incoming.write(plain.recv(65536))
        client.write(m.startup({"user": pooler.user, "database": APP}))
        plain.sendall(outgoing.read())
        answer = b""
        while not answer:
            with contextlib.suppress(ssl.SSLWantReadError):
                incoming.write(plain.recv(65536))
                answer = client.read(1)
        assert answer == b"R"


@ours_only
def test_direct_tls_is_refused_where_there_is_none(launch: Launch) -> None:
    pooler = launch()
    said = pooler.log_contains("closing: direct TLS is not offered here")
    with said, socket.create_connection(("127.0.0.1", pooler.port)) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert hangs_up(client)


def test_without_a_certificate_the_answer_is_no(launch: Launch) -> None:
    pooler = launch()
    with pooler.socket() as client:
        client.send(m.ssl_request())
        assert client.take(1) == b"N"
        client.login(pooler.user, APP)
    with pytest.raises(psycopg.OperationalError, match="server does not support SSL"):
        pooler.connect(APP, sslmode="require")


# --- require --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(module_launch: Launch, server: Server, pki: Pki) -> Pooler:
    """Lets nobody in without TLS, but for the unix socket."""
    return module_launch(databases(server), shown(pki.server(), "require"))


def test_who_must_encrypt_and_does_not_is_told(strict: Pooler) -> None:
    said = strict.log_contains("pooler error: SSL required", times=1)
    with said, pytest.raises(psycopg.OperationalError, match="SSL required"):
        strict.connect(APP)
    with strict.socket() as raw:
        raw.send(m.startup({"user": strict.user, "database": APP}))
        fields = m.fields_of(raw.until_closed()[0].body)
        assert (fields["S"], fields["M"]) == ("FATAL", "SSL required")
        assert fields["C"] in ("28000", "08P01")


def test_the_console_is_behind_the_same_door(strict: Pooler) -> None:
    with pytest.raises(psycopg.OperationalError, match="SSL required"):
        strict.connect(CONSOLE, ADMIN)
    with strict.connect(CONSOLE, ADMIN, sslmode="require") as connection:
        assert connection.execute("show version").fetchone()


def test_the_log_says_how_somebody_came(strict: Pooler) -> None:
    with strict.log_contains(r"login attempt: db=app user=\S+ tls=TLSv1.3/TLS_AES_256_GCM_SHA384"):
        strict.connect(APP, sslmode="require").close()


def test_gssapi_is_declined_and_then_tls_begins(strict: Pooler, pki: Pki) -> None:
    with strict.socket() as raw:
        raw.send(m.gssenc_request())
        assert raw.take(1) == b"N"
        raw.send(m.ssl_request())
        assert raw.take(1) == b"S"


# --- cancel ---------------------------------------------------------------------------------------


def cancelled(connection: Connection, server: Server, cancel: Callable[[], None]) -> None:
    """A query on the connection is cancelled in this way as soon as it runs."""
    with ThreadPoolExecutor(1) as threads:
        query = threads.submit(connection.execute, "select pg_sleep(30) /* cancelled */")
        server.wait_for_query("/* cancelled */")
        cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            query.result(10)


def test_a_cancel_request_comes_by_tls(strict: Pooler, server: Server, pki: Pki) -> None:
    """By libpq's own means, encrypted as the connection is."""
    with strict.connect(APP, **trusting(pki)) as connection:
        cancelled(connection, server, connection.cancel_safe)


@ours_only
def test_a_cancel_request_comes_by_direct_tls(strict: Pooler, server: Server, pki: Pki) -> None:
    with strict.connect(APP, **trusting(pki, sslnegotiation="direct")) as connection:
        cancelled(connection, server, connection.cancel_safe)


def test_a_cancel_request_in_the_clear_is_heard_too(strict: Pooler, server: Server) -> None:
    """As PostgreSQL does: libpq before 17 knows no other, and the key is all it has to have."""
    with strict.connect(APP, sslmode="require") as connection:
        cancelled(connection, server, connection.pgconn.get_cancel().cancel)


# --- what goes wrong ------------------------------------------------------------------------------


@ours_only
@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "http request"),
        (m.query("drop table everything"), "wrong version number"),
    ],
)
def test_garbage_in_place_of_a_handshake_is_one_line_in_the_log(
    pooler: Pooler, garbage: bytes, reason: str
) -> None:
    said = pooler.log_contains(f"closing because: TLS handshake failed: {reason}", times=1)
    with said, pooler.socket() as raw:
        raw.send(m.ssl_request())
        assert raw.take(1) == b"S"
        raw.send(garbage)
        raw.closed_within(5)


def test_a_client_that_leaves_in_the_middle_of_the_handshake_leaves_nothing(pooler: Pooler) -> None:
    before = pooler.fds()
    for _ in range(20):
        with pooler.socket() as raw:
            raw.send(m.ssl_request())
            assert raw.take(1) == b"S"
            raw.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    wait_until(lambda: pooler.fds() <= before, 10, "descriptors are closed")


def test_the_handshake_is_part_of_the_time_for_a_login(launch: Launch, server: Server, pki: Pki) -> None:
    pooler = launch(databases(server), shown(pki.server(), client_login_timeout="1"))
    with pooler.log_contains("client_login_timeout"), pooler.socket() as raw:
        raw.send(m.ssl_request())
        assert raw.take(1) == b"S"
        assert raw.closed_within(5)


@ours_only
def test_bytes_in_the_clear_in_the_middle_of_a_session_end_it(pooler: Pooler, pki: Pki) -> None:
    plain = socket.create_connection(("127.0.0.1", pooler.port))
    injected = socket.socket(fileno=socket.dup(plain.fileno()))
    plain.sendall(m.ssl_request())
    assert plain.recv(1) == b"S"
    with injected, context(pki).wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(m.startup({"user": pooler.user, "database": APP}))
        assert client.recv(1) == b"R"
        client.recv(65536)
        with pooler.log_contains("closing because: TLS error: wrong version number", times=1):
            injected.sendall(m.query("select 1"))
            with pytest.raises(ssl.SSLError, match="alert"):
                client.recv(65536)


# --- certificates of clients ----------------------------------------------------------------------


@pytest.fixture(scope="module", params=["verify-ca", "verify-full"])
def picky(module_launch: Launch, server: Server, pki: Pki, request: pytest.FixtureRequest) -> Pooler:
    """Wants to see a certificate."""
    return module_launch(
        databases(server), shown(pki.server(), request.param, client_tls_ca_file=str(pki.ca))
    )


def test_a_client_with_a_certificate_of_the_authority_comes_in_under_any_name(
    picky: Pooler, pki: Pki
) -> None:
    files = pki.client("somebody else")
    own = {"sslcert": str(files.certificate), "sslkey": str(files.key)}
    with picky.connect(APP, **trusting(pki, **own)) as connection:
        assert connection.execute("select 42").fetchone() == (42,)


def test_a_client_without_a_certificate_is_refused(picky: Pooler, pki: Pki) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"certificate required|SSL"):
        picky.connect(APP, **trusting(pki))


def test_a_client_of_another_authority_is_refused(picky: Pooler, pki: Pki) -> None:
    files = pki.write("stranger", Authority("another").client("app"))
    own = {"sslcert": str(files.certificate), "sslkey": str(files.key)}
    with pytest.raises(psycopg.OperationalError, match=r"unknown ca|SSL"):
        picky.connect(APP, **trusting(pki, **own))


@ours_only
def test_below_verify_ca_nobody_looks_at_a_clients_certificate(pooler: Pooler, pki: Pki) -> None:
    files = pki.write("unknown", self_signed("anybody"))
    own = {"sslcert": str(files.certificate), "sslkey": str(files.key)}
    with pooler.connect(APP, **trusting(pki, **own)) as connection:
        assert connection.execute("select 42").fetchone() == (42,)

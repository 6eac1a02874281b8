"""TLS demanded of clients: what comes before it, without it and inside it."""

import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import direct
from tests.conformance.cases.conftest import Stable
from tests.conformance.expect import hung_up_on, refusal, the_only_error, wording
from tests.conformance.secure import POOLERS, Secure, SecureDirect, certificate, secure_server
from tests.support import messages as m
from tests.support.server import Server
from tests.support.standard import KIND, databases


@pytest.fixture(scope="module")
def files() -> Iterator[tuple[Path, Path]]:
    """A certificate and its key."""
    with tempfile.TemporaryDirectory(prefix="howdah-tls-") as folder:
        yield certificate(Path(folder))


@pytest.fixture(scope="module")
def server(server: Server, files: tuple[Path, Path]) -> Iterator[Server]:
    """PostgreSQL with TLS where it is itself the target."""
    if KIND == direct.KIND:
        with secure_server(files) as secure:
            yield secure
    else:
        yield server


@pytest.fixture
def pooler(stable: Stable, server: Server, files: tuple[Path, Path]) -> Secure:
    """Lets nobody in without TLS."""
    if KIND == direct.KIND:
        return SecureDirect(server)
    settings = {
        "client_tls_sslmode": "require",
        "client_tls_cert_file": str(files[0]),
        "client_tls_key_file": str(files[1]),
    }
    pooler = stable.get("tls", lambda: POOLERS[KIND](databases(server), settings, user=server.user))
    assert isinstance(pooler, Secure)
    return pooler


def startup(pooler: Secure) -> bytes:
    return m.startup({"user": pooler.user, "database": pooler.database})


@pytest.mark.case("O22")
def test_bytes_between_a_request_for_tls_and_the_handshake_are_never_obeyed(
    pooler: Secure, server: Server
) -> None:
    """Who sits in the middle may put a login and a query of his own behind the client's SSLRequest."""
    server.sql("create table if not exists o22(n int)")
    server.sql("grant all on o22 to public")
    with pooler.bare() as client:
        client.send(m.ssl_request() + startup(pooler) + m.query("insert into o22 values (1)"))
        got: list[m.Message] = []
        try:
            if client.offered():
                client.shake_hands()
            got = client.until_closed()
        except (ssl.SSLError, ConnectionError, EOFError):
            assert pooler.kind != "howdah"
    if pooler.kind == "howdah" or got:
        fields = the_only_error(got)
        assert (fields["S"], fields["C"]) == ("FATAL", "08P01")
        assert fields["M"] == "received unencrypted data after SSL request"
    assert server.value("select count(*) from o22") == 0


@pytest.mark.case("O23")
def test_a_login_without_tls_is_refused_with_a_reason(pooler: Secure) -> None:
    reason = wording(pooler, "SSL required", postgresql="no pg_hba.conf entry for host")
    with pooler.bare() as client:
        client.send(startup(pooler))
        fields = refusal(client)
    assert reason in fields["M"]
    assert fields["C"] in ("28000", "08P01")


@pytest.mark.case("O24")
def test_a_request_for_tls_inside_tls_is_hung_up_on(pooler: Secure) -> None:
    with pooler.socket() as client:
        client.send(m.ssl_request())
        hung_up_on(pooler, client)

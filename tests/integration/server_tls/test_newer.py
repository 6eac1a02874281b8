"""PostgreSQL 17 with TLS behind the pooler: direct TLS with the real thing, and what else is new there."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.integration.conftest import Launch
from tests.integration.server_tls.conftest import ENCRYPTED, trusting
from tests.integration.test_pgbench import check, run_pgbench
from tests.support import messages as m
from tests.support.certificates import Pki
from tests.support.pooler import Pooler, Settings, Value
from tests.support.postgres import APP_TRUST, PostgresServer
from tests.support.secure_postgres import CERTIFIED, PLAIN_ONLY, SCRAM_TLS, TLS_ONLY
from tests.support.server import Server
from tests.support.standard import entry, howdah_only
from tests.support.wire import LoginRefused

pytestmark = howdah_only("has no TLS settings of a database")


@pytest.fixture(scope="module")
def newest(tls_postgres17: PostgresServer) -> Iterator[Server]:
    """A database of PostgreSQL 17."""
    server = Server(tls_postgres17, tls_postgres17.new_database())
    yield server
    server.close()


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, newest: Server, pki: Pki) -> Pooler:
    """TLS on both sides; direct to servers."""
    mine, own = pki.client(CERTIFIED.name), pki.server()

    def database(**more: Value) -> Settings:
        tls = trusting(pki, "verify-full", sslnegotiation="direct")
        return {**entry(newest), **tls, "host": "localhost", "pool_size": 8, **more}

    entries: dict[str, Settings] = {
        "app": database(),
        "asked": database(sslnegotiation="postgres"),
        "certified": database(user=CERTIFIED.name, sslcert=str(mine.certificate), sslkey=str(mine.key)),
        "uncertified": database(user=CERTIFIED.name),
        "clear": database(user=PLAIN_ONLY.name),
        "bound": database(user=SCRAM_TLS.name, password=SCRAM_TLS.password or "", channel_binding="require"),
        "allowed": {**entry(newest), "user": TLS_ONLY.name, "sslmode": "allow"},
        "preferred": {**entry(newest), "user": PLAIN_ONLY.name, "sslmode": "prefer"},
    }
    settings: Settings = {
        "client_tls_sslmode": "prefer",
        "client_tls_cert_file": str(own.certificate),
        "client_tls_key_file": str(own.key),
        "server_protocol": "3.2",
    }
    return module_launch(entries, settings, user=APP_TRUST.name)


@pytest.mark.parametrize("database", ["app", "asked", "certified", "bound", "allowed"])
def test_a_login_over_tls_is_a_login(pooler: Pooler, database: str) -> None:
    with pooler.raw(database) as client:
        assert client.value(ENCRYPTED) == "TLSv1.3"


def test_a_certificate_is_seen(pooler: Pooler) -> None:
    with pooler.raw("certified") as client:
        found = "select client_dn from pg_stat_ssl where pid = pg_backend_pid()"
        assert client.value(found) == f"/CN={CERTIFIED.name}"


@pytest.mark.parametrize(
    ("database", "said"),
    [
        ("uncertified", "connection requires a valid client certificate"),
        ("clear", r"pg_hba\.conf rejects connection.*SSL encryption"),
    ],
)
def test_a_refusal_over_direct_tls_is_told(pooler: Pooler, database: str, said: str) -> None:
    with pytest.raises(LoginRefused, match=said):
        pooler.raw(database)


def test_prefer_goes_on_in_the_clear(pooler: Pooler) -> None:
    with pooler.raw("preferred") as client:
        assert client.value(ENCRYPTED) == "plain"


@pytest.mark.parametrize("database", ["app", "asked"])
def test_a_cancel_is_taken_over_tls(pooler: Pooler, newest: Server, database: str) -> None:
    with pooler.raw(database) as client:
        client.send(m.query("select pg_sleep(30) /* cancelled */"))
        newest.wait_for_query("/* cancelled */")
        pooler.cancel(client)
        (error,) = m.errors(client.until())
        assert error["C"] == "57014"
        assert client.value("select 1") == "1"
    assert "invalid length of startup packet" not in newest.postgres.log()


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
def test_tls_all_the_way_with_libpq(pooler: Pooler, pki: Pki, negotiation: str) -> None:
    secure = {"sslmode": "verify-full", "sslrootcert": str(pki.ca), "sslnegotiation": negotiation}
    with psycopg.connect(pooler.conninfo("app", **secure), autocommit=True) as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute(ENCRYPTED).fetchone() == ("TLSv1.3",)
        for size in (1, 8192, 16384, 100_000, 5_000_000):
            assert connection.execute("select repeat('x', %s)", (size,)).fetchone() == ("x" * size,)
        with connection.cursor().copy("copy (select generate_series(1, 50000)) to stdout") as copy:
            assert sum(len(block) for block in copy) == sum(len(f"{n}\n") for n in range(1, 50_001))


def test_pgbench_over_direct_tls(pooler: Pooler, newest: Server) -> None:
    run_pgbench(newest, newest, newest.database, "--initialize", "--quiet", "--scale=1")
    options = ["-n", "-c", "32", "-j", "2", "-t", "20", "-M", "extended", "-b", "tpcb-like"]
    check(run_pgbench(newest, pooler, "app", *options), 32 * 20)


def test_an_older_server_does_not_know_direct_tls(launch: Launch, secure: Server, pki: Pki) -> None:
    """It takes the handshake for a startup packet of an odd length, and hangs up."""
    tls = trusting(pki, "verify-full", sslnegotiation="direct")
    pooler = launch({"app": {**entry(secure), **tls}}, {"client_login_timeout": 1}, user=APP_TRUST.name)
    with pytest.raises(LoginRefused, match=r"server closed the connection during login|client_login_timeout"):
        pooler.raw("app")
    pooler.wait_for_log(r"connect failed \(server closed the connection during login\)|TLS handshake error")

"""RELOAD and TLS to servers: who gets a new connection, who keeps the old one, and what is refused."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.conftest import Launch
from tests.integration.server_tls.conftest import ENCRYPTED, only, trusting
from tests.support import messages as m
from tests.support.certificates import Authority, Files, Pki, replace
from tests.support.pooler import Pooler, Settings, StartFailed, Value
from tests.support.postgres import APP_TRUST
from tests.support.secure_postgres import CERTIFIED
from tests.support.server import Server
from tests.support.standard import entry, howdah_only, one_process
from tests.support.terminator import Terminator, server_context

pytestmark = howdah_only("has no TLS settings of a database")

SERIAL = "select client_serial from pg_stat_ssl where pid = pg_backend_pid()"


@pytest.fixture
def folder(pki: Pki) -> Iterator[Path]:
    """For files that a test changes."""
    with tempfile.TemporaryDirectory(prefix="howdah-tls-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def mine(pki: Pki, folder: Path) -> Files:
    """The pooler's own certificate."""
    return pki.authority.client(CERTIFIED.name).write(folder, "mine")


@pytest.fixture
def pooler(launch: Launch, secure: Server, pki: Pki, mine: Files) -> Pooler:
    """Two servers at most, to which it shows its certificate."""
    shown: dict[str, Value] = {"sslcert": str(mine.certificate), "sslkey": str(mine.key), "pool_size": 2}
    tls = trusting(pki, "verify-full", host="localhost", user=CERTIFIED.name, **shown)
    return launch(only(secure, tls), user=CERTIFIED.name)


def pids(pooler: Pooler) -> set[object]:
    return {row["remote_pid"] for row in pooler.show("SERVERS", database="app")}


def reload_fails(pooler: Pooler) -> None:
    pooler.write_config()
    with pytest.raises(psycopg.Error, match="RELOAD failed"):
        pooler.admin("RELOAD")


def test_what_has_not_changed_recycles_nothing(pooler: Pooler) -> None:
    with pooler.raw("app") as client:
        client.value("select 1")
        before = pids(pooler)
        for _ in range(5):
            pooler.reload()
            client.value("select 1")
        assert pids(pooler) == before
        assert not any(row["close_needed"] for row in pooler.show("SERVERS"))


@one_process("another worker may have a server from before")
def test_a_renewed_certificate_is_shown_to_new_servers_and_old_ones_live_on(
    pooler: Pooler, pki: Pki, folder: Path
) -> None:
    with pooler.raw("app") as first, pooler.raw("app") as second:
        first.query("begin")
        old = first.value(SERIAL)
        pki.authority.client(CERTIFIED.name).write(folder, "mine")
        pooler.reload()
        assert first.value(SERIAL) == old, "it lives on"
        new = second.value(SERIAL)
        assert new not in (old, None)
        first.query("commit")
        assert len(pids(pooler)) == 2
        assert not any(row["close_needed"] for row in pooler.show("SERVERS"))


def test_changed_settings_close_servers_when_they_are_free(pooler: Pooler) -> None:
    with pooler.raw("app") as client:
        client.query("begin")
        (pid,) = pids(pooler)
        pooler.databases["app"]["ssl_max_protocol_version"] = "TLSv1.2"
        pooler.reload()
        (row,) = pooler.show("SERVERS", database="app")
        assert (row["remote_pid"], row["close_needed"]) == (pid, 1)
        assert client.value(ENCRYPTED) == "TLSv1.3", "its transaction is not disturbed"
        client.query("commit")
        assert client.value(ENCRYPTED) == "TLSv1.2"
        assert pid not in pids(pooler)


def test_set_on_the_console_changes_new_servers_too(launch: Launch, secure: Server) -> None:
    pooler = launch({"app": entry(secure)}, {"server_tls_sslmode": "require"}, user=APP_TRUST.name)
    with pooler.raw("app") as client:
        assert client.value(ENCRYPTED) == "TLSv1.3"
        pooler.admin("SET server_tls_protocols = 'tlsv1.2'")
        assert client.value(ENCRYPTED) == "TLSv1.2"
        with pytest.raises(psycopg.Error, match="/nowhere: server_tls_cert_file: cannot be read"):
            pooler.admin("SET server_tls_cert_file = '/nowhere'")
        assert client.value(ENCRYPTED) == "TLSv1.2"
        pooler.admin("SET server_tls_sslmode = disable")
        assert client.value(ENCRYPTED) == "plain"


@pytest.mark.parametrize("spoiled", ["mine.crt", "mine.key", "gone"])
def test_a_bad_file_fails_the_reload_and_the_old_one_goes_on(
    pooler: Pooler, folder: Path, spoiled: str
) -> None:
    with pooler.raw("app") as client:
        serial = client.value(SERIAL)
        if spoiled == "gone":
            pooler.databases["app"]["sslcert"] = str(folder / "gone")
        else:
            replace(folder / spoiled, (folder / spoiled).read_bytes()[:100], 0o600)
        mark = pooler.log_mark()
        reload_fails(pooler)
        name = "sslkey" if spoiled == "mine.key" else "sslcert"
        line = pooler.wait_for_log(rf"ERROR .*{folder}/{spoiled}: {name}: .*\n", since=mark)
        assert "PRIVATE KEY" not in line
        pooler.admin("RECONNECT")
        assert client.value(SERIAL) == serial, "new servers are shown what was good"


def test_a_hundred_reloads_under_load_lose_nobody(pooler: Pooler, pki: Pki, folder: Path) -> None:
    clients = [pooler.raw("app") for _ in range(8)]
    for number in range(100):
        if number == 50:
            replace(folder / "mine.key", b"-----BEGIN PRIVATE KEY-----\nbm8=\n-----END PRIVATE KEY-----\n")
            reload_fails(pooler)
        pki.authority.client(CERTIFIED.name).write(folder, "mine")
        pooler.reload()
        for client in clients:
            assert client.value(f"select {number}") == str(number)
    for client in clients:
        client.close()
    assert len(pids(pooler)) <= 2


def test_authorities_that_change_hold_for_new_servers(
    launch: Launch, server: Server, pki: Pki, folder: Path
) -> None:
    """A server's certificate was renewed by another authority, which the CA file has to have first."""
    other = Authority("other")
    ca = replace(folder / "ca.crt", pki.authority.pem)
    context = server_context(pki.server())
    with Terminator((server.host, server.port), context) as terminator:
        place: Settings = {"host": "localhost", "port": terminator.port, "dbname": server.database}
        tls: Settings = {"sslmode": "verify-full", "sslrootcert": str(ca)}
        pooler = launch({"app": {**place, **tls}}, user=APP_TRUST.name)
        with pooler.raw("app") as client:
            assert client.value("select 1") == "1"
            terminator.context = server_context(other.server().write(folder, "renewed"))
            pooler.admin("RECONNECT")
            pooler.wait_for_pool("app", sv_idle=0)
            client.send(m.query("select 2"))
            (error,) = m.errors(client.until_closed())
            assert "certificate verify failed" in error["M"]
            replace(ca, pki.authority.pem + other.pem)
            pooler.reload()
            with pooler.raw("app") as newcomer:
                assert newcomer.value("select 3") == "3", "the reload ends the wait, too"


@pytest.mark.parametrize(
    ("own", "settings", "said"),
    [
        (
            {"sslmode": "verify-ca", "sslrootcert": "/nowhere/ca"},
            {},
            "/nowhere/ca: sslrootcert: cannot be read",
        ),
        ({}, {"server_tls_cert_file": "/nowhere/crt"}, "/nowhere/crt: server_tls_cert_file: cannot be read"),
        ({"sslnegotiation": "direct"}, {}, "sslnegotiation: direct needs sslmode require or more"),
        ({}, {"server_tls_ciphers": "NO-SUCH"}, "server_tls_ciphers: cannot be used"),
        ({}, {"server_tls_protocols": "tlsv9"}, 'server_tls_protocols: "tlsv9" is not a TLS version'),
        ({"sslmode": "always"}, {}, "sslmode: "),
        ({"ssl_max_protocol_version": "TLSv1.1"}, {}, "ssl_min_protocol_version: is newer than"),
    ],
)
def test_what_cannot_be_stops_the_start_with_file_and_key(
    launch: Launch, secure: Server, own: Settings, settings: Settings, said: str
) -> None:
    with pytest.raises(StartFailed) as caught:
        launch({"app": entry(secure, **own)}, settings)
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)

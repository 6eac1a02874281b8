"""Every sslmode before every kind of server: who is encrypted, and who is refused."""

import pytest

from tests.integration.conftest import Launch
from tests.integration.server_tls.conftest import ENCRYPTED, MODES, trusting
from tests.support.certificates import EXPIRED, Authority, Pki
from tests.support.pooler import Pooler, Sections, Settings
from tests.support.postgres import APP_TRUST
from tests.support.secure_postgres import CERTIFIED, PLAIN_ONLY, SCRAM_TLS, TLS_ONLY
from tests.support.server import Server
from tests.support.standard import entry, howdah_only, one_process
from tests.support.terminator import ALPN, Terminator, server_context
from tests.support.wire import LoginRefused

pytestmark = howdah_only("has no TLS settings of a database")

STRONG = MODES[3:]
VERIFYING = MODES[4:]


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server, secure: Server, pki: Pki) -> Pooler:
    """Has a database for each mode and each kind of server, and for each role under each mode."""
    entries: dict[str, Settings] = {}
    mine = pki.client(CERTIFIED.name)
    shown = {"sslcert": str(mine.certificate), "sslkey": str(mine.key)}
    for mode in MODES:
        tls = trusting(pki, mode)
        entries[f"secure_{mode}"] = entry(secure, **tls)
        entries[f"named_{mode}"] = entry(secure, **{**tls, "host": "localhost"})
        entries[f"plain_{mode}"] = entry(server, **tls)
        local = {**tls, "host": str(secure.postgres.socket_directory)}
        entries[f"local_{mode}"] = entry(secure, **local)
        for role in (TLS_ONLY, PLAIN_ONLY):
            entries[f"{role.name}_{mode}"] = entry(secure, user=role.name, **tls)
        entries[f"certified_{mode}"] = entry(secure, user=CERTIFIED.name, **tls, **shown)
    entries["uncertified"] = entry(secure, user=CERTIFIED.name, **trusting(pki, "require"))
    tls12 = trusting(pki, "require", ssl_max_protocol_version="TLSv1.2")
    entries["tls12"] = entry(secure, **tls12, server_tls_ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")
    entries["scram"] = entry(
        secure,
        user=SCRAM_TLS.name,
        password=SCRAM_TLS.password or "",
        **trusting(pki, "verify-full", channel_binding="require"),
    )
    return module_launch(entries, user=APP_TRUST.name)


def encryption(pooler: Pooler, database: str) -> str:
    with pooler.raw(database) as client:
        return str(client.value(ENCRYPTED))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["secure", "named"])
def test_a_server_with_tls_is_encrypted_from_prefer_on(pooler: Pooler, mode: str, kind: str) -> None:
    expected = "plain" if mode in ("disable", "allow") else "TLSv1.3"
    assert encryption(pooler, f"{kind}_{mode}") == expected
    (row,) = pooler.show("SERVERS", database=f"{kind}_{mode}")
    assert str(row["tls"]).split("/")[0] == ("" if expected == "plain" else expected)


@pytest.mark.parametrize("mode", MODES)
@one_process("each worker is refused for itself")
def test_a_server_without_tls_is_refused_from_require_on(pooler: Pooler, mode: str) -> None:
    if mode not in STRONG:
        with pooler.raw(f"plain_{mode}") as client:
            assert client.value("select 1") == "1"
        return
    with pytest.raises(LoginRefused, match="server refused SSL") as caught:
        pooler.raw(f"plain_{mode}")
    assert caught.value.fields["C"] == "08006"
    with pytest.raises(LoginRefused, match="login has been failing, cached error: server refused SSL"):
        pooler.raw(f"plain_{mode}")


@pytest.mark.parametrize("mode", MODES)
def test_a_unix_socket_is_never_encrypted(pooler: Pooler, mode: str) -> None:
    assert encryption(pooler, f"local_{mode}") == "plain"


@pytest.mark.parametrize("mode", MODES)
def test_a_role_that_may_come_over_tls_only_is_served_from_allow_on(pooler: Pooler, mode: str) -> None:
    database = f"{TLS_ONLY.name}_{mode}"
    if mode == "disable":
        with pytest.raises(LoginRefused, match=r"pg_hba\.conf rejects connection"):
            pooler.raw(database)
    else:
        assert encryption(pooler, database) == "TLSv1.3"


@pytest.mark.parametrize("mode", MODES)
def test_a_role_that_may_come_in_the_clear_only_is_served_up_to_prefer(pooler: Pooler, mode: str) -> None:
    database = f"{PLAIN_ONLY.name}_{mode}"
    if mode in STRONG:
        with pytest.raises(LoginRefused, match=r"pg_hba.conf rejects connection.*SSL encryption"):
            pooler.raw(database)
    else:
        assert encryption(pooler, database) == "plain"


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_role_that_has_to_show_a_certificate_shows_it(pooler: Pooler, mode: str) -> None:
    with pooler.raw(f"certified_{mode}") as client:
        assert client.value("select session_user") == CERTIFIED.name
        found = "select client_dn from pg_stat_ssl where pid = pg_backend_pid()"
        assert client.value(found) == f"/CN={CERTIFIED.name}"


def test_a_role_that_has_to_show_a_certificate_and_has_none_is_refused(pooler: Pooler) -> None:
    with pytest.raises(LoginRefused, match="connection requires a valid client certificate"):
        pooler.raw("uncertified")


def test_version_and_ciphers_are_those_asked_for(pooler: Pooler) -> None:
    assert encryption(pooler, "tls12") == "TLSv1.2"
    (row,) = pooler.show("SERVERS", database="tls12")
    assert row["tls"] == "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256"


def test_a_login_by_scram_is_bound_to_its_tls(pooler: Pooler) -> None:
    with pooler.raw("scram") as client:
        assert client.value("select session_user") == SCRAM_TLS.name


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("elsewhere", "certificate is not valid for 'localhost'"),
        ("expired", "certificate has expired"),
        ("unknown", "unable to get local issuer certificate"),
    ],
)
@pytest.mark.parametrize("mode", VERIFYING)
@one_process("each worker is refused for itself")
def test_a_bad_certificate_is_refused_by_who_looks_at_it(
    launch: Launch, server: Server, pki: Pki, mode: str, kind: str, said: str
) -> None:
    pairs = {
        "elsewhere": lambda: pki.authority.server("elsewhere.example"),
        "expired": lambda: pki.authority.server(valid=EXPIRED),
        "unknown": lambda: Authority("unknown").server(),
    }
    context = server_context(pki.write(kind, pairs[kind]()))
    with Terminator((server.host, server.port), context) as terminator:
        place: Settings = {"host": "localhost", "port": terminator.port, "dbname": server.database}
        pooler = launch({"app": {**place, **trusting(pki, mode)}}, user=APP_TRUST.name)
        if (mode, kind) == ("verify-ca", "elsewhere"):
            with pooler.raw("app") as client:
                assert client.value("select 1") == "1"
            return
        with pytest.raises(LoginRefused, match=said) as caught:
            pooler.raw("app")
        assert caught.value.fields["C"] == "08006"
        pooler.wait_for_log(f"closing because: TLS handshake error: certificate verify failed: .*{said}")
        with pytest.raises(
            LoginRefused, match="cached error: TLS handshake error: certificate verify failed"
        ):
            pooler.raw("app")
        assert len(terminator.failures) == 1, "one attempt per server_login_retry"


@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
@pytest.mark.parametrize("mode", STRONG)
def test_tls_begins_as_asked_for(
    launch: Launch, server: Server, terminator: Terminator, pki: Pki, mode: str, negotiation: str
) -> None:
    place: Settings = {"host": "localhost", "port": terminator.port, "dbname": server.database}
    mine = pki.client("the pooler")
    entries: Sections = {"app": {**place, "sslnegotiation": negotiation}}
    settings: Settings = {
        "server_tls_sslmode": mode,
        "server_tls_ca_file": str(pki.ca),
        "server_tls_cert_file": str(mine.certificate),
        "server_tls_key_file": str(mine.key),
    }
    pooler = launch(entries, settings, user=APP_TRUST.name)
    with pooler.raw("app") as client:
        assert client.value("select repeat('x', 100000)") == "x" * 100_000
    (seen,) = terminator.handshakes
    assert (seen.direct, seen.alpn) == (negotiation == "direct", ALPN)
    assert (seen.host, seen.subject, seen.version) == ("localhost", "the pooler", "TLSv1.3")
    assert terminator.plain == 0


def test_direct_tls_may_be_the_rule_for_all(
    launch: Launch, server: Server, terminator: Terminator, pki: Pki
) -> None:
    place: Settings = {"host": terminator.host, "port": terminator.port, "dbname": server.database}
    settings: Settings = {"server_tls_sslmode": "require", "server_tls_sslnegotiation": "direct"}
    pooler = launch({"app": place, "off": {**place, "sslmode": "disable"}}, settings, user=APP_TRUST.name)
    for database in ("app", "off"):
        with pooler.raw(database) as client:
            assert client.value("select 1") == "1"
    assert [each.direct for each in terminator.handshakes] == [True]
    assert terminator.plain == 1


@one_process("each worker takes the hosts of a list in turn")
def test_each_host_of_a_list_is_known_by_its_own_name(launch: Launch, server: Server, pki: Pki) -> None:
    """The certificate is for localhost only; 127.0.0.1 leads to the same server."""
    context = server_context(pki.server("localhost"))
    with Terminator((server.host, server.port), context) as terminator:
        place: Settings = {"host": "127.0.0.1, localhost", "port": terminator.port, "dbname": server.database}
        pooler = launch({"app": {**place, **trusting(pki, "verify-full")}}, user=APP_TRUST.name)
        for _ in range(3):
            with pooler.raw("app") as client:
                assert client.value("select 1") == "1"
            pooler.admin("RECONNECT")
        pooler.wait_for_log("certificate is not valid for '127.0.0.1'")
        assert {each.host for each in terminator.handshakes} == {"localhost"}
        assert len(terminator.failures) == 1, "it is left alone for server_login_retry"

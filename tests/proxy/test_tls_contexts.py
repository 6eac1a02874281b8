"""Contexts as settings and files come and go."""

import logging
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from config.problems import ConfigError
from config.settings import Settings
from config.tls import server_tls
from proxy.tls_contexts import TlsContexts, problems
from tests.support.certificates import Authority, Files, replace, self_signed
from tests.support.tls_ends import begun, certificate, new_server_context, settle

DAY = 86400


class Wall:
    """Time since 1970, as a test wants it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return self_signed().write(tmp_path, "own")


def settings(files: Files, mode: str = "require", **more: object) -> Settings:
    own = {"client_tls_cert_file": str(files.certificate), "client_tls_key_file": str(files.key)}
    return Settings.model_validate({"client_tls_sslmode": mode, **own, **more})


def refusal(contexts: TlsContexts, wanted: Settings) -> str:
    with pytest.raises(ConfigError) as caught:
        contexts.apply(wanted)
    return str(caught.value)


def test_without_tls_there_is_no_context(files: Files) -> None:
    contexts = TlsContexts()
    contexts.apply(settings(files, "disable"))
    assert contexts.for_clients() is None
    assert contexts.shown() == []


@pytest.mark.parametrize("mode", ["allow", "prefer", "require"])
def test_from_allow_on_there_is_one_that_asks_for_no_certificate(files: Files, mode: str) -> None:
    contexts = TlsContexts()
    contexts.apply(settings(files, mode))
    context = contexts.for_clients()
    assert context is not None
    assert context.verify_mode is ssl.CERT_NONE
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.num_tickets
    assert not context.options & ssl.OP_NO_TICKET
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert not context.options & ssl.OP_NO_TICKET


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_from_verify_ca_on_a_certificate_is_demanded(files: Files, tmp_path: Path, mode: str) -> None:
    contexts = TlsContexts()
    message = refusal(contexts, settings(files, mode))
    assert message == f"settings: client_tls_ca_file: is needed for client_tls_sslmode {mode}"
    ca = Authority().write(tmp_path)
    contexts.apply(settings(files, mode, client_tls_ca_file=str(ca)))
    context = contexts.for_clients()
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_rules_may_ask_for_a_certificate_that_nobody_must_have(files: Files, tmp_path: Path) -> None:
    contexts = TlsContexts()
    rules = tmp_path / "hba.conf"
    rules.write_text("hostssl all all all cert\n")
    ca = Authority().write(tmp_path)
    wanted = {"auth_type": "hba", "auth_hba_file": str(rules), "client_tls_ca_file": str(ca)}
    contexts.apply(settings(files, "require", **wanted))
    context = contexts.for_clients()
    assert context is not None
    assert context.verify_mode is ssl.CERT_OPTIONAL


def test_logins_by_certificate_need_one(files: Files) -> None:
    message = refusal(TlsContexts(), settings(files, "require", auth_type="cert"))
    assert message == "settings: client_tls_sslmode: auth_type cert needs verify-full"


@pytest.mark.parametrize("key", ["client_tls_cert_file", "client_tls_key_file"])
def test_a_certificate_and_its_key_are_needed(files: Files, key: str) -> None:
    message = refusal(TlsContexts(), settings(files, **{key: ""}))
    assert message == f"settings: {key}: is needed for client_tls_sslmode require"


def test_files_are_looked_for_beside_the_configuration(files: Files, tmp_path: Path) -> None:
    contexts = TlsContexts()
    beside = Files(Path("own.crt"), Path("own.key"))
    contexts.apply(settings(beside, conffile=str(tmp_path / "pgbouncer.ini")))
    assert contexts.for_clients() is not None


def test_what_has_not_changed_stays_the_same_object(files: Files) -> None:
    contexts = TlsContexts()
    contexts.apply(settings(files))
    before = contexts.for_clients()
    contexts.apply(settings(files, "prefer", default_pool_size=7))
    assert contexts.for_clients() is before
    replace(files.certificate, files.certificate.read_bytes())
    contexts.apply(settings(files))
    assert contexts.for_clients() is before


@pytest.mark.parametrize(
    "change",
    [{"client_tls_protocols": "tlsv1.3"}, {"client_tls_ciphers": "HIGH"}, {"client_tls_ecdhcurve": "P-384"}],
)
def test_what_has_changed_in_the_settings_is_a_new_context(files: Files, change: dict[str, str]) -> None:
    contexts = TlsContexts()
    contexts.apply(settings(files))
    before = contexts.for_clients()
    contexts.apply(settings(files, **change))
    assert contexts.for_clients() is not before


def test_what_has_changed_on_the_disk_is_a_new_context(files: Files, tmp_path: Path) -> None:
    contexts = TlsContexts()
    contexts.apply(settings(files))
    before = contexts.for_clients()
    pair = self_signed("elsewhere")
    pair.write(tmp_path, "own")
    contexts.apply(settings(files))
    after = contexts.for_clients()
    assert after is not None
    assert after is not before
    assert after.certificate == pair.der
    assert [shown.certificate.subject_text() for shown in contexts.shown()] == ["CN=elsewhere"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"client_tls_cert_file": "/nowhere"},
            "/nowhere: client_tls_cert_file: cannot be read: No such file",
        ),
        ({"client_tls_ciphers": "none"}, "settings: client_tls_ciphers: cannot be used"),
        ({"client_tls_ecdhcurve": "none such"}, 'settings: client_tls_ecdhcurve: "none such" is not a curve'),
        ({"client_tls13_ciphers": "NONE"}, "settings: client_tls13_ciphers: "),
        ({"client_tls_dheparams": "legacy"}, "settings: client_tls_dheparams: cannot be used"),
    ],
)
def test_what_cannot_be_used_leaves_everything_as_it_was(
    files: Files, change: dict[str, str], reason: str
) -> None:
    contexts = TlsContexts()
    contexts.apply(settings(files))
    before = contexts.for_clients()
    assert refusal(contexts, settings(files, **change)).startswith(reason)
    assert contexts.for_clients() is before
    (problem,) = problems(settings(files, **change))
    assert str(problem).startswith(reason)


def test_a_bad_file_of_servers_leaves_what_is_for_clients(files: Files, tmp_path: Path) -> None:
    contexts = TlsContexts()
    contexts.apply(settings(files))
    before = contexts.for_clients()
    self_signed("elsewhere").write(tmp_path, "own")
    wanted = settings(files, server_tls_sslmode="verify-ca", server_tls_ca_file="/nowhere")
    assert "server_tls_ca_file: cannot be read" in refusal(contexts, wanted)
    assert contexts.for_clients() is before


def test_what_is_right_is_no_problem(files: Files) -> None:
    assert problems(settings(files)) == []


# Certificates that expire.


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (31 * DAY, None),
        (30 * DAY - 60, "expires in 29 days"),
        (DAY + 60, "expires in 1 days"),
        (-60, "has expired"),
    ],
)
def test_thirty_days_before_the_end_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left: int, words: str | None
) -> None:
    pair = Authority().server("a.example", valid=(-timedelta(days=1), timedelta(days=100)))
    files = pair.write(tmp_path, "own")
    wall = Wall()
    wall.now = pair.certificate.not_valid_after_utc.timestamp() - left
    contexts = TlsContexts(wall)
    with caplog.at_level(logging.WARNING, "howdah"):
        contexts.apply(settings(files))
    said = [record.getMessage() for record in caplog.records if "a.example" in record.getMessage()]
    expected = f"{files.certificate}: the certificate that clients are shown (CN=a.example) {words}"
    assert said == ([expected] if words else [])


def test_it_is_said_once_a_day(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    wall = Wall()
    contexts = TlsContexts(wall)
    contexts.make(settings(files))
    (shown,) = contexts.shown()
    wall.now = shown.certificate.expires - 10.0 * DAY
    with caplog.at_level(logging.WARNING, "howdah"):
        for _ in range(3 * 24):
            contexts.watch()
            wall.now += 3600
    assert [record.getMessage()[-19:] for record in caplog.records] == [
        " expires in 10 days",
        ") expires in 9 days",
        ") expires in 8 days",
    ]


def test_what_is_shown_of_it_is_a_copy(files: Files) -> None:
    wall = Wall()
    contexts = TlsContexts(wall)
    contexts.apply(settings(files))
    contexts.failures["client"] += 2
    found = contexts.snapshot()
    (certificate,) = found.certificates
    assert certificate.left == certificate.expires
    assert found.failures == {"client": 2, "server": 0}


def test_handshakes_that_fail_are_counted_by_side(files: Files) -> None:
    contexts = TlsContexts()
    wanted = settings(files, databases={"app": {"sslmode": "require"}})
    contexts.apply(wanted)
    contexts.apply(wanted)
    ours = contexts.for_clients()
    theirs = contexts.for_servers(server_tls(wanted, wanted.databases["app"]))
    assert ours is not None
    assert theirs is not None
    _, client = begun(server=ours)
    client.tls.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert contexts.failures == {"client": 1, "server": 0}
    server, _ = begun(theirs)
    server.tls.data_received(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert contexts.failures == {"client": 1, "server": 1}


def test_a_certificate_of_ours_that_is_refused_afterwards_is_a_handshake_that_failed(files: Files) -> None:
    contexts = TlsContexts()
    wanted = settings(files, databases={"app": {"sslmode": "require"}})
    contexts.apply(wanted)
    theirs = contexts.for_servers(server_tls(wanted, wanted.databases["app"]))
    asking = new_server_context(certificate())
    asking.verify_mode = ssl.CERT_REQUIRED
    client, server = begun(theirs, asking)
    settle(client, server)
    assert not client.tls.handshaking
    assert "certificate required" in str(client.tls.failure)
    assert contexts.failures["server"] == 1

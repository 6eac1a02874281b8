"""Contexts for TLS to servers: what they allow, what they are shared by, and what a reload does to them."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.problems import ConfigError
from config.settings import Settings
from config.tls import ServerTls
from proxy.tls_servers import ServerContexts
from tests.support.certificates import Authority, Pki, new_pki


@pytest.fixture
def fresh() -> Iterator[Pki]:
    """An authority whose files a test may spoil."""
    with new_pki() as pki:
        yield pki


def make(databases: dict[str, dict[str, object]] | None = None, **general: object) -> Settings:
    values = {f"server_tls_{key}": value for key, value in general.items()}
    return Settings.model_validate({"databases": databases or {"app": {}}, **values})


def tls_of(settings: Settings, database: str = "app") -> ServerTls:
    return settings.for_pool(database, "alice").tls


def context(contexts: ServerContexts, settings: Settings, database: str = "app") -> ssl.SSLContext:
    contexts.apply(settings)
    found = contexts.get(tls_of(settings, database))
    assert found is not None
    return found


def problems(settings: Settings) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        ServerContexts().apply(settings)
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("mode", "verify", "by_name"),
    [
        ("allow", ssl.CERT_NONE, False),
        ("prefer", ssl.CERT_NONE, False),
        ("require", ssl.CERT_NONE, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ],
)
def test_a_mode_says_what_of_a_certificate_is_looked_at(
    mode: str, verify: ssl.VerifyMode, by_name: bool, pki: Pki
) -> None:
    found = context(ServerContexts(), make(sslmode=mode, ca_file=str(pki.ca)))
    assert (found.verify_mode, found.check_hostname) == (verify, by_name)
    subjects = [each["subject"] for each in found.get_ca_certs()]
    assert bool(subjects) == (verify is ssl.CERT_REQUIRED)


def test_a_server_shows_who_it_is_once() -> None:
    """A login may be bound to the certificate that it has shown."""
    assert context(ServerContexts(), make()).options & ssl.OP_NO_RENEGOTIATION


def test_without_tls_there_is_no_context() -> None:
    contexts, settings = ServerContexts(), make(sslmode="disable")
    contexts.apply(settings)
    assert contexts.get(tls_of(settings)) is None


def test_without_a_file_the_systems_authorities_are_trusted() -> None:
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusted.load_default_certs()
    found = context(ServerContexts(), make(sslmode="verify-full"))
    assert found.cert_store_stats() == trusted.cert_store_stats()


def test_versions_and_ciphers_are_those_of_the_settings() -> None:
    settings = make(protocols="tlsv1.2", ciphers="ECDHE-RSA-AES128-GCM-SHA256")
    found = context(ServerContexts(), settings)
    assert found.minimum_version == found.maximum_version == ssl.TLSVersion.TLSv1_2
    assert "ECDHE-RSA-AES128-GCM-SHA256" in {each["name"] for each in found.get_ciphers()}
    assert "ECDHE-RSA-AES256-GCM-SHA384" not in {each["name"] for each in found.get_ciphers()}


def test_databases_with_the_same_settings_share_a_context(pki: Pki) -> None:
    own: dict[str, object] = {"sslmode": "verify-ca", "sslrootcert": str(pki.ca)}
    settings = make({"app": {}, "one": own, "two": own, "three": {**own, "sslmode": "verify-full"}})
    contexts = ServerContexts()
    first = context(contexts, settings, "one")
    assert contexts.get(tls_of(settings, "two")) is first
    assert contexts.get(tls_of(settings, "three")) is not first
    assert contexts.get(tls_of(settings, "app")) is not first


def test_modes_that_look_at_nothing_share_a_context() -> None:
    settings = make({"app": {}, "one": {"sslmode": "require", "sslnegotiation": "direct"}})
    contexts = ServerContexts()
    assert context(contexts, settings) is contexts.get(tls_of(settings, "one"))


def test_what_has_not_changed_keeps_its_context(fresh: Pki) -> None:
    mine = fresh.client("me")
    settings = make(
        {"app": {"sslcert": str(mine.certificate), "sslkey": str(mine.key)}, "other": {}},
        sslmode="verify-full",
        ca_file=str(fresh.ca),
    )
    contexts = ServerContexts()
    first, other = context(contexts, settings), contexts.get(tls_of(settings, "other"))
    assert context(contexts, settings) is first
    fresh.write("client-me", fresh.authority.client("me"))
    assert context(contexts, settings) is not first
    assert contexts.get(tls_of(settings, "other")) is other, "its files have not changed"


def test_files_are_found_beside_the_configuration(fresh: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make(sslmode="verify-ca", ca_file="ca.crt")
    ServerContexts().apply(settings.model_copy(update={"conffile": str(fresh.folder / "howdah.ini")}))
    monkeypatch.chdir(fresh.folder)
    ServerContexts().apply(settings)
    monkeypatch.chdir("/")
    assert problems(settings) == ["server_tls_ca_file: cannot be read: No such file or directory"]


def test_a_bad_file_changes_nothing(fresh: Pki) -> None:
    settings = make({"app": {}, "other": {"sslmode": "require"}}, sslmode="verify-ca", ca_file=str(fresh.ca))
    contexts = ServerContexts()
    first = context(contexts, settings)
    fresh.ca.write_text("nonsense")
    with pytest.raises(ConfigError, match="holds no certificate that can be read"):
        contexts.apply(settings)
    assert contexts.get(tls_of(settings)) is first


def test_all_that_is_wrong_is_said_with_its_database_and_in_the_words_of_its_entry(fresh: Pki) -> None:
    mine = fresh.client("me")
    other = fresh.write("other", Authority("other").client("other"))
    garbage = fresh.folder / "garbage"
    garbage.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    found = problems(
        make(
            {
                "a": {"sslrootcert": "/nowhere/ca", "sslmode": "verify-ca"},
                "b": {"sslcert": str(mine.certificate), "sslkey": str(other.key)},
                "c": {"sslcert": str(mine.certificate), "sslkey": str(garbage)},
                "d": {"server_tls_ciphers": "NO-SUCH-CIPHER"},
                "e": {"sslmode": "verify-ca"},
                "f": {"sslmode": "disable", "sslcert": "/nowhere/cert"},
            },
            ca_file=str(garbage),
        )
    )
    assert found == [
        'sslrootcert: cannot be read: No such file or directory (database "a")',
        f'sslkey: is not the key of {mine.certificate} (database "b")',
        'sslkey: holds no private key that can be read (database "c")',
        'server_tls_ciphers: cannot be used: No cipher can be selected. (database "d")',
        'server_tls_ca_file: holds no certificate that can be read (database "e")',
    ]
    assert "c2VjcmV0" not in str(found)


def test_authorities_are_not_read_where_nobody_looks_at_them() -> None:
    ServerContexts().apply(make(sslmode="require", ca_file="/nowhere/ca"))


def test_the_certificates_that_servers_are_shown_are_known(pki: Pki, tmp_path: Path) -> None:
    mine = pki.client("me")
    contexts = ServerContexts()
    contexts.apply(make(cert_file=str(mine.certificate), key_file=str(mine.key)))
    ((file, (shown,)),) = contexts.shown().items()
    assert file == str(mine.certificate)
    assert shown.subject_text() == "CN=me"
    # The key may stand behind its certificate in one file.
    both = tmp_path / "both.pem"
    both.write_text(mine.certificate.read_text() + mine.key.read_text())
    contexts.apply(make(cert_file=str(both)))
    assert list(contexts.shown()) == [str(both)]

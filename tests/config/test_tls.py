"""TLS to the servers of one database: the entry's words before the global ones, and what cannot be."""

import pytest

from config.databases import DatabaseSettings
from config.settings import Settings
from config.tls import ServerTls, contradictions, server_tls
from config.types import SslMode, SslNegotiation


def settings(**values: object) -> Settings:
    return Settings.model_validate({f"server_tls_{key}": value for key, value in values.items()})


def entry(**values: object) -> DatabaseSettings:
    return DatabaseSettings.model_validate(values)


def resolved(general: dict[str, object], own: dict[str, object]) -> ServerTls:
    return server_tls(settings(**general), entry(**own))


def blamed(general: dict[str, object], own: dict[str, object]) -> list[str]:
    return [f"{key}: {why}" for key, why in contradictions(settings(**general), entry(**own))]


def test_by_default_servers_are_asked_for_tls_and_not_who_they_are() -> None:
    tls = resolved({}, {})
    assert (tls.mode, tls.negotiation) == (SslMode.PREFER, SslNegotiation.POSTGRES)
    assert (tls.ca_file, tls.cert_file, tls.key_file) == ("", "", "")
    assert (tls.protocols, tls.ciphers, tls.tls13_ciphers) == (("secure",), "default", None)


@pytest.mark.parametrize(
    ("general", "own", "at"),
    [
        ("sslmode", "sslmode", "mode"),
        ("sslnegotiation", "sslnegotiation", "negotiation"),
        ("ca_file", "sslrootcert", "ca_file"),
        ("ciphers", "server_tls_ciphers", "ciphers"),
    ],
)
def test_what_an_entry_says_beats_the_global_setting(general: str, own: str, at: str) -> None:
    first, second = {"sslmode": ("allow", "verify-ca"), "sslnegotiation": ("postgres", "direct")}.get(
        own, ("a", "b")
    )
    assert getattr(resolved({general: first}, {own: second}), at) == second
    assert getattr(resolved({general: first}, {}), at) == first


def test_tls13_ciphers_of_an_entry_beat_the_global_ones() -> None:
    general = Settings.model_validate({"server_tls13_ciphers": "a"})
    assert server_tls(general, entry()).tls13_ciphers == "a"
    assert server_tls(general, entry(server_tls13_ciphers="b")).tls13_ciphers == "b"


def test_a_certificate_and_its_key_come_from_one_place() -> None:
    general: dict[str, object] = {"cert_file": "c", "key_file": "k"}
    assert resolved(general, {}).key_file == "k"
    tls = resolved(general, {"sslcert": "own"})
    assert (tls.cert_file, tls.key_file) == ("own", "")


def test_the_word_system_stands_for_the_systems_authorities() -> None:
    assert resolved({"ca_file": "ca"}, {"sslrootcert": "system"}).ca_file == ""
    assert resolved({"ca_file": "system"}, {}).ca_file == ""


@pytest.mark.parametrize(
    ("own", "versions"),
    [
        ({}, ("tlsv1.3", "!tlsv1.1")),
        ({"ssl_min_protocol_version": "TLSv1.3"}, ("tlsv1.3",)),
        ({"ssl_min_protocol_version": "tlsv1"}, ("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3")),
        ({"ssl_max_protocol_version": "TLSv1.2"}, ("tlsv1.2",)),
        ({"ssl_min_protocol_version": "TLSv1.1", "ssl_max_protocol_version": "TLSv1.1"}, ("tlsv1.1",)),
    ],
)
def test_an_oldest_or_newest_version_replaces_the_global_list(
    own: dict[str, object], versions: tuple[str, ...]
) -> None:
    assert resolved({"protocols": "tlsv1.3, !tlsv1.1"}, own).protocols == versions


@pytest.mark.parametrize(
    ("general", "own", "said"),
    [
        (
            {"sslnegotiation": "direct"},
            {},
            "sslnegotiation: direct needs sslmode require or more, ",
        ),
        ({"sslmode": "disable", "sslnegotiation": "direct"}, {}, "sslnegotiation: direct needs"),
        (
            {"sslmode": "require"},
            {"sslmode": "allow", "sslnegotiation": "direct"},
            "sslnegotiation: direct",
        ),
        (
            {"sslmode": "require"},
            {"sslmode": "disable", "sslnegotiation": "direct"},
            "sslnegotiation: direct",
        ),
        ({"ca_file": "system", "sslmode": "verify-ca"}, {}, "sslrootcert: system needs sslmode"),
        (
            {"sslmode": "verify-ca"},
            {"sslrootcert": "system"},
            "sslrootcert: system needs sslmode",
        ),
        ({"key_file": "k"}, {}, "sslkey: is the key of no certificate"),
        ({"cert_file": "c", "key_file": "k"}, {"sslkey": "k"}, "sslkey: is the key of no certificate"),
        (
            {},
            {"ssl_min_protocol_version": "TLSv1.3", "ssl_max_protocol_version": "TLSv1.2"},
            "ssl_min_protocol_version: is newer",
        ),
        ({}, {"ssl_max_protocol_version": "TLSv1.1"}, "ssl_min_protocol_version: is newer"),
    ],
)
def test_what_cannot_hold_together_is_blamed(
    general: dict[str, object], own: dict[str, object], said: str
) -> None:
    (found,) = blamed(general, own)
    assert found.startswith(said)


@pytest.mark.parametrize(
    ("general", "own"),
    [
        ({}, {}),
        ({"sslnegotiation": "direct", "sslmode": "require"}, {}),
        ({"sslnegotiation": "direct", "sslmode": "require"}, {"sslmode": "disable"}),
        ({}, {"sslmode": "verify-full", "sslrootcert": "system", "sslnegotiation": "direct"}),
        ({"ca_file": "system", "sslmode": "verify-full"}, {"sslmode": "disable"}),
        ({"ca_file": "system", "sslmode": "verify-full"}, {"sslmode": "verify-ca", "sslrootcert": "ca"}),
        ({"cert_file": "c"}, {}),
        ({}, {"sslcert": "c", "sslkey": "k"}),
    ],
)
def test_what_can_hold_together_is_not_blamed(general: dict[str, object], own: dict[str, object]) -> None:
    assert blamed(general, own) == []

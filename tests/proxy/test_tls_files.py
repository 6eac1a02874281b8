"""Single settings of TLS, and what is said of those that cannot be used."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from config.types import DheParams
from proxy.tls import TlsContext
from proxy.tls_files import (
    Content,
    TlsSettingError,
    load_authorities,
    load_certificate,
    read_file,
    set_ciphers,
    set_curve,
    set_dhe,
    set_versions,
)
from tests.support.certificates import Authority, Pair, self_signed
from tests.support.tls_ends import begun, certificate, client_context, new_server_context, settle


def context() -> TlsContext:
    return TlsContext(ssl.PROTOCOL_TLS_SERVER)


def refused(call: Callable[[], object]) -> TlsSettingError:
    with pytest.raises(TlsSettingError) as caught:
        call()
    return caught.value


def written(folder: Path, name: str, data: bytes) -> Content:
    path = folder / name
    path.write_bytes(data)
    return Content(str(path), data)


def pair_in(folder: Path, pair: Pair) -> tuple[Content, Content]:
    return written(folder, "own.crt", pair.pem), written(folder, "own.key", pair.key_pem)


# Versions.


@pytest.mark.parametrize(
    ("words", "oldest", "newest"),
    [
        (["secure"], 0x0303, 0x0304),
        (["default"], 0x0303, 0x0304),
        (["all"], 0x0301, 0x0304),
        (["legacy"], 0x0301, 0x0304),
        (["tlsv1"], 0x0301, 0x0304),
        (["TLSv1.2"], 0x0303, 0x0303),
        (["tlsv1.3"], 0x0304, 0x0304),
        (["tlsv1.2", "tlsv1.3"], 0x0303, 0x0304),
        (["secure", "!tlsv1.3"], 0x0303, 0x0303),
        (["!tlsv1.0", "!tlsv1.1"], 0x0303, 0x0304),
    ],
)
def test_words_stand_for_versions_as_with_pgbouncer(words: list[str], oldest: int, newest: int) -> None:
    made = context()
    set_versions(made, words)
    assert (made.minimum_version, made.maximum_version) == (oldest, newest)


def test_a_version_between_two_others_can_be_left_out() -> None:
    made = context()
    set_versions(made, ["all", "!tlsv1.2"])
    assert made.options & 0x08000000
    assert not made.options & 0x10000000


def test_no_version_at_all_is_refused() -> None:
    error = refused(lambda: set_versions(context(), ["tlsv1.3", "!tlsv1.3"]))
    assert (error.field, error.message) == ("tls_protocols", "allows no version of TLS")


# Ciphers, curves, Diffie-Hellman.


def names(made: ssl.SSLContext) -> list[str]:
    return [each["name"] for each in made.get_ciphers()]


@pytest.mark.parametrize("word", ["default", "secure", "fast", "normal", ""])
def test_pgbouncers_words_leave_the_usual_ciphers(word: str) -> None:
    made = context()
    set_ciphers(made, word, None)
    assert names(made) == names(context())


def test_a_list_of_ciphers_is_openssls() -> None:
    made = context()
    set_ciphers(made, "ECDHE-RSA-AES128-GCM-SHA256", None)
    assert [name for name in names(made) if not name.startswith("TLS_")] == ["ECDHE-RSA-AES128-GCM-SHA256"]
    set_ciphers(made, "all", None)
    assert len(names(made)) > len(names(context()))


def test_ciphers_nobody_knows_are_refused() -> None:
    error = refused(lambda: set_ciphers(context(), "nonsense", None))
    assert (error.field, error.message) == ("tls_ciphers", "cannot be used: No cipher can be selected.")


def test_the_usual_suites_of_tls_1_3_can_always_be_named() -> None:
    made = context()
    suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    set_ciphers(made, "default", suites)
    assert set(suites.split(":")) <= set(names(made))


@pytest.mark.skipif(hasattr(ssl.SSLContext, "set_ciphersuites"), reason="this Python can choose")
def test_a_choice_of_suites_that_python_cannot_make_is_refused() -> None:
    error = refused(lambda: set_ciphers(context(), "default", "TLS_AES_128_GCM_SHA256"))
    assert (error.field, error.message) == (
        "tls13_ciphers",
        "this version of Python cannot choose TLS 1.3 suites",
    )


@pytest.mark.parametrize("name", ["auto", "none", "", "prime256v1", "P-256", "secp384r1", "X25519"])
def test_curves_are_known_by_their_names(name: str) -> None:
    set_curve(context(), name)


def test_a_curve_nobody_knows_is_refused() -> None:
    error = refused(lambda: set_curve(context(), "straight"))
    assert (error.field, error.message) == (
        "tls_ecdhcurve",
        '"straight" is not a curve that OpenSSL knows',
    )


@pytest.mark.parametrize("params", [DheParams.AUTO, DheParams.NONE])
def test_parameters_of_diffie_hellman_are_built_in(params: DheParams) -> None:
    set_dhe(context(), params)


def test_the_short_parameters_need_ciphers_that_allow_them() -> None:
    error = refused(lambda: set_dhe(context(), DheParams.LEGACY))
    assert error.field == "tls_dheparams"
    assert "@SECLEVEL=1" in error.message
    made = context()
    set_ciphers(made, "ALL:@SECLEVEL=1", None)
    set_dhe(made, DheParams.LEGACY)


# Files.


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "none.crt")
    error = refused(lambda: read_file("tls_cert_file", path))
    problem = error.problem("client_", "pgbouncer.ini")
    assert str(problem) == f"{path}: client_tls_cert_file: cannot be read: No such file or directory"
    assert str(error.config_error("client_", "pgbouncer.ini")) == str(problem)


def test_the_content_of_a_file_is_never_shown() -> None:
    assert repr(Content("own.key", b"secret")) == "Content('own.key')"


def test_a_certificate_is_loaded_with_those_behind_it(tmp_path: Path) -> None:
    between = Authority("between", above=Authority())
    pair = between.server("localhost")
    made = context()
    found = load_certificate(made, *pair_in(tmp_path, pair))
    assert [each.subject_text() for each in found] == ["CN=localhost", "CN=between"] + [
        "CN=Howdah test authority"
    ] * (len(found) - 2)
    assert made.certificate == pair.der


@pytest.mark.parametrize(
    ("junk", "message"),
    [
        (b"", "holds no certificate that can be read"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "holds no certificate that can be read",
        ),
        (
            b"-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n",
            "holds no certificate that can be read",
        ),
    ],
)
def test_a_file_without_a_certificate_is_to_blame(tmp_path: Path, junk: bytes, message: str) -> None:
    _, key = pair_in(tmp_path, certificate())
    bad = written(tmp_path, "bad.crt", junk)
    error = refused(lambda: load_certificate(context(), bad, key))
    assert (error.field, error.message, error.file) == ("tls_cert_file", message, bad.path)


@pytest.mark.parametrize("size", [0, 40, 120])
def test_a_truncated_key_is_to_blame(tmp_path: Path, size: int) -> None:
    shown, key = pair_in(tmp_path, certificate())
    cut = written(tmp_path, "cut.key", key.data[:size])
    error = refused(lambda: load_certificate(context(), shown, cut))
    assert (error.field, error.file) == ("tls_key_file", cut.path)
    assert error.message == "holds no private key that can be read"


def test_the_key_of_another_certificate_is_to_blame(tmp_path: Path) -> None:
    shown, _ = pair_in(tmp_path, certificate())
    other = written(tmp_path, "other.key", self_signed().key_pem)
    error = refused(lambda: load_certificate(context(), shown, other))
    assert (error.field, error.message) == ("tls_key_file", f"is not the key of {shown.path}")


def test_a_key_with_a_passphrase_asks_nobody(tmp_path: Path) -> None:
    shown, _ = pair_in(tmp_path, certificate())
    locked = certificate().key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"marker")
    )
    key = written(tmp_path, "locked.key", locked)
    error = refused(lambda: load_certificate(context(), shown, key))
    assert (error.field, error.message) == ("tls_key_file", "needs a passphrase")


def test_files_that_change_while_they_are_read_are_not_believed(tmp_path: Path) -> None:
    shown, key = pair_in(tmp_path, certificate())
    stale = Content(shown.path, self_signed().pem)
    error = refused(lambda: load_certificate(context(), stale, key))
    assert (error.field, error.message) == ("tls_cert_file", "has changed while it was read")


def test_authorities_are_trusted_and_junk_is_to_blame(tmp_path: Path) -> None:
    made = context()
    load_authorities(made, written(tmp_path, "ca.crt", b"# ours\n" + Authority().pem + Authority("b").pem))
    assert len(made.get_ca_certs()) == 2
    error = refused(lambda: load_authorities(made, written(tmp_path, "bad.crt", b"junk")))
    assert (error.field, error.message) == ("tls_ca_file", "holds no certificate that can be read")


def test_a_client_that_knows_no_curves_is_served() -> None:
    server = new_server_context(self_signed(kind="rsa"))
    set_dhe(server, DheParams.AUTO)
    client = client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("DHE-RSA-AES256-GCM-SHA384")
    ours, theirs = begun(client, server)
    settle(ours, theirs)
    assert theirs.tls.text == "TLSv1.2/DHE-RSA-AES256-GCM-SHA384"

"""From settings to an SSLContext: versions, ciphers, curves, certificates, authorities.

Each function does one setting and raises TlsSettingError, which names it without `client_` or `server_`. No
text has anything of a key in it.
"""

import os
import re
import ssl
import warnings
from collections.abc import Iterable
from typing import Final, NamedTuple

from config.problems import ConfigError, Problem
from config.types import DheParams
from proxy.certificates import Certificate, read_certificate
from proxy.tls import TlsContext, describe

_ALL: Final = ("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3")
_SECURE: Final = ("tlsv1.2", "tlsv1.3")
_GROUPS_OF_VERSIONS: Final = {
    "all": _ALL,
    "legacy": _ALL,
    "tlsv1": _ALL,
    "default": _SECURE,
    "secure": _SECURE,
}
# By number, for the names of the old ones are deprecated.
_VERSIONS: Final = {name: ssl.TLSVersion(0x0301 + at) for at, name in enumerate(_ALL)}
_NOT_THIS: Final = {
    "tlsv1.1": ssl.Options(0x10000000),
    "tlsv1.2": ssl.Options(0x08000000),
}
_OWN_CIPHERS: Final = frozenset(("", "default", "secure", "fast", "normal"))
_USUAL_SUITES: Final = frozenset(
    ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
)
_CURVES: Final = {"P-256": "prime256v1", "P-384": "secp384r1", "P-521": "secp521r1"}
_PEM: Final = re.compile(
    rb"-----BEGIN (?:X509 )?CERTIFICATE-----.+?-----END (?:X509 )?CERTIFICATE-----", re.S
)

# The group ffdhe2048 of RFC 7919, and the second Oakley group (1024 bits) for clients that know no better.
_DHE: Final = {
    DheParams.AUTO: """-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
""",
    DheParams.LEGACY: """-----BEGIN DH PARAMETERS-----
MIGHAoGBAP//////////yQ/aoiFowjTExmKLgNwc0SkCTgiKZ8x0Agu+pjsTmyJR
Sgh5jjQE3e+VGbPNOkMbMCsKbfJfFDdP4TVtbVHCReSFtXZiXn7G9ExC6aY37WsL
/1y29Aa37e44a/taiZ+lrp8kEXxLH+ZJKGZR7OZTgf//////////AgEC
-----END DH PARAMETERS-----
""",
}


class TlsSettingError(Exception):
    """A setting cannot be used. `field` is its name without `client_` or `server_`; `file`: to blame."""

    def __init__(self, field: str, message: str, file: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.file = file

    def problem(self, prefix: str, where: str) -> Problem:
        """The same for whoever reads configurations; `where` is the file with the setting."""
        return Problem(self.file or where, 0, prefix + self.field, self.message)

    def config_error(self, prefix: str, where: str) -> ConfigError:
        """The same as an error that stops the start and fails a reload."""
        return ConfigError([self.problem(prefix, where)])


class Content(NamedTuple):
    """A file and what was in it. Two are equal only if nothing has changed."""

    path: str
    data: bytes

    def __repr__(self) -> str:
        # It may be a key.
        return f"Content({self.path!r})"


def read_file(field: str, path: str) -> Content:
    """Read a file that a setting names."""
    try:
        with open(path, "rb") as file:
            return Content(path, file.read())
    except OSError as error:
        raise TlsSettingError(field, f"cannot be read: {error.strerror}", path) from None


def set_versions(context: ssl.SSLContext, words: Iterable[str]) -> None:
    """Allow the TLS versions that PgBouncer's words stand for."""
    chosen: set[str] = set()
    for word in map(str.lower, words):
        name = word.removeprefix("!")
        meant = _GROUPS_OF_VERSIONS.get(name, (name,))
        if name == word:
            chosen.update(meant)
        else:
            chosen = (chosen or set(_ALL)) - set(meant)
    kept = [name for name in _ALL if name in chosen]
    if not kept:
        raise TlsSettingError("tls_protocols", "allows no version of TLS")
    with warnings.catch_warnings():
        # Who asks for the old ones has been told by the word itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = _VERSIONS[kept[0]]
        context.maximum_version = _VERSIONS[kept[-1]]
        for name in _ALL[_ALL.index(kept[0]) : _ALL.index(kept[-1])]:
            if name not in chosen:
                context.options |= _NOT_THIS[name]


def set_ciphers(context: ssl.SSLContext, ciphers: str, tls13_ciphers: str | None) -> None:
    """Allow these ciphers up to TLS 1.2, and these suites of TLS 1.3; PgBouncer's words mean our own."""
    if ciphers not in _OWN_CIPHERS:
        try:
            context.set_ciphers("ALL:!aNULL:!eNULL" if ciphers == "all" else ciphers)
        except ssl.SSLError as error:
            raise TlsSettingError("tls_ciphers", f"cannot be used: {describe(error)}") from None
    if tls13_ciphers is None or set(tls13_ciphers.split(":")) == _USUAL_SUITES:
        return
    choose = getattr(context, "set_ciphersuites", None)
    if choose is None:
        raise TlsSettingError("tls13_ciphers", "this version of Python cannot choose TLS 1.3 suites")
    try:
        choose(tls13_ciphers)
    except ssl.SSLError as error:
        raise TlsSettingError("tls13_ciphers", f"cannot be used: {describe(error)}") from None


def set_curve(context: ssl.SSLContext, name: str) -> None:
    """Allow one elliptic curve; `auto` and `none` leave the choice to OpenSSL, as with PgBouncer."""
    if name in ("auto", "none", ""):
        return
    try:
        context.set_ecdh_curve(_CURVES.get(name, name))
    except (ValueError, ssl.SSLError):
        raise TlsSettingError("tls_ecdhcurve", f'"{name}" is not a curve that OpenSSL knows') from None


def set_dhe(context: ssl.SSLContext, params: DheParams) -> None:
    """Make Diffie-Hellman without curves possible for clients of TLS 1.2."""
    text = _DHE.get(params)
    if text is None:
        return
    # Python takes a file only; there may be no place where one can be written.
    reading, writing = os.pipe()
    try:
        os.write(writing, text.encode())
        os.close(writing)
        context.load_dh_params(f"/dev/fd/{reading}")
    except OSError as error:
        hint = " (legacy needs @SECLEVEL=1 among the ciphers)" if params is DheParams.LEGACY else ""
        raise TlsSettingError("tls_dheparams", f"cannot be used: {describe(error)}{hint}") from None
    finally:
        os.close(reading)


def certificates_in(field: str, content: Content) -> list[tuple[bytes, Certificate]]:
    """The certificates in a PEM file, as DER and read."""
    try:
        found = [ssl.PEM_cert_to_DER_cert(_as_usual(part)) for part in _PEM.findall(content.data)]
        if found:
            return [(der, read_certificate(der)) for der in found]
    except ValueError:
        pass
    raise TlsSettingError(field, "holds no certificate that can be read", content.path)


def _as_usual(part: bytes) -> str:
    return part.decode("ascii").replace("X509 CERT", "CERT")


def load_authorities(context: ssl.SSLContext, content: Content) -> None:
    """Trust the certificates of the file."""
    ders = [der for der, _ in certificates_in("tls_ca_file", content)]
    try:
        context.load_verify_locations(cadata=b"".join(ders))
    except ssl.SSLError as error:
        raise TlsSettingError("tls_ca_file", f"cannot be used: {describe(error)}", content.path) from None


def load_certificate(context: TlsContext, certificate: Content, key: Content) -> list[Certificate]:
    """Show this certificate, and those behind it in its file; returns them as read.

    OpenSSL reads the files itself. Where somebody replaces them meanwhile, what is read here may differ from
    what is shown: so they are looked at once more afterwards.
    """
    found = certificates_in("tls_cert_file", certificate)
    try:
        context.load_cert_chain(certificate.path, key.path, password=_refuse_passphrase)
    except _Encrypted:
        raise TlsSettingError("tls_key_file", "needs a passphrase", key.path) from None
    except ssl.SSLError as error:
        raise _to_blame(error, certificate, key) from None
    except OSError as error:
        raise TlsSettingError("tls_key_file", f"cannot be read: {error.strerror}", key.path) from None
    if (read_file("tls_cert_file", certificate.path), read_file("tls_key_file", key.path)) != (
        certificate,
        key,
    ):
        raise TlsSettingError("tls_cert_file", "has changed while it was read", certificate.path)
    context.certificate = found[0][0]
    return [read for _, read in found]


def _to_blame(error: ssl.SSLError, certificate: Content, key: Content) -> TlsSettingError:
    reason = error.reason or ""
    if reason == "KEY_VALUES_MISMATCH":
        return TlsSettingError("tls_key_file", f"is not the key of {certificate.path}", key.path)
    if reason.endswith(("TOO_SMALL", "TOO_WEAK")):
        return TlsSettingError("tls_cert_file", f"cannot be used: {describe(error)}", certificate.path)
    return TlsSettingError("tls_key_file", "holds no private key that can be read", key.path)


class _Encrypted(Exception):
    """The key is encrypted."""


def _refuse_passphrase() -> str:
    raise _Encrypted

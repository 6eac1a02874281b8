"""Contexts for TLS to servers: one for each distinct set of settings and contents of files.

Laws of this file:
- All files are read by `apply`, and all of them or none are taken: a bad one leaves everything as it was.
- What has not changed keeps its very context.
"""

import ssl
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from config.databases import DatabaseSettings
from config.files import find_beside
from config.problems import ConfigError, Problem
from config.settings import Settings
from config.tls import ServerTls, server_tls
from config.types import SslMode
from proxy.certificates import Certificate
from proxy.tls import TlsContext
from proxy.tls_files import (
    Content,
    TlsSettingError,
    load_authorities,
    load_certificate,
    read_file,
    set_ciphers,
    set_versions,
)

ALPN: Final = "postgresql"
_IN_ENTRIES: Final = {"tls_ca_file": "sslrootcert", "tls_cert_file": "sslcert", "tls_key_file": "sslkey"}
"""libpq's names for what the global settings call otherwise."""


class _Key(NamedTuple):
    """All that a context depends on."""

    verifies: bool
    by_name: bool
    authorities: Content | None
    certificate: Content | None
    key: Content | None
    protocols: tuple[str, ...]
    ciphers: str
    tls13_ciphers: str | None


class _Made(NamedTuple):
    """A context, and the certificates that it shows."""

    context: TlsContext
    certificates: tuple[Certificate, ...]


class ServerContexts:
    """From the settings of a pool to its context. `failed` is called for each handshake that fails."""

    def __init__(self, failed: Callable[[], object] = TlsContext.failed) -> None:
        self._failed = failed
        self._made: dict[_Key, _Made] = {}
        self._keys: dict[ServerTls, _Key] = {}

    def apply(self, settings: Settings) -> None:
        """Make the contexts of all databases. Raises ConfigError with all that is wrong."""
        keys: dict[ServerTls, _Key] = {}
        made: dict[_Key, _Made] = {}
        problems: list[Problem] = []
        seen: set[ServerTls] = set()
        for name, tls in _wanted(settings):
            if tls in seen:
                continue
            seen.add(tls)
            try:
                key = keys[tls] = _read(tls, settings.conffile)
                made[key] = made.get(key) or self._made.get(key) or _make(key)
            except TlsSettingError as error:
                problems.append(_problem(error, name, settings))
        if problems:
            raise ConfigError(problems)
        self._keys, self._made = keys, made
        for one in made.values():
            one.context.failed = self._failed

    def get(self, tls: ServerTls) -> TlsContext | None:
        """The context for servers of a pool with these settings; None where TLS is switched off."""
        key = self._keys.get(tls)
        return None if key is None else self._made[key].context

    def shown(self) -> dict[str, tuple[Certificate, ...]]:
        """The certificates that servers are shown, by their files."""
        return {
            key.certificate.path: made.certificates for key, made in self._made.items() if key.certificate
        }


def _wanted(settings: Settings) -> Iterator[tuple[str | None, ServerTls]]:
    """What the global settings ask for (None), and what each database does."""
    entries: list[tuple[str | None, DatabaseSettings]] = [(None, DatabaseSettings())]
    for name, entry in [*entries, *settings.databases.items()]:
        tls = server_tls(settings, entry)
        if tls.mode is not SslMode.DISABLE:
            yield name, tls


def _problem(error: TlsSettingError, database: str | None, settings: Settings) -> Problem:
    where = settings.conffile or "settings"
    if database is None:
        return error.problem("server_", where)
    entry = settings.databases[database]
    own = _IN_ENTRIES.get(error.field, f"server_{error.field}")
    if getattr(entry, own, None) is None:
        own = f"server_{error.field}"
    return Problem(error.file or where, 0, own, f'{error.message} (database "{database}")')


def _read(tls: ServerTls, conffile: str | None) -> _Key:
    """Read the files, those only that are of use."""

    def content(field: str, path: str) -> Content | None:
        return read_file(field, find_beside(path, conffile)) if path else None

    certificate = content("tls_cert_file", tls.cert_file)
    return _Key(
        tls.mode.verifies,
        tls.mode is SslMode.VERIFY_FULL,
        content("tls_ca_file", tls.ca_file) if tls.mode.verifies else None,
        certificate,
        content("tls_key_file", tls.key_file) or certificate,
        tls.protocols,
        tls.ciphers,
        tls.tls13_ciphers,
    )


def _make(key: _Key) -> _Made:
    context = TlsContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.check_hostname = key.by_name
    context.verify_mode = ssl.CERT_REQUIRED if key.verifies else ssl.CERT_NONE
    context.set_alpn_protocols([ALPN])
    set_versions(context, key.protocols)
    set_ciphers(context, key.ciphers, key.tls13_ciphers)
    if key.authorities is not None:
        load_authorities(context, key.authorities)
    elif key.verifies:
        context.load_default_certs()
    if key.certificate is None or key.key is None:
        return _Made(context, ())
    return _Made(context, tuple(load_certificate(context, key.certificate, key.key)))

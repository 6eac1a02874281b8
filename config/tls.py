"""How servers are reached by TLS: what the global settings and a database's entry say together.

An entry uses libpq's names; what it leaves out is the global setting's, except that a certificate and its
key, and the oldest and the newest version, belong together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .types import SslMode, SslNegotiation, TlsVersion

if TYPE_CHECKING:
    from .databases import DatabaseSettings
    from .settings import Settings

SYSTEM: Final = "system"
"""libpq's word in place of a file of authorities."""
_OLDEST: Final = TlsVersion.V1_2
"""What libpq asks for where only the newest version is said."""
_WORDS: Final = {version: version.value for version in TlsVersion} | {TlsVersion.V1_0: "tlsv1.0"}
"""PgBouncer's words for single versions: its tlsv1 means all of them."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Everything that TLS to a server depends on. `ca_file` is empty for the system's authorities, the
    other files where there is no certificate to show.
    """

    mode: SslMode
    negotiation: SslNegotiation
    ca_file: str
    cert_file: str
    key_file: str
    protocols: tuple[str, ...]
    ciphers: str
    tls13_ciphers: str | None


def server_tls(settings: "Settings", entry: "DatabaseSettings") -> ServerTls:
    """Resolve what holds for the servers of a database."""
    versions = _protocols(entry)
    cert_file, key_file = settings.server_tls_cert_file, settings.server_tls_key_file
    if entry.sslcert or entry.sslkey:
        cert_file, key_file = entry.sslcert or "", entry.sslkey or ""
    return ServerTls(
        mode=entry.sslmode or settings.server_tls_sslmode,
        negotiation=entry.sslnegotiation or settings.server_tls_sslnegotiation,
        ca_file=_authorities(entry.sslrootcert or settings.server_tls_ca_file),
        cert_file=cert_file,
        key_file=key_file,
        protocols=settings.server_tls_protocols if versions is None else versions,
        ciphers=entry.server_tls_ciphers or settings.server_tls_ciphers,
        tls13_ciphers=entry.server_tls13_ciphers or settings.server_tls13_ciphers,
    )


def contradictions(settings: "Settings", entry: "DatabaseSettings") -> Iterator[tuple[str, str]]:
    """Yield (libpq's name of the setting to blame, why it cannot be) for what cannot hold together."""
    tls = server_tls(settings, entry)
    switched_off = entry.sslmode is SslMode.DISABLE and entry.sslnegotiation is None
    if tls.negotiation is SslNegotiation.DIRECT and not tls.mode.required and not switched_off:
        yield "sslnegotiation", f'direct needs sslmode require or more, and it is "{tls.mode}"'
    system = SYSTEM in (entry.sslrootcert, None if entry.sslrootcert else settings.server_tls_ca_file)
    if system and tls.mode is not SslMode.VERIFY_FULL and not switched_off:
        yield "sslrootcert", f'system needs sslmode verify-full, and it is "{tls.mode}"'
    if tls.key_file and not tls.cert_file:
        yield "sslkey", "is the key of no certificate"
    if _protocols(entry) == ():
        yield "ssl_min_protocol_version", "is newer than ssl_max_protocol_version"


def _authorities(file: str) -> str:
    return "" if file == SYSTEM else file


def _protocols(entry: "DatabaseSettings") -> tuple[str, ...] | None:
    """The versions between the entry's oldest and newest; None where it says nothing."""
    oldest, newest = entry.ssl_min_protocol_version, entry.ssl_max_protocol_version
    if oldest is None and newest is None:
        return None
    versions = list(TlsVersion)
    first, last = versions.index(oldest or _OLDEST), versions.index(newest or versions[-1])
    return tuple(_WORDS[version] for version in versions[first : last + 1])

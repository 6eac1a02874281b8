"""The TLS contexts in use, and what becomes of them at a reload.

Laws of this file:
- All or nothing: where one file or value is bad, everything stays as it was and ConfigError says why.
- What has not changed, in the settings or on the disk, stays the same object; connections that live keep the
  context they began with.
"""

import logging
import ssl
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from config.files import find_beside
from config.problems import ConfigError, Problem
from config.settings import Settings
from config.tls import ServerTls
from config.types import AuthType, DheParams, SslMode
from proxy.certificates import Certificate
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
from proxy.tls_servers import ALPN, ServerContexts
from proxy.tls_snapshot import TlsSnapshot, certificates

logger = logging.getLogger("howdah")

WARN_BEFORE: Final = 30 * 86400
"""How long before a certificate expires the log says so (s); it says so once a day."""
_DAY: Final = 86400.0


class Shown(NamedTuple):
    """A certificate of ours: whom it is shown to (client or server), the file it is in, what it says."""

    side: str
    file: str
    certificate: Certificate


class _Wish(NamedTuple):
    """Everything that the context for clients is made of."""

    certificate: Content
    key: Content
    authorities: Content | None
    verify: ssl.VerifyMode
    protocols: tuple[str, ...]
    ciphers: str
    tls13_ciphers: str | None
    curve: str
    dhe: DheParams


class _Made(NamedTuple):
    wish: _Wish
    context: TlsContext
    certificates: list[Certificate]


class TlsContexts:
    """`apply` before use. `wall` is the time since 1970 (s); `failures`: handshakes that failed, by side."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._clients: _Made | None = None
        self.failures = Counter(client=0, server=0)
        self._servers = ServerContexts(lambda: self.failures.update(("server",)))
        self._warn_again_at = 0.0

    def apply(self, settings: Settings) -> None:
        """Make what the settings and the files ask for now, and warn of what expires. Raises ConfigError."""
        self.make(settings)
        self._warn_again_at = 0.0
        self.watch()

    def make(self, settings: Settings) -> None:
        """Make what the settings and the files ask for now. Raises ConfigError."""
        clients = _for_clients(settings, self._clients)
        self._servers.apply(settings)
        self._clients = clients
        if clients is not None:
            clients.context.failed = lambda: self.failures.update(("client",))

    def for_clients(self) -> TlsContext | None:
        """What newcomers are offered; None without TLS."""
        return self._clients.context if self._clients is not None else None

    def for_servers(self, tls: ServerTls) -> TlsContext | None:
        """What servers of a pool with these settings are reached by; None without TLS."""
        return self._servers.get(tls)

    def shown(self) -> list[Shown]:
        """The certificates in use, and those behind them in their files."""
        files = self._servers.shown().items()
        servers = [Shown("server", file, each) for file, certificates in files for each in certificates]
        made = self._clients
        if made is None:
            return servers
        return [Shown("client", made.wish.certificate.path, each) for each in made.certificates] + servers

    def snapshot(self) -> TlsSnapshot:
        """For SHOW and /metrics."""
        return TlsSnapshot(tuple(certificates(self.shown(), self._wall())), dict(self.failures))

    def watch(self) -> None:
        """Warn of certificates that expire; once a day, however often it is called."""
        now = self._wall()
        if now < self._warn_again_at:
            return
        self._warn_again_at = now + _DAY
        for side, file, certificate in self.shown():
            left = certificate.expires - now
            if left < WARN_BEFORE:
                when = f"expires in {left // _DAY:.0f} days" if left > 0 else "has expired"
                who = certificate.subject_text()
                logger.warning("%s: the certificate that %ss are shown (%s) %s", file, side, who, when)


def problems(settings: Settings) -> list[Problem]:
    """What would keep the daemon from starting."""
    try:
        TlsContexts().make(settings)
    except ConfigError as error:
        return error.problems
    return []


def _for_clients(settings: Settings, old: _Made | None) -> _Made | None:
    try:
        wish = _wish(settings)
        if wish is None or (old is not None and old.wish == wish):
            return old if wish is not None else None
        return _make(wish)
    except TlsSettingError as error:
        raise error.config_error("client_", settings.conffile or "settings") from None


def _wish(settings: Settings) -> _Wish | None:
    mode = settings.client_tls_sslmode
    if settings.auth_type is AuthType.CERT and not mode.verifies:
        raise TlsSettingError("tls_sslmode", "auth_type cert needs verify-full")
    if mode is SslMode.DISABLE:
        return None
    for name in ("tls_cert_file", "tls_key_file"):
        if not getattr(settings, f"client_{name}"):
            raise TlsSettingError(name, f"is needed for client_tls_sslmode {mode}")
    if mode.verifies and not settings.client_tls_ca_file:
        raise TlsSettingError("tls_ca_file", f"is needed for client_tls_sslmode {mode}")
    return _Wish(
        certificate=_content(settings, "tls_cert_file"),
        key=_content(settings, "tls_key_file"),
        authorities=_content(settings, "tls_ca_file") if settings.client_tls_ca_file else None,
        verify=_verification(settings),
        protocols=settings.client_tls_protocols,
        ciphers=settings.client_tls_ciphers,
        tls13_ciphers=settings.client_tls13_ciphers,
        curve=settings.client_tls_ecdhcurve,
        dhe=settings.client_tls_dheparams,
    )


def _content(settings: Settings, name: str) -> Content:
    return read_file(name, find_beside(getattr(settings, f"client_{name}"), settings.conffile))


def _verification(settings: Settings) -> ssl.VerifyMode:
    """Below verify-ca PgBouncer does not look at certificates; but rules may ask for one."""
    if settings.client_tls_sslmode.verifies:
        return ssl.CERT_REQUIRED
    asks = settings.auth_type is AuthType.HBA and settings.client_tls_ca_file
    return ssl.CERT_OPTIONAL if asks else ssl.CERT_NONE


def _make(wish: _Wish) -> _Made:
    context = TlsContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    set_versions(context, wish.protocols)
    set_ciphers(context, wish.ciphers, wish.tls13_ciphers)
    set_curve(context, wish.curve)
    set_dhe(context, wish.dhe)
    if wish.authorities is not None:
        load_authorities(context, wish.authorities)
    context.verify_mode = wish.verify
    if wish.verify is not ssl.CERT_NONE:
        # As PostgreSQL does: whose certificate counts is to show it each time. The sessions of TLS 1.2 that
        # have a number cannot be turned off; with them the layer looks at the certificate again.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    context.set_alpn_protocols([ALPN])
    certificates = load_certificate(context, wish.certificate, wish.key)
    return _Made(wish, context, certificates)

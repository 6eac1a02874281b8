"""How a connection to a server becomes encrypted, and in which order libpq tries it.

Laws of this file:
- What a server says before TLS is one byte: nothing behind it is taken, and no text of it is shown.
- Who insists on TLS sends nothing in the clear but the request for it.
"""

import ssl
from dataclasses import dataclass
from enum import Enum
from typing import Final

from config.tls import ServerTls
from config.types import SslMode, SslNegotiation
from protocol import sqlstate
from protocol.errors import ProtocolError
from protocol.login import ServerRefused
from protocol.startup import encode_ssl_request
from proxy.connection import Connection
from proxy.tls import TlsContext, TlsError
from proxy.tls_servers import ALPN

_YES: Final = b"S"
_NO: Final = b"N"
_ERROR: Final = b"E"


class TlsRefused(Exception):
    """The server does not do TLS, and nothing else will do."""

    def __init__(self) -> None:
        super().__init__("server refused SSL")


class Way(Enum):
    """One way to open a connection: in the clear, encrypted if the server will, encrypted."""

    PLAIN = 0
    ASK = 1
    TLS = 2


HOW: Final = {Way.PLAIN: "without TLS", Way.TLS: "with TLS"}


@dataclass(frozen=True, slots=True)
class Encryption:
    """How to encrypt connections to one host. `host` is the name in its certificate."""

    context: ssl.SSLContext
    host: str
    direct: bool

    @property
    def shows_certificate(self) -> bool:
        """Whether the server can see who we are."""
        return isinstance(self.context, TlsContext) and self.context.certificate is not None


def ways(tls: ServerTls) -> tuple[Way, ...]:
    """What is tried, in libpq's order; the second only where the first was refused."""
    if tls.mode.required or (tls.negotiation is SslNegotiation.DIRECT and tls.mode is not SslMode.DISABLE):
        return (Way.TLS,)
    if tls.mode is SslMode.ALLOW:
        return Way.PLAIN, Way.TLS
    return (Way.ASK, Way.PLAIN) if tls.mode is SslMode.PREFER else (Way.PLAIN,)


async def encrypt(connection: Connection, encryption: Encryption, way: Way) -> None:
    """Encrypt a fresh connection, unless the way lets the server do without and it does.

    Raises TlsRefused, TlsError, ProtocolError, ConnectionLost, and OSError for a server in trouble.
    """
    if not encryption.direct and not await _offered(connection):
        if way is Way.TLS:
            raise TlsRefused
        return
    try:
        await connection.start_tls(encryption.context, server_side=False, server_hostname=encryption.host)
    except ValueError as error:
        # OpenSSL does not take every name that the resolver does.
        raise TlsError(f"{encryption.host!r} is no host name for TLS: {error}") from None
    if encryption.direct and connection.tls is not None and connection.tls.alpn != ALPN:
        raise TlsError("direct SSL connection was established without ALPN protocol negotiation extension")


async def _offered(connection: Connection) -> bool:
    """Ask for TLS; False if the server does without."""
    answer = bytearray()
    connection.write(encode_ssl_request())
    await connection.received(answer.extend)
    first = bytes(answer[:1])
    if first == _ERROR:
        # Whoever sits in the middle could have written the text behind it.
        raise OSError("server sent an error response during SSL exchange")
    if first not in (_YES, _NO):
        raise ProtocolError("bad sslreq answer")
    if len(answer) > 1:
        raise ProtocolError("received unencrypted data after SSL response")
    return first == _YES


def another_way_may_do(connection: Connection, way: Way, error: Exception) -> bool:
    """Whether libpq would try without TLS what failed with it (prefer), or the other way round (allow)."""
    tls = connection.tls
    if isinstance(error, ServerRefused):
        return (tls is not None) == (way is Way.ASK)
    return tls is not None and tls.handshaking


def more_telling(first: Exception, second: Exception) -> Exception:
    """Of two failures the one to show: what PostgreSQL says of the user, rather than what it says of TLS."""
    if not isinstance(first, ServerRefused):
        return second
    unlisted = first.error.sqlstate == sqlstate.INVALID_AUTHORIZATION
    return second if unlisted and isinstance(second, ServerRefused) else first


def failure_of(connection: Connection) -> TlsError | None:
    """Why there is no TLS any more. A server may refuse ours after our side of the handshake is over."""
    return connection.tls.failure if connection.tls is not None else None

"""The packets a client may send before it says who it is, and which protocol version it is answered in.

Before the first valid startup packet nothing is said to a client that talks nonsense: it may not be one of
ours.
"""

import logging
import ssl
from typing import Final

from protocol import sqlstate, tags
from protocol.errors import ProtocolError
from protocol.framer import Collector
from protocol.startup import (
    CancelRequest,
    GSSENCRequest,
    Packet,
    SSLRequest,
    Startup,
    packet_length,
    parse_startup,
)
from proxy.connection import Connection
from proxy.errors import PoolerError
from proxy.log import Prefix

logger = logging.getLogger("howdah")

NEWEST_VERSION: Final = tags.PROTOCOL_3_2
# The first byte of a TLS handshake; as a startup packet it would be far too long.
_TLS_RECORD: Final = 0x16


async def first_packet(
    connection: Connection, collector: Collector, prefix: Prefix, context: ssl.SSLContext | None = None
) -> Startup | CancelRequest | None:
    """The packet that says what the client wants; None if what came is no startup packet at all.

    TLS is begun on the way where there is a `context` for it, and declined otherwise; other encryption is
    declined, each kind once. What follows goes to the collector. Raises ProtocolError for a broken startup
    packet, TlsError, and ConnectionLost.
    """
    buffer = bytearray()
    asked: set[type[Packet]] = set()
    while True:
        packet = await _next_packet(connection, buffer, prefix, None if asked else context)
        if isinstance(packet, Startup):
            collector.feed(bytes(buffer))
            return packet
        if packet is None or isinstance(packet, CancelRequest):
            return packet
        if connection.tls is not None:
            logger.info("%sclosing: %s inside TLS", prefix, _named(packet))
            return None
        if type(packet) in asked:
            return None
        asked.add(type(packet))
        if buffer:
            # Bytes that somebody put behind the request could pass for the client's own once TLS is on.
            raise ProtocolError(f"received unencrypted data after {_named(packet)}")
        if isinstance(packet, SSLRequest) and context is not None:
            connection.write(b"S")
            await connection.start_tls(context, server_side=True)
        else:
            connection.write(b"N")


async def _next_packet(
    connection: Connection, buffer: bytearray, prefix: Prefix, context: ssl.SSLContext | None
) -> Packet | None:
    """The next packet, taken out of the buffer; None if it is none. `context` is for TLS that begins here."""
    while True:
        try:
            while (length := packet_length(buffer)) is None or len(buffer) < length:
                await connection.received(buffer.extend)
        except ProtocolError as error:
            if buffer[0] != _TLS_RECORD or connection.tls is not None:
                _log_nonsense(prefix, error, buffer)
                return None
            if not await _direct(connection, buffer, prefix, context):
                return None
        else:
            packet = _parse(bytes(buffer[:length]), prefix)
            del buffer[:length]
            return packet


async def _direct(
    connection: Connection, buffer: bytearray, prefix: Prefix, context: ssl.SSLContext | None
) -> bool:
    """Begin TLS with a client that did not ask before, as PostgreSQL 17 does; False if that cannot be.

    It has to say which protocol it wants, so that nobody can lead a browser here.
    """
    if context is None:
        logger.info("%sclosing: direct TLS is not offered here", prefix)
        return False
    received = bytes(buffer)
    buffer.clear()
    await connection.start_tls(context, server_side=True, received=received)
    if connection.tls is None or connection.tls.alpn is None:
        logger.info("%sclosing: direct TLS without the protocol (ALPN) postgresql", prefix)
        return False
    return True


def _named(packet: SSLRequest | GSSENCRequest) -> str:
    return "SSL request" if isinstance(packet, SSLRequest) else "GSSAPI encryption request"


def agree_on_version(startup: Startup) -> int:
    """The protocol version to go on in. Raises PoolerError for what is not protocol 3."""
    if startup.major == 2:
        raise PoolerError("old V2 protocol not supported", sqlstate.FEATURE_NOT_SUPPORTED)
    if startup.major != 3:
        text = f"unsupported frontend protocol {startup.major}.{startup.minor}: server supports 3.0 to 3.2"
        raise PoolerError(text, sqlstate.FEATURE_NOT_SUPPORTED)
    return min(startup.version, NEWEST_VERSION)


def _parse(data: bytes, prefix: Prefix) -> Packet | None:
    try:
        return parse_startup(data)
    except ProtocolError as error:
        if data[4:6] == b"\0\3":
            raise
        _log_nonsense(prefix, error, data)
        return None


def _log_nonsense(prefix: Prefix, error: ProtocolError, head: bytes | bytearray) -> None:
    logger.info("%sclosing: %s: '%s'", prefix, error.message, bytes(head[:8]).hex())

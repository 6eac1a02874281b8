"""The packets a client may send before it says who it is, and which protocol version it is answered in.

Before the first valid startup packet nothing is said to a client that talks nonsense: it may not be one of
ours.
"""

import logging
from typing import Final

from protocol import sqlstate, tags
from protocol.errors import ProtocolError
from protocol.framer import Collector
from protocol.startup import CancelRequest, Packet, SSLRequest, Startup, packet_length, parse_startup
from proxy.connection import Connection
from proxy.errors import PoolerError

logger = logging.getLogger("howdah")

NEWEST_VERSION: Final = tags.PROTOCOL_3_2


async def first_packet(
    connection: Connection, collector: Collector, prefix: str
) -> Startup | CancelRequest | None:
    """The packet that says what the client wants; None if what came is no startup packet at all.

    Requests for encryption are declined on the way, each kind once. What follows goes to the collector.
    Raises ProtocolError for a broken startup packet, and ConnectionLost.
    """
    buffer = bytearray()
    asked: set[type[Packet]] = set()
    while True:
        try:
            while (length := packet_length(buffer)) is None or len(buffer) < length:
                await connection.received(buffer.extend)
        except ProtocolError as error:
            _log_nonsense(prefix, error, buffer)
            return None
        packet = _parse(bytes(buffer[:length]), prefix)
        del buffer[:length]
        if isinstance(packet, Startup):
            collector.feed(bytes(buffer))
            return packet
        if packet is None or isinstance(packet, CancelRequest):
            return packet
        if type(packet) in asked:
            return None
        asked.add(type(packet))
        if buffer:
            # Bytes that somebody put behind the request could pass for the client's own once TLS is on.
            what = "SSL" if isinstance(packet, SSLRequest) else "GSSAPI encryption"
            raise ProtocolError(f"received unencrypted data after {what} request")
        connection.write(b"N")


def agree_on_version(startup: Startup) -> int:
    """The protocol version to go on in. Raises PoolerError for what is not protocol 3."""
    if startup.major == 2:
        raise PoolerError("old V2 protocol not supported", sqlstate.FEATURE_NOT_SUPPORTED)
    if startup.major != 3:
        text = f"unsupported frontend protocol {startup.major}.{startup.minor}: server supports 3.0 to 3.2"
        raise PoolerError(text, sqlstate.FEATURE_NOT_SUPPORTED)
    return min(startup.version, NEWEST_VERSION)


def _parse(data: bytes, prefix: str) -> Packet | None:
    try:
        return parse_startup(data)
    except ProtocolError as error:
        if data[4:6] == b"\0\3":
            raise
        _log_nonsense(prefix, error, data)
        return None


def _log_nonsense(prefix: str, error: ProtocolError, head: bytes | bytearray) -> None:
    logger.info("%sclosing: %s: '%s'", prefix, error.message, bytes(head[:8]).hex())

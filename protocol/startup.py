"""The packets without a tag: startup, SSLRequest, GSSENCRequest, CancelRequest.

A packet is its length, a code, and what the code asks for; nothing else may come before login. Versions we
cannot speak are decoded as a Startup without parameters, so that whoever reads it can refuse by name.
Source: PostgreSQL manual, "Message Formats" and "Message Flow: Start-up".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from . import tags
from .errors import MalformedMessage, MessageTooLarge
from .wire import Reader, put_int32, put_string

MIN_PACKET: Final = 8
MAX_PACKET: Final = 10_000
"""PostgreSQL's own limit on a startup packet, in bytes."""

MIN_SECRET: Final = 4
MAX_SECRET: Final = 256
"""Bytes of a cancel secret: exactly 4 in protocol 3.0, up to 256 from 3.2 on."""

_SPACES: Final = b" \t\n\v\f\r"
_BACKSLASH: Final = 0x5C
_BAD_OPTIONS: Final = (
    "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
)


@dataclass(init=False)
class Startup:
    """StartupMessage. `version` is major * 65536 + minor; `parameters` is empty unless major is 3."""

    version: int
    parameters: dict[bytes, bytes]

    # What dataclasses write themselves is never compiled: each login would pay for it.
    def __init__(self, version: int, parameters: dict[bytes, bytes]) -> None:
        self.version = version
        self.parameters = parameters

    @property
    def major(self) -> int:
        """Major protocol version; only 3 has been decoded further."""
        return self.version >> 16

    @property
    def minor(self) -> int:
        """Minor protocol version asked for, possibly one that does not exist."""
        return self.version & 0xFFFF


@dataclass(frozen=True)
class SSLRequest:
    """The client asks whether it may begin TLS."""


@dataclass(frozen=True)
class GSSENCRequest:
    """The client asks whether it may begin GSSAPI encryption."""


@dataclass(frozen=True)
class CancelRequest:
    """Cancel what the connection with this key is doing. `pid` is a signed Int32, `secret` 4 to 256 bytes."""

    pid: int
    secret: bytes = field(repr=False)


Packet = Startup | SSLRequest | GSSENCRequest | CancelRequest


def packet_length(buffer: bytes | bytearray) -> int | None:
    """Return how many bytes the packet at the front of `buffer` has, itself included.

    None while fewer than four bytes are there. Raises MalformedMessage or MessageTooLarge outside 8..10000.
    """
    if len(buffer) < 4:
        return None
    length = int.from_bytes(buffer[:4], "big")
    if length < MIN_PACKET:
        raise MalformedMessage("invalid length of startup packet")
    if length > MAX_PACKET:
        raise MessageTooLarge("invalid length of startup packet")
    return length


def parse_startup(packet: bytes) -> Packet:
    """Decode one whole packet, its length included. Raises ProtocolError."""
    if packet_length(packet) != len(packet):
        raise MalformedMessage("invalid length of startup packet")
    reader = Reader(packet[4:])
    code = reader.int32()
    if code == tags.CANCEL_REQUEST:
        return _cancel_request(reader)
    if code == tags.SSL_REQUEST:
        reader.expect_end()
        return SSLRequest()
    if code == tags.GSSENC_REQUEST:
        reader.expect_end()
        return GSSENCRequest()
    version = code & 0xFFFFFFFF
    if version >> 16 != 3:
        return Startup(version, {})
    return Startup(version, _parameters(reader.rest()))


def _cancel_request(reader: Reader) -> CancelRequest:
    pid = reader.int32()
    secret = reader.rest()
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        raise MalformedMessage("invalid length of cancel request packet")
    return CancelRequest(pid, secret)


def _parameters(body: bytes) -> dict[bytes, bytes]:
    """Read name and value pairs up to the empty name; of equal names the last wins, as in PostgreSQL."""
    if body[-1:] != b"\0":
        raise _bad_layout()
    parts = body[:-1].split(b"\0")
    # Each string of the list ends with a NUL, so what follows the last one is empty.
    if parts.pop() or len(parts) % 2:
        raise _bad_layout()
    parameters: dict[bytes, bytes] = {}
    for at in range(0, len(parts), 2):
        if not parts[at]:
            raise _bad_layout()
        parameters[parts[at]] = parts[at + 1]
    return parameters


def _bad_layout() -> MalformedMessage:
    return MalformedMessage("invalid startup packet layout: expected terminator as last byte")


def encode_startup(parameters: Mapping[bytes, bytes], version: int = tags.PROTOCOL_3_0) -> bytes:
    """Return a startup packet. Raises MalformedMessage for an empty name or a NUL, MessageTooLarge."""
    buffer = bytearray(4)
    put_int32(buffer, version)
    for name, value in parameters.items():
        if not name:
            raise MalformedMessage("startup parameter without a name")
        put_string(buffer, name)
        put_string(buffer, value)
    buffer.append(0)
    if len(buffer) > MAX_PACKET:
        raise MessageTooLarge("startup packet too large to be sent")
    return _finish(buffer)


def encode_ssl_request() -> bytes:
    """Return an SSLRequest."""
    buffer = bytearray(4)
    put_int32(buffer, tags.SSL_REQUEST)
    return _finish(buffer)


def encode_cancel_request(pid: int, secret: bytes) -> bytes:
    """Return a CancelRequest. Raises MalformedMessage unless `secret` has 4 to 256 bytes."""
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        raise MalformedMessage(f"cancel secret of {len(secret)} bytes")
    buffer = bytearray(4)
    put_int32(buffer, tags.CANCEL_REQUEST)
    put_int32(buffer, pid)
    return _finish(buffer + secret)


def _finish(buffer: bytearray) -> bytes:
    buffer[:4] = len(buffer).to_bytes(4, "big")
    return bytes(buffer)


def parse_options(value: bytes) -> list[tuple[bytes, bytes]]:
    """Split the startup parameter `options` into settings, in order.

    Understands `-c name=value`, `-cname=value` and `--name=value`; a backslash takes the next byte literally.
    Dashes in a name mean underscores, as in PostgreSQL. Raises MalformedMessage, in PgBouncer's words, for
    anything else.
    """
    settings: list[tuple[bytes, bytes]] = []
    words = iter(_words(value))
    for word in words:
        if word.startswith(b"--"):
            setting = word[2:]
        elif word == b"-c":
            setting = next(words, b"")
        elif word.startswith(b"-c"):
            setting = word[2:]
        else:
            raise MalformedMessage(_BAD_OPTIONS)
        name, equals, text = setting.partition(b"=")
        if not name or not equals:
            raise MalformedMessage(_BAD_OPTIONS)
        settings.append((name.replace(b"-", b"_"), text))
    return settings


def _words(text: bytes) -> list[bytes]:
    """Split at white space that no backslash protects, and take the backslashes out."""
    words: list[bytes] = []
    word = bytearray()
    inside = escaped = False
    for byte in text:
        if escaped:
            word.append(byte)
            escaped = False
        elif byte in _SPACES:
            if inside:
                words.append(bytes(word))
                word.clear()
            inside = False
        else:
            inside = True
            escaped = byte == _BACKSLASH
            if not escaped:
                word.append(byte)
    if inside:
        words.append(bytes(word))
    return words

"""Write and read the protocol's basic types: Int16, Int32, String, and the frame of a message.

Strings are bytes: PostgreSQL does not say which encoding a name has before login is over. A Reader never
looks past the end of its body, and checks every length before it slices: a negative length given to a Python
slice raises nothing, it silently moves backwards. Source: PostgreSQL manual, "Message Data Types".
"""

from struct import Struct
from typing import Final

from .errors import MalformedMessage, MessageTooLarge

# The length field counts itself and is a signed Int32 to everyone who reads it.
MAX_BODY: Final = 0x7FFFFFFF - 4

_HEADER: Final = Struct("!BI")
_INT16: Final = Struct("!h")
_UINT16: Final = Struct("!H")
_INT32: Final = Struct("!i")
_UINT32: Final = Struct("!I")


def message(tag: int, body: bytes) -> bytes:
    """Return a whole message: tag, length, body. Raises MessageTooLarge for a body over MAX_BODY bytes."""
    if len(body) > MAX_BODY:
        raise MessageTooLarge("message too large to be sent")
    return _HEADER.pack(tag, len(body) + 4) + body


def begin(buffer: bytearray, tag: int) -> int:
    """Start a message at the end of `buffer`; give the result to `finish` when its body has been appended."""
    at = len(buffer)
    buffer += _HEADER.pack(tag, 0)
    return at


def finish(buffer: bytearray, at: int) -> None:
    """Write the length of the message that `begin` started at `at`. Raises MessageTooLarge over MAX_BODY."""
    length = len(buffer) - at - 1
    if length > MAX_BODY + 4:
        raise MessageTooLarge("message too large to be sent")
    _UINT32.pack_into(buffer, at + 1, length)


def put_int16(buffer: bytearray, value: int) -> None:
    """Append an Int16. Raises MalformedMessage outside -32768..32767."""
    if not -0x8000 <= value <= 0x7FFF:
        raise MalformedMessage(f"number {value} does not fit into an Int16")
    buffer += _INT16.pack(value)


def put_uint16(buffer: bytearray, value: int) -> None:
    """Append an unsigned Int16, as counts are. Raises MalformedMessage outside 0..65535."""
    if not 0 <= value <= 0xFFFF:
        raise MalformedMessage(f"number {value} does not fit into an unsigned Int16")
    buffer += _UINT16.pack(value)


def put_int32(buffer: bytearray, value: int) -> None:
    """Append an Int32. Raises MalformedMessage outside -2147483648..2147483647."""
    if not -0x80000000 <= value <= 0x7FFFFFFF:
        raise MalformedMessage(f"number {value} does not fit into an Int32")
    buffer += _INT32.pack(value)


def put_uint32(buffer: bytearray, value: int) -> None:
    """Append an unsigned Int32, as object ids are. Raises MalformedMessage outside 0..4294967295."""
    if not 0 <= value <= 0xFFFFFFFF:
        raise MalformedMessage(f"number {value} does not fit into an unsigned Int32")
    buffer += _UINT32.pack(value)


def put_string(buffer: bytearray, value: bytes) -> None:
    """Append `value` and its terminator. Raises MalformedMessage for a NUL inside: it would start a field."""
    if 0 in value:
        raise MalformedMessage("string contains a NUL byte")
    buffer += value
    buffer.append(0)


class Reader:
    """Reads the body of one message from front to back; every overrun raises MalformedMessage."""

    __slots__ = ("_at", "_body", "_end")

    def __init__(self, body: bytes) -> None:
        self._body: bytes = body
        self._at: int = 0
        self._end: int = len(body)

    def byte(self) -> int:
        """Read one byte as 0..255."""
        at = self._advance(1)
        return self._body[at]

    def int16(self) -> int:
        """Read a signed Int16."""
        at = self._advance(2)
        value: int = _INT16.unpack_from(self._body, at)[0]
        return value

    def uint16(self) -> int:
        """Read an unsigned Int16: PostgreSQL takes counts so, up to 65535 parameters."""
        at = self._advance(2)
        value: int = _UINT16.unpack_from(self._body, at)[0]
        return value

    def int32(self) -> int:
        """Read a signed Int32."""
        at = self._advance(4)
        value: int = _INT32.unpack_from(self._body, at)[0]
        return value

    def uint32(self) -> int:
        """Read an unsigned Int32, as object ids and process ids are."""
        at = self._advance(4)
        value: int = _UINT32.unpack_from(self._body, at)[0]
        return value

    def string(self) -> bytes:
        """Read up to the next NUL; the result has none."""
        end = self._body.find(b"\0", self._at)
        if end < 0:
            raise MalformedMessage("string without a terminator")
        value = self._body[self._at : end]
        self._at = end + 1
        return value

    def take(self, n: int) -> bytes:
        """Read exactly `n` bytes."""
        at = self._advance(n)
        return self._body[at : at + n]

    def value(self) -> bytes | None:
        """Read a value with its Int32 length; None (NULL) for the length -1."""
        length = self.int32()
        if length == -1:
            return None
        if length < 0:
            raise MalformedMessage(f"value of length {length}")
        return self.take(length)

    def rest(self) -> bytes:
        """Read everything that is left, possibly nothing."""
        value = self._body[self._at :]
        self._at = self._end
        return value

    def left(self) -> int:
        """Return how many bytes are left."""
        return self._end - self._at

    def expect_end(self) -> None:
        """Raise MalformedMessage unless the body was read to its last byte."""
        if self._at != self._end:
            raise MalformedMessage(f"message has {self._end - self._at} bytes too many")

    def _advance(self, n: int) -> int:
        """Step over `n` bytes and return where they began."""
        at = self._at
        if n < 0 or n > self._end - at:
            raise MalformedMessage("message ends too early")
        self._at = at + n
        return at

"""Cut a byte stream into messages to look at and bytes to forward.

Laws of this file:
- `feed` never copies what it does not have to: what may be forwarded is `buffer[:end]`, and where nothing was
  held back `buffer` is the very object received.
- A message is *run over* (its bytes are forwarded as they come and nobody looks), or *reported* once as many
  bytes of it are there as its look table asks for; the rest of a longer one streams.
- A length is checked against the cap of its tag before anything is sliced or waited for.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final

from protocol import sqlstate, tags
from protocol.errors import MalformedMessage, MessageTooLarge, ProtocolError, UnexpectedMessage
from protocol.looks import (
    BORROW_HEAD,
    EMPTY,
    HEADER,
    LONG_NAMES,
    NAMED,
    NAMED_MOST,
    RUN,
    SHORT,
    SHORT_MOST,
    SMALL,
    TWO_NAMES,
)
from protocol.native import i64

# The field is signed: what is above is negative.
_INT32_MOST: Final = 0x7FFFFFFF
# After so many messages of one length in a row it pays to look for more of them at once.
_ALIKE: Final = 4

_header: Final[Callable[[bytes, int], tuple[int, int]]] = Struct("!BI").unpack_from


def _is_compiled() -> bool:
    return not hasattr(_is_compiled, "__code__")


# Where a header is read it is read in two ways: shifts take 3 ns as machine code and 200 in the interpreter,
# a call to unpack takes 70 and 90.
_SHIFTS: Final = _is_compiled()


def _length(data: bytes, pos: i64) -> i64:
    """The length field of the message that begins at `pos`; only called where this is compiled."""
    high, low = i64(data[pos + 1]) << 8 | i64(data[pos + 2]), i64(data[pos + 3]) << 8 | i64(data[pos + 4])
    return high << 16 | low


def _run_over(data: bytes, pos: i64, size: i64, tag: i64, cap: i64) -> i64:
    """Where the messages with this tag that begin at `pos` end: behind `size` if the last of them is not
    whole.

    Results of thousands of rows pass through here, one turn for each: locals only, and one call to unpack.
    """
    alike: i64 = 0
    before: i64 = 0
    found: i64
    length: i64
    shifts = _SHIFTS
    last: i64 = size - HEADER
    while pos <= last:
        if shifts:
            found = data[pos]
            length = _length(data, pos)
        else:
            found, length = _header(data, pos)
        if found != tag:
            break
        if length < 4 or length > cap:
            break
        pos += 1 + length
        if shifts:
            continue
        if length != before:
            before = length
            alike = 0
        else:
            alike += 1
            if alike == _ALIKE:
                pos += _count_alike(data, pos, size, length) * (1 + length)
                alike = 0
    return pos


def _count_alike(data: bytes, pos: i64, size: i64, length: i64) -> i64:
    """How many whole messages from `pos` on have the header of the one before it.

    Rows of numbers and dates are often of one length. Then their headers stand at equal distances, and five
    strided slices, one for each byte of a header, check hundreds of them in the time that a loop takes for a
    few.
    """
    stride = 1 + length
    header = data[pos - stride : pos - stride + HEADER]
    total = 0
    window = 4 * _ALIKE
    while (most := min((size - pos) // stride, window)) > 0:
        alike = most
        for at in range(HEADER):
            column = data[pos + at : pos + most * stride : stride]
            alike = min(alike, most - len(column.lstrip(header[at : at + 1])))
        total += alike
        pos += alike * stride
        if alike < window:
            break
        window *= 4
    return total


class Framer:
    """One direction of one connection after login.

    After `feed`, `buffer[:end]` may be forwarded; its first `lead` bytes belong to a message reported
    earlier. `look` may be replaced between two calls. `held` is the beginning of a message that is not
    reported yet, `rest` the number of bytes still to come of one that is.
    """

    __slots__ = ("_caps", "buffer", "end", "fault", "held", "lead", "look", "rest")

    def __init__(self, look: tuple[int, ...], caps: tuple[int, ...]) -> None:
        self.look = look
        self._caps = caps
        self.held = b""
        self.rest = 0
        self.fault: ProtocolError | None = None
        self.buffer = b""
        self.end = 0
        self.lead = 0

    @property
    def whole(self) -> bool:
        """Whether the stream stands between two messages: nothing held back, nothing still streaming."""
        return not self.rest and not self.held

    @property
    def streaming(self) -> bool:
        """Whether the rest of a message that has been forwarded in part is still to come."""
        return self.rest > 0

    def feed(self, data: bytes) -> list[tuple[int, int, int]]:
        """Take received bytes; return the messages to look at as (tag, start, stop) offsets into `buffer`.

        `stop` lies behind `end` when the rest of the message is still to come. Raises ProtocolError for a tag
        that may not be sent and for a length that is impossible or over its cap; the framer is unusable then.
        Behind messages that are to be looked at first such an error waits in `fault`.
        """
        if self.fault is not None:
            raise self.fault
        if self.held:
            data = self.held + data
            self.held = b""
        self.buffer = data
        size: i64 = len(data)
        pos: i64 = self.rest
        found: list[tuple[int, int, int]] = []
        if pos > size:
            self.rest = pos - size
            self.lead = self.end = size
            return found
        self.lead = pos
        look = self.look
        caps = self._caps
        shifts = _SHIFTS
        tag: i64
        length: i64
        last: i64 = size - HEADER
        while pos <= last:
            if shifts:
                tag = data[pos]
                length = _length(data, pos)
            else:
                tag, length = _header(data, pos)
            if length < 4 or length > caps[tag]:
                self._refuse(reject(data[pos : pos + 8], tag, length, caps), found)
                break
            want: i64 = look[tag]
            if want == RUN:
                pos += 1 + length
                if pos < size and data[pos] == tag:
                    pos = _run_over(data, pos, size, tag, caps[tag])
                continue
            stop: i64 = pos + 1 + length
            if stop > size:
                if want == NAMED and (length > NAMED_MOST or data[pos + HEADER : pos + HEADER + 1] == b"\0"):
                    want = BORROW_HEAD
                elif want == SHORT and length > SHORT_MOST:
                    want = 0
                elif want == TWO_NAMES:
                    want = LONG_NAMES if data.count(b"\0", pos + HEADER, size) < 2 else 0
                if pos + HEADER + want > size:
                    break
            found.append((tag, pos, stop))
            pos = stop
        if pos >= size:
            self.rest = pos - size
            self.end = size
        else:
            if not caps[data[pos]]:
                self._refuse(reject(data[pos:], data[pos], EMPTY, caps), found)
            self.rest = 0
            self.held = data[pos:]
            self.end = pos
        return found

    def _refuse(self, error: ProtocolError, found: list[tuple[int, int, int]]) -> None:
        if not found:
            raise error
        self.fault = error


def reject(
    head: bytes, tag: int, length: int, caps: tuple[int, ...]
) -> MalformedMessage | MessageTooLarge | UnexpectedMessage:
    """The error for a header that cannot be accepted; `head` are the first bytes of the message."""
    cap = caps[tag]
    if not cap:
        # Only who may take leave, a client, may be allowed to ask.
        if tag == tags.QUERY and caps[tags.TERMINATE]:
            return UnexpectedMessage("PQexec disallowed", sqlstate.FEATURE_NOT_SUPPORTED)
        return UnexpectedMessage(f"unknown pkt: message type {tag}")
    if length < 4 or length > _INT32_MOST or cap < SMALL:
        # What a server says may be logged, and behind its header begin the data of somebody.
        quoted = head[:HEADER] if caps[tags.READY_FOR_QUERY] else head
        return MalformedMessage(f"bad packet header: '{quoted.hex()}'")
    return MessageTooLarge(f"message of type {tag} too large: {length} bytes, limit {cap}")


class Collector:
    """Cut a stream into whole messages, for logins and for the console, where speed does not matter.

    `caps` gives the largest length field by tag, 0 for a tag that may not come.
    """

    __slots__ = ("_buffer", "caps")

    def __init__(self, caps: tuple[int, ...]) -> None:
        self.caps = caps
        self._buffer = bytearray()

    @property
    def size(self) -> int:
        """Bytes that have not been taken yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer += data

    def next(self) -> tuple[int, bytes] | None:
        """Take the next message as (tag, body); None until one is whole. Raises ProtocolError as
        `Framer.feed`.
        """
        buffer = self._buffer
        if len(buffer) < HEADER:
            if buffer and not self.caps[buffer[0]]:
                raise reject(bytes(buffer), buffer[0], EMPTY, self.caps)
            return None
        tag = buffer[0]
        length = int.from_bytes(buffer[1:5], "big")
        if length < 4 or length > self.caps[tag]:
            raise reject(bytes(buffer[:8]), tag, length, self.caps)
        if len(buffer) < length + 1:
            return None
        body = bytes(buffer[HEADER : length + 1])
        del buffer[: length + 1]
        return tag, body

    def rest(self) -> bytes:
        """Take everything that has not been cut yet."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

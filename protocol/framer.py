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

RUN: Final = -1
"""In a look table: forward messages with this tag without reporting them."""
WHOLE: Final = 1 << 31
"""In a look table: report messages with this tag when all of their bytes are there."""
SHORT: Final = 1 << 29
"""In a look table: as WHOLE if the message is of at most SHORT_MOST bytes, else by its header."""
TWO_NAMES: Final = 1 << 28
"""In a look table: report when the two names a message begins with are there, or LONG_NAMES bytes."""
NAMED: Final = 1 << 30
"""In a look table: as WHOLE if it begins with a name and is not above NAMED_MOST; else as BORROW_HEAD."""

# PostgreSQL's PQ_SMALL_MESSAGE_LIMIT and PQ_LARGE_MESSAGE_LIMIT (src/include/libpq/libpq.h).
SMALL: Final = 10_000
LARGE: Final = 0x3FFFFFFE
# An asynchronous report has to be seen whole before it may be dropped or remembered.
REPORT: Final = 1 << 20
EMPTY: Final = 4

# Enough of an ErrorResponse for its severity and SQLSTATE, of a CommandComplete for the verb of its tag.
ERROR_HEAD: Final = 96
# Enough of an ErrorResponse for the names in its message as well.
NAMES_HEAD: Final = 2_048
# Names of prepared statements are for the pooler to shorten: a Describe or Close is of at most so many bytes,
# and so much of a Bind holds its names. (PostgreSQL's own limit is SMALL.)
LONG_NAMES: Final = 65_536
# All of the longest RowDescription that can be (1,664 columns): the reply to a Describe of ours is kept back.
NAMES_WHOLE: Final = 256 * 1024
# All of a Query that deallocates one statement.
SHORT_MOST: Final = 256
# A named Parse is kept whole, to be repeated on other servers; PostgreSQL's clients write far shorter ones.
NAMED_MOST: Final = 16 << 20
COMMAND_HEAD: Final = 16
# A client is lent a server once its first message is whole or at least this much of it has come (bytes), so
# that a client that sends half a short query holds nobody up.
BORROW_HEAD: Final = 16_384

HEADER: Final = 5
# The field is signed: what is above is negative.
_INT32_MOST: Final = 0x7FFFFFFF
# After so many messages of one length in a row it pays to look for more of them at once.
_ALIKE: Final = 4

_header: Final[Callable[[bytes, int], tuple[int, int]]] = Struct("!BI").unpack_from


def _table(default: int, entries: dict[int, int]) -> tuple[int, ...]:
    return tuple(entries.get(tag, default) for tag in range(256))


FRONTEND_CAPS: Final = {
    tags.QUERY: LARGE,
    tags.PARSE: LARGE,
    tags.BIND: LARGE,
    tags.FUNCTION_CALL: LARGE,
    tags.COPY_DATA: LARGE,
    tags.DESCRIBE: LONG_NAMES,
    tags.EXECUTE: SMALL,
    tags.CLOSE: LONG_NAMES,
    tags.SYNC: SMALL,
    tags.FLUSH: SMALL,
    tags.COPY_DONE: SMALL,
    tags.COPY_FAIL: SMALL,
    tags.TERMINATE: SMALL,
}
BACKEND_CAPS: Final = {
    tags.DATA_ROW: LARGE,
    tags.COPY_DATA: LARGE,
    tags.ROW_DESCRIPTION: LARGE,
    tags.ERROR_RESPONSE: LARGE,
    tags.NOTICE_RESPONSE: LARGE,
    tags.FUNCTION_CALL_RESPONSE: LARGE,
    tags.PARAMETER_DESCRIPTION: LARGE,
    tags.COPY_IN_RESPONSE: REPORT,
    tags.COPY_OUT_RESPONSE: REPORT,
    tags.NOTIFICATION_RESPONSE: REPORT,
    tags.PARAMETER_STATUS: REPORT,
    tags.COMMAND_COMPLETE: SMALL,
    tags.READY_FOR_QUERY: 5,
    tags.COPY_DONE: EMPTY,
    tags.PARSE_COMPLETE: EMPTY,
    tags.BIND_COMPLETE: EMPTY,
    tags.CLOSE_COMPLETE: EMPTY,
    tags.NO_DATA: EMPTY,
    tags.EMPTY_QUERY_RESPONSE: EMPTY,
    tags.PORTAL_SUSPENDED: EMPTY,
}


def frontend_caps(max_packet_size: int = LARGE, *, simple_query: bool = True) -> tuple[int, ...]:
    """Largest length field accepted from a logged-in client, by tag; 0 for a tag it may not send.

    `max_packet_size` (bytes, PgBouncer's setting) lowers the caps of the messages PostgreSQL itself lets be
    large; `simple_query` is the opposite of its disable_pqexec.
    """
    caps = {tag: min(cap, max(max_packet_size, SMALL)) for tag, cap in FRONTEND_CAPS.items()}
    if not simple_query:
        del caps[tags.QUERY]
    return _table(0, caps)


BACKEND: Final = _table(0, BACKEND_CAPS)

FRONTEND_LOOK: Final = _table(0, {tags.TERMINATE: WHOLE, tags.FLUSH: WHOLE, tags.SYNC: WHOLE})
"""What is looked at while the client has a server: tags, and the short messages whole."""
FRONTEND_LOOK_IDLE: Final = _table(
    WHOLE,
    {
        tags.QUERY: BORROW_HEAD,
        tags.PARSE: BORROW_HEAD,
        tags.BIND: BORROW_HEAD,
        tags.FUNCTION_CALL: BORROW_HEAD,
        tags.COPY_DATA: 0,
    },
)
"""What is looked at while the client has no server: nothing is reported that would hold a server for half
a message.
"""
FRONTEND_LOOK_COPY: Final = _table(
    0, {tags.TERMINATE: WHOLE, tags.FLUSH: WHOLE, tags.SYNC: WHOLE, tags.COPY_DATA: RUN}
)
"""As FRONTEND_LOOK, while the server takes COPY data."""
_NAMING: Final = {
    tags.QUERY: SHORT,
    tags.PARSE: NAMED,
    tags.BIND: TWO_NAMES,
    tags.DESCRIBE: WHOLE,
    tags.CLOSE: WHOLE,
    tags.EXECUTE: WHOLE,
}
FRONTEND_LOOK_NAMES: Final = tuple(_NAMING.get(tag, look) for tag, look in enumerate(FRONTEND_LOOK))
"""As FRONTEND_LOOK, where names of prepared statements are replaced."""
FRONTEND_LOOK_NAMES_COPY: Final = tuple(_NAMING.get(tag, look) for tag, look in enumerate(FRONTEND_LOOK_COPY))
"""As FRONTEND_LOOK_COPY, where names of prepared statements are replaced."""
FRONTEND_LOOK_NAMES_IDLE: Final = tuple(
    look if tag in (tags.BIND, tags.QUERY) else _NAMING.get(tag, look)
    for tag, look in enumerate(FRONTEND_LOOK_IDLE)
)
"""As FRONTEND_LOOK_IDLE, where names of prepared statements are replaced."""

_BACKEND_LOOKS: Final = {
    tags.DATA_ROW: RUN,
    tags.COPY_DATA: RUN,
    tags.COPY_DONE: RUN,
    tags.ERROR_RESPONSE: ERROR_HEAD,
    tags.COMMAND_COMPLETE: COMMAND_HEAD,
    tags.PARAMETER_STATUS: WHOLE,
    tags.NOTIFICATION_RESPONSE: WHOLE,
    tags.READY_FOR_QUERY: WHOLE,
}
BACKEND_LOOK: Final = _table(0, _BACKEND_LOOKS)
_NAMED: Final = (tags.ROW_DESCRIPTION, tags.PARAMETER_DESCRIPTION, tags.NOTICE_RESPONSE)
BACKEND_LOOK_NAMES: Final = _table(
    0, _BACKEND_LOOKS | dict.fromkeys(_NAMED, NAMES_WHOLE) | {tags.ERROR_RESPONSE: NAMES_HEAD}
)
"""As BACKEND_LOOK, where names of prepared statements in errors are replaced."""
BACKEND_LOOK_QUERY: Final = tuple(
    RUN if tag == tags.ROW_DESCRIPTION else look for tag, look in enumerate(BACKEND_LOOK_NAMES)
)
"""As BACKEND_LOOK_NAMES, while nothing but a simple Query is answered: what its rows look like answers no
Describe.
"""


def _run_over(data: bytes, pos: int, size: int, tag: int, cap: int) -> int:
    """Where the messages with this tag that begin at `pos` end: behind `size` if the last of them is not
    whole.

    Results of thousands of rows pass through here, one turn for each: locals only, and one call to unpack.
    """
    alike = 0
    before = 0
    while pos + HEADER <= size:
        found, length = _header(data, pos)
        if found != tag:
            break
        if length < 4 or length > cap:
            break
        pos += 1 + length
        if length != before:
            before = length
            alike = 0
        else:
            alike += 1
            if alike == _ALIKE:
                pos += _count_alike(data, pos, size, length) * (1 + length)
                alike = 0
    return pos


def _count_alike(data: bytes, pos: int, size: int, length: int) -> int:
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
        size = len(data)
        pos = self.rest
        found: list[tuple[int, int, int]] = []
        if pos > size:
            self.rest = pos - size
            self.lead = self.end = size
            return found
        self.lead = pos
        look = self.look
        caps = self._caps
        last = size - HEADER
        while pos <= last:
            tag, length = _header(data, pos)
            if length < 4 or length > caps[tag]:
                self._refuse(reject(data[pos : pos + 8], tag, length, caps), found)
                break
            want = look[tag]
            if want == RUN:
                pos += 1 + length
                if pos < size and data[pos] == tag:
                    pos = _run_over(data, pos, size, tag, caps[tag])
                continue
            stop = pos + 1 + length
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


# A password, or a SASL message, is the only thing a client says while it logs in: PostgreSQL allows 64 KiB
# (PG_MAX_AUTH_TOKEN_LENGTH).
LOGIN_CAPS: Final = _table(0, {tags.PASSWORD: 65_535})
CONSOLE_CAPS: Final = _table(0, {tag: min(cap, REPORT) for tag, cap in FRONTEND_CAPS.items()})
"""Caps on the admin console, which collects what it is sent."""
SERVER_LOGIN_CAPS: Final = _table(
    0,
    {
        tags.AUTHENTICATION: 65_535,
        tags.BACKEND_KEY_DATA: 4 + 4 + 256,
        tags.ERROR_RESPONSE: REPORT,
        tags.NOTICE_RESPONSE: REPORT,
        tags.NEGOTIATE_PROTOCOL_VERSION: 65_535,
        tags.PARAMETER_STATUS: REPORT,
        tags.READY_FOR_QUERY: 5,
    },
)

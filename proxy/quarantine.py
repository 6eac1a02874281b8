"""What is known of a server that broke the protocol: which kind of fault that was, and its last messages.

Laws of this file:
- It costs nothing before the fault: all it looks at are the chunks last received from the server and from its
  client, which their framers have anyway.
- Nothing that a user wrote or stored is shown; the trace sees to that. What is shown is bounded.
"""

from collections.abc import Callable, Iterator
from enum import Enum
from itertools import groupby
from operator import itemgetter
from struct import Struct
from typing import Final

from protocol import tags
from protocol.errors import ProtocolError, UnexpectedMessage
from protocol.framer import Framer
from protocol.looks import BACKEND, HEADER, frontend_caps
from protocol.trace import Trace

MOST: Final = 10
"""So many lines are shown of what was received from one side."""
_FIRST: Final = 4
_LINE_MOST: Final = 200
_NONE: Final = -1
# So much of a message is enough to show what is shown of it (bytes).
_HEAD: Final = 256


_header: Final[Callable[[bytes, int], tuple[int, int]]] = Struct("!BI").unpack_from
_FRONTEND: Final = frontend_caps()


class Violation(Enum):
    """How a server broke the protocol."""

    UNASKED = "a reply that nobody asked for"
    TOO_MUCH = "more than was asked for"
    OUT_OF_ORDER = "not the reply that was owed"
    EARLY_READY = "ReadyForQuery before all was answered"
    IDLE = "bytes on an idle connection"
    OWN_QUERY = "wrong reply to a query of ours"
    MALFORMED = "malformed message"


def kind_of(error: ProtocolError, owed: bool) -> Violation:
    """What the server did to its session, or to what is left of one. `owed`: it still owes a reply."""
    if not isinstance(error, UnexpectedMessage) or not error.tag:
        return Violation.MALFORMED
    if not owed:
        return Violation.UNASKED
    return Violation.EARLY_READY if error.tag == tags.READY_FOR_QUERY else Violation.OUT_OF_ORDER


def last_messages(server: Framer, client: Framer | None = None) -> str:
    """What was last received from the client and then from the server, in the form of a redacted trace."""
    trace = Trace(redacted=True)
    lines = [] if client is None else _shortened(_lines("F", client, _FRONTEND, trace.frontend))
    lines += _shortened(_lines("B", server, BACKEND, trace.backend))
    return " | ".join(lines)


def _shortened(lines: Iterator[str]) -> list[str]:
    """The first and the last lines of many, each of limited length."""
    found = [line if len(line) <= _LINE_MOST else f"{line[:_LINE_MOST]}..." for line in lines]
    if len(found) <= MOST:
        return found
    left_out = len(found) - MOST + 1
    return [*found[:_FIRST], f"({left_out} not shown)", *found[_FIRST + left_out :]]


def _lines(
    direction: str, framer: Framer, caps: tuple[int, ...], show: Callable[[int, bytes, int], str]
) -> Iterator[str]:
    """One line for the messages of one tag in a row: the first of them, and how many more there are."""
    data = framer.buffer
    if framer.lead:
        yield f"{direction} (the rest of a message, {framer.lead} bytes)"
    for tag, found in groupby(_messages(framer, caps), key=itemgetter(0)):
        messages = list(found)
        _, pos, length = messages[0]
        if tag == _NONE:
            bad = len(data) - pos >= HEADER
            what = f"no message: {data[pos : pos + HEADER].hex()}" if bad else "part of a header"
            yield f"{direction} ({what})"
            continue
        stop = min(pos + 1 + length, pos + HEADER + _HEAD)
        line = show(tag, data[pos + HEADER : stop], length).replace("\t ", " ").replace("\t", " ")
        more = len(messages) - 1
        yield f"{line} (and {more} more)" if more else line


def _messages(framer: Framer, caps: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Tag, place and length of the messages in a framer's chunk; _NONE where none can begin."""
    data = framer.buffer
    pos = framer.lead
    while pos + HEADER <= len(data):
        tag, length = _header(data, pos)
        if length < 4 or length > caps[tag]:
            break
        yield tag, pos, length
        pos += 1 + length
    if pos < len(data):
        yield _NONE, pos, 0

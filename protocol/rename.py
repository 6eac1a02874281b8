"""Read and replace the names of prepared statements in messages.

Law: nothing is decoded that is not needed, and a message that does not have the shape of its kind is left to
PostgreSQL to refuse. Offsets are into a received buffer; `start` is where a message begins, with its tag.
"""

from struct import Struct
from typing import Final

from protocol import tags

_head: Final = Struct("!BI").pack
_STATEMENT: Final = 0x53
_field: Final = Struct("!IHIHIH")


def name_at(buffer: bytes, start: int, stop: int) -> int:
    """Where the name of a statement begins in a Bind, or in a Describe or Close of a statement; -1 if the
    message has none within `stop`.
    """
    if buffer[start] == tags.BIND:
        if start + 5 < stop and not buffer[start + 5]:
            # The unnamed portal, as nearly always.
            return start + 6
        portal = buffer.find(b"\0", start + 5, stop)
        return portal + 1 if portal >= 0 else -1
    if stop > start + 5 and buffer[start + 5] == _STATEMENT:
        return start + 6
    return -1


def renamed(buffer: bytes, start: int, stop: int, at: int, name_stop: int, name: bytes) -> bytes:
    """The beginning of the message, up to its name, with another name there.

    It stands in for `buffer[start:name_stop]`; `stop` is where the message ends, which may be yet to come.
    """
    length = stop - start - 1 - (name_stop - at) + len(name)
    return _head(buffer[start], length) + buffer[start + 5 : at] + name


def parse(name: bytes, text: bytes) -> bytes:
    """A Parse; `text` is its body behind the name."""
    return _head(tags.PARSE, 5 + len(name) + len(text)) + name + b"\0" + text


def close(name: bytes) -> bytes:
    """A Close of a statement."""
    return _head(tags.CLOSE, 6 + len(name)) + b"S" + name + b"\0"


def describe(name: bytes) -> bytes:
    """A Describe of a statement."""
    return _head(tags.DESCRIBE, 6 + len(name)) + b"S" + name + b"\0"


def run(name: bytes) -> bytes:
    """Bind of a statement without parameters to a portal of the same name, and its Execute."""
    bind = name + b"\0" + name + b"\0\0\0\0\0\0\0"
    execute = name + b"\0\0\0\0\0"
    return _head(tags.BIND, 4 + len(bind)) + bind + _head(tags.EXECUTE, 4 + len(execute)) + execute


def query(text: bytes) -> bytes:
    """A simple Query."""
    return _head(tags.QUERY, 5 + len(text)) + text + b"\0"


def replaced_in_error(buffer: bytes, start: int, stop: int, end: int, old: bytes, new: bytes) -> bytes:
    """The part of an ErrorResponse in `buffer[start:end]`, with another text in all places.

    `stop` is where the message ends, which may be behind `end`.
    """
    body = buffer[start + 5 : min(stop, end)]
    changed = body.replace(old, new)
    return _head(tags.ERROR_RESPONSE, stop - start - 1 + len(changed) - len(body)) + changed


def shape(description: bytes) -> bytes:
    """What PostgreSQL compares of a RowDescription (its body) before it uses a cached plan: names and types
    of the columns, not the tables they come from. What is not one is returned as it is.
    """
    parts = []
    pos = 2
    while (stop := description.find(b"\0", pos)) >= 0 and stop + 1 + _field.size <= len(description):
        _, _, kind, size, modifier, _ = _field.unpack_from(description, stop + 1)
        parts.append(description[pos : stop + 1] + b"%d,%d,%d;" % (kind, size, modifier))
        pos = stop + 1 + _field.size
    return b"".join(parts) if pos == len(description) else description

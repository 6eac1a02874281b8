"""What a client's group of messages, as far as it has come, tells about the statements it names.

Law: pure functions over received messages, in which the client's own names stand.
"""

from typing import Final

from protocol import rename, tags
from proxy.notes import NAME_MOST
from proxy.pieces import Messages

ENDS_GROUP: Final = frozenset((tags.QUERY, tags.SYNC, tags.FUNCTION_CALL))
"""Tags of the messages that end a group of messages: what comes next is processed also after an error."""

# A group that is repeated is of so many bytes at most.
_KEPT_MOST: Final = 64 * 1024
_PORTAL: Final = b"P"


def called(buffer: bytes, end: int, messages: Messages) -> list[bytes]:
    """Names of the statements that Binds and Describes of the first group call."""
    names = []
    for tag, start, stop in messages:
        if tag in ENDS_GROUP:
            break
        if tag == tags.BIND or tag == tags.DESCRIBE:
            name = _statement(buffer, start, min(stop, end))
            if name:
                names.append(name)
    return names


def is_whole(messages: Messages, start: int) -> bool:
    """Whether these are one whole group from `start` on, and not too long to be sent once more."""
    kinds = [message[0] for message in messages]
    return (
        messages[0][1] == start
        and messages[-1][2] - start <= _KEPT_MOST
        and kinds[-1] == tags.SYNC
        and not ENDS_GROUP.intersection(kinds[:-1])
    )


def asks_anew(buffer: bytes, end: int, messages: Messages, start: int, name: bytes) -> bool:
    """Whether the client asks what the rows of this statement look like each time before it is sent some, in
    the group of which `start` is the first message that matters.
    """
    asked = False
    bound: set[bytes] = set()
    for tag, at, stop in messages:
        limit = min(stop, end)
        if at < start:
            continue
        if tag in ENDS_GROUP:
            break
        if tag == tags.DESCRIBE and buffer[at + 5 : at + 6] == _PORTAL:
            portal = _string(buffer, at + 6, limit)
            asked = asked or portal in bound
            bound.discard(portal)
        elif tag == tags.DESCRIBE and _statement(buffer, at, limit) == name:
            return True
        elif tag == tags.BIND:
            portal = _string(buffer, at + 5, limit)
            bound.discard(portal)
            if _statement(buffer, at, limit) == name:
                bound.add(portal)
        elif tag == tags.EXECUTE and _string(buffer, at + 5, limit) in bound:
            return False
    return asked


def _statement(buffer: bytes, start: int, limit: int) -> bytes:
    at = rename.name_at(buffer, start, limit)
    return _string(buffer, at, limit)[:NAME_MOST] if at >= 0 else b""


def _string(buffer: bytes, at: int, limit: int) -> bytes:
    stop = buffer.find(b"\0", at, limit)
    return buffer[at:stop] if stop >= 0 else b""

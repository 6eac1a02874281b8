"""Pieces of a client's stream that wait for a server, and what is cut out of received buffers.

Pure functions over (buffer, end, lead, messages): of `buffer[:end]`, the first `lead` bytes belong to a
message begun earlier, and `messages` are (tag, start, stop) as the framer reports them.
"""

from typing import Final, NamedTuple

from protocol import tags

Messages = list[tuple[int, int, int]]
Piece = tuple[bytes, int, int, Messages]
Edit = tuple[int, int, bytes]
"""Bytes of a buffer that are not forwarded: from, to, and what is sent in their place."""

ANSWERED: Final = frozenset(
    (
        tags.QUERY,
        tags.PARSE,
        tags.BIND,
        tags.DESCRIBE,
        tags.EXECUTE,
        tags.CLOSE,
        tags.SYNC,
        tags.FUNCTION_CALL,
    )
)
"""Tags of the requests that PostgreSQL answers."""
IS_ANSWERED: Final = bytes(tag in ANSWERED for tag in range(256))
"""The same by tag, where each message is looked at: compiled code looks into a set ten times as long."""
_ENDS_GROUP: Final = frozenset((tags.QUERY, tags.SYNC, tags.FUNCTION_CALL))


class Stripped(NamedTuple):
    """What is left of a piece without what needs no server.

    `wanted`: something is left that does. `dropping`: the rest of a dropped message is still to come.
    `skipping`: the Sync of a refused group is still to come; `synced`: it came, and is to be answered.
    `left`: a Terminate came.
    """

    wanted: bool
    piece: Piece
    dropping: bool
    skipping: bool
    synced: bool
    left: bool


def strip(piece: Piece, *, dropping: bool, skipping: bool, behind: bool, streaming: bool) -> Stripped:
    """Take out Terminate, late COPY data, Flush, and a group of which the beginning was refused.

    `behind`: other pieces wait already, so what would be stray alone may belong to them. `streaming`: the
    rest of the last message is still to come.
    """
    buffer, end, lead, messages = piece
    dropping = dropping and lead > 0
    drops: list[Edit] = []
    left: Messages = []
    gone = 0
    if lead and dropping:
        drops.append((0, lead, b""))
        dropping = streaming and lead == end
        gone = lead
        lead = 0
    kept = behind and not skipping
    wanted = kept
    synced = False
    for tag, start, stop in messages:
        if tag == tags.TERMINATE:
            return Stripped(False, piece, dropping, skipping, synced, True)
        if skipping or not (kept or tag in ANSWERED):
            drops.append((start, stop, b""))
            gone += stop - start
            dropping = stop > end
            if skipping and tag == tags.SYNC:
                skipping = False
                synced = True
            continue
        kept = wanted = True
        left.append((tag, start - gone, stop - gone))
    if not drops:
        return Stripped(wanted, piece, dropping, skipping, synced, False)
    rest = b"".join(edited(buffer, end, drops))
    return Stripped(wanted and bool(left), (rest, len(rest), lead, left), dropping, skipping, synced, False)


def cut_first_group(pieces: list[Piece]) -> tuple[list[Piece], bool]:
    """Take the first request out of what waits: a Query or FunctionCall, or extended messages up to their
    Sync; a Query among those goes with them, as PostgreSQL discards it after an error.

    Returns what is left, and whether that end was there.
    """
    extended = False
    for at, (buffer, end, _, messages) in enumerate(pieces):
        for number, (tag, _, stop) in enumerate(messages):
            if tag not in _ENDS_GROUP or (extended and tag != tags.SYNC):
                extended = extended or tag in ANSWERED
                continue
            rest = pieces[at + 1 :]
            if number + 1 < len(messages):
                moved = [
                    (kind, begin - stop, finish - stop) for kind, begin, finish in messages[number + 1 :]
                ]
                return [(buffer[stop:end], end - stop, 0, moved), *rest], True
            return _without_leads(rest) if stop > end else rest, True
    return [], False


def _without_leads(pieces: list[Piece]) -> list[Piece]:
    """What follows a message that is gone, without the rest of that message."""
    for at, (buffer, end, lead, messages) in enumerate(pieces):
        if messages:
            moved = [(tag, start - lead, stop - lead) for tag, start, stop in messages]
            return [(buffer[lead:end], end - lead, 0, moved), *pieces[at + 1 :]]
    return []


def from_message(buffer: bytes, end: int, messages: Messages, start: int) -> Piece:
    """What is left of a piece from the message that begins at `start`."""
    left = [(tag, at - start, stop - start) for tag, at, stop in messages if at >= start]
    return buffer[start:end], end - start, 0, left


def with_data(lead: int, stop: int, messages: Messages) -> Messages:
    """The messages with what stands between them, which was run over: COPY data, once for all in a row."""
    found: Messages = []
    pos = lead
    for message in messages:
        if message[1] > pos:
            found.append((tags.COPY_DATA, pos, message[1]))
        found.append(message)
        pos = message[2]
    if pos < stop:
        found.append((tags.COPY_DATA, pos, stop))
    return found


def edited(buffer: bytes, end: int, edits: list[Edit]) -> list[bytes]:
    """The parts of `buffer[:end]` with edits made; these are in order."""
    parts = []
    pos = 0
    for start, stop, instead in edits:
        if start > pos:
            parts.append(buffer[pos:start])
        if instead:
            parts.append(instead)
        pos = stop
    if pos < end:
        parts.append(buffer[pos:end])
    return parts

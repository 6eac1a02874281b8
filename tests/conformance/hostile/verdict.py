"""Judges what a client heard by what its server said, without knowing what a pooler should make of it.

Law: a client hears the beginning of what its server said for it (notifications
left out that it did not ask for), and behind that at most one error of the
pooler, between two messages. It ends idle, with an error, or in the middle of
a message that its server broke off.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance.hostile.play import cut, told
from tests.support import messages as m
from tests.support.messages import Fields

_READY_IDLE = m.ready_for_query()


@dataclass(frozen=True)
class Verdict:
    """`code`: SQLSTATE of the pooler's error, else of the last one the server sent, "" for neither."""

    outcome: str
    code: str = ""
    problem: str = ""


def allowed(said: bytes) -> bytes:
    """What of one reply is the client's: up to the first ReadyForQuery outside a transaction."""
    kept = b""
    for message in cut(said):
        said = said[len(message) :]
        if message[:1] != b"A":
            kept += message
        if message == _READY_IDLE:
            return kept
    return kept + said


Fits = Callable[[bytes, bytes], bool]
"""Whether the first stream, which a server sent, explains the second, which a client heard."""

_OF_THE_POOLER = (m.message(b"1"), m.message(b"3"))


def mostly(mine: bytes, heard: bytes) -> bool:
    """Whether all that was heard was said, in this order, where a pooler keeps statements by name: it may
    keep replies to itself, and confirm a Parse or a Close.
    """
    said = cut(mine)
    broken_off = mine[len(b"".join(said)) :]
    for message in cut(heard):
        heard = heard[len(message) :]
        if message in said:
            del said[: said.index(message) + 1]
        elif message not in _OF_THE_POOLER:
            return False
    return any(each.startswith(heard) for each in [*said, broken_off])


def judge(
    heard: bytes, mine: bytes, *, closed: bool, complete: bool, fits: Fits = bytes.startswith
) -> Verdict:
    """`mine`: what was allowed to be heard. `complete`: nothing more was waited for."""
    if fits(mine, heard):
        return _without_our_error(heard, closed, complete)
    error = last_error(heard)
    if error is None:
        return Verdict("strange", problem=f"heard {heard!r}, of which its server said {mine!r}")
    before = heard[: -len(error)]
    fields = told(error[5:])
    if not fits(mine, before):
        return Verdict("strange", problem=f"heard {before!r}, of which its server said {mine!r}")
    return Verdict("error", fields.get("C", ""), _fault_of_error(before, fields, closed))


def _fault_of_error(before: bytes, fields: Fields, closed: bool) -> str:
    if b"".join(cut(before)) != before:
        return f"an error inside of another message, behind {before!r}"
    if fields.get("S") != "FATAL" or not fields.get("C") or not fields.get("M"):
        return f"an error that does not say what ends: {fields}"
    # A server that is ready again behind a fatal error did not mean it, and may be lost later.
    if _is_fatal(_behind_ready(before)):
        return f"two errors for one fault, behind {before!r}: {fields}"
    return "" if closed else "an error, and then the connection stays open"


def _without_our_error(heard: bytes, closed: bool, complete: bool) -> Verdict:
    errors = [told(each[5:]) for each in cut(heard) if each[:1] == b"E"]
    code = errors[-1].get("C", "") if errors else ""
    if complete:
        return Verdict("served", code)
    if not closed:
        return Verdict("hangs", problem=f"waits for ever behind {heard!r}")
    if b"".join(cut(heard)) != heard:
        return Verdict("cut", code)
    if _is_fatal(heard):
        return Verdict("error", code)
    return Verdict("closed", problem=f"closed without a word behind {heard!r}")


def _is_fatal(stream: bytes) -> bool:
    """Whether a fatal error is in it."""
    return any(each[:1] == b"E" and told(each[5:]).get("S") == "FATAL" for each in cut(stream))


def _behind_ready(stream: bytes) -> bytes:
    """What comes behind the last ReadyForQuery."""
    messages = cut(stream)
    last = max((n for n, each in enumerate(messages) if each[:1] == b"Z"), default=-1)
    return b"".join(messages[last + 1 :])


def last_error(heard: bytes) -> bytes | None:
    """The ErrorResponse that ends exactly where the stream ends, wherever it begins."""
    at = heard.rfind(b"E")
    while at >= 0:
        if int.from_bytes(heard[at + 1 : at + 5], "big") == len(heard) - at - 1 and heard.endswith(b"\0\0"):
            return heard[at:]
        at = heard.rfind(b"E", 0, at)
    return None

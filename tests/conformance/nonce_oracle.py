"""Judges one reply: is it what PostgreSQL would have said to this asker, and to nobody else?

Law: a reply is whole, or it goes wrong at one place for a reason that the
asker's own circumstances allow. Not one word of anybody else is in it, also
not of the same asker's earlier requests.
"""

from collections import Counter
from dataclasses import dataclass, field

from tests.conformance.nonce_client import Reply
from tests.conformance.nonce_requests import NONCE, told

CANCELLED = "ERROR 57014 canceling statement due to user request"
TIMEOUT, WAITED = "FATAL 57014 query timeout", "FATAL 57014 query_timeout"
TERMINATED = "FATAL 57P01 terminating connection due to administrator command"
LOST = ("FATAL 08006 server conn crashed?",)
AFTER_AN_ERROR = ("ERROR 25P02", "ERROR 22012", "ERROR P0001", "ERROR 42601", "ERROR 42P05")
"""A failed transaction, and the errors that requests ask for."""


@dataclass(frozen=True)
class Circumstances:
    """What may have happened to a request: its asker's own cancel, its query timeout, the end of a server,
    the end of the process that had its connection (`orphaned`).
    """

    cancelled: bool = False
    hasty: bool = False
    disturbed: bool = False
    orphaned: bool = False

    def allow(self, error: str) -> bool:
        if error == CANCELLED:
            return self.cancelled
        if error.startswith((TIMEOUT, WAITED)):
            return self.hasty
        return self.disturbed and error.startswith((TERMINATED, *LOST))


@dataclass
class Tally:
    """What all askers together have seen; `replies` counts ReadyForQuery of requests that were judged."""

    requests: Counter[str] = field(default_factory=Counter)
    replies: int = 0
    whole: int = 0
    logins: int = 0
    left: int = 0
    cancels_sent: int = 0
    cancels_in_queue: int = 0
    cancels_that_hit: int = 0
    timeouts_in_queue: int = 0
    timeouts: int = 0
    lost: int = 0
    orphaned: int = 0
    foreign: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    hanging: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        return self.foreign + self.missing + self.hanging


class Oracle:
    """Counts in `tally`, and keeps in it whatever should not have been."""

    def __init__(self) -> None:
        self.tally = Tally()

    def judge(
        self, who: str, nonce: str, expected: list[str], reply: Reply, circumstances: Circumstances
    ) -> None:
        """`who` says in words what was asked, by whom."""
        tally = self.tally
        got = told(reply.messages)
        tally.replies += sum(message.tag == b"Z" for message in reply.messages)
        strangers = set(NONCE.findall("\n".join(got))) - {nonce}
        if strangers:
            tally.foreign.append(f"{who}: asked for {nonce} and got {sorted(strangers)}: {_short(got)}")
        if got == expected:
            tally.whole += 1
            return
        at = _first_difference(got, expected)
        reason = self._count(got, at, reply, circumstances)
        if reason:
            tally.missing.append(
                f"{who}: {reason} at line {at}: {_short(got[at : at + 4])},"
                f" expected {_short(expected[at : at + 4])}"
            )

    def _count(self, got: list[str], at: int, reply: Reply, circumstances: Circumstances) -> str:
        """Why the reply may not differ from what was expected; nothing if it may."""
        if at == len(got) and reply.closed and circumstances.orphaned:
            self.tally.orphaned += 1
            return ""
        if at == len(got):
            return "" if reply.torn and circumstances.disturbed else "ends"
        if not got[at].startswith("E "):
            return "differs"
        error = got[at][2:]
        fatal = [line for line in got if line.startswith("E FATAL")]
        if not circumstances.allow(error):
            return "an error that nothing explains"
        if len(fatal) > 1 or (fatal and (not reply.closed or got[-1] != fatal[0])):
            return "more than one end"
        if reply.closed and not fatal and not circumstances.orphaned:
            return "an end without a word"
        self._note(error, reply)
        return self._rest(got[at + 1 :], circumstances)

    def _note(self, error: str, reply: Reply) -> None:
        """PostgreSQL tells where in its source an error was raised; what only waited never came there."""
        tally = self.tally
        if error == CANCELLED:
            in_postgresql = any(tag == b"E" and b"\0Fpostgres.c\0" in body for tag, body in reply.messages)
            tally.cancels_that_hit += in_postgresql
            tally.cancels_in_queue += not in_postgresql
        elif error.startswith(TIMEOUT):
            tally.timeouts += 1
        elif error.startswith(WAITED):
            tally.timeouts_in_queue += 1
        else:
            tally.lost += 1

    def _rest(self, lines: list[str], circumstances: Circumstances) -> str:
        """Behind an allowed error only what follows from it, or another that is allowed."""
        for line in lines:
            if not line.startswith("E "):
                continue
            error = line[2:]
            if not circumstances.allow(error) and not error.startswith(AFTER_AN_ERROR):
                return f"then {error!r}"
        return ""


def _first_difference(got: list[str], expected: list[str]) -> int:
    """The first line that is not as expected; COPY data, told as one line, may just have stopped early."""
    for at, (one, two) in enumerate(zip(got, expected, strict=False)):
        if one != two:
            return at + (one.startswith("d ") and two.startswith(one))
    return min(len(got), len(expected))


def _short(lines: list[str]) -> list[str]:
    return [line[:100] for line in lines[:6]]

"""Compares what comes through the pooler with what PostgreSQL answered, message by message.

Law: the streams must be equal, but for what ALLOWED names. An allowance is as narrow as it can be, and every
use of one is counted and printed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from tests.conformance.differential.account import Account, Due
from tests.conformance.differential.normal import Normaliser
from tests.conformance.differential.script import Script
from tests.support import messages as m
from tests.support.messages import Message

OTHER = "another reply than PostgreSQL's"
MORE = "a reply that PostgreSQL does not give"
MISSING = "a reply that PostgreSQL gives does not come"
EARLY = "a reply comes before PostgreSQL would send it"
UNASKED = "something was said, or the connection ended, after the script before, when nothing was asked for"
STAYS = "the connection stays, where PostgreSQL hangs up"
LEAVES = "the connection ends, where PostgreSQL stays"

GONE = "an object is gone: the error comes before a ParameterDescription, or before another error"
FAILED = "in a failed transaction: a statement that this server has not prepared"
ALLOWED = (GONE, FAILED)
"""Where a statement has to be prepared on a server that lacks it, and that is not possible any more."""

_UNDEFINED_TABLE, _IN_FAILED_TRANSACTION, _PROTOCOL_VIOLATION = "42P01", "25P02", "08P01"


@dataclass
class Expectation:
    """What PostgreSQL answered: the replies as they came and normalised, and at each wait what was due."""

    account: Account
    replies: list[Message]
    closed: bool
    due: dict[int, Due]


@dataclass
class Difference:
    """The first point at which the pooler was not PostgreSQL: behind the request `sent`, at reply `at`."""

    script: Script
    what: str
    sent: int
    at: int
    expected: list[Message]
    got: list[Message] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """What two differences with one cause have in common: the kinds of what came and what should."""
        wanted, came = (said(stream[self.at : self.at + 1]) for stream in (self.expected, self.got))
        return f"{self.what}: {wanted} wanted, {came} came"


def said(messages: Sequence[Message]) -> str:
    """Types and SQLSTATEs in short."""
    return (
        " ".join(f"{message.tag.decode()} {sqlstate(message)}".strip() for message in messages) or "nothing"
    )


def sqlstate(message: Message) -> str:
    return m.fields_of(message.body).get("C", "") if message.tag in b"EN" else ""


class Follower:
    """Hears what comes through the pooler. `sent`: the number of the last request that was sent.

    `allowed`: the allowances used. `abandoned`: from here on the streams cannot be compared any more.
    """

    def __init__(self, script: Script, expected: Expectation) -> None:
        self.expected = expected
        self.got: list[Message] = []
        self.difference: Difference | None = None
        self.allowed: list[str] = []
        self.abandoned = False
        self.sent = -1
        self._script = script
        self._spared = 0
        self._changed: list[Message] = []
        self._normalise = Normaliser()

    @property
    def over(self) -> bool:
        """Whether there is nothing more to be found out."""
        return self.abandoned or self.difference is not None

    @property
    def count(self) -> int:
        """How many of the expected replies have come, or have been spared."""
        return len(self.got) + self._spared

    def hear(self, message: Message) -> None:
        """The next reply."""
        got = self._normalise(message)
        self.got.append(got)
        if self.over:
            return
        expected, number = self.expected.replies, self.count - 1
        if number >= len(expected):
            self.differs(MORE)
        elif not self._is_same(number, got) and not self._is_allowed(number, got):
            self.differs(OTHER)

    def _is_same(self, number: int, got: Message) -> bool:
        """Whether it is this reply. Parameters that change at one time are told in any order."""
        expected = self.expected.replies
        if got.tag != b"S" or expected[number].tag != b"S":
            return got == expected[number]
        if not self._changed:
            self._changed = list(takewhile(lambda reply: reply.tag == b"S", expected[number:]))
        if got not in self._changed:
            return False
        self._changed.remove(got)
        return True

    def differs(self, what: str, at: int | None = None) -> None:
        """Note a difference, unless there was one already."""
        if self.over:
            return
        if at is None:
            at = len(self.got) - (what in (OTHER, MORE))
        # Whoever reads it wants the same numbers on both sides.
        expected = self.expected.replies[self._spared :]
        self.difference = Difference(self._script, what, self.sent, at, expected, self.got)

    def check(self, due: Due) -> None:
        """All that must come by now has come: nothing more may have."""
        if self.count < due.must:
            self.differs(MISSING)
        elif self.count > due.may:
            self.differs(EARLY, due.may - self._spared)

    def _is_allowed(self, number: int, got: Message) -> bool:
        """Whether ALLOWED covers what came in place of this reply."""
        account, expected = self.expected.account, self.expected.replies[number]
        following = self.expected.replies[number + 1 : number + 2]
        request = account.owners[number]
        code = sqlstate(got)
        step = self._script.all[request]
        if not step.calls_statement:
            return False
        if step.names_statement and code == _UNDEFINED_TABLE and expected.tag in b"Et":
            self.allowed.append(GONE)
            self._spared += got in following
            # A statement without rows can still be described.
            self.abandoned = expected.tag == b"t" and got not in following
            return True
        if code == _IN_FAILED_TRANSACTION and account.statuses[request] == "E":
            self.abandoned = expected.tag == b"t" or sqlstate(expected) == _PROTOCOL_VIOLATION
            self.allowed += [FAILED] * self.abandoned
            return self.abandoned
        return False

"""Which reply belongs to which request, and which replies must have come by when.

Law: it reads a finished or growing stream of PostgreSQL's own replies and explains it by the rules of the
manual's chapter "Message Flow"; what it cannot explain is an error, never a guess. It invents no expectation:
`tests` cut scripts in their middle at PostgreSQL and find exactly what is due there.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from tests.conformance.differential.script import Step
from tests.support import messages as m
from tests.support.messages import Message

_ANSWER = {"1": "P", "2": "B", "3": "C", "T": "DQ", "n": "D", "t": "D", "I": "EQ", "s": "E"}
_ANSWER |= {"C": "EQ", "D": "EQ", "G": "EQ", "H": "EQ", "d": "EQ", "c": "EQ", "V": "F", "Z": "QSF"}
"""Reply tag -> the requests that may have it as an answer."""
_ENDS = {"1", "2", "3", "T", "n", "I", "s", "C"}
"""Replies that are the last one to a request of the extended protocol."""
_FLUSHES = frozenset("ENZGW")
"""Replies that PostgreSQL sends at once, with everything before them."""

OUTPUT_BUFFER = 8192
"""PostgreSQL sends when so much is waiting, Flush or not."""


class Unexplained(AssertionError):
    """PostgreSQL said what the account has no explanation for."""


class Due(NamedTuple):
    """How many replies must have come, and how many may have."""

    must: int
    may: int


class Account:
    """Tell it what was sent, and feed it PostgreSQL's replies in order.

    `owners`: by reply, the number of the request that PostgreSQL had to read to give it. `statuses`: by
    request, the last transaction status that PostgreSQL told before it came to it. `in_copy`: the requests
    behind which it waits for COPY data. `over`: its last word is said.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.tags = [step.tag for step in steps]
        self.fails = [step.fails for step in steps]
        self.replies: list[Message] = []
        self.owners: list[int] = []
        self.statuses = ["?"] * len(steps)
        self.in_copy: set[int] = set()
        self.over = False
        self._next = 0
        self._head: int | None = None
        self._copying = False
        self._skipping = False
        self._status = "I"
        self._sent = 0
        self._flushes: list[tuple[int, int]] = []

    def done(self, request: int) -> bool:
        """Whether every reply to this request and to those before it has come."""
        if self.over:
            return True
        return self._next > request and (self._head is None or self._copying)

    def sent(self, request: int) -> None:
        """This request and those before it are on their way."""
        self._sent = request + 1
        self._take_up()

    def _take_up(self) -> None:
        """Go on to the next request that PostgreSQL has to answer; in COPY, over the data it reads."""
        while self._next < self._sent and (self._head is None or self._copying):
            number = self._next
            self._next += 1
            tag = self.tags[number]
            self.statuses[number] = self._status
            if self._copying:
                self._copying = tag in "dHS" and not self.fails[number]
                if self._copying:
                    self.in_copy.add(number)
            elif self._skipping and tag != "S":
                continue
            elif tag == "H":
                self._flushes.append((number, len(self.replies)))
            elif tag not in "dcf":
                self._skipping = False
                self._head = number

    def feed(self, reply: Message) -> None:
        """The next reply."""
        tag = reply.tag.decode()
        self.replies.append(reply)
        self.owners.append(self._next - 1)
        if tag in "NSA":
            return
        if self._head is None:
            raise Unexplained(f"{reply} came when nothing was asked for")
        request = self.tags[self._head]
        if tag == "E":
            self._error(request, reply)
        elif request not in _ANSWER.get(tag, ""):
            raise Unexplained(f"{reply} came to {request}, number {self._head}")
        elif tag == "G":
            self._copying = True
            self.in_copy.add(self._next - 1)
        elif tag == "Z":
            self._status = reply.body.decode()
            self._copying = False
            self._head = None
        elif tag in _ENDS and request not in "QF":
            self._copying = False
            self._head = None
        self._take_up()

    def _error(self, request: str, reply: Message) -> None:
        self._copying = False
        if m.fields_of(reply.body).get("V") in ("FATAL", "PANIC"):
            self.over = True
        if request not in "QSF":
            self._skipping = True
            self._head = None

    def due(self, request: int) -> Due:
        """What must have come when PostgreSQL has read this request and waits for more."""
        belong = bisect_right(self.owners, request)
        sent = belong
        while sent and self.replies[sent - 1].tag.decode() not in _FLUSHES:
            sent -= 1
        flush = bisect_right(self._flushes, (request, belong))
        if flush:
            sent = max(sent, self._flushes[flush - 1][1])
        unsent = sum(len(reply.body) + 5 for reply in self.replies[sent:belong])
        return Due(sent, sent if unsent < OUTPUT_BUFFER else belong)

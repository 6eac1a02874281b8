"""What PostgreSQL answers to a sequence of requests, as a small reference for the account of what it owes.

A request is its tag and, where it may end in several ways, how it will end. Messages without an answer of
their own are there too: COPY data (`d`), Flush (`H`), CopyDone, CopyFail. Rows and COPY data from the server
are left out, for nobody accounts for them. The rules are those of the manual's chapter "Message Flow".
"""

from collections import deque
from typing import Literal, NamedTuple

Mode = Literal["normal", "skipping", "query copy", "extended copy"]

GOOD = {
    "P": "1",
    "B": "2",
    "C": "3",
    "Dn": "n",
    "DT": "T",
    "Dt": "tT",
    "DN": "tn",
    "EC": "C",
    "EI": "I",
    "Es": "s",
    "EH": "HC",
}
"""Replies to what does not fail."""


class Request(NamedTuple):
    """How a request ends and whose it is.

    `ends`: for P B D E C a key of GOOD, "error", or (E) "copy" and "broken copy", which fails before it reads
    anything; for S and F "ok" or "error"; for d and c "error" makes the COPY fail; for Q one letter for each
    statement: C command, T select, I nothing, H COPY out, G COPY in, g a broken one, ! an error.
    `whose`: "" the client's, "skip" the pooler's own.
    """

    tag: str
    ends: str = ""
    whose: str = ""


class Backend:
    """Takes one request after the other and puts replies, tags, into `replies`. An error of COPY data is an
    `e` there, and that of a CopyFail an `f`.
    """

    def __init__(self) -> None:
        self.mode: Mode = "normal"
        self.replies: deque[str] = deque()
        self._statements = ""

    def copy(self) -> "Backend":
        """A twin that goes its own way."""
        twin = Backend()
        twin.mode, twin.replies, twin._statements = self.mode, self.replies.copy(), self._statements
        return twin

    def take(self, request: Request) -> None:
        """Do what a request asks for."""
        if self.mode in ("query copy", "extended copy"):
            self._copy_in(request)
        elif self.mode == "skipping":
            if request.tag == "S":
                self.mode = "normal"
                self._sync(request)
        elif request.tag in "PBDEC":
            self._extended(request)
        elif request.tag == "Q":
            self._statements = request.ends
            self._go_on()
        elif request.tag == "S":
            self._sync(request)
        elif request.tag == "F":
            self.replies.extend("VZ" if request.ends == "ok" else "EZ")

    def _sync(self, request: Request) -> None:
        self.replies.extend("Z" if request.ends == "ok" else "EZ")

    def _extended(self, request: Request) -> None:
        if request.ends == "copy":
            self.replies.append("G")
            self.mode = "extended copy"
        elif request.ends in ("error", "broken copy"):
            self.replies.extend("GE" if request.ends == "broken copy" else "E")
            self.mode = "skipping"
        else:
            self.replies.extend(GOOD[request.ends])

    def _go_on(self) -> None:
        """The statements of a simple query that are left."""
        while self._statements:
            statement, self._statements = self._statements[0], self._statements[1:]
            self.replies.extend({"!": "E", "T": "TC", "H": "HC", "g": "GE"}.get(statement, statement))
            if statement in "!g":
                break
            if statement == "G":
                self.mode = "query copy"
                return
        self._statements = ""
        self.mode = "normal"
        self.replies.append("Z")

    def _copy_in(self, request: Request) -> None:
        if request.tag in "HS":
            return
        assert request.tag in "dcf", "no client of ours sends that in COPY: it would break the connection"
        if request.tag == "f" or request.ends == "error":
            self.replies.append("f" if request.tag == "f" else "e")
            if self.mode == "extended copy":
                self.mode = "skipping"
            else:
                self._statements = ""
                self._go_on()
        elif request.tag == "c":
            self.replies.append("C")
            if self.mode == "extended copy":
                self.mode = "normal"
            else:
                self._go_on()

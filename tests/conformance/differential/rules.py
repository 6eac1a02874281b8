"""Which scripts may be compared: what no script says, and why.

An author asks before every message, and shrinking keeps to the same rules, so that no script is ever reduced
to a difference that everybody knows. Two of them are faults of PostgreSQL 18.4:

- The unnamed portal is used only behind its own Bind, before the next Sync or Query. A simple query that
  fails in a transaction block leaves an unnamed portal whose text has been freed; an Execute of it reads that
  text, and the backend may crash, with all others.
- Where servers are shared, no Sync stands directly behind a Query or FunctionCall that is behind an Execute
  of the same group. The backend then says that no transaction is open, keeps one, and gives the next command,
  whoever sends it, XX000 "unexpected state STARTED".

The others:

- Where a COPY FROM STDIN may have begun, its data and its end follow: another request breaks the connection,
  so it may only be the last of all.
- In statement mode a Query or FunctionCall stands behind a Sync: in the middle of a group it is one command
  of a transaction of several, which that mode refuses.
- SQL-level PREPARE is session state: used and deallocated in one transaction.
- No Sync stands among the data of a COPY of which a row is bad. Whether it is answered depends on where
  PostgreSQL was when it failed, and only PostgreSQL knows; the pooler gives up such a server and its client.
"""

import re
from collections.abc import Sequence
from typing import Literal

from tests.conformance.differential.script import Step

Mode = Literal["session", "transaction", "statement"]

_ENDS_TRANSACTION = re.compile(r"\b(commit|rollback(?! to)|abort|end)\b", re.IGNORECASE)
_BEGINS = re.compile(r"begin( read only)?", re.IGNORECASE)
_COPIES_IN = re.compile(r"\bfrom stdin\b", re.IGNORECASE)
SQL_PREPARED = re.compile(r"\bq\d{7}_\d+\b")
SQL_PREPARED_BYTES = re.compile(rb"\bq\d{7}_")
"""Names of SQL-level prepared statements; no other text contains the like."""


class Rules:
    """Goes along a script. In all modes but `session`, several sessions take turns on a server."""

    def __init__(self, mode: Mode) -> None:
        self._shared = mode != "session"
        self._alone = mode == "statement"
        self._ending: set[str] = set()
        self._prepared: set[str] = set()
        self._bound = False
        self._block = not self._shared
        self._clean = True
        self._executed = False
        self._interrupted = False
        self._copies: set[str] = set()
        self._copy_portals: set[str] = set()
        self._copying = False

    @property
    def clean(self) -> bool:
        """Whether no group of the extended protocol is open."""
        return self._clean

    @property
    def interrupted(self) -> bool:
        """Whether a Sync may not come next."""
        return self._interrupted

    @property
    def copying(self) -> bool:
        """Whether the server may be waiting for COPY data."""
        return self._copying

    @property
    def bound(self) -> bool:
        """Whether the unnamed portal was bound since the last Sync or Query."""
        return self._bound

    @property
    def in_block(self) -> bool:
        """Whether the next message is certainly in the transaction block of the ones before, or no matter."""
        return self._block

    def allows(self, step: Step) -> bool:
        """Whether this may come next."""
        tag = step.tag
        if self._copying:
            return tag in "dcfHS"
        if (tag == "D" and step.body == b"P\0") or (tag == "E" and step.body[0] == 0):
            return self._bound
        if tag == "S" and self._interrupted:
            return False
        if self._alone and tag in "QF" and not self._clean:
            return False
        if tag == "Q":
            made = set(re.findall(r"prepare (q\d{7}_\d+)", step.strings(1)[0], re.IGNORECASE))
            used = set(SQL_PREPARED.findall(step.strings(1)[0])) - made
            return used <= self._prepared and (not made or self._block or ";" in step.strings(1)[0])
        return True

    def take(self, step: Step) -> None:
        """This comes next."""
        if self._copying and step.tag == "S":
            # It may be ignored: the group goes on.
            self._bound = False
            return
        match step.tag:
            case "P":
                self._parse(*step.strings(2))
            case "B":
                self._bind(*step.strings(2))
            case "E":
                self._copying = step.strings(1)[0] in self._copy_portals
            case "S" | "Q" | "F":
                self._boundary(step)
            case "c" | "f":
                self._copying = False
        if step.tag not in "QFH":
            self._clean = step.tag == "S"
        if step.tag in "PBDE":
            self._interrupted = False
        self._executed = step.tag == "E" or (self._executed and step.tag != "S")

    def _bind(self, portal: str, statement: str) -> None:
        self._bound = self._bound or not portal
        if statement in self._ending:
            self._end_block()
        if statement in self._copies:
            self._copy_portals.add(portal)
        elif not portal:
            self._copy_portals.discard("")

    def _parse(self, name: str, sql: str) -> None:
        if _COPIES_IN.search(sql):
            self._copies.add(name)
        elif not name and self._clean:
            self._copies.discard("")
        ends = _ENDS_TRANSACTION.search(sql) is not None
        if ends:
            self._ending.add(name)

    def _end_block(self) -> None:
        if self._shared:
            self._block = False
            self._prepared.clear()

    def _boundary(self, step: Step) -> None:
        """What ends the transaction unless a block is open, and the unnamed portal in any case."""
        self._bound = False
        self._interrupted = step.tag != "S" and self._executed and self._shared
        if step.tag == "Q":
            sql = step.strings(1)[0]
            if self._clean:
                self._copies.discard("")
            self._copying = _COPIES_IN.search(sql) is not None
            if self._clean and _BEGINS.fullmatch(sql):
                self._block = True
            elif _ENDS_TRANSACTION.search(sql):
                self._end_block()
            if self._block:
                self._prepared |= set(SQL_PREPARED.findall(sql))


def lawful(steps: Sequence[Step], mode: Mode) -> bool:
    """Whether a whole script keeps to the rules."""
    rules = Rules(mode)
    for number, step in enumerate(steps, 1):
        breach = number == len(steps) and rules.copying and step.tag == "Q"
        if not breach and not rules.allows(step):
            return False
        rules.take(step)
    return not _syncs_in_bad_data(steps)


def _syncs_in_bad_data(steps: Sequence[Step]) -> bool:
    """Whether a Sync stands between CopyData and the end of it, where that data is bad or has no end."""
    data = synced = bad = False
    for step in steps:
        if step.tag == "d":
            data, bad = True, bad or step.fails
        elif step.tag == "S":
            synced = synced or data
        elif step.tag != "H":
            if synced and (bad or step.tag not in "cf"):
                return True
            data = synced = bad = False
    return synced

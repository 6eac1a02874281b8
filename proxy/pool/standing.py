"""What the ledger over several workers knows of one pool of one worker, and who gives to whom.

A share is what a worker's clients are of all clients that have or want a server of the pool. Servers in use
change workers only where that is far from what they hold, or where somebody waits much longer than others.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from proxy.pool.interfaces import PoolKey
from proxy.pool.leasing import Report
from proxy.pool.units import SECOND

QUANTUM: Final = SECOND // 10
"""A pool gives servers of which its clients make use away no faster than one in this time (ns)."""
SMOOTHING: Final = 4 * SECOND
"""Over this time (ns) the load of a worker is averaged."""
UNFAIR: Final = 0.75
"""So many servers above and below their shares two workers have to be before one moves."""
PATIENCE: Final = SECOND
"""Who has waited this long (ns), and twice as long as others do, is helped whatever the shares are."""


class Party(NamedTuple):
    """One pool of one worker."""

    worker: int
    key: PoolKey


class Taking(NamedTuple):
    """A server that a holder was told to give away, for a claimant, or for nobody if there are too many.
    `void`: it was told that it need not.
    """

    holder: Party
    claimant: Party | None
    due: bool
    at: int
    void: bool = False


class Standing:
    """How a party stands. `taking`: idle servers that it was told to give away; `due`: those that it shall
    give away at a release; `tried`: when it was last told so. `claim`: when (ns) somebody last lacked a
    server such as it has, None if it has not been told so. `closing`: for whom it closes servers.
    """

    __slots__ = (
        "at",
        "below",
        "claim",
        "closing",
        "due",
        "leased",
        "load",
        "report",
        "taking",
        "tried",
    )

    def __init__(self, leased: int = 0, tried: int = 0) -> None:
        self.leased = leased
        self.report: Report | None = None
        self.at = 0
        self.load = 0.0
        self.taking = 0
        self.due = 0
        self.tried = tried
        self.claim: int | None = None
        self.below = 0
        self.closing: list[Party | None] = []

    def reported(self, report: Report, now: int) -> None:
        """The newest report; the load is averaged over time."""
        weight = min((now - self.at) / SMOOTHING, 1.0) if self.report is not None else 1.0
        self.load += (report.load - self.load) * weight
        self.report, self.at = report, now

    @property
    def busy(self) -> bool:
        """Whether anything is counted for it, or owed."""
        return bool(
            self.leased or self.taking or self.due or self.closing or self.claim is not None or self.below
        )

    @property
    def spare(self) -> int:
        """Idle servers that it was not yet told to give away."""
        return self.report.spare - self.taking if self.report is not None else 0

    @property
    def usual_wait(self) -> int:
        """How long its clients wait at present (ns)."""
        report = self.report
        if report is None or not report.lacking or report.since is None:
            return 0
        return max(self.at - report.since, 0)


Held = tuple[Party, Standing]


def over_share(mine: Standing, waited: int, siblings: Sequence[Held]) -> Party | None:
    """Which of the other workers' parts of the same pool has to give a busy server to this one, whose first
    client has waited so long (ns).
    """
    if not siblings:
        return None
    load = mine.load + sum(standing.load for _, standing in siblings)
    total = mine.leased + sum(standing.leased for _, standing in siblings)
    each = total / load if load else 0.0
    holder, most = max(siblings, key=lambda one: (one[1].leased - one[1].load * each, -one[1].tried))
    usual = most.usual_wait
    unfair = most.leased - most.load * each >= UNFAIR and mine.load * each - mine.leased >= UNFAIR
    if unfair or (not mine.leased and waited >= usual) or waited >= max(PATIENCE, 2 * usual):
        return holder
    return None


def younger(since: int, others: Iterable[Held], rested: set[PoolKey]) -> Party | None:
    """A holder of another pool whose clients wait since later than this (ns), or not at all; who was told
    longest ago comes first. Of those that wait only `rested` ones give.
    """
    waiting: Party | None = None
    for holder, standing in sorted(others, key=lambda one: one[1].tried):
        if standing.due or standing.closing:
            continue
        report = standing.report
        if report is None or not report.lacking or report.since is None:
            return holder
        if waiting is None and since < report.since and holder.key in rested:
            waiting = holder
    return waiting

"""What the ledger over several workers knows: who holds leases, who lacks servers, what the limits leave.

Laws of this file: it counts, and decides nothing. A lease is counted from the moment it is granted until its
worker has returned it, or, for a worker that is dead, until its server is known to be gone.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from proxy.pool.interfaces import PoolKey
from proxy.pool.leased import Leased, add
from proxy.pool.leasing import Below, FromLedger, Report
from proxy.pool.ledger import Limits
from proxy.pool.standing import Party, Standing

Send = Callable[[int, FromLedger, Sequence[int]], None]


class Book(Leased):
    """`limits` gives the present limits of a pool; `send` sends to a worker of this number. `wants` are the
    reports of those whose clients wait, `minimal` of those that are below their minimum.
    """

    def __init__(self, limits: Callable[[PoolKey], Limits], send: Send) -> None:
        super().__init__()
        self.limits = limits
        self.send = send
        self.standings: dict[PoolKey, dict[int, Standing]] = {}
        self.wants: dict[Party, Report] = {}
        self.minimal: dict[Party, Report] = {}
        self._dead: Counter[PoolKey] = Counter()

    @property
    def keys(self) -> list[PoolKey]:
        """The pools that have leases."""
        return list(self._pools)

    def of_worker(self, worker: int) -> Counter[PoolKey]:
        """Leases of a worker by pool."""
        found = ((key, known[worker]) for key, known in self.standings.items() if worker in known)
        return Counter({key: standing.leased for key, standing in found if standing.leased})

    def standing(self, party: Party) -> Standing:
        """How it stands; made where nothing was known of it."""
        known = self.standings.setdefault(party.key, {})
        if party.worker not in known:
            known[party.worker] = Standing()
            self.count(party.key, 0)
        return known[party.worker]

    def queue(self) -> list[tuple[Party, Report]]:
        """Who lacks servers, the longest-waiting first."""
        return sorted(self.wants.items(), key=lambda item: item[1].since or 0)

    def full(self, key: PoolKey, want: Report) -> bool:
        """Whether the pool has as many as it may have."""
        limits, count = self.limits(key), self.of_pool(key)
        if want.since is None and count >= limits.minimum:
            return True
        return bool(limits.pool) and count >= limits.pool + (limits.reserve if want.reserve else 0)

    def lacks(self, key: PoolKey, first: Party | None) -> tuple[bool, bool]:
        """Whether the limits of the database and of the user are reached, but for one slot of each that is
        kept for the first.
        """
        limits = self.limits(key)
        databases, users = self.of_database(key.database), self.of_user(key.user)
        if first is not None:
            databases += first.key.database == key.database
            users += first.key.user == key.user
        return 0 < limits.database <= databases, 0 < limits.user <= users

    # What changes.

    def reported(self, party: Party, report: Report, now: int) -> bool:
        """The newest report counts. Returns whether anything follows from it but by the time that passes."""
        standing = self.standing(party)
        old, want = standing.report, self.wants.pop(party, None)
        standing.reported(report, now)
        self.minimal.pop(party, None)
        if report.lacking > 0:
            (self.minimal if report.since is None else self.wants)[party] = report
        if old is None or report.spare > old.spare:
            return True
        if want is None or party not in self.wants:
            return want is not None or report.lacking > 0
        return report.reserve > want.reserve or (
            report.lacking > want.lacking
            and any(standing.spare > 0 for standing in self.standings[party.key].values())
        )

    def bury(self, worker: int) -> tuple[Counter[PoolKey], list[Standing]]:
        """A worker is dead: its leases, which stay, and how it stood."""
        leases = self.of_worker(worker)
        self._dead.update(leases)
        stood = []
        for key, known in list(self.standings.items()):
            if (standing := known.pop(worker, None)) is not None:
                stood.append(standing)
            if not known:
                del self.standings[key]
        for wants in (self.wants, self.minimal):
            for party in [party for party in wants if party.worker == worker]:
                del wants[party]
        return leases, stood

    def release(self, key: PoolKey) -> bool:
        """The server of one lease of a dead worker is gone; False if there was none."""
        if self._dead[key] <= 0:
            return False
        add(self._dead, key, -1)
        self.count(key, -1)
        return True

    def tidy(self, party: Party) -> None:
        """Clients choose names of databases: what nobody uses is not kept."""
        known = self.standings.get(party.key, {})
        standing = known.get(party.worker)
        wanted = party in self.wants or party in self.minimal
        if standing is None or standing.busy or wanted or self.limits(party.key).minimum:
            return
        del known[party.worker]
        if not known:
            del self.standings[party.key]

    def count(self, key: PoolKey, by: int) -> None:
        """So many leases more; where a minimum counts, workers hear what those before them hold."""
        self._add(key, by)
        if not self.limits(key).minimum:
            return
        below = 0
        for worker, standing in sorted(self.standings.get(key, {}).items()):
            if standing.below != below:
                standing.below = below
                self.send(worker, Below(key, below), ())
            below += standing.leased

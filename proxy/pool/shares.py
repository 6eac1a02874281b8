"""The ledger over several workers: who may open servers, and who has to give some away.

Laws of this file:
- A lease is counted from the moment it is granted until its worker has returned it, or, for a worker that is
  dead, until its server is known to be gone. The sum of leases never exceeds a limit; after a limit was
  lowered it only falls.
- A server that moves takes its lease along in one step.
- Whoever waits is served by its turn, or by somebody who has more than its share.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from proxy.pool.interfaces import PoolKey
from proxy.pool.leased import Leased, add
from proxy.pool.leasing import (
    Arrival,
    Below,
    Claim,
    Forget,
    FromLedger,
    FromWorker,
    Grant,
    How,
    Report,
    Returned,
    Take,
    Yielded,
)
from proxy.pool.ledger import Limits
from proxy.pool.standing import QUANTUM, Held, Party, Standing, Taking, over_share, younger
from proxy.pool.units import SECOND

Send = Callable[[int, FromLedger, Sequence[int]], None]

LINGER: Final = SECOND // 4
"""Holders hear that nobody lacks anything any more only after this time (ns): it may be so for a moment."""
CLAIMED_AT_ONCE: Final = 16
"""For so many of those who wait longest, and so many of the others by turns, servers are looked for."""


class Shares(Leased):
    """`limits` gives the present limits of a pool; `send` sends to a worker of this number."""

    def __init__(self, limits: Callable[[PoolKey], Limits], send: Send) -> None:
        super().__init__()
        self._limits = limits
        self._send = send
        self._standings: dict[PoolKey, dict[int, Standing]] = {}
        self._dead: Counter[PoolKey] = Counter()
        self._wants: dict[Party, Report] = {}
        self._minimal: dict[Party, Report] = {}
        self._promised: Counter[Party] = Counter()
        self._due: Counter[Party] = Counter()
        self._takes: dict[int, Taking] = {}
        self._last_take = 0
        self._turn = 0
        self._turned: dict[PoolKey, int] = {}
        self._claimed: set[Party] = set()
        self._over: set[PoolKey] = set()
        self.moved = 0

    # What is counted.

    def of_worker(self, worker: int) -> Counter[PoolKey]:
        """Leases of a worker by pool."""
        found = ((key, known[worker]) for key, known in self._standings.items() if worker in known)
        return Counter({key: standing.leased for key, standing in found if standing.leased})

    # What happens.

    def receive(self, worker: int, message: FromWorker, descriptors: Sequence[int], now: int) -> None:
        """A worker has sent a message; descriptors stay the caller's to close."""
        party = Party(worker, message.key)
        match message:
            case Report():
                self._reported(party, message, now)
            case Returned():
                self._returned(party)
            case Yielded():
                self._yielded(party, message, descriptors, now)
        self._settle(now)
        self._tidy(party)

    def lost(self, worker: int, now: int) -> Counter[PoolKey]:
        """A worker is dead. Returns its leases, each of which counts until it is `freed`."""
        leases = self.of_worker(worker)
        self._dead.update(leases)
        for key, known in list(self._standings.items()):
            if (standing := known.pop(worker, None)) is not None:
                for claimant in standing.closing:
                    self._redeem(claimant, due=False)
            if not known:
                del self._standings[key]
        for number, taking in list(self._takes.items()):
            if taking.holder.worker == worker:
                del self._takes[number]
                self._redeem(taking.claimant, due=taking.due)
        for wants in (self._wants, self._minimal, self._promised, self._due):
            for party in [party for party in wants if party.worker == worker]:
                del wants[party]
        self._claimed = {party for party in self._claimed if party.worker != worker}
        self._settle(now)
        return leases

    def freed(self, key: PoolKey, now: int) -> None:
        """The server of one lease of a dead worker is gone."""
        if self._dead[key] > 0:
            self._dead[key] -= 1
            self._count(key, -1)
            self._settle(now)

    def changed(self, now: int) -> None:
        """Limits may have changed."""
        self._over = set(self._pools)
        self._settle(now)

    def sweep(self, now: int) -> bool:
        """Do what is due; whether there is more to be done in a moment."""
        self._settle(now)
        return bool(self._wants or self._claimed or self._over)

    # Messages.

    def _reported(self, party: Party, report: Report, now: int) -> None:
        standing = self._standing(party)
        standing.reported(report, now)
        self._wants.pop(party, None)
        self._minimal.pop(party, None)
        if report.lacking > 0:
            (self._minimal if report.since is None else self._wants)[party] = report

    def _returned(self, party: Party) -> None:
        standing = self._standing(party)
        if standing.leased:
            standing.leased -= 1
            self._count(party.key, -1)
        if standing.closing:
            self._redeem(standing.closing.pop(0), due=False)

    def _yielded(self, party: Party, message: Yielded, descriptors: Sequence[int], now: int) -> None:
        taking = self._takes.pop(message.number, None)
        if taking is None or taking.holder != party:
            return
        standing = self._standing(party)
        self._redeem(taking.claimant, due=taking.due)
        if taking.due:
            standing.due -= 1
        else:
            standing.taking -= 1
        if standing.report is not None and standing.report.spare:
            standing.report = replace(standing.report, spare=standing.report.spare - 1)
        if message.how is How.CLOSING:
            standing.closing.append(taking.claimant)
            if taking.claimant is not None:
                self._promised[taking.claimant] += 1
        elif message.how is How.MOVED:
            self._deliver(party, taking.claimant, message, descriptors)

    def _deliver(
        self, sender: Party, claimant: Party | None, message: Yielded, descriptors: Sequence[int]
    ) -> None:
        """A server is on its way: to whom it was taken for, else to who lacks one, else back."""
        to = claimant
        if to not in self._wants:
            waiting = [party for party in self._wants if party.key == sender.key]
            to = min(waiting, key=lambda party: self._wants[party].since or 0, default=sender)
        assert to is not None
        self._standing(sender).leased -= 1
        self._standing(to).leased += 1
        if (want := self._wants.get(to)) is not None:
            if want.lacking > 1:
                self._wants[to] = replace(want, lacking=want.lacking - 1)
            else:
                del self._wants[to]
        self.moved += to != sender
        self._send(to.worker, Arrival(to.key, message.cargo, message.inode), descriptors)
        self._count(to.key, 0)

    # Granting.

    def _settle(self, now: int) -> None:
        if self._wants or self._minimal:
            self._grant()
        if self._over:
            self._shed(now)
        if self._wants:
            self._claim(now)
        if self._takes:
            self._give_up_stuck(now)
        if self._claimed:
            self._end_claims(now)

    def _queue(self) -> list[tuple[Party, Report]]:
        """Who lacks servers, the longest-waiting first."""
        return sorted(self._wants.items(), key=lambda item: item[1].since or 0)

    def _grant(self) -> None:
        first: Party | None = None
        for party, want in (*self._queue(), *self._minimal.items()):
            if self._pool_full(party.key, want):
                continue
            if any(self._lacks(party.key, first)):
                # For who has waited longest one free slot of each limit is kept: two might never be free at
                # once.
                first = first or party
                continue
            (self._minimal if want.since is None else self._wants).pop(party, None)
            self._standing(party).leased += 1
            self._count(party.key, 1)
            self._send(party.worker, Grant(party.key), ())

    def _pool_full(self, key: PoolKey, want: Report) -> bool:
        limits, count = self._limits(key), self._pools[key]
        if want.since is None and count >= limits.minimum:
            return True
        return bool(limits.pool) and count >= limits.pool + (limits.reserve if want.reserve else 0)

    def _lacks(self, key: PoolKey, first: Party | None) -> tuple[bool, bool]:
        """Whether the limits of the database and of the user are reached."""
        limits = self._limits(key)
        databases, users = self._databases[key.database], self._users[key.user]
        if first is not None:
            databases += first.key.database == key.database
            users += first.key.user == key.user
        return 0 < limits.database <= databases, 0 < limits.user <= users

    # Taking back.

    def _claim(self, now: int) -> None:
        first: Party | None = None
        queue = self._queue()
        if rest := queue[CLAIMED_AT_ONCE:]:
            # Who waits longest may wait for what nobody can give.
            self._turn = (self._turn + CLAIMED_AT_ONCE) % len(rest)
            queue[CLAIMED_AT_ONCE:] = rest[self._turn : self._turn + CLAIMED_AT_ONCE]
        for party, want in queue:
            lacks = (False, False)
            if not self._pool_full(party.key, want):
                lacks = self._lacks(party.key, None)
                first = first or party
            others = list(self._helpful(party, lacks, party == first)) if any(lacks) else []
            siblings = [
                (Party(worker, party.key), standing)
                for worker, standing in self._standings[party.key].items()
                if worker != party.worker and standing.leased
            ]
            for holder, standing in (*siblings, *others):
                self._make_claim(holder, standing, now)
                # Who is to give at a release may take its time: what is idle is taken all the same.
                while self._promised[party] < want.lacking and standing.spare > 0:
                    self._take(holder, party, now, due=False)
            if not self._promised[party] and not self._due[party]:
                self._take_due(party, want.since or 0, siblings, others, now)

    def _take_due(
        self, party: Party, since: int, siblings: Sequence[Held], others: Sequence[Held], now: int
    ) -> None:
        holder = None
        if self._rested(party.key, now) and not any(standing.due for _, standing in siblings):
            holder = over_share(self._standing(party), now - since, siblings)
        if holder is None and others:
            rested = {other.key for other, _ in others if self._rested(other.key, now)}
            holder = younger(since, others, rested)
        if holder is not None:
            self._turned[holder.key] = now
            self._take(holder, party, now, due=True)

    def _rested(self, key: PoolKey, now: int) -> bool:
        """Whether busy servers of the pool have changed hands long enough ago."""
        return now - self._turned.get(key, -QUANTUM) >= QUANTUM

    def _helpful(self, party: Party, lacks: tuple[bool, bool], first: bool) -> Iterator[Held]:
        """Holders of other pools whose slots the party lacks and could use, or that are kept for it."""
        key = party.key
        for other, known in self._standings.items():
            helps = (other.database == key.database, other.user == key.user)
            if first:
                useful = (lacks[0] and helps[0]) or (lacks[1] and helps[1])
            else:
                useful = (helps[0] or not lacks[0]) and (helps[1] or not lacks[1])
            if other == key or not useful:
                continue
            for worker, standing in known.items():
                if standing.leased > len(standing.closing):
                    yield Party(worker, other), standing

    def _take(self, holder: Party, claimant: Party | None, now: int, *, due: bool) -> None:
        self._last_take += 1
        standing = self._standing(holder)
        if due:
            standing.due += 1
            standing.tried = now
        else:
            standing.taking += 1
        self._takes[self._last_take] = Taking(holder, claimant, due, now)
        if claimant is not None:
            (self._due if due else self._promised)[claimant] += 1
        move = claimant is not None and claimant.key == holder.key
        self._send(holder.worker, Take(self._last_take, holder.key, move, due), ())

    def _redeem(self, claimant: Party | None, *, due: bool) -> None:
        """What was promised has come, or will not come."""
        counts = self._due if due else self._promised
        if claimant is not None and counts[claimant] > 0:
            add(counts, claimant, -1)

    def _give_up_stuck(self, now: int) -> None:
        """Who is in a long transaction cannot give: another may."""
        for number, taking in list(self._takes.items()):
            if taking.void or not taking.due or taking.claimant is None:
                continue
            if now - taking.at >= QUANTUM or taking.claimant not in self._wants:
                self._takes[number] = taking._replace(void=True)
                self._send(taking.holder.worker, Forget(number), ())

    def _shed(self, now: int) -> None:
        """Servers above the size of a pool that was made smaller are closed as they become free."""
        for key in list(self._over):
            limits = self._limits(key)
            known = self._standings.get(key, {})
            asked = sum(
                taking.claimant is None and taking.holder.key == key for taking in self._takes.values()
            )
            leaving = sum(standing.closing.count(None) for standing in known.values())
            excess = self._pools[key] - limits.pool - limits.reserve if limits.pool else 0
            if excess <= 0:
                self._over.discard(key)
            for _ in range(excess - asked - leaving):
                worker = max(known, key=lambda one: known[one].leased - known[one].due, default=None)
                if worker is not None and known[worker].leased > known[worker].due:
                    self._take(Party(worker, key), None, now, due=True)

    # Claims.

    def _make_claim(self, holder: Party, standing: Standing, now: int) -> None:
        if standing.claim is None:
            self._claimed.add(holder)
            self._send(holder.worker, Claim(holder.key, made=True), ())
        standing.claim = now

    def _end_claims(self, now: int) -> None:
        for holder in list(self._claimed):
            standing = self._standing(holder)
            if standing.claim is None or now - standing.claim >= LINGER:
                standing.claim = None
                self._claimed.discard(holder)
                self._send(holder.worker, Claim(holder.key, made=False), ())
                self._tidy(holder)

    # Counting.

    def _standing(self, party: Party) -> Standing:
        known = self._standings.setdefault(party.key, {})
        if party.worker not in known:
            known[party.worker] = Standing()
            self._count(party.key, 0)
        return known[party.worker]

    def _tidy(self, party: Party) -> None:
        """Clients choose names of databases: what nobody uses is not kept."""
        known = self._standings.get(party.key, {})
        standing = known.get(party.worker)
        wanted = party in self._wants or party in self._minimal
        if standing is None or standing.busy or wanted or self._limits(party.key).minimum:
            return
        del known[party.worker]
        if not known:
            del self._standings[party.key]
            self._turned.pop(party.key, None)

    def _count(self, key: PoolKey, by: int) -> None:
        """So many leases more; where a minimum counts, workers hear what those before them hold."""
        self._add(key, by)
        if not self._limits(key).minimum:
            return
        below = 0
        for worker, standing in sorted(self._standings.get(key, {}).items()):
            if standing.below != below:
                standing.below = below
                self._send(worker, Below(key, below), ())
            below += standing.leased

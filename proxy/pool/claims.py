"""Who has to give servers away, where a limit is reached or a pool was made smaller.

Laws of this file: what is idle is taken at once, busy servers only from who has more than its share, one in a
QUANTUM. What was promised to somebody is not looked for again until it has come, or will not come.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from proxy.pool.book import Book
from proxy.pool.interfaces import PoolKey
from proxy.pool.leased import add
from proxy.pool.leasing import Claim, Forget, Report, Take
from proxy.pool.standing import QUANTUM, Held, Party, Standing, Taking, over_share, younger
from proxy.pool.units import SECOND

LINGER: Final = SECOND // 4
"""Holders hear that nobody lacks anything any more only after this time (ns): it may be so for a moment."""
CLAIMED_AT_ONCE: Final = 16
"""For so many of those who wait longest, and so many of the others by turns, servers are looked for."""


class Claims:
    """Over what the book says."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._promised: Counter[Party] = Counter()
        self._due: Counter[Party] = Counter()
        self._takes: dict[int, Taking] = {}
        self._last_take = 0
        self._turn = 0
        self._turned: dict[PoolKey, int] = {}
        self._claimed: set[Party] = set()
        self._over: set[PoolKey] = set()

    @property
    def pending(self) -> bool:
        """Whether there is something to be done in a moment."""
        return bool(self._claimed or self._over)

    # What happens.

    def settle(self, now: int) -> None:
        """Do what is to be done."""
        if self._over:
            self._shed(now)
        if self._book.wants:
            self._claim_for_all(now)
        if self._takes:
            self._give_up_stuck(now)
        if self._claimed:
            self._end(now)

    def limits_changed(self) -> None:
        """There may be more servers than there should be."""
        self._over = set(self._book.keys)

    def answered(self, number: int, holder: Party) -> Taking | None:
        """A holder says what became of a `Take`; None if it was not told so."""
        taking = self._takes.get(number)
        if taking is None or taking.holder != holder:
            return None
        del self._takes[number]
        self._over_with(taking)
        standing = self._book.standing(holder)
        if taking.due:
            standing.due -= 1
        else:
            standing.taking -= 1
        return taking

    def closing(self, standing: Standing, claimant: Party | None) -> None:
        """A server is being closed for somebody."""
        standing.closing.append(claimant)
        if claimant is not None:
            self._promised[claimant] += 1

    def closed(self, standing: Standing) -> None:
        """Of those that are being closed, one is."""
        if standing.closing:
            _redeem(self._promised, standing.closing.pop(0))

    def lost(self, worker: int, stood: Sequence[Standing]) -> None:
        """A worker is dead; so it stood."""
        for standing in stood:
            for claimant in standing.closing:
                _redeem(self._promised, claimant)
        for number, taking in list(self._takes.items()):
            if taking.holder.worker == worker:
                del self._takes[number]
                self._over_with(taking)
        for counts in (self._promised, self._due):
            for party in [party for party in counts if party.worker == worker]:
                del counts[party]
        self._claimed = {party for party in self._claimed if party.worker != worker}

    def _over_with(self, taking: Taking) -> None:
        _redeem(self._due if taking.due else self._promised, taking.claimant)

    # Taking.

    def _claim_for_all(self, now: int) -> None:
        first: Party | None = None
        queue = self._book.queue()
        if rest := queue[CLAIMED_AT_ONCE:]:
            # Who waits longest may wait for what nobody can give.
            self._turn = (self._turn + CLAIMED_AT_ONCE) % len(rest)
            queue[CLAIMED_AT_ONCE:] = rest[self._turn : self._turn + CLAIMED_AT_ONCE]
        for party, want in queue:
            lacks = (False, False)
            if not self._book.full(party.key, want):
                lacks = self._book.lacks(party.key, None)
                first = first or party
            others = list(self._helpful(party, lacks, party == first)) if any(lacks) else []
            self._claim_for(party, want, others, now)

    def _claim_for(self, party: Party, want: Report, others: Sequence[Held], now: int) -> None:
        siblings = [
            (Party(worker, party.key), standing)
            for worker, standing in self._book.standings[party.key].items()
            if worker != party.worker and standing.leased
        ]
        for holder, standing in (*siblings, *others):
            self._make_known(holder, standing, now)
            # Who is to give at a release may take its time: what is idle is taken all the same.
            while self._promised[party] < want.lacking and standing.spare > 0:
                self._take_idle(holder, party, now)
        if not self._promised[party] and not self._due[party]:
            self._take_due(party, want.since or 0, siblings, others, now)

    def _take_due(
        self, party: Party, since: int, siblings: Sequence[Held], others: Sequence[Held], now: int
    ) -> None:
        holder = None
        if self._rested(party.key, now) and not any(standing.due for _, standing in siblings):
            holder = over_share(self._book.standing(party), now - since, siblings)
        if holder is None and others:
            rested = {other.key for other, _ in others if self._rested(other.key, now)}
            holder = younger(since, others, rested)
        if holder is not None:
            self._turned[holder.key] = now
            self._take_at_release(holder, party, now)

    def _rested(self, key: PoolKey, now: int) -> bool:
        """Whether busy servers of the pool have changed hands long enough ago."""
        return now - self._turned.get(key, -QUANTUM) >= QUANTUM

    def _helpful(self, party: Party, lacks: tuple[bool, bool], first: bool) -> Iterator[Held]:
        """Holders of other pools whose slots the party lacks and could use, or that are kept for it."""
        key = party.key
        for other, known in self._book.standings.items():
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

    def _take_idle(self, holder: Party, claimant: Party, now: int) -> None:
        self._book.standing(holder).taking += 1
        self._promised[claimant] += 1
        self._take(Taking(holder, claimant, False, now))

    def _take_at_release(self, holder: Party, claimant: Party | None, now: int) -> None:
        standing = self._book.standing(holder)
        standing.due += 1
        standing.tried = now
        if claimant is not None:
            self._due[claimant] += 1
        self._take(Taking(holder, claimant, True, now))

    def _take(self, taking: Taking) -> None:
        self._last_take += 1
        self._takes[self._last_take] = taking
        holder, claimant = taking.holder, taking.claimant
        move = claimant is not None and claimant.key == holder.key
        self._book.send(holder.worker, Take(self._last_take, holder.key, move, taking.due), ())

    def _give_up_stuck(self, now: int) -> None:
        """Who is in a long transaction cannot give: another may."""
        for number, taking in list(self._takes.items()):
            if taking.void or not taking.due or taking.claimant is None:
                continue
            if now - taking.at >= QUANTUM or taking.claimant not in self._book.wants:
                self._takes[number] = taking._replace(void=True)
                self._book.send(taking.holder.worker, Forget(number), ())

    def _shed(self, now: int) -> None:
        """Servers above the size of a pool that was made smaller are closed as they become free."""
        for key in list(self._over):
            limits = self._book.limits(key)
            known = self._book.standings.get(key, {})
            asked = sum(
                taking.claimant is None and taking.holder.key == key for taking in self._takes.values()
            )
            leaving = sum(standing.closing.count(None) for standing in known.values())
            excess = self._book.of_pool(key) - limits.pool - limits.reserve if limits.pool else 0
            if excess <= 0:
                self._over.discard(key)
            for _ in range(excess - asked - leaving):
                worker = max(known, key=lambda one: known[one].leased - known[one].due, default=None)
                if worker is not None and known[worker].leased > known[worker].due:
                    self._take_at_release(Party(worker, key), None, now)

    # Who knows that others lack something.

    def _make_known(self, holder: Party, standing: Standing, now: int) -> None:
        if standing.claim is None:
            self._claimed.add(holder)
            self._book.send(holder.worker, Claim(holder.key, made=True), ())
        standing.claim = now

    def _end(self, now: int) -> None:
        for holder in list(self._claimed):
            standing = self._book.standing(holder)
            if standing.claim is None or now - standing.claim >= LINGER:
                standing.claim = None
                self._claimed.discard(holder)
                self._book.send(holder.worker, Claim(holder.key, made=False), ())
                self.tidy(holder)

    def tidy(self, party: Party) -> None:
        """What nobody uses is not kept."""
        self._book.tidy(party)
        if party.key not in self._book.standings:
            self._turned.pop(party.key, None)


def _redeem(counts: Counter[Party], claimant: Party | None) -> None:
    """What was promised has come, or will not come."""
    if claimant is not None and counts[claimant] > 0:
        add(counts, claimant, -1)

"""The ledger over several workers: who may open servers, and to whom those go that others give away.

Laws of this file:
- The sum of leases never exceeds a limit; after a limit was lowered it only falls.
- A server that moves takes its lease along in one step.
- Whoever waits is served by its turn, or by somebody who has more than its share.
- A report from which nothing follows is only kept: what comes by time the next sweep does.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from proxy.pool.book import Book, Send
from proxy.pool.claims import Claims
from proxy.pool.interfaces import PoolKey
from proxy.pool.leased import tell_of_reserve
from proxy.pool.leasing import Arrival, FromWorker, Grant, How, Report, Returned, Yielded
from proxy.pool.ledger import Limits
from proxy.pool.standing import Party


class Shares:
    """`limits` gives the present limits of a pool; `send` sends to a worker of this number."""

    def __init__(self, limits: Callable[[PoolKey], Limits], send: Send) -> None:
        self.book = Book(limits, send)
        self._claims = Claims(self.book)

    # What happens.

    def receive(self, worker: int, message: FromWorker, descriptors: Sequence[int], now: int) -> None:
        """A worker has sent a message; descriptors stay the caller's to close."""
        party = Party(worker, message.key)
        match message:
            case Report():
                if not self.book.reported(party, message, now):
                    return
            case Returned():
                self._returned(party)
            case Yielded():
                self._yielded(party, message, descriptors)
        self._settle(now)
        self._claims.tidy(party)

    def lost(self, worker: int, now: int) -> Counter[PoolKey]:
        """A worker is dead. Returns its leases, each of which counts until it is `freed`."""
        leases, stood = self.book.bury(worker)
        self._claims.lost(worker, stood)
        self._settle(now)
        return leases

    def freed(self, key: PoolKey, now: int) -> None:
        """The server of one lease of a dead worker is gone."""
        if self.book.release(key):
            self._settle(now)

    def changed(self, now: int) -> None:
        """Limits may have changed."""
        self._claims.limits_changed()
        self._settle(now)

    def sweep(self, now: int) -> bool:
        """Do what is due; whether there is more to be done in a moment."""
        self._settle(now)
        return bool(self.book.wants) or self._claims.pending

    def _settle(self, now: int) -> None:
        if self.book.wants or self.book.minimal:
            self._grant()
        self._claims.settle(now)

    # Messages.

    def _returned(self, party: Party) -> None:
        standing = self.book.standing(party)
        if standing.leased:
            standing.leased -= 1
            self.book.count(party.key, -1)
        self._claims.closed(standing)

    def _yielded(self, party: Party, message: Yielded, descriptors: Sequence[int]) -> None:
        taking = self._claims.answered(message.number, party)
        if taking is None:
            return
        standing = self.book.standing(party)
        if standing.report is not None and standing.report.spare:
            standing.report = replace(standing.report, spare=standing.report.spare - 1)
        if message.how is How.CLOSING:
            self._claims.closing(standing, taking.claimant)
        elif message.how is How.MOVED:
            self._deliver(party, taking.claimant, message, descriptors)

    def _deliver(
        self, sender: Party, claimant: Party | None, message: Yielded, descriptors: Sequence[int]
    ) -> None:
        """A server is on its way: to whom it was taken for, else to who lacks one, else back."""
        book, to = self.book, claimant
        if to not in book.wants:
            waiting = [party for party in book.wants if party.key == sender.key]
            to = min(waiting, key=lambda party: book.wants[party].since or 0, default=sender)
        assert to is not None
        book.standing(sender).leased -= 1
        book.standing(to).leased += 1
        if (want := book.wants.get(to)) is not None:
            if want.lacking > 1:
                book.wants[to] = replace(want, lacking=want.lacking - 1)
            else:
                del book.wants[to]
        book.send(to.worker, Arrival(to.key, message.cargo, message.inode), descriptors)
        book.count(to.key, 0)

    # Granting.

    def _grant(self) -> None:
        first: Party | None = None
        book = self.book
        for party, want in (*book.queue(), *book.minimal.items()):
            if book.full(party.key, want):
                continue
            if any(book.lacks(party.key, first)):
                # For who has waited longest one free slot of each limit is kept: two might never be free at
                # once.
                first = first or party
                continue
            (book.minimal if want.since is None else book.wants).pop(party, None)
            book.standing(party).leased += 1
            book.count(party.key, 1)
            book.send(party.worker, Grant(party.key), ())
            tell_of_reserve(party.key, book.of_pool(party.key), book.limits(party.key).pool)

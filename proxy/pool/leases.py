"""A worker's leases, where a ledger above it decides for all workers.

Laws of this file:
- A server is opened only under a lease that was granted; what is granted and not used goes back at once.
- While a pool waits for an answer it is `asked`, and nothing is asked twice. What it lacks, and what others
  may have of it, is looked at again each LOOK_AGAIN, and what is idle as soon as others may have it: a pool
  says when a server becomes idle while it is `watched`, that is, asked or claimed. Where clients wait on as
  it was told, looks (SETTLED) and reports (TELL_SELDOM) are fewer.
- That a pool lacks nothing any more is said when two looks in a row have found it so.
- Each `Take` is answered once.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from proxy.pool import states
from proxy.pool.interfaces import PooledServer, PoolKey
from proxy.pool.leased import Leased
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
from proxy.pool.need import lacking, load, may_use_reserve, spare_servers
from proxy.pool.units import SECOND
from proxy.reasons import ServerClosed

if TYPE_CHECKING:
    from proxy.pool.pool import Pool

LOOK_AGAIN: Final = SECOND // 50
"""Time (ns) between two looks at pools that lack servers, or of which others lack some."""
SETTLED: Final = SECOND // 10
"""Time (ns) to the next look where all pools were as the ledger was told, and no server becomes idle."""
TELL_SELDOM: Final = SECOND // 2
"""So often (ns) the ledger hears how a pool stands that stands as before."""
_TELL_LOAD: Final = SECOND // 5
# If clients wait longer than this, the ledger must not take the one it was told of for one that waits on.
_LONG: Final = SECOND // 4
# Timers of some loops count no less than this.
_TICK: Final = SECOND // 1000
# So long an idle server stays with its worker, who may want it again in a moment.
_RESTED: Final = SECOND // 50

Send = Callable[[FromWorker, Sequence[int]], None]
Ship = Callable[[PooledServer], "tuple[bytes, int] | None"]
Unload = Callable[["Pool", bytes, int], None]


class Carrier:
    """How servers leave and come. `ship` takes an idle one apart and returns it as cargo and a descriptor,
    None where that cannot be done; `unload` makes a server of the pool of them. Each owns the descriptor it
    is given.
    """

    def __init__(self, ship: Ship, unload: Unload, close: Callable[[int], None]) -> None:
        self.ship = ship
        self.unload = unload
        self.close = close


class RemoteLeases(Leased):
    """`pools` are the worker's; `later` calls a function after a time (ns). `contended`: others are to have
    servers of this worker although its own clients use them.
    """

    def __init__(
        self,
        send: Send,
        clock: Callable[[], int],
        later: Callable[[int, Callable[[], None]], None],
        carrier: Carrier,
    ) -> None:
        super().__init__()
        self.pools: Mapping[PoolKey, Pool] = {}
        self.asked: set[PoolKey] = set()
        self.contended = False
        self._send = send
        self._clock = clock
        self._later = later
        self._carrier = carrier
        self._granted: list[PoolKey] = []
        self._minimal: set[PoolKey] = set()
        self._claimed: set[PoolKey] = set()
        self._easing: set[PoolKey] = set()
        self._told: dict[PoolKey, Report] = {}
        self._told_at: dict[PoolKey, int] = {}
        self._due: dict[PoolKey, deque[Take]] = {}
        self._below: dict[PoolKey, int] = {}
        # The look that is to come, if it is not 0, and its time.
        self._next = self._last = 0
        self._look_at = 0

    # What pools ask.

    def take(self, key: PoolKey, *, reserve: bool, since: int | None) -> bool:
        """Use a lease that is granted just now. Else ask for one (False), which is offered when it comes."""
        if key in self._granted:
            self._granted.clear()
            self._count(key, 1)
            return True
        if key in self.asked:
            return False
        report = self._report(key, self._clock())
        if since is not None and report.lacking:
            self.asked.add(key)
            self._watch(key)
            self._tell(report)
            self._look_later()
        elif key not in self._minimal:
            self._minimal.add(key)
            self._tell(Report(key, 1))
        return False

    def give_back(self, key: PoolKey, inode: int = 0) -> None:
        """A leased server is gone: PostgreSQL has closed."""
        self._count(key, -1)
        self._send(Returned(key, inode), ())

    def withdraw(self, key: PoolKey) -> None:
        """Whether a pool still wants what it has asked for is seen at the next look."""

    def claimed_since(self, key: PoolKey) -> int | None:
        """Nobody here says who has to make room; that comes as a `Take`."""
        return None

    def yields(self, server: PooledServer) -> bool:
        """Whether a server that its session has just given back went away, because it was due."""
        takes = self._due.get(server.pool.key)
        if not takes:
            return False
        take = takes.popleft()
        if not takes:
            self._forget_due(server.pool.key)
        self._give_away(server, take)
        return True

    def floor(self, key: PoolKey, minimum: int) -> int:
        """How many of the servers that a pool keeps at least are this worker's to keep."""
        return max(minimum - self._below.get(key, 0), 0)

    def idle(self) -> None:
        """A server of a pool that is asked or claimed has become idle: others may have it when it has rested,
        which is sooner than the next look may be.
        """
        at = self._clock() + _RESTED
        if not self._next or self._look_at > at:
            self._look_in(_RESTED)

    def claims(self) -> int:
        """How many pools wait for a lease."""
        return len(self.asked)

    # What the ledger says.

    def receive(self, message: FromLedger, descriptors: Sequence[int]) -> None:
        """A message from the ledger; the descriptors are ours."""
        match message:
            case Grant():
                self._on_grant(message.key)
            case Claim():
                self._on_claim(message)
            case Take():
                self._on_take(message)
            case Forget():
                self._on_forget(message.number)
            case Arrival():
                self._on_arrival(message, descriptors)
            case Below():
                self._below[message.key] = message.count
                if not message.count:
                    del self._below[message.key]

    def _on_grant(self, key: PoolKey) -> None:
        self.asked.discard(key)
        self._watch(key)
        self._granted.append(key)
        pool = self.pools.get(key)
        if pool is not None:
            pool.demand(self._clock())
        if self._granted:
            self._granted.clear()
            self._send(Returned(key), ())
        if key not in self.asked:
            # What was reported while the lease was on its way would stand for ever.
            self._tell(self._report(key, self._clock(), claims=False))

    def _on_claim(self, claim: Claim) -> None:
        if not claim.made:
            self._claimed.discard(claim.key)
            self._watch(claim.key)
            return
        self._claimed.add(claim.key)
        self._watch(claim.key)
        self._tell(self._report(claim.key, self._clock(), claims=claim.key in self.asked))
        self._look_later()

    def _on_take(self, take: Take) -> None:
        # The ledger counts one less to spare from now on, whatever comes of it.
        self._told.pop(take.key, None)
        pool = self.pools.get(take.key)
        if pool is None or not pool.open:
            self._send(Yielded(take.number, take.key, How.KEPT), ())
            return
        now = self._clock()
        # What is due goes although it may be wanted again in a moment.
        spare = spare_servers(pool, now, 0 if take.due and not pool.waiting else _RESTED)
        if spare:
            self._give_away(min(spare, key=_released_at), take)
        elif take.due:
            self._due.setdefault(take.key, deque()).append(take)
            self.contended = True
        else:
            self._send(Yielded(take.number, take.key, How.KEPT), ())

    def _on_forget(self, number: int) -> None:
        for key, takes in list(self._due.items()):
            for take in takes:
                if take.number == number:
                    takes.remove(take)
                    if not takes:
                        self._forget_due(key)
                    self._send(Yielded(number, key, How.KEPT), ())
                    return

    def _forget_due(self, key: PoolKey) -> None:
        del self._due[key]
        self.contended = bool(self._due)

    def _on_arrival(self, arrival: Arrival, descriptors: Sequence[int]) -> None:
        pool = self.pools.get(arrival.key)
        if not descriptors:
            # There was no room for it on its way, so it is closed.
            self._send(Returned(arrival.key, arrival.inode), ())
        elif pool is None:
            self._carrier.close(descriptors[0])
            self._send(Returned(arrival.key, arrival.inode), ())
        else:
            self._count(arrival.key, 1)
            self._carrier.unload(pool, arrival.cargo, descriptors[0])
        if arrival.key in self.asked:
            self._renew(arrival.key, self._clock(), at_once=True)

    def _give_away(self, server: PooledServer, take: Take) -> None:
        pool = server.pool
        cargo = self._carrier.ship(server) if take.move else None
        if cargo is None:
            self._send(Yielded(take.number, take.key, How.CLOSING), ())
            server.close(ServerClosed.EVICTED)
            return
        pool.forget(server)
        data, descriptor = cargo
        try:
            self._send(Yielded(take.number, take.key, How.MOVED, data, server.inode), (descriptor,))
        except OSError:
            # There is no room for one more descriptor on its way: the server closes.
            self._send(Yielded(take.number, take.key, How.CLOSING), ())
            self._send(Returned(take.key, server.inode), ())
        self._carrier.close(descriptor)
        self._count(take.key, -1)
        if pool.waiting:
            pool.demand(self._clock())

    # Looking again.

    def _watch(self, key: PoolKey) -> None:
        if (pool := self.pools.get(key)) is not None:
            pool.asked = key in self.asked
            pool.watched = pool.asked or key in self._claimed

    def _look_later(self, most: int = LOOK_AGAIN) -> None:
        if not self._next:
            self._look_in(self._next_look(most))

    def _look_in(self, delay: int) -> None:
        self._last += 1
        number = self._next = self._last
        self._look_at = self._clock() + delay
        self._later(delay, lambda: self._look(number))

    def _next_look(self, most: int) -> int:
        """When an idle server that others may have has rested, if that is sooner (ns from now)."""
        now = self._clock()
        soonest = most
        for key in self._claimed:
            pool = self.pools.get(key)
            for server in pool.servers[states.IDLE] if pool is not None else ():
                left = server.released_at + _RESTED - now
                if 0 < left < soonest:
                    soonest = max(left, _TICK)
        return soonest

    def _look(self, number: int) -> None:
        if number != self._next:
            # There was a sooner one in its place.
            return
        self._next = 0
        changed = True
        try:
            changed = self._look_at_all(self._clock())
        finally:
            if self.asked or self._claimed:
                self._look_later(LOOK_AGAIN if changed else SETTLED)
            else:
                self._easing.clear()
                self._told.clear()
                self._told_at.clear()

    def _look_at_all(self, now: int) -> bool:
        """Whether anything is other than what was said last."""
        changed = False
        for key in self.asked | self._claimed:
            if not self._lacks_as_told(key, now):
                changed = True
                self._renew(key, now)
        return changed

    def _renew(self, key: PoolKey, now: int, *, at_once: bool = False) -> None:
        """Say how a pool stands, if that is other than what was said last, and from time to time."""
        told = self._told.get(key)
        recent = told is not None and self._told_lately(key, told, now)
        report = self._report(key, now, claims=key in self.asked)
        if not report.lacking:
            eased = key in self._easing or key not in self.asked or report.spare
            if recent and not at_once and not eased:
                # For a moment, most likely: each report costs both processes more than a transaction.
                self._easing.add(key)
                return
            self.asked.discard(key)
            self._watch(key)
        self._easing.discard(key)
        if (
            at_once
            or told is None
            or (report.lacking > 0, report.spare, report.reserve)
            != (told.lacking > 0, told.spare, told.reserve)
            or not recent
        ):
            self._tell(report)

    def _told_lately(self, key: PoolKey, told: Report, now: int) -> bool:
        at = self._told_at[key]
        waited = at - told.since if told.since is not None else 0
        return now - at < (_TELL_LOAD if waited >= _LONG else TELL_SELDOM)

    def _lacks_as_told(self, key: PoolKey, now: int) -> bool:
        """Whether it is plain that nothing has changed: clients wait, and no server is idle or coming."""
        told = self._told.get(key)
        if told is None or not told.lacking or told.spare or key not in self.asked:
            return False
        pool = self.pools.get(key)
        if pool is None or not pool.waiting or not self._told_lately(key, told, now):
            return False
        servers = pool.servers
        found = (
            servers[states.IDLE] or servers[states.USED] or servers[states.LOGIN] or servers[states.TESTED]
        )
        if found or pool.settings.reserve_pool_size or pool.database.paused:
            return False
        self._easing.discard(key)
        return True

    def _report(self, key: PoolKey, now: int, *, claims: bool = True) -> Report:
        pool = self.pools.get(key)
        if pool is None:
            return Report(key, 0)
        short = lacking(pool, now) if claims else 0
        since = next(iter(pool.waiting)).waiting_since if short else None
        reserve = bool(short) and may_use_reserve(pool, now)
        return Report(key, short, since, reserve, load(pool), len(spare_servers(pool, now, _RESTED)))

    def _tell(self, report: Report) -> None:
        self._told[report.key] = report
        self._told_at[report.key] = self._clock()
        if not report.lacking:
            # The newest report counts: what was asked for a minimum is to be asked again.
            self._minimal.discard(report.key)
        self._send(report, ())

    def _count(self, key: PoolKey, by: int) -> None:
        # Clients choose names of databases: what nobody uses is not kept.
        self._add(key, by)
        if not self._pools[key]:
            for take in self._due.pop(key, ()):
                self._send(Yielded(take.number, key, How.KEPT), ())
            self.contended = bool(self._due)


def _released_at(server: PooledServer) -> int:
    return server.released_at

"""Several workers without processes: pool managers with doubles, and the ledger above them.

Messages between them are on their way until the test delivers them: each direction of each worker is a queue
of its own, as sockets are. A server that moves is a double that changes its pool.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from config.settings import Settings
from proxy.pool import states
from proxy.pool.interfaces import PooledServer, PoolKey
from proxy.pool.janitor import Janitor
from proxy.pool.leases import Carrier, RemoteLeases
from proxy.pool.leasing import Arrival, How, Yielded
from proxy.pool.ledger import limits_of
from proxy.pool.manager import PoolManager
from proxy.pool.pool import Pool
from proxy.pool.shares import Shares
from tests.support.clock import Clock
from tests.support.doubles import FakeDialler, FakeServer, FakeSession, Steady, check_pool


class Hand:
    """One worker: its manager, what it has sent and what it is being sent."""

    def __init__(self, crew: "Crew", number: int) -> None:
        self.crew = crew
        self.number = number
        self.clock = crew.clock
        self.dialler = FakeDialler(crew.clock)
        self.outbox: deque[tuple[Any, tuple[int, ...]]] = deque()
        self.inbox: deque[tuple[Any, tuple[int, ...]]] = deque()
        self.timers: list[tuple[int, Callable[[], None]]] = []
        carrier = Carrier(self._ship, self._unload, crew.close)
        self.leases = RemoteLeases(self._send, crew.clock, self._later, carrier)
        self.manager = PoolManager(crew.settings, self.dialler, Steady(), crew.clock, leases=self.leases)
        self.janitor = Janitor(self.manager, crew.clock())
        self.sessions: list[FakeSession] = []
        self.plain = True
        self._last = 0

    def _send(self, message: Any, descriptors: Sequence[int]) -> None:
        self.outbox.append((message, tuple(descriptors)))

    def _later(self, delay: int, callback: Callable[[], None]) -> None:
        self.timers.append((self.clock() + delay, callback))

    def _ship(self, server: PooledServer) -> tuple[bytes, int] | None:
        assert isinstance(server, FakeServer)
        return (b"", self.crew.pack(server)) if self.plain else None

    def _unload(self, pool: Pool, cargo: bytes, descriptor: int) -> None:
        server = self.crew.unpack(descriptor)
        self.crew.moved += server.pool is not pool
        server.pool = pool
        server.state = states.LOGIN
        pool.servers[states.LOGIN][server] = None
        pool.open += 1
        pool.take_in(server, self.clock())

    def run_timers(self) -> None:
        """Call what is due."""
        due = [callback for at, callback in self.timers if at <= self.clock()]
        self.timers = [(at, callback) for at, callback in self.timers if at > self.clock()]
        for callback in due:
            callback()

    def pool(self, database: str = "app", user: str = "alice") -> Pool:
        """The pool of a user of a database in this worker."""
        return self.manager.pool(self.manager.database(database, self.clock()), user)

    def session(self, database: str = "app", user: str = "alice") -> FakeSession:
        """A logged-in client."""
        self._last += 1
        pool = self.pool(database, user)
        session = FakeSession(self._last, pool, self.clock, user)
        pool.sessions[session] = session
        self.sessions.append(session)
        return session

    def leave(self, session: FakeSession) -> None:
        """A client goes."""
        session.leaves()
        self.sessions.remove(session)
        del session.pool.sessions[session]

    def in_state(self, *which: int) -> list[FakeServer]:
        """Its servers in these states."""
        pools = self.manager.pools.values()
        return [
            server
            for pool in pools
            for state in which
            for server in pool.servers[state]
            if isinstance(server, FakeServer)
        ]

    def settle(self) -> None:
        """PostgreSQL does all it was asked for by this worker."""
        for server in self.in_state(states.CLOSING):
            server.finish()
        for server in self.in_state(states.LOGIN):
            if server.state == states.LOGIN:
                server.open()
        for server in self.in_state(states.TESTED):
            if server.state == states.TESTED:
                server.answer()


class Crew:
    """`backends` counts what PostgreSQL sees of the dead; all that is packed is counted by its pool. `moved`:
    servers that have come to another worker.
    """

    def __init__(self, workers: int, settings: Settings, seed: int = 0) -> None:
        self.clock = Clock()
        self.settings = settings
        self.random = random.Random(seed)
        self.backends: Counter[PoolKey] = Counter()
        self.packed: dict[int, FakeServer] = {}
        self._seen: set[PoolKey] = set()
        self._last_packed = 100
        self.moved = 0
        self.shares = Shares(lambda key: limits_of(self.settings, key), self._send)
        self.hands = {number: Hand(self, number) for number in range(1, workers + 1)}

    def _send(self, worker: int, message: Any, descriptors: Sequence[int]) -> None:
        self.hands[worker].inbox.append((message, tuple(descriptors)))

    def pack(self, server: FakeServer) -> int:
        """A server is taken apart; returns what stands for its descriptor."""
        self._last_packed += 1
        self.packed[self._last_packed] = server
        return self._last_packed

    def unpack(self, descriptor: int) -> FakeServer:
        """The server of a descriptor."""
        return self.packed.pop(descriptor)

    def close(self, descriptor: int) -> None:
        """A copy of a descriptor is closed: the other, on its way, is still there."""

    # Delivering.

    def up(self, hand: Hand) -> None:
        """The ledger gets the next message of a worker."""
        message, descriptors = hand.outbox.popleft()
        self.shares.receive(hand.number, message, descriptors, self.clock())

    def down(self, hand: Hand) -> None:
        """A worker gets the ledger's next message."""
        message, descriptors = hand.inbox.popleft()
        hand.leases.receive(message, descriptors)

    def deliver(self) -> None:
        """All that is on its way arrives, and what follows from it."""
        for _ in range(10_000):
            busy = False
            for hand in list(self.hands.values()):
                if hand.outbox:
                    self.up(hand)
                    busy = True
                if hand.inbox:
                    self.down(hand)
                    busy = True
            if not busy:
                return
        raise AssertionError("the workers and the ledger never stop talking")

    def step(self, seconds: float = 0.005) -> None:
        """Time passes, timers fire, everything is delivered and PostgreSQL does its part."""
        self.clock.advance(seconds)
        self.shares.sweep(self.clock())
        for hand in self.hands.values():
            hand.run_timers()
        self.deliver()
        for hand in self.hands.values():
            hand.settle()
        self.deliver()

    def sweep(self) -> None:
        """The janitors do what is due."""
        for hand in self.hands.values():
            hand.janitor.sweep(self.clock())

    # What may happen to workers.

    def kill(self, number: int) -> Counter[PoolKey]:
        """A worker dies, and another gets its number. Its servers stay until `bury`."""
        self.all_keys()
        hand = self.hands.pop(number)
        for pool in hand.manager.pools.values():
            self.backends[pool.key] += pool.open
        for message, descriptors in (*hand.outbox, *hand.inbox):
            if isinstance(message, Arrival) or (isinstance(message, Yielded) and message.how is How.MOVED):
                self.backends[message.key] += len(descriptors)
                for descriptor in descriptors:
                    self.unpack(descriptor)
        leases = self.shares.lost(number, self.clock())
        self.hands[number] = Hand(self, number)
        return leases

    def bury(self, leases: Counter[PoolKey]) -> None:
        """What a dead worker held is gone."""
        for key in leases.elements():
            self.backends[key] -= 1
            self.shares.freed(key, self.clock())
        self.backends = +self.backends

    def apply(self, settings: Settings) -> None:
        """New settings, everywhere at once."""
        self.settings = settings
        for hand in self.hands.values():
            hand.manager.apply(settings)
        self.shares.changed(self.clock())

    # What always holds.

    def servers(self, key: PoolKey) -> int:
        """What PostgreSQL sees of a pool."""
        held = sum(hand.manager.pools[key].open for hand in self.hands.values() if key in hand.manager.pools)
        moving = sum(server.pool.key == key for server in self.packed.values())
        return held + moving + self.backends[key]

    def all_keys(self) -> set[PoolKey]:
        """All pools there are, or were."""
        self._seen.update(key for hand in self.hands.values() for key in hand.manager.pools)
        return self._seen

    def check(self) -> None:
        """Leases cover all that PostgreSQL sees, and every worker's own count is that of its pools."""
        keys = self.all_keys()
        for hand in self.hands.values():
            for key, pool in hand.manager.pools.items():
                check_pool(pool)
                assert hand.leases.of_pool(key) == pool.open
                leased = self.shares.book.of_worker(hand.number)[key]
                back = sum(message.key == key and _takes_lease_away(message) for message, _ in hand.outbox)
                assert pool.open + back <= leased, "a server without a lease"
        for key in keys:
            assert self.servers(key) <= self.shares.book.of_pool(key)
        for database in {key.database for key in keys}:
            total = sum(self.shares.book.of_pool(key) for key in keys if key.database == database)
            assert self.shares.book.of_database(database) == total
        for user in {key.user for key in keys}:
            total = sum(self.shares.book.of_pool(key) for key in keys if key.user == user)
            assert self.shares.book.of_user(user) == total

    def excess(self) -> dict[str, int]:
        """By how much leases exceed each limit."""
        found: dict[str, int] = {}
        for key in self.all_keys():
            limits = limits_of(self.settings, key)
            if limits.pool:
                found[repr(key)] = self.shares.book.of_pool(key) - max(limits.pool, 0) - limits.reserve
            if limits.database:
                found[f"database {key.database}"] = (
                    self.shares.book.of_database(key.database) - limits.database
                )
            if limits.user:
                found[f"user {key.user}"] = self.shares.book.of_user(key.user) - limits.user
        return {name: over for name, over in found.items() if over > 0}


def _takes_lease_away(message: Any) -> bool:
    moved = isinstance(message, Yielded) and message.how is How.MOVED
    return moved or type(message).__name__ == "Returned"

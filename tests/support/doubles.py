"""Servers, sessions and a dialler without a network: they do what a test says and remember what they hear."""

from collections.abc import Callable

from config.settings import Settings
from protocol import tags
from protocol.errors import ProtocolError
from proxy.errors import PoolerError
from proxy.log import Prefix
from proxy.pool import states
from proxy.pool.interfaces import Host
from proxy.pool.janitor import Janitor
from proxy.pool.manager import PoolManager
from proxy.pool.parameters import NOTHING_APPLIED, Applied
from proxy.pool.parties import PooledServer, SweptSession
from proxy.pool.pool import Pool
from proxy.reasons import ClientClosed, ServerClosed, Unclean
from tests.support.clock import Clock

FAR = 1 << 62


class Steady:
    """A source of randomness that always says the same."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


class FakeServer(PooledServer):
    """A server whose PostgreSQL is the test: `open`, `answer`, `finish` say what that does."""

    def __init__(self, number: int, pool: Pool, host: Host, boot: Applied, clock: Callable[[], int]) -> None:
        self.id = number
        self.pool = pool
        self.host = host
        self.boot = boot
        self.clock = clock
        self.prefix = Prefix("S", number, pool.key.database, pool.key.user, "db.example:5432")
        self.state = states.LOGIN
        self.session = None
        self.inode = 0
        self.values = pool.tracked.unknown
        self.applied = NOTHING_APPLIED
        self.connected_at = self.released_at = self.closing_since = 0
        self.expires_at = FAR
        self.close_needed = None
        self.cancels = 0
        self.listening = self.used = False
        self.status = tags.STATUS_IDLE
        self.closed_because: ServerClosed | None = None
        self.aborted = False
        self.asked: list[str] = []

    def __repr__(self) -> str:
        return f"<server {self.id} {states.SERVER_STATES[self.state]}>"

    def close(self, reason: ServerClosed) -> None:
        if self.closed_because is not None:
            return
        self.closed_because = reason
        self.closing_since = self.clock()
        session, self.session = self.session, None
        self.pool.move(self, states.CLOSING)
        if session is not None:
            session.server_lost(self, None, self.clock())

    def abort(self) -> None:
        self.aborted = True

    def cleanup(self) -> str:
        return "UNLISTEN *" if self.listening else ""

    def audit(self, now: int) -> bool:
        return False

    def check(self, query: str, now: int) -> None:
        assert self.state == states.TESTED
        self.asked.append(query)
        self.released_at = now

    # What PostgreSQL does.

    def open(self, greeting: dict[bytes, bytes] | None = None) -> "FakeServer":
        """The login succeeds."""
        self.connected_at = self.clock()
        self.pool.hosts.backoff(self.host).succeeded()
        if not self.boot:
            self.pool.greeting = greeting or {}
        self.pool.opened(self, self.clock())
        return self

    def unreachable(self, error: str = "connection refused") -> None:
        """The host does not answer."""
        self.pool.hosts.backoff(self.host).failed(self.clock(), error)
        self.finish()

    def answer(self) -> None:
        """A query of ours is answered well."""
        self.listening = False
        self.pool.tested(self, self.clock())

    def cancel_over(self) -> None:
        """The last cancel request for it is done with."""
        self.cancels = 0
        if self.state == states.BEING_CANCELED:
            self.pool.release(self, self.clock(), None)

    def finish(self) -> None:
        """PostgreSQL closes, or a login is given up."""
        if not self.connected_at:
            self.pool.hosts.backoff(self.host).abandoned()
        session, self.session = self.session, None
        self.closed_because = self.closed_because or ServerClosed.SERVER_CLOSED
        self.pool.gone(self, self.clock())
        if session is not None:
            session.server_lost(self, None, self.clock())


class FakeSession(SweptSession):
    """A client that wants a server now and then. `here`: whether it takes one that is handed to it."""

    def __init__(
        self, number: int, pool: Pool, clock: Clock, user: str = "alice", boot: Applied = NOTHING_APPLIED
    ) -> None:
        self.id = number
        self.pool = pool
        self.clock = clock
        self.user = user
        self.boot = boot
        self.values = pool.tracked.unknown
        self.applied = NOTHING_APPLIED
        self.here = True
        self.notified = False
        self.waiting_since = self.query_started = self.xact_started = self.stuck_since = 0
        self.idle_since = clock()
        self.server: FakeServer | None = None
        self.error: PoolerError | None = None
        self.reason: ClientClosed | None = None
        self.lost = self.told = 0
        self.on_refused: Callable[[], None] | None = None
        self.on_assigned: Callable[[FakeServer], None] | None = None

    def __repr__(self) -> str:
        return f"<session {self.id}>"

    # What the client does.

    def asks(self) -> FakeServer | None:
        """A request comes: a server is lent, or the session waits."""
        lent: FakeServer | None = self.pool.checkout(self, self.clock())
        if lent is not None:
            self.server = lent
            lent.used = True
        return lent

    def gives_back(self, missing: Unclean | None = None) -> None:
        """The transaction ends."""
        server, self.server = self.server, None
        assert server is not None
        self.pool.release(server, self.clock(), missing)

    def leaves(self) -> None:
        """The client disconnects, cleanly if it has a server."""
        self.here = False
        self.pool.leave(self)
        if self.server is not None:
            self.gives_back()

    @property
    def waits(self) -> bool:
        return self in self.pool.waiting

    # What the pool and the janitor ask and tell.

    def assigned(self, server: FakeServer, now: int) -> bool:
        if not self.here:
            return False
        self.server = server
        server.used = True
        if self.on_assigned is not None:
            self.on_assigned(server)
        return True

    def refused(self, error: PoolerError, reason: ClientClosed) -> None:
        self.error, self.reason = error, reason
        self.here = False
        if self.on_refused is not None:
            self.on_refused()
        if self.server is not None:
            self.gives_back()

    def still_waiting(self) -> None:
        self.notified = True
        self.told += 1

    def server_lost(self, server: FakeServer, error: PoolerError | ProtocolError | None, now: int) -> None:
        self.server = None
        self.lost += 1

    def server_full(self) -> None: ...

    def server_drained(self) -> None: ...

    def aligned(self, server: FakeServer, error: bytes | None, now: int) -> None: ...

    def is_idle(self) -> bool:
        return not self.waits and (self.server is None or self.server.status == tags.STATUS_IDLE)

    def unable_to_write_since(self) -> int:
        return self.stuck_since


class FakeDialler:
    """Remembers what it was asked for."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.dialled: list[FakeServer] = []
        self.wakes: list[tuple[Pool, int]] = []

    def dial(self, pool: Pool, host: Host, boot: Applied) -> PooledServer:
        server = FakeServer(len(self.dialled) + 1, pool, host, boot, self.clock)
        self.dialled.append(server)
        return server

    def wake(self, pool: Pool, at: int) -> None:
        self.wakes.append((pool, at))


class World:
    """A manager with doubles around it. `settings` are those of the file, in which `app` is a database."""

    def __init__(self, **settings: object) -> None:
        self.clock = Clock()
        self.dialler = FakeDialler(self.clock)
        self.random = Steady()
        self.manager = PoolManager(make_settings(**settings), self.dialler, self.random, self.clock)
        self._sessions = 0

    def pool(self, database: str = "app", user: str = "alice") -> Pool:
        """The pool of a user of a database."""
        return self.manager.pool(self.manager.database(database, self.clock()), user)

    def session(
        self, pool: Pool | None = None, *, user: str = "alice", boot: Applied = NOTHING_APPLIED
    ) -> FakeSession:
        """A logged-in client."""
        self._sessions += 1
        pool = pool or self.pool()
        session = FakeSession(self._sessions, pool, self.clock, user, boot)
        pool.sessions[session] = session
        return session

    def logs_in(self, database: str = "app", user: str = "alice") -> FakeSession:
        """A client that counts for the limits on clients."""
        found = self.manager.database(database, self.clock())
        self.manager.admit(found, self.manager.user(user))
        return self.session(self.manager.pool(found, user), user=user)

    def logs_out(self, session: FakeSession) -> None:
        """Such a client goes."""
        session.leaves()
        del session.pool.sessions[session]
        self.manager.dismiss(session.pool.database, self.manager.user(session.user))

    def idle_servers(
        self, count: int, pool: Pool | None = None, *, boot: Applied = NOTHING_APPLIED
    ) -> list[FakeServer]:
        """So many servers, open and idle: clients asked for them at once and have gone."""
        clients = [self.session(pool, boot=boot) for _ in range(count)]
        for client in clients:
            client.asks()
            self.open_all()
        for client in clients:
            assert client.server is not None
            client.leaves()
            del client.pool.sessions[client]
        for server in self.servers(clients[0].pool, states.TESTED):
            server.answer()
            server.asked.clear()
        return self.servers(clients[0].pool, states.IDLE)

    def open_all(self) -> None:
        """Every login under way succeeds, and those that follow from that."""
        while opening := self._all(states.LOGIN):
            for server in opening:
                server.open()

    def finish_all(self) -> None:
        """Every server that was told to close closes."""
        while closing := self._all(states.CLOSING):
            for server in closing:
                server.finish()

    def _all(self, state: int) -> list[FakeServer]:
        return [server for pool in self.manager.pools.values() for server in self.servers(pool, state)]

    def servers(self, pool: Pool, *which: int) -> list[FakeServer]:
        """The servers of a pool in these states, or in any."""
        chosen = which or range(len(pool.servers))
        return [
            server for state in chosen for server in pool.servers[state] if isinstance(server, FakeServer)
        ]

    def check(self) -> None:
        """The invariants of pools and ledger."""
        for pool in self.manager.pools.values():
            check_pool(pool)
        check_ledger(self.manager)


def make_settings(**settings: object) -> Settings:
    """Settings with a database `app`, in transaction mode, as a configuration file might say."""
    values: dict[str, object] = {
        "databases": {"app": {"host": "db.example"}},
        "pool_mode": "transaction",
        **settings,
    }
    return Settings.model_validate(values)


def sweep_after(world: World, seconds: float) -> None:
    """Let time pass, then let the janitor do what is due."""
    world.clock.advance(seconds)
    Janitor(world.manager, world.clock()).sweep(world.clock())


def check_pool(pool: Pool) -> None:
    """A server is in exactly one set, has a session if and only if it is ACTIVE; who waits has no server."""
    seen: set[PooledServer] = set()
    for state, servers in enumerate(pool.servers):
        for server in servers:
            assert server.state == state
            assert server.pool is pool
            assert server not in seen
            assert (server.session is not None) == (state == states.ACTIVE)
            seen.add(server)
    assert pool.open == len(seen)
    lent = {server.session for server in seen}
    assert not lent & set(pool.waiting)
    for session in pool.waiting:
        assert isinstance(session, FakeSession)
        assert session.server is None


def check_ledger(manager: PoolManager) -> None:
    """The ledger's counts are those of the pools, and within the limits."""
    ledger = manager.ledger
    databases: dict[str, int] = {}
    users: dict[str, int] = {}
    for key, pool in manager.pools.items():
        assert ledger.of_pool(key) == pool.open
        databases[key.database] = databases.get(key.database, 0) + pool.open
        users[key.user] = users.get(key.user, 0) + pool.open
    assert {name: ledger.of_database(name) for name in databases} == databases
    assert {name: ledger.of_user(name) for name in users} == users

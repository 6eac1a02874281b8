"""The servers of one (database, user) and the queue of sessions that wait for one.

Laws of this file:
- A server is in exactly one set of `servers`; `move` is the only line that changes that.
- A server becomes IDLE only through `release` or `tested`, which close it unless every proof that it is clean
  holds.
- Handing over is synchronous: between choosing a session and lending to it nothing else can happen. `serve`
  never recurses.
- A slot is free when PostgreSQL has closed (`gone`), not before.
"""

from collections import Counter
from typing import Final

from config.effective import PoolSettings
from config.settings import Settings
from config.types import PoolMode
from proxy.errors import LoginRetry, PoolerError
from proxy.pool import states
from proxy.pool.choice import choose, must_close, next_waiting, probe
from proxy.pool.database import Database, User
from proxy.pool.hosts import Hosts
from proxy.pool.interfaces import Dialler, Leases, PoolKey
from proxy.pool.need import full, may_use_reserve, wanted_by, wants_server
from proxy.pool.parameters import Accepted, Tracked
from proxy.pool.parties import Lent, PooledServer, PooledSession, SweptSession
from proxy.pool.statements import Registry
from proxy.pool.stats import Stats
from proxy.pool.units import SECOND
from proxy.reasons import ClientClosed, ServerClosed, Unclean

# Looking up a member of an enum takes longer than all else that is done with it on the hot path.
_SESSION: Final = PoolMode.SESSION
_TRANSACTION: Final = PoolMode.TRANSACTION

_SERVICEABLE: Final = (states.IDLE, states.ACTIVE, states.USED, states.TESTED, states.BEING_CANCELED)


class Pool:
    """Times are nanoseconds. A reload replaces `settings` (what holds for this pool) and `common` (what holds
    for all) as a whole; what each transaction needs of the latter is kept apart (`apply`). `open` counts the
    servers in all states, those that are closing too. `newest` became idle last, whatever it is by now.
    `overtaken` is how often others went ahead of who waits longest. `asked`: what `leases` have
    refused, another process has not decided yet; `watched`: they are to hear of servers that become idle.
    """

    __slots__ = (
        "_serving",
        "_settings_by_user",
        "accepted",
        "asked",
        "careful",
        "check_delay",
        "common",
        "credential",
        "database",
        "dialler",
        "greeting",
        "hosts",
        "key",
        "leases",
        "mode",
        "newest",
        "open",
        "overtaken",
        "refusal",
        "refused_until",
        "round_robin",
        "servers",
        "sessions",
        "settings",
        "statements",
        "stats",
        "tracked",
        "unclean",
        "user",
        "waiting",
        "wake_at",
        "watched",
    )

    def __init__(
        self,
        key: PoolKey,
        database: Database,
        user: User,
        settings: PoolSettings,
        common: Settings,
        *,
        tracked: Tracked,
        statements: Registry,
        leases: Leases,
        hosts: Hosts,
        dialler: Dialler,
    ) -> None:
        self.key = key
        self.database = database
        self.user = user
        self.settings = settings
        self.apply(common)
        self.mode = settings.pool_mode
        self.tracked = tracked
        self.statements = statements
        self.accepted = Accepted()
        self._settings_by_user: dict[str, PoolSettings] = {}
        self.leases = leases
        self.hosts = hosts
        self.dialler = dialler
        self.servers: tuple[dict[PooledServer, None], ...] = tuple({} for _ in states.SERVER_STATES)
        self.newest: PooledServer | None = None
        self.waiting: dict[PooledSession, None] = {}
        self.sessions: dict[PooledSession, SweptSession] = {}
        self.stats = Stats()
        self.open = self.overtaken = 0
        self.unclean: Counter[Unclean] = Counter()
        self.greeting: dict[bytes, bytes] | None = None
        self.credential: object = None
        self.refusal: PoolerError | None = None
        self.refused_until = 0
        self.wake_at = 0
        self.asked = self.watched = self._serving = False

    def __repr__(self) -> str:
        named = zip(states.SERVER_STATES, self.servers, strict=True)
        counts = ", ".join(f"{len(servers)} {word}" for word, servers in named if servers) or "no servers"
        name = f"{self.key.database}/{self.key.user} {self.mode.value}"
        return f"<Pool {name}: {counts}, {len(self.waiting)} waiting>"

    @property
    def forced_user(self) -> bool:
        """Whether every client of the database shares this pool."""
        return self.settings.user is not None

    def settings_of(self, session: PooledSession) -> PoolSettings:
        """What holds for one client: also where a user is forced, its timeouts are those of its own user."""
        if not self.forced_user or self.database.dead:
            return self.settings
        if self._settings_by_user.get("") is not self.settings:
            self._settings_by_user = {"": self.settings}
        known = self._settings_by_user.get(session.user)
        if known is None:
            known = self.common.for_pool(self.key.database, session.user)
            self._settings_by_user[session.user] = known
        return known

    def apply(self, common: Settings) -> None:
        """Take new settings, and copy those that are read for each transaction."""
        self.common = common
        self.round_robin: bool = common.server_round_robin
        self.check_delay = int(common.server_check_delay * SECOND)
        # Whether something of ours may run at a release although nothing is to be undone.
        self.careful: bool = common.server_reset_query_always or common.audit_release

    # Lending.

    def checkout(self, session: PooledSession, now: int) -> Lent | None:
        """Lend a server at once, or queue the session (None); it then hears `assigned` or `refused`."""
        if not self.waiting and not self.database.paused:
            server = choose(self, session, now)
            if server is not None:
                self.move(server, states.ACTIVE)
                server.session = session
                return server
        if (refusal := self._hopeless(now)) is not None:
            session.refused(LoginRetry(refusal), ClientClosed.SERVER_REFUSED)
            return None
        session.waiting_since = now
        session.notified = False
        self.waiting[session] = None
        self.demand(now)
        return None

    def leave(self, session: PooledSession) -> None:
        """A session no longer wants a server."""
        if session in self.waiting:
            del self.waiting[session]
            if not self.waiting:
                self.leases.withdraw(self.key)

    def serve(self, now: int) -> None:
        """Give what is idle to those that wait, the longest-waiting first, then ask for what is missing."""
        if self._serving:
            return
        self._serving = True
        try:
            while self.waiting and not self.database.paused:
                session = next(iter(self.waiting))
                server = choose(self, session, now)
                if server is None:
                    break
                del self.waiting[session]
                self.move(server, states.ACTIVE)
                server.session = session
                self.stats.wait_time += now - session.waiting_since
                if not session.assigned(server, now):
                    server.session = None
                    self.move(server, states.IDLE)
        finally:
            self._serving = False
        if self.waiting:
            self.demand(now)
        elif self.leases.contended:
            self.leases.withdraw(self.key)

    def _hand_over(self, server: PooledServer, now: int) -> None:
        """Give an active server to the next session: what `serve` does where nothing is to choose."""
        self._serving = True
        try:
            while self.waiting:
                session = next_waiting(self, server)
                del self.waiting[session]
                server.session = session
                self.stats.wait_time += now - session.waiting_since
                if session.assigned(server, now):
                    break
                server.session = None
            else:
                self.move(server, states.IDLE)
        finally:
            self._serving = False
        if self.waiting and self.servers[states.IDLE]:
            self.serve(now)

    def release(self, server: PooledServer, now: int, missing: Unclean | None) -> None:
        """Take a server back from its session. `missing` names the proof that could not be given, if any."""
        server.session = None
        if missing is not None:
            self.unclean[missing] += 1
            server.close(ServerClosed.UNCLEAN)
            return
        server.released_at = now
        if (
            self.mode is _TRANSACTION
            and now < server.expires_at
            and not server.cancels
            and not server.listening
            and server.close_needed is None
            and not self.leases.contended
            and not self.database.paused
            and not self.careful
        ):
            # Nothing speaks against it: the way that nearly every transaction ends.
            lent = server.state == states.ACTIVE
            if self.waiting and lent and not self._serving and not self.servers[states.IDLE]:
                self._hand_over(server, now)
                return
            self.move(server, states.IDLE)
            if self.waiting:
                self.serve(now)
            return
        if server.cancels:
            self.move(server, states.BEING_CANCELED)
            return
        reset = self._reset_query(server)
        if reset and must_close(self, server, now) is None:
            self.move(server, states.TESTED)
            server.check(reset, now)
            return
        self.take_in(server, now)

    def tested(self, server: PooledServer, now: int) -> None:
        """A query of ours, or a cancel request, is over and left the server clean."""
        server.released_at = now
        self.take_in(server, now)

    def opened(self, server: PooledServer, now: int) -> None:
        """A server has logged in and may be used."""
        self.hold_off(0)
        if not server.audit(now):
            self.unused(server, now)

    def unused(self, server: PooledServer, now: int) -> None:
        """Take a server nothing has been asked of: with server_lifetime = 0 it may still be used, once."""
        server.released_at = now
        if server.close_needed is not None or self.database.paused:
            self.take_in(server, now)
        else:
            self.move(server, states.IDLE)
            self.serve(now)

    def gone(self, server: PooledServer, now: int) -> None:
        """PostgreSQL has closed, or was given up: the slot is free."""
        self.forget(server)
        self.leases.give_back(self.key, server.inode)
        if self.waiting and (refusal := self._hopeless(now)) is not None:
            self.refuse_waiting(refusal, ClientClosed.SERVER_REFUSED)
        if self.waiting:
            self.demand(now)

    def forget(self, server: PooledServer) -> None:
        """A server is not of this pool any more: it is gone, or another worker has it."""
        del self.servers[server.state][server]
        self.newest = None
        self.open -= 1

    def move(self, server: PooledServer, state: int) -> None:
        """Change the state of a server."""
        del self.servers[server.state][server]
        server.state = state
        self.servers[state][server] = None
        if state == states.IDLE:
            self.newest = server
            if self.watched:
                self.leases.idle()

    # Failures to open.

    def refuse_logins(self, error: PoolerError, until: int) -> None:
        """PostgreSQL refused a login on principle: nobody asks again before `until`, who waits is told why.

        Clients are kept while other servers of the pool can still serve them.
        """
        self.refusal = error
        self.refused_until = until
        if not self._serviceable():
            self.refuse_waiting(error, ClientClosed.SERVER_REFUSED)

    def hold_off(self, until: int) -> None:
        """PostgreSQL has no room for us at the moment: clients stay, and nobody asks again before `until`."""
        self.refusal = None
        self.refused_until = until

    def refuse_waiting(self, error: PoolerError, reason: ClientClosed) -> None:
        """Turn away every waiting session."""
        while self.waiting:
            session = next(iter(self.waiting))
            self.leave(session)
            session.refused(error, reason)

    # Opening.

    def demand(self, now: int) -> None:
        """Open what is wanted and allowed; wake what has slept too long to be lent unseen."""
        if self.leases.contended:
            # Claimed anew below if the pool still lacks a slot and could use it.
            self.leases.withdraw(self.key)
        if self.servers[states.USED]:
            self._test_used(now)
        while not full(self, now) and wants_server(self, now):
            host = self.hosts.choose(self.settings, now)
            if host is None:
                self._wake(self.hosts.retry_at(self.settings, now), now)
                return
            boot, since = wanted_by(self)
            reserve = may_use_reserve(self, now)
            if not self.leases.take(self.key, reserve=reserve, since=since):
                self._make_room()
                return
            self.hosts.started(host)
            server = self.dialler.dial(self, host, boot)
            self.servers[states.LOGIN][server] = None
            self.open += 1

    def _make_room(self) -> None:
        """In session mode an idle server started for somebody else gives way to one for this session."""
        if self.mode is not _SESSION or not self.waiting:
            return
        coming = len(self.servers[states.LOGIN]) + len(self.servers[states.CLOSING])
        if self.servers[states.IDLE] and coming < len(self.waiting):
            next(iter(self.servers[states.IDLE])).close(ServerClosed.UNSUITABLE)

    def _test_used(self, now: int) -> None:
        used = self.servers[states.USED]
        while used and len(self.waiting) > len(self.servers[states.LOGIN]) + len(self.servers[states.TESTED]):
            probe(self, next(reversed(used)), now)

    def _wake(self, at: int, now: int) -> None:
        """Have `demand` called when a host may be tried again."""
        if not now < self.wake_at <= at:
            self.wake_at = at
            self.dialler.wake(self, at)

    def _serviceable(self) -> bool:
        """Whether there is a server that can still serve somebody."""
        return any(self.servers[state] for state in _SERVICEABLE)

    def _hopeless(self, now: int) -> PoolerError | None:
        """Why nobody can be served at the moment, if so: PostgreSQL's refusal of a login."""
        return self.refusal if self.refused_until > now and not self._serviceable() else None

    # Coming back.

    def take_in(self, server: PooledServer, now: int) -> None:
        """A server that is clean may be lent to others, unless there is a reason against it."""
        reason = must_close(self, server, now)
        if reason is not None:
            server.close(reason)
            return
        if server.audit(now) or (self.leases.contended and self.leases.yields(server)):
            return
        self.move(server, states.IDLE)
        if self.waiting:
            self.serve(now)

    def _reset_query(self, server: PooledServer) -> str:
        """What must run before the next session may have this server; empty for nothing."""
        common = self.common
        if self.mode is _SESSION or common.server_reset_query_always:
            return common.server_reset_query or server.cleanup()
        return server.cleanup()

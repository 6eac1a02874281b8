"""All pools, databases and users, the limits over them, and what a reload does to them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from config import effective
from config.effective import PoolSettings
from config.settings import Settings
from config.types import PoolMode
from proxy.errors import DatabaseDisabled, TooManyClients, UnknownDatabase
from proxy.pool import states
from proxy.pool.backoff import Random
from proxy.pool.database import Database, User
from proxy.pool.hosts import DEFAULT_UNIX_SOCKET_DIR, Hosts
from proxy.pool.interfaces import Dialler, PooledServer, PoolKey
from proxy.pool.leases import RemoteLeases
from proxy.pool.ledger import Ledger, Limits
from proxy.pool.parameters import Tracked
from proxy.pool.pool import Pool
from proxy.pool.statements import Registry
from proxy.pool.stats import Stats
from proxy.pool.units import SECOND
from proxy.reasons import ServerClosed, Unclean

RETIRED_MOST: Final = 1_000
ALL_AUTOMATIC: Final = "*"
"""Under which statistics of databases that are gone are kept when those of RETIRED_MOST others are."""


class PoolManager:
    """Owns the run-time objects by name. Times are nanoseconds of one monotonic clock."""

    def __init__(
        self,
        settings: Settings,
        dialler: Dialler,
        random: Random,
        clock: Callable[[], int],
        leases: RemoteLeases | None = None,
        number: int = 0,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.databases: dict[str, Database] = {}
        self.users: dict[str, User] = {}
        self.pools: dict[PoolKey, Pool] = {}
        self.tracked = Tracked(settings.track_extra_parameters)
        self.statements = Registry(self._statement_limits, number)
        self.hosts = Hosts(random, settings.unix_socket_dir or DEFAULT_UNIX_SOCKET_DIR)
        self.ledger: Ledger | RemoteLeases
        if leases is not None:
            self.ledger = leases
            leases.pools = self.pools
        else:
            self.ledger = self._own_ledger = Ledger(self._limits, self._retry, self._reclaim)
        self.paused = False
        self.on_altered: Callable[[str], None] = lambda name: None
        """Is told of each database whose schema was changed by a client of ours."""
        self.period_ns = 0
        self.console_stats = Stats()
        self._dialler = dialler
        self._retired: dict[str, Stats] = {}
        self._retired_unclean: Counter[Unclean] = Counter()
        self._load_databases()

    # Finding.

    def database(self, name: str, now: int) -> Database:
        """The database a client asks for, made from the `*` entry if need be. Raises UnknownDatabase."""
        known = self.databases.get(name)
        settings = self.settings.database(name)
        if settings is None:
            raise UnknownDatabase(name)
        if known is not None:
            return known
        database = Database(name, settings, automatic=True, now=now)
        database.altered = self._altered
        database.paused = self.paused
        self.databases[name] = database
        return database

    def user(self, name: str) -> User:
        """The user of this name."""
        known = self.users.get(name)
        if known is None:
            known = self.users[name] = User(name)
        return known

    def pool(self, database: Database, user: str) -> Pool:
        """The pool that serves this user on this database: the forced user's where there is one."""
        forced = database.settings.user
        return self._pool(PoolKey(database.name, forced or user), database)

    def auth_pool(self, database: Database, user: str) -> Pool:
        """The pool of the one connection on which this user asks `auth_query` in the database."""
        return self._pool(PoolKey(database.name, user, asks=True), database)

    def _pool(self, key: PoolKey, database: Database) -> Pool:
        known = self.pools.get(key)
        if known is None:
            known = self.pools[key] = Pool(
                key,
                database,
                self.user(key.user),
                self._settings_of(key),
                self.settings,
                tracked=self.tracked,
                statements=self.statements,
                leases=self.ledger,
                hosts=self.hosts,
                dialler=self._dialler,
            )
        return known

    def _settings_of(self, key: PoolKey) -> PoolSettings:
        if key.asks:
            return effective.for_auth_pool(self.settings, key.database, key.user)
        return self.settings.for_pool(key.database, key.user)

    def pools_of(self, database: str | None) -> Iterator[Pool]:
        """The pools of a database, or all of them."""
        return (pool for key, pool in list(self.pools.items()) if database in (None, key.database))

    def stats_of(self, database: str) -> Stats:
        """Counters of a database: its pools', and those of pools that are gone."""
        total = Stats()
        retired = self._retired.get(database)
        if retired is not None:
            total.add(retired)
        for pool in self.pools_of(database):
            total.add(pool.stats)
        return total

    def end_period(self) -> None:
        """A stats_period has ended, also for pools that are gone."""
        for pool in self.pools.values():
            pool.stats.end_period()
        for stats in (*self._retired.values(), self.console_stats):
            stats.end_period()

    def unclean(self) -> Counter[Unclean]:
        """Servers of all pools that could not be taken back, by the proof that was missing."""
        return sum((pool.unclean for pool in self.pools.values()), Counter(self._retired_unclean))

    # Clients coming and going.

    def admit(self, database: Database, user: User) -> None:
        """Count a client that has logged in. Raises TooManyClients when one of its limits is reached."""
        settings = self.settings
        by_database = effective.max_db_client_connections(settings, database.name)
        by_user = effective.max_user_client_connections(settings, user.name)
        if by_database and database.clients >= by_database:
            raise TooManyClients("client connections exceeded (max_db_client_connections)")
        if by_user and user.clients >= by_user:
            raise TooManyClients("client connections exceeded (max_user_client_connections)")
        if database.disabled:
            raise DatabaseDisabled(database.name)
        database.clients += 1
        user.clients += 1

    def dismiss(self, database: Database, user: User) -> None:
        """A client that was admitted has gone."""
        database.clients -= 1
        user.clients -= 1
        database.idle_since = self.clock()

    # Orders.

    def pause(self, name: str | None) -> None:
        """No checkout any more; servers close as they are released, idle ones now. None: everywhere."""
        self.paused = self.paused or name is None
        for database in self._named(name):
            database.paused = True
        for pool in self.pools_of(name):
            self.close_servers(pool, ServerClosed.PAUSED)

    def resume(self, name: str | None) -> None:
        """Undo `pause`."""
        if name is None:
            self.paused = False
        for database in self._named(name):
            database.paused = False
        for pool in self.pools_of(name):
            pool.serve(self.clock())

    def disable(self, name: str, disabled: bool) -> None:
        """Refuse (or accept again) clients that want to log in."""
        for database in self._named(name):
            database.disabled = disabled

    def reconnect(self, name: str | None) -> None:
        """Close every server as soon as it is free."""
        for database in self._named(name):
            database.renewed_at = self.clock()
        for pool in self.pools_of(name):
            self.close_servers(pool, ServerClosed.RECONNECT)

    def kill_servers(self, name: str | None, reason: ServerClosed = ServerClosed.KILLED) -> None:
        """Close every server, used or not."""
        for pool in self.pools_of(name):
            for state in range(states.CLOSING):
                for server in list(pool.servers[state]):
                    server.close(reason)

    def close_servers(self, pool: Pool, reason: ServerClosed) -> None:
        """Close the idle servers of a pool now and the others when they are released."""
        for server in _in_states(pool, states.IDLE, states.USED):
            server.close(reason)
        if reason is not ServerClosed.PAUSED:
            for server in _in_states(pool, states.LOGIN, states.ACTIVE, states.TESTED, states.BEING_CANCELED):
                server.close_needed = reason

    def closing(self, name: str | None) -> bool:
        """Whether a server is left that is to be closed (WAIT_CLOSE)."""
        return any(
            pool.servers[states.CLOSING]
            or any(server.close_needed for servers in pool.servers for server in servers)
            for pool in self.pools_of(name)
        )

    def servers_left(self, name: str | None) -> int:
        """How many servers are not closed (PAUSE waits for none)."""
        return sum(pool.open for pool in self.pools_of(name))

    def sweep_databases(self, now: int) -> None:
        """Forget databases that were made by `*` and not used for autodb_idle_timeout, or never reached,
        and removed ones when empty.
        """
        timeout = self.settings.autodb_idle_timeout * SECOND
        for database in list(self.databases.values()):
            if database.clients or not (database.automatic or database.dead):
                continue
            expired = database.dead or (timeout and now - database.idle_since >= timeout)
            if (expired or self._never_reached(database, now)) and self._drop(database):
                del self.databases[database.name]
        self._forget_users()

    def _never_reached(self, database: Database, now: int) -> bool:
        """Whether nobody can have used it: names that are made up before a login must not add up."""
        pools = list(self.pools_of(database.name))
        if not pools or database.paused or database.disabled:
            return False
        return not any(pool.greeting or pool.open or pool.refused_until > now for pool in pools)

    def _forget_users(self) -> None:
        """Clients choose their names: those of nobody who is there, or is configured, are not kept."""
        kept = {key.user for key in self.pools}
        for name, user in list(self.users.items()):
            listed = name in self.settings.users or name in self.settings.credentials
            if not user.clients and not listed and name not in kept:
                del self.users[name]

    # Settings.

    def apply(self, settings: Settings) -> None:
        """Take new settings: sizes hold at once, servers of changed destinations close when they are free."""
        self.settings = settings
        self.hosts.trust_again()
        self._load_databases()
        now = self.clock()
        for pool in list(self.pools.values()):
            pool.apply(settings)
            if pool.database.dead:
                self.close_servers(pool, ServerClosed.RECONNECT)
                continue
            old, new = pool.settings, self._settings_of(pool.key)
            pool.settings = new
            # What a login was refused for may be what has been mended, also in a file that is named as ever.
            pool.refused_until = 0
            if destination(old) != destination(new):
                pool.greeting = None
                pool.accepted.forget()
                self.close_servers(pool, ServerClosed.RECONNECT)
            self._change_mode(pool, new.pool_mode)
            if old.server_lifetime != new.server_lifetime:
                longer = int((new.server_lifetime - old.server_lifetime) * SECOND)
                for server in _in_states(pool, *range(states.IDLE, states.CLOSING)):
                    server.expires_at += longer
            pool.serve(now)

    def _change_mode(self, pool: Pool, mode: PoolMode) -> None:
        """What a session leaves behind would not be cleaned in another mode, so its server closes."""
        if pool.mode is PoolMode.SESSION and mode is not PoolMode.SESSION:
            for server in _in_states(pool, states.ACTIVE, states.BEING_CANCELED):
                server.close_needed = ServerClosed.RECONNECT
        pool.mode = mode

    def _load_databases(self) -> None:
        now = self.clock()
        for name, entry in self.settings.databases.items():
            if name == "*":
                continue
            known = self.databases.get(name)
            if known is None:
                known = self.databases[name] = Database(name, entry, automatic=False, now=now)
                known.paused = self.paused
                known.altered = self._altered
            known.settings = entry
            known.automatic = known.dead = False
        for name, database in self.databases.items():
            if name in self.settings.databases:
                continue
            fallback = self.settings.database(name)
            database.dead = fallback is None
            if fallback is not None:
                database.settings = fallback
                database.automatic = True
        self._make_minimal_pools()

    def _make_minimal_pools(self) -> None:
        """A pool of a forced user keeps its min_pool_size also before the first client."""
        for database in list(self.databases.values()):
            user = database.settings.user
            if user and not database.dead and self.settings.for_pool(database.name, user).min_pool_size:
                self.pool(database, user)

    def _drop(self, database: Database) -> bool:
        pools = list(self.pools_of(database.name))
        if any(pool.sessions or pool.waiting for pool in pools):
            return False
        for pool in pools:
            self.close_servers(pool, ServerClosed.IDLE_TIMEOUT)
        if any(pool.open for pool in pools):
            return False
        for pool in pools:
            # Clients make up names of automatic databases: beyond a limit their counts go together.
            name = database.name if len(self._retired) < RETIRED_MOST else ALL_AUTOMATIC
            self._retired.setdefault(name, Stats()).add(pool.stats)
            self._retired_unclean += pool.unclean
            del self.pools[pool.key]
        return True

    def _altered(self, name: str) -> None:
        self.on_altered(name)

    def altered_elsewhere(self, names: Iterable[str]) -> None:
        """Clients of other workers have changed the schemas of these databases."""
        for name in names:
            if (database := self.databases.get(name)) is not None:
                database.ddl += 1

    def _named(self, name: str | None) -> list[Database]:
        return list(self.databases.values()) if name is None else [self.databases[name]]

    # What the ledger asks.

    def _statement_limits(self) -> tuple[int, int]:
        """How many texts of prepared statements may be shared, and of how many bytes together."""
        return self.settings.max_shared_statements, self.settings.max_shared_statement_bytes

    def _limits(self, key: PoolKey) -> Limits:
        pool = self.pools[key]
        return Limits(
            pool.settings.pool_size,
            pool.settings.reserve_pool_size,
            effective.max_db_connections(self.settings, key.database),
            effective.max_user_connections(self.settings, key.user),
        )

    def _retry(self, key: PoolKey) -> None:
        self.pools[key].demand(self.clock())

    def _reclaim(self, key: PoolKey) -> None:
        """Close the longest-idle server whose slot the pool could use, unless enough are closing already."""
        helps = self._own_ledger.would_help
        others = [pool for other, pool in self.pools.items() if other != key and helps(other, key)]
        if sum(len(pool.servers[states.CLOSING]) for pool in others) >= self._own_ledger.claims():
            return
        idle = [server for pool in others for server in _in_states(pool, states.IDLE, states.USED)]
        if idle:
            min(idle, key=lambda server: server.released_at).close(ServerClosed.EVICTED)


def _in_states(pool: Pool, *which: int) -> list[PooledServer]:
    return [server for state in which for server in pool.servers[state]]


def destination(settings: PoolSettings) -> tuple[object, ...]:
    """What a server connection was made with; when it changes, the connection is out of date."""
    return (
        settings.dbname,
        settings.hosts,
        settings.port,
        settings.user,
        settings.password,
        settings.connect_query,
        dict(settings.startup_parameters),
        settings.tls,
    )

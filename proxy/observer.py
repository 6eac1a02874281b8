"""Snapshots of the live objects: the only reader of them for SHOW and /metrics, and it changes nothing."""

import asyncio
import copy
import os
import platform
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol

from uvloop._version import __version__ as uvloop_version

from config import effective
from config.databases import CONSOLE, DatabaseSettings
from config.types import EventLoop
from proxy import vitals
from proxy.crowd import Crowd
from proxy.dialler import Dialler
from proxy.lobby import Lobby
from proxy.pool import states
from proxy.pool.pool import Pool
from proxy.pool_list import joined
from proxy.quarantine import Violation
from proxy.resolver import Resolver
from proxy.snapshot import (
    MICROSECONDS,
    BuildInfo,
    ClientSnapshot,
    ConfigRow,
    Counts,
    CrowdSnapshot,
    DatabaseSnapshot,
    DnsHostSnapshot,
    ListsSnapshot,
    PeerPoolSnapshot,
    PeerSnapshot,
    PoolSnapshot,
    ReasonCounts,
    ServerSnapshot,
    StatementCounts,
    StatementSnapshot,
    StateSnapshot,
    StatsSnapshot,
    UserSnapshot,
    WorkerSnapshot,
)
from proxy.socket_list import Sockets, shown
from proxy.statement_list import listed
from proxy.tls_snapshot import TlsSnapshot
from proxy.version import VERSION, is_compiled, is_pump_built

if TYPE_CHECKING:
    from proxy.server import Server

_MICROSECOND = 1000
# Clients that are looked at in one turn of the loop: of ten thousand at once everybody would notice.
_STEP: Final = 256


class Doors(Protocol):
    """Where clients come in."""

    @property
    def listening(self) -> bool: ...


class Observer:
    """`lag`: how late the last sweep was (s); `number`: which worker this is, 0 where it is alone. Each
    method describes this moment.
    """

    def __init__(
        self,
        lobby: Lobby,
        dialler: Dialler,
        resolver: Resolver,
        doors: Doors,
        clock: Callable[[], int],
        number: int = 0,
    ) -> None:
        self._lobby = lobby
        self._dialler = dialler
        self._resolver = resolver
        self._doors = doors
        self._clock = clock
        self.number = number
        self.sockets = Sockets(lobby.clients, clock, number)
        self._manager = lobby.manager
        self.lag: float | None = None
        self.draining = False
        self.reloads: Counter[str] = Counter()
        self._crowd: CrowdSnapshot | None = None

    # SHOW POOLS.

    def pools(self) -> Sequence[PoolSnapshot]:
        """Every pool, that of the console too."""
        now = self._clock()
        cancels = self._cancels_by_pool()
        consoles = sum(1 for client in self._lobby.clients.values() if client.console is not None)
        own = PoolSnapshot(CONSOLE, CONSOLE, cl_active=consoles, pool_mode="statement")
        ordered = sorted(self._manager.pools.values(), key=lambda pool: pool.key.asks)
        return joined([*(self._pool(pool, now, cancels) for pool in ordered), own])

    def _pool(self, pool: Pool, now: int, cancels: Counter[Pool]) -> PoolSnapshot:
        count = [len(servers) for servers in pool.servers]
        oldest = next(iter(pool.waiting), None)
        waiting = len(pool.waiting)
        waiting_logged_in = sum(1 for session in pool.waiting if session in pool.sessions)
        return PoolSnapshot(
            shown(pool.key.database),
            shown(pool.key.user),
            cl_active=len(pool.sessions) - waiting_logged_in,
            cl_waiting=waiting,
            cl_active_cancel_req=cancels[pool],
            sv_active=count[states.ACTIVE],
            sv_active_cancel=cancels[pool],
            sv_being_canceled=count[states.BEING_CANCELED],
            sv_idle=count[states.IDLE],
            sv_used=count[states.USED],
            sv_tested=count[states.TESTED],
            sv_login=count[states.LOGIN],
            waited=(now - oldest.waiting_since) // _MICROSECOND if oldest is not None else 0,
            pool_mode=pool.mode.value,
            load_balance_hosts=_balance(pool.settings.hosts, pool.settings.load_balance_hosts.value),
        )

    def _cancels_by_pool(self) -> Counter[Pool]:
        return Counter(server.pool for server in self._all_servers() if server.cancels)

    def _all_servers(self) -> "Iterator[Server]":
        for pool in self._manager.pools.values():
            for servers in pool.servers:
                yield from servers  # type: ignore[misc]

    # SHOW CLIENTS and SERVERS.

    def clients(self) -> Iterator[ClientSnapshot]:
        """Every client, also those that log in, send a cancel or use the console; made as they are taken."""
        return chain.from_iterable(self.client_parts(_STEP))

    def servers(self) -> Sequence[ServerSnapshot]:
        """Every server, also those that log in or close."""
        return self.sockets.servers(self._all_servers())

    def crowd(self) -> CrowdSnapshot:
        """Clients and servers, counted when this was taken with them, else now."""
        if self._crowd is not None:
            return self._crowd
        crowd = Crowd()
        crowd.add_clients(self.clients())
        crowd.add_servers(self.servers())
        return crowd.counted()

    def client_parts(self, size: int) -> Iterator[Sequence[ClientSnapshot]]:
        """The clients, so many at a time; who leaves meanwhile is left out."""
        everybody = list(self._lobby.clients.values())
        for at in range(0, len(everybody), size):
            there = self._lobby.clients
            yield self.sockets.clients(each for each in everybody[at : at + size] if each.id in there)

    def workers(self) -> Sequence[WorkerSnapshot]:
        """This process."""
        own = WorkerSnapshot(
            self.number,
            os.getpid(),
            clients=len(self._lobby.clients),
            servers=self._manager.servers_left(None),
            cpu_us=int(vitals.processor_time() * MICROSECONDS),
            lag_us=int((self.lag or 0.0) * MICROSECONDS),
            memory=vitals.resident_memory(),
        )
        return [own]

    def silent(self) -> Sequence[int]:
        """Nobody else is asked."""
        return ()

    async def take(self, parts: Collection[str]) -> "Observer":
        """As a source: everything, at once but for the crowd, which is counted in steps."""
        if "crowd" not in parts:
            return self
        crowd = Crowd()
        for some in self.client_parts(_STEP):
            crowd.add_clients(some)
            await asyncio.sleep(0)
        crowd.add_servers(self.servers())
        # Another one may be taken meanwhile, and whoever asked for this one may have gone.
        taken = copy.copy(self)
        taken._crowd = crowd.counted()
        return taken

    # SHOW DATABASES, USERS, STATS.

    def databases(self) -> Sequence[DatabaseSnapshot]:
        """Every database, configured or made from `*`, and that of the console."""
        listed = [self._database(name) for name in self._manager.databases]
        port = self._manager.settings.listen_port
        console = DatabaseSnapshot(
            CONSOLE, CONSOLE, port=port, force_user=CONSOLE, pool_size=2, pool_mode="statement"
        )
        return [*listed, console]

    def _database(self, name: str) -> DatabaseSnapshot:
        settings = self._manager.settings
        database = self._manager.databases[name]
        entry: DatabaseSettings = database.settings
        return DatabaseSnapshot(
            name=shown(name),
            database=shown(entry.dbname or name),
            host=entry.host,
            port=entry.port,
            force_user=entry.user,
            pool_size=_own(entry.pool_size, settings.default_pool_size),
            min_pool_size=_own(entry.min_pool_size, settings.min_pool_size),
            reserve_pool_size=_own(entry.reserve_pool_size, settings.reserve_pool_size),
            server_lifetime=int(_own(entry.server_lifetime, settings.server_lifetime)),
            pool_mode=entry.pool_mode.value if entry.pool_mode is not None else None,
            load_balance_hosts=_balance(entry.hosts, entry.load_balance_hosts.value),
            max_connections=effective.max_db_connections(settings, name),
            current_connections=self._manager.ledger.of_database(name),
            max_client_connections=effective.max_db_client_connections(settings, name),
            current_client_connections=database.clients,
            paused=int(database.paused),
            disabled=int(database.disabled),
        )

    def users(self) -> Sequence[UserSnapshot]:
        """Every user known by name."""
        settings = self._manager.settings
        names = {*settings.credentials, *settings.users, *self._manager.users}
        return [self._user(name) for name in sorted(names)]

    def _user(self, name: str) -> UserSnapshot:
        settings = self._manager.settings
        entry = effective.user_entry(settings, name)
        known = self._manager.users.get(name)
        return UserSnapshot(
            name=shown(name),
            pool_size=entry.pool_size,
            reserve_pool_size=entry.reserve_pool_size,
            pool_mode=entry.pool_mode.value if entry.pool_mode is not None else None,
            max_user_connections=effective.max_user_connections(settings, name),
            current_connections=self._manager.ledger.of_user(name),
            max_user_client_connections=effective.max_user_client_connections(settings, name),
            current_client_connections=known.clients if known is not None else 0,
        )

    def stats(self) -> Sequence[StatsSnapshot]:
        """One per database that has a pool."""
        names = dict.fromkeys(key.database for key in self._manager.pools)
        period = self._manager.period_ns // _MICROSECOND
        counted = [(name, self._manager.stats_of(name)) for name in names]
        counted.append((CONSOLE, self._manager.console_stats))
        return [
            StatsSnapshot(shown(name), _counts(stats.totals()), _counts(stats.last_period()), period)
            for name, stats in counted
        ]

    # The rest.

    def lists(self) -> ListsSnapshot:
        """Numbers of things."""
        manager = self._manager
        servers = [len(servers) for pool in manager.pools.values() for servers in pool.servers]
        login = sum(1 for client in self._lobby.clients.values() if client.in_login)
        idle = sum(len(pool.servers[states.IDLE]) for pool in manager.pools.values())
        return ListsSnapshot(
            databases=len(manager.databases) + 1,
            users=len(self.users()),
            pools=len({key[:2] for key in manager.pools}) + 1,
            used_clients=len(self._lobby.clients) - login,
            login_clients=login,
            free_servers=idle,
            used_servers=sum(servers) - idle,
            dns_names=len(self._resolver.answers),
            dns_queries=self._resolver.pending,
            prepared_statements=len(manager.statements.statements),
            prepared_statement_bytes=manager.statements.size,
        )

    def prepared_statements(self) -> Iterator[StatementSnapshot | None]:
        """The texts that clients share."""
        return listed(self._manager.statements, (server.statements for server in self._all_servers()))

    def statement_counts(self) -> StatementCounts:
        """What became of the need for statements on servers."""
        registry = self._manager.statements
        return StatementCounts(registry.hits, registry.misses, registry.evicted)

    def config(self) -> Sequence[ConfigRow]:
        """Every setting, ordered by key."""
        return [
            ConfigRow(key, value or "", default or "", changeable == "yes")
            for key, value, default, changeable in self._manager.settings.rows()
        ]

    def peers(self) -> Sequence[PeerSnapshot]:
        """There are none."""
        return []

    def peer_pools(self) -> Sequence[PeerPoolSnapshot]:
        """There are none."""
        return []

    def dns_hosts(self) -> Sequence[DnsHostSnapshot]:
        """Remembered answers."""
        return [
            DnsHostSnapshot(name, seconds, ",".join(addresses))
            for name, seconds, addresses in self._resolver.remembered()
        ]

    def state(self) -> StateSnapshot:
        """What the whole pooler is doing."""
        return StateSnapshot(
            paused=self._manager.paused, listening=self._doors.listening, draining=self.draining
        )

    def reasons(self) -> ReasonCounts:
        """Why connections ended and requests failed."""
        return ReasonCounts(
            client_disconnects={why.name.lower(): n for why, n in self._lobby.closed_clients.items()},
            server_disconnects={why.name.lower(): n for why, n in self._dialler.closed_servers.items()},
            errors=dict(self._lobby.errors),
            logins=dict(self._lobby.logins),
            login_failures=dict(self._lobby.login_failures),
            reloads=dict(self.reloads),
            cancel_requests=self._lobby.cancel_requests,
            unclean={proof.value: count for proof, count in self._manager.unclean().items()},
            violations={kind.name.lower(): self._dialler.violations[kind] for kind in Violation},
            leaks=dict(self._dialler.leaks.counts),
            auth_query=asdict(self._lobby.auth_query.counts),
        )

    def build(self) -> BuildInfo:
        """Which program this is."""
        asyncio = self._manager.settings.event_loop is EventLoop.ASYNCIO
        loop = "asyncio" if asyncio else f"uvloop {uvloop_version}"
        pump = not asyncio and is_pump_built()
        return BuildInfo(VERSION, platform.python_version(), loop, compiled=is_compiled(), pump=pump)

    def tls(self) -> TlsSnapshot:
        """Certificates, and handshakes that failed."""
        return self._lobby.tls.snapshot()

    def loop_lag(self) -> float | None:
        """How late the event loop ran its latest timer (s)."""
        return self.lag


def _counts(values: tuple[int, ...]) -> Counts:
    """Stats hold times in nanoseconds, snapshots in microseconds."""
    named = dict(zip(Counts.__match_args__, values, strict=True))
    for name in ("xact_time", "query_time", "wait_time"):
        named[name] //= _MICROSECOND
    return Counts(**named)


def _balance(hosts: Sequence[str], how: str) -> str | None:
    return how if len(hosts) > 1 else None


def _own(value: int | float | None, default: int | float) -> int:
    return int(default if value is None else value)

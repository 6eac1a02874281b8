"""A pooler made of plain data: what the console and the metrics are shown, and what orders reach."""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from proxy.control import ShutdownMode
from proxy.crowd import Crowd
from proxy.snapshot import (
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
from proxy.tls_snapshot import CertificateSnapshot, TlsSnapshot

NOON = 1_750_000_000.0


def _pools() -> list[PoolSnapshot]:
    return [
        PoolSnapshot("app", "alice", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 3_250_000, "transaction"),
        PoolSnapshot("hosts", "bob", load_balance_hosts="round-robin"),
    ]


def _clients() -> list[ClientSnapshot]:
    return [
        ClientSnapshot(
            1,
            "active",
            "alice",
            "app",
            addr="10.0.0.7",
            port=51234,
            local_addr="10.0.0.1",
            local_port=6432,
            connect_time=NOON,
            request_time=NOON + 5,
            waited=1_000_002,
            ptr="0x1",
            link="0x2",
            application_name="shop",
            prepared_statements=4,
            send_avail=77,
        ),
        ClientSnapshot(2, "active", "alice", "app", application_name="shop"),
        ClientSnapshot(3, "waiting", "bob", "hosts"),
        ClientSnapshot(4, "login"),
        ClientSnapshot(5, "waiting_cancel_req", "bob", "hosts"),
    ]


TLS = "TLSv1.3/TLS_AES_256_GCM_SHA384"


def _servers() -> list[ServerSnapshot]:
    return [
        ServerSnapshot(8, "active", "alice", "app", ptr="0x2", link="0x1", remote_pid=4711, tls=TLS),
        ServerSnapshot(9, "new", "alice", "app", close_needed=1),
        ServerSnapshot(10, "being_canceled", "alice", "app"),
    ]


def _databases() -> list[DatabaseSnapshot]:
    return [
        DatabaseSnapshot("app", "app_live", None, 5432, "owner", 20, 2, 3, 3600, "transaction", None, 50, 7),
        DatabaseSnapshot(
            "hosts",
            "hosts",
            "a,b",
            load_balance_hosts="disable",
            max_client_connections=9,
            current_client_connections=4,
            paused=1,
            disabled=1,
        ),
    ]


def _stats() -> list[StatsSnapshot]:
    return [
        StatsSnapshot(
            "app", Counts(*range(1_000_000, 13_000_000, 1_000_000)), Counts(*range(60, 180, 10)), 5_000_000
        ),
        StatsSnapshot("hosts", Counts(*[1] * 12)),
    ]


def _statements() -> list[StatementSnapshot | None]:
    return [
        None,
        StatementSnapshot("app", "alice", "select $1", 5, 3_000_000_000, 2, 4_000_000_000, 1),
        StatementSnapshot("hosts", "bob", "select 2", 0, 1, 0, 521, 0),
    ]


@dataclass
class FakeSnapshots:
    """Snapshots with something different in every column; tests replace the parts they are about."""

    pool_list: list[PoolSnapshot] = field(default_factory=_pools)
    client_list: list[ClientSnapshot] = field(default_factory=_clients)
    server_list: list[ServerSnapshot] = field(default_factory=_servers)
    database_list: list[DatabaseSnapshot] = field(default_factory=_databases)
    user_list: list[UserSnapshot] = field(
        default_factory=lambda: [
            UserSnapshot("alice", 1, 22, "session", 5, 4, 3, 2),
            UserSnapshot("bob"),
        ]
    )
    stats_list: list[StatsSnapshot] = field(default_factory=_stats)
    config_list: list[ConfigRow] = field(
        default_factory=lambda: [
            ConfigRow("listen_addr", "*", "", False),
            ConfigRow("max_client_conn", "300", "100", True),
            ConfigRow("max_user_connections", "40", "0", True),
        ]
    )
    present_state: StateSnapshot = field(default_factory=StateSnapshot)
    reason_counts: ReasonCounts = field(
        default_factory=lambda: ReasonCounts(
            {"client close request": 6},
            {"server lifetime over": 2},
            {("app", "57"): 3},
            {"scram-sha-256": 5},
            {"ok": 4, "failed": 1},
            9,
            {"replies owed": 4},
            {"idle": 3_000_000_000, "malformed": 0},
            {("search_path", "psql"): 3_000_000_000, ("cursor", "a\nb"): 2},
            auth_query={"questions": 7},
            logins={"scram-sha-256-plus": 7},
        )
    )
    lag: float | None = 0.002
    statement_list: list[StatementSnapshot | None] = field(default_factory=_statements)
    worker_list: list[WorkerSnapshot] = field(
        default_factory=lambda: [
            WorkerSnapshot(1, 4001, "running", 40, 7, 5_000_000_000, 250, 1, 30_000_000_000),
            WorkerSnapshot(2, 4002, "silent"),
        ]
    )
    silent_workers: list[int] = field(default_factory=list)

    async def take(self, parts: Collection[str]) -> "FakeSnapshots":
        return self

    def pools(self) -> Sequence[PoolSnapshot]:
        return self.pool_list

    def clients(self) -> Sequence[ClientSnapshot]:
        return self.client_list

    def servers(self) -> Sequence[ServerSnapshot]:
        return self.server_list

    def databases(self) -> Sequence[DatabaseSnapshot]:
        return self.database_list

    def users(self) -> Sequence[UserSnapshot]:
        return self.user_list

    def stats(self) -> Sequence[StatsSnapshot]:
        return self.stats_list

    def lists(self) -> ListsSnapshot:
        return ListsSnapshot(*range(1, 17))

    def prepared_statements(self) -> Iterator[StatementSnapshot | None]:
        return iter(self.statement_list)

    def statement_counts(self) -> StatementCounts:
        return StatementCounts(7_000_000_000, 62, 23)

    def config(self) -> Sequence[ConfigRow]:
        return self.config_list

    def peers(self) -> Sequence[PeerSnapshot]:
        return [PeerSnapshot(1, "peer.example", 6432, 20)]

    def peer_pools(self) -> Sequence[PeerPoolSnapshot]:
        return [PeerPoolSnapshot(1, 2, 3, 4, 5)]

    def dns_hosts(self) -> Sequence[DnsHostSnapshot]:
        return [DnsHostSnapshot("db.example", 12, "10.0.0.3,10.0.0.4")]

    def state(self) -> StateSnapshot:
        return self.present_state

    def reasons(self) -> ReasonCounts:
        return self.reason_counts

    def build(self) -> BuildInfo:
        return BuildInfo("0.1.0", "3.11.7", "uvloop")

    def tls(self) -> TlsSnapshot:
        certificate = CertificateSnapshot("client", "server.crt", "CN=pooler", 1_800_000_000, 86400 * 3.5)
        return TlsSnapshot((certificate,), {"client": 7})

    def loop_lag(self) -> float | None:
        return self.lag

    def crowd(self) -> CrowdSnapshot:
        crowd = Crowd()
        crowd.add_clients(self.client_list)
        crowd.add_servers(self.server_list)
        return crowd.counted()

    def workers(self) -> Sequence[WorkerSnapshot]:
        return self.worker_list

    def silent(self) -> Sequence[int]:
        return self.silent_workers


class FakeDaemon:
    """Remembers what it was told. `drained` decides when PAUSE and WAIT_CLOSE are done."""

    def __init__(self, databases: Sequence[str] = ("app", "hosts")) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.databases = set(databases)
        self.pauses: set[str | None] = set()
        self.clients = {7}
        self.shutting_down = False
        self.drained = asyncio.Event()
        self.drained.set()
        self.reloadable = asyncio.Event()
        self.reloadable.set()
        self.problem: Exception | None = None
        self.waiting = asyncio.Event()
        self.left = asyncio.Event()
        self.abandoned: list[str | None] = []

    def has_database(self, name: str) -> bool:
        return name in self.databases

    def is_paused(self, database: str | None) -> bool:
        return database in self.pauses

    def paused_databases(self) -> list[str]:
        return sorted(name for name in self.pauses if name is not None)

    def is_shutting_down(self) -> bool:
        return self.shutting_down

    async def pause(self, database: str | None) -> None:
        self.calls.append(("pause", database))
        self.pauses.add(database)

    async def paused(self, database: str | None) -> None:
        await self._drain(database)

    async def resume(self, database: str | None) -> None:
        self.calls.append(("resume", database))
        self.pauses.discard(database)

    async def disable(self, database: str) -> None:
        self.calls.append(("disable", database))

    async def enable(self, database: str) -> None:
        self.calls.append(("enable", database))

    async def reconnect(self, database: str | None) -> None:
        self.calls.append(("reconnect", database))

    async def closed(self, database: str | None) -> None:
        self.calls.append(("closed", database))
        await self._drain(database)

    async def kill(self, database: str | None) -> None:
        self.calls.append(("kill", database))
        self.pauses |= self.databases if database is None else {database}

    async def kill_client(self, client: int) -> bool:
        self.calls.append(("kill_client", client))
        return client in self.clients

    async def reload(self) -> None:
        await self.reloadable.wait()
        self.calls.append(("reload",))
        if self.problem is not None:
            raise self.problem

    async def set_setting(self, key: str, value: str) -> None:
        self.calls.append(("set", key, value))
        if self.problem is not None:
            raise self.problem

    def shutdown(self, mode: ShutdownMode) -> None:
        self.calls.append(("shutdown", mode))
        self.shutting_down = True

    async def _drain(self, database: str | None) -> None:
        self.waiting.set()
        try:
            await self.drained.wait()
        except asyncio.CancelledError:
            self.abandoned.append(database)
            self.left.set()
            raise

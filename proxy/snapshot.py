"""Plain copies of the pooler's state. SHOW and /metrics see nothing else.

Laws of this file: everything is frozen and made of numbers and text, so it can be sent to another process
and merged there. Attributes are named as the columns of PgBouncer's SHOW commands; where a column is cut out
of something finer, the finer value is the field and the column a property. `text` decodes names of the wire.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

MICROSECONDS: Final = 1_000_000


def text(value: bytes) -> str:
    """Decode a name from the wire; bytes that are not UTF-8 appear as `\\xff`."""
    return value.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """One row of SHOW POOLS: the clients and servers of one (database, user), counted by state."""

    database: str
    user: str
    cl_active: int = 0
    cl_waiting: int = 0
    cl_active_cancel_req: int = 0
    cl_waiting_cancel_req: int = 0
    sv_active: int = 0
    sv_active_cancel: int = 0
    sv_being_canceled: int = 0
    sv_idle: int = 0
    sv_used: int = 0
    sv_tested: int = 0
    sv_login: int = 0
    waited: int = 0
    """How long the client that waits longest has waited, in microseconds; 0 if none waits."""
    pool_mode: str = "session"
    load_balance_hosts: str | None = None
    """None unless the database has a list of hosts."""

    @property
    def maxwait(self) -> int:
        """Whole seconds of `waited`."""
        return self.waited // MICROSECONDS

    @property
    def maxwait_us(self) -> int:
        """The microseconds of `waited` beyond the whole seconds."""
        return self.waited % MICROSECONDS


@dataclass(frozen=True, slots=True)
class SocketSnapshot:
    """One row of SHOW CLIENTS, SERVERS or SOCKETS. `state` names the set the connection is in."""

    type: ClassVar[str]

    id: int
    state: str
    user: str = "(nouser)"
    database: str = "(nodb)"
    replication: str = "none"
    addr: str = ""
    """Of the other end; `unix` for a unix socket."""
    port: int = 0
    local_addr: str = ""
    local_port: int = 0
    connect_time: float = 0.0
    request_time: float = 0.0
    """When the latest request began; as the other, wall clock in seconds since 1970."""
    waited: int = 0
    """Microseconds since the present query began to wait or to run; 0 if there is none."""
    close_needed: int = 0
    ptr: str = ""
    link: str = ""
    """`ptr` of the connection this one is joined with, or empty."""
    remote_pid: int = 0
    tls: str = ""
    application_name: str = ""
    prepared_statements: int = 0
    pkt_avail: int = 0
    """Bytes received and not yet passed on."""
    send_avail: int = 0
    """Bytes that wait to be sent."""

    @property
    def wait(self) -> int:
        """Whole seconds of `waited`."""
        return self.waited // MICROSECONDS

    @property
    def wait_us(self) -> int:
        """The microseconds of `waited` beyond the whole seconds."""
        return self.waited % MICROSECONDS

    @property
    def shown_state(self) -> str:
        """`state`, but an active connection that is joined to none is idle."""
        return "idle" if self.state == "active" and not self.link else self.state


@dataclass(frozen=True, slots=True)
class ClientSnapshot(SocketSnapshot):
    """States: login, active, waiting, active_cancel_req, waiting_cancel_req."""

    type: ClassVar[str] = "C"


@dataclass(frozen=True, slots=True)
class ServerSnapshot(SocketSnapshot):
    """States: new (logging in), active, idle, used, tested, being_canceled, and ours: closing."""

    type: ClassVar[str] = "S"


@dataclass(frozen=True, slots=True)
class DatabaseSnapshot:
    """One row of SHOW DATABASES; sizes, limits, seconds as they act, with defaults filled in. 0: no limit."""

    name: str
    database: str
    host: str | None = None
    """None: a unix socket."""
    port: int = 5432
    force_user: str | None = None
    pool_size: int = 0
    min_pool_size: int = 0
    reserve_pool_size: int = 0
    server_lifetime: int = 0
    pool_mode: str | None = None
    """None: inherited."""
    load_balance_hosts: str | None = None
    """None unless `host` is a list."""
    max_connections: int = 0
    current_connections: int = 0
    max_client_connections: int = 0
    current_client_connections: int = 0
    paused: int = 0
    disabled: int = 0


@dataclass(frozen=True, slots=True)
class UserSnapshot:
    """One row of SHOW USERS. None: not set for this user."""

    name: str
    pool_size: int | None = None
    reserve_pool_size: int | None = None
    pool_mode: str | None = None
    max_user_connections: int = 0
    current_connections: int = 0
    max_user_client_connections: int = 0
    current_client_connections: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """PgBouncer's statistics: times in microseconds, traffic in bytes, the rest are events."""

    server_assignment_count: int = 0
    xact_count: int = 0
    query_count: int = 0
    client_bytes: int = 0
    """Received from clients."""
    server_bytes: int = 0
    """Sent to clients, that is, received from servers."""
    xact_time: int = 0
    query_time: int = 0
    wait_time: int = 0
    client_parse_count: int = 0
    server_parse_count: int = 0
    bind_count: int = 0
    client_login_count: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, name) + getattr(other, name) for name in COUNTS))


COUNTS: Final[tuple[str, ...]] = Counts.__match_args__
"""The names of the counters, in PgBouncer's order."""
_TIME_PER: Final = {
    "xact_time": "xact_count",
    "query_time": "query_count",
    "wait_time": "server_assignment_count",
}


@dataclass(frozen=True, slots=True)
class StatsSnapshot:
    """What one database has done: since the start, and in the last full stats_period."""

    database: str
    total: Counts = Counts()
    recent: Counts = Counts()
    period: int = 0
    """Length in microseconds of the period `recent` is about; 0 while none is over."""

    @property
    def average(self) -> Counts:
        """Events and bytes per second; microseconds per transaction, per query, per server assignment."""
        recent, averages = self.recent, dict[str, int]()
        for name in COUNTS:
            value = getattr(recent, name)
            if name in _TIME_PER:
                averages[name] = value // max(getattr(recent, _TIME_PER[name]), 1)
            else:
                averages[name] = value * MICROSECONDS // self.period if self.period else 0
        return Counts(**averages)


def sum_of(stats: Iterable[StatsSnapshot], database: str = "") -> StatsSnapshot:
    """Add up statistics of the same period: of all databases, or of one database in several processes."""
    total, recent, period = Counts(), Counts(), 0
    for part in stats:
        total, recent, period = total + part.total, recent + part.recent, max(period, part.period)
    return StatsSnapshot(database, total, recent, period)


@dataclass(frozen=True, slots=True)
class ListsSnapshot:
    """The rows of SHOW LISTS, in its order; the last two are ours."""

    databases: int = 0
    users: int = 0
    peers: int = 0
    pools: int = 0
    peer_pools: int = 0
    free_clients: int = 0
    used_clients: int = 0
    login_clients: int = 0
    free_servers: int = 0
    used_servers: int = 0
    dns_names: int = 0
    dns_zones: int = 0
    dns_queries: int = 0
    dns_pending: int = 0
    prepared_statements: int = 0
    prepared_statement_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StatementSnapshot:
    """One row of SHOW PREPARED_STATEMENTS: a text, how many names stand for it, how many servers have it."""

    database: str
    user: str
    text: str
    clients: int
    uses: int
    servers: int
    bytes: int
    generation: int


@dataclass(frozen=True, slots=True)
class StatementCounts:
    """What became of the need for statements on servers; counters since the start."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0


@dataclass(frozen=True, slots=True)
class ConfigRow:
    """One row of SHOW CONFIG: a setting as text."""

    key: str
    value: str
    default: str
    live: bool

    @property
    def changeable(self) -> str:
        """`yes` if SET and RELOAD can change it, else `no`."""
        return "yes" if self.live else "no"


@dataclass(frozen=True, slots=True)
class PeerSnapshot:
    """One row of SHOW PEERS."""

    peer_id: int
    host: str | None
    port: int
    pool_size: int


@dataclass(frozen=True, slots=True)
class PeerPoolSnapshot:
    """One row of SHOW PEER_POOLS."""

    peer_id: int
    cl_active_cancel_req: int = 0
    cl_waiting_cancel_req: int = 0
    sv_active_cancel: int = 0
    sv_login: int = 0


@dataclass(frozen=True, slots=True)
class DnsHostSnapshot:
    """One row of SHOW DNS_HOSTS: a remembered answer, the seconds left, addresses with commas between."""

    hostname: str
    ttl: int
    addrs: str


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """What the whole pooler is doing."""

    paused: bool = False
    suspended: bool = False
    listening: bool = True
    """False before the sockets are open and after they are closed."""
    draining: bool = False
    """True from the first order to shut down."""

    @property
    def active(self) -> bool:
        """Neither paused nor suspended."""
        return not (self.paused or self.suspended)


@dataclass(frozen=True, slots=True)
class ReasonCounts:
    """Counters since the start: why connections ended, and what failed. Logins, refused ones too, by method;
    reloads by result; servers that could not go back to their pool by missing proof, their faults by kind,
    what was left on them by kind and application; errors of our own by database and class of SQLSTATE."""

    client_disconnects: Mapping[str, int] = field(default_factory=dict)
    server_disconnects: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    login_failures: Mapping[str, int] = field(default_factory=dict)
    reloads: Mapping[str, int] = field(default_factory=dict)
    cancel_requests: int = 0
    unclean: Mapping[str, int] = field(default_factory=dict)
    violations: Mapping[str, int] = field(default_factory=dict)
    leaks: Mapping[tuple[str, str], int] = field(default_factory=dict)
    auth_query: Mapping[str, int] = field(default_factory=dict)
    logins: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """Which program this is."""

    version: str
    python: str
    event_loop: str
    compiled: bool = False
    pump: bool = False


@dataclass(frozen=True, slots=True)
class CrowdSnapshot:
    """Connections counted for /metrics: clients by database, user, application and state, and all by side,
    version and cipher of what encrypts them; both are empty for those in the clear."""

    clients: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)
    encryption: Mapping[tuple[str, str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """One row of SHOW WORKERS. `worker` is 0 where there is only one process."""

    worker: int
    pid: int
    state: str = "running"
    """Or `starting`, `silent` (it did not answer in time), `stopping`."""
    clients: int = 0
    servers: int = 0
    cpu_us: int = 0
    """Processor time used by this process."""
    lag_us: int = 0
    """How late the event loop ran its latest timer."""
    restarts: int = 0
    """How often a worker of this number was replaced."""
    memory: int = 0
    """Bytes resident."""

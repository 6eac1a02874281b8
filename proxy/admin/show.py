"""SHOW x -> columns and rows. Every result PgBouncer has, in its order, with its names and types; then ours.

A result is a View: its columns are known without looking, its rows are made from snapshots when it is run.
Where an output names its values as the snapshot does, the column list is all there is to say. Columns and
their order are PgBouncer's on the wire, from which its manual differs in places.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from operator import attrgetter
from typing import Final

from proxy.admin.table import BYTEA, INT4, INT8, NUMERIC, TEXT, TIME, Column, Columns, ColumnType, Row
from proxy.snapshot import COUNTS, Counts, SocketSnapshot, UserSnapshot, sum_of
from proxy.source import Snapshots
from proxy.version import version_text

Rows = Callable[[Snapshots], Iterable[Row]]
_STEP: Final = 256


@dataclass(frozen=True, slots=True)
class View:
    """A result of the console; `rows` makes one row after the other, its values in the order of `columns`,
    from these `parts` of the snapshots. A row without values is none: who makes many rows lets others have
    their turn there.
    """

    columns: Columns
    rows: Rows
    parts: tuple[str, ...] = ()
    admin_only: bool = False


def _columns(kind: ColumnType, names: str) -> Columns:
    return tuple(Column(name, kind) for name in names.split())


def _plain(columns: Columns, part: str) -> View:
    """A view of one part, whose items have an attribute for each column."""
    row = attrgetter(*(name for name, _ in columns))
    return View(columns, lambda snapshots: map(row, getattr(snapshots, part)()), (part,))


def _empty(columns: Columns, *, admin_only: bool = False) -> View:
    """A view of something this pooler has none of."""
    return View(columns, lambda _: (), admin_only=admin_only)


def fake_parameter(name: str, value: str) -> View:
    """The answer to SHOW of a server parameter, for drivers that ask whomever they talk to."""
    return View(_columns(TEXT, name), lambda _: ((value,),))


# --- clients and servers --------------------------------------------------------------------------

_BEFORE_STATE: Final = _columns(TEXT, "type user database replication")
_AFTER_STATE: Final = (
    *_columns(TEXT, "addr"),
    *_columns(INT4, "port"),
    *_columns(TEXT, "local_addr"),
    *_columns(INT4, "local_port"),
    *_columns(TIME, "connect_time request_time"),
    *_columns(INT4, "wait wait_us close_needed"),
    *_columns(TEXT, "ptr link"),
    *_columns(INT4, "remote_pid"),
    *_columns(TEXT, "tls application_name"),
    *_columns(INT4, "prepared_statements id"),
)
_CONNECTION: Final = (*_BEFORE_STATE, *_columns(TEXT, "state"), *_AFTER_STATE)
_BUFFERS: Final = _columns(INT4, "recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail")

_before_state: Final[Callable[[object], Sequence[str]]] = attrgetter(*(name for name, _ in _BEFORE_STATE))
_after_state: Final[Callable[[object], Row]] = attrgetter(*(name for name, _ in _AFTER_STATE))

# Of SHOW SOCKETS; connections that carry a cancel request are not among them.
_SOCKET_STATES: Final[Mapping[tuple[str, str], str]] = {
    ("C", "active"): "cl_active",
    ("C", "waiting"): "cl_waiting",
    ("C", "login"): "cl_login",
    ("S", "active"): "sv_active",
    ("S", "idle"): "sv_idle",
    ("S", "used"): "sv_used",
    ("S", "tested"): "sv_tested",
    ("S", "new"): "sv_login",
}


def _in_steps(sockets: Iterable[SocketSnapshot]) -> Iterable[SocketSnapshot | None]:
    """None is a moment for others, also where none of many is shown."""
    for number, socket in enumerate(sockets, 1):
        yield socket
        if number % _STEP == 0:
            yield None


def _connections(sockets: Iterable[SocketSnapshot]) -> Iterable[Row]:
    for socket in _in_steps(sockets):
        if socket is None:
            yield ()
        elif socket.state != "login":
            yield (*_before_state(socket), socket.shown_state, *_after_state(socket))


def _sockets(snapshots: Snapshots, *, only_busy: bool) -> Iterable[Row]:
    for socket in _in_steps(chain(snapshots.clients(), snapshots.servers())):
        if socket is None:
            yield ()
            continue
        state = _SOCKET_STATES.get((socket.type, socket.state))
        if state is None or (only_busy and not (socket.pkt_avail or socket.send_avail)):
            continue
        # The positions are those of PgBouncer's buffers, which are not ours.
        buffers = (0, 0, 0, 0, 0, socket.pkt_avail, socket.send_avail)
        yield (*_before_state(socket), state, *_after_state(socket), *buffers)


# --- pools, databases, users ----------------------------------------------------------------------

_POOLS: Final = (
    *_columns(TEXT, "database user"),
    *_columns(
        INT4,
        "cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req sv_active sv_active_cancel "
        "sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait maxwait_us",
    ),
    *_columns(TEXT, "pool_mode load_balance_hosts"),
)
_PEER_POOLS: Final = _columns(
    INT4, "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login"
)
_PEERS: Final = (*_columns(INT4, "peer_id"), *_columns(TEXT, "host"), *_columns(INT4, "port pool_size"))
_DATABASES: Final = (
    *_columns(TEXT, "name host"),
    *_columns(INT4, "port"),
    *_columns(TEXT, "database force_user"),
    *_columns(INT4, "pool_size min_pool_size reserve_pool_size server_lifetime"),
    *_columns(TEXT, "pool_mode load_balance_hosts"),
    *_columns(
        INT4,
        "max_connections current_connections max_client_connections current_client_connections "
        "paused disabled",
    ),
)
_USERS: Final = (
    *_columns(TEXT, "name pool_size reserve_pool_size pool_mode"),
    *_columns(
        INT4,
        "max_user_connections current_connections max_user_client_connections current_client_connections",
    ),
)


def _size(value: int | None) -> str:
    """A size as PgBouncer's SHOW USERS prints it: text, right-aligned, empty where nothing is set."""
    return "" if value is None else f"{value:9d}"


def _user(user: UserSnapshot) -> Row:
    return (
        user.name,
        _size(user.pool_size),
        _size(user.reserve_pool_size),
        user.pool_mode,
        user.max_user_connections,
        user.current_connections,
        user.max_user_client_connections,
        user.current_client_connections,
    )


# --- statistics -----------------------------------------------------------------------------------

# PgBouncer 1.25 does not show the last counter, client_login_count. Each output has names of its own.
_shown: Final[Callable[[Counts], tuple[int, ...]]] = attrgetter(*COUNTS[:-1])

_EVENTS: Final = "server_assignment_count xact_count query_count"
_TIMES: Final = "xact_time query_time wait_time"
_STATEMENTS: Final = "client_parse_count server_parse_count bind_count"


def _prefixed(prefix: str, names: str) -> str:
    return " ".join(f"{prefix}_{name}" for name in names.split())


_DATABASE: Final = _columns(TEXT, "database")
_STATS: Final = (
    *_DATABASE,
    *_columns(NUMERIC, _prefixed("total", f"{_EVENTS} received sent {_TIMES} {_STATEMENTS}")),
    *_columns(NUMERIC, _prefixed("avg", f"{_EVENTS} recv sent {_TIMES} {_STATEMENTS}")),
)
_BARE: Final = f"{_EVENTS} bytes_received bytes_sent {_TIMES}"
_STATS_TOTALS: Final = (*_DATABASE, *_columns(NUMERIC, f"{_BARE} {_STATEMENTS}"))
_STATS_AVERAGES: Final = (*_DATABASE, *_columns(NUMERIC, f"{_BARE} {_prefixed('avg', _STATEMENTS)}"))
_TOTALS: Final = f"{_EVENTS} client_bytes server_bytes {_TIMES} {_prefixed('ps', _STATEMENTS)}".split()


def _stats(snapshots: Snapshots) -> Iterable[Row]:
    for stats in snapshots.stats():
        yield (stats.database, *_shown(stats.total), *_shown(stats.average))


def _stats_totals(snapshots: Snapshots) -> Iterable[Row]:
    return ((stats.database, *_shown(stats.total)) for stats in snapshots.stats())


def _stats_averages(snapshots: Snapshots) -> Iterable[Row]:
    return ((stats.database, *_shown(stats.average)) for stats in snapshots.stats())


def _totals(snapshots: Snapshots) -> Iterable[Row]:
    every = sum_of(snapshots.stats())
    for prefix, counts in (("total", every.total), ("avg", every.average)):
        for name, value in zip(_TOTALS, _shown(counts), strict=True):
            yield (f"{prefix}_{name}", value)
    needs = snapshots.statement_counts()
    yield ("total_ps_hit_count", needs.hits)
    yield ("total_ps_miss_count", needs.misses)
    yield ("total_ps_eviction_count", needs.evictions)
    for event, count in snapshots.reasons().auth_query.items():
        yield (f"total_auth_query_{event}", count)


# --- prepared statements, ours --------------------------------------------------------------------

_PREPARED: Final = (
    *_columns(TEXT, "database user text"),
    *_columns(INT4, "clients"),
    *_columns(INT8, "uses"),
    *_columns(INT4, "servers"),
    *_columns(INT8, "bytes"),
    *_columns(INT4, "generation"),
)
_statement: Final[Callable[[object], Row]] = attrgetter(*(name for name, _ in _PREPARED))


def _prepared_statements(snapshots: Snapshots) -> Iterable[Row]:
    for statement in snapshots.prepared_statements():
        yield _statement(statement) if statement is not None else ()


# --- TLS, ours ------------------------------------------------------------------------------------

_TLS: Final = (
    *_columns(TEXT, "side file subject"),
    *_columns(TIME, "expires"),
    *_columns(INT4, "days"),
    *_columns(TEXT, "version cipher"),
    *_columns(INT4, "connections"),
)


def _tls(snapshots: Snapshots) -> Iterable[Row]:
    """A row for each certificate, then one for each kind of encryption in use, with the empty one."""
    for each in snapshots.tls().certificates:
        yield (each.side, each.file, each.subject, each.expires, each.days, None, None, None)
    for (side, version, cipher), count in sorted(snapshots.crowd().encryption.items()):
        yield (side, None, None, None, None, version, cipher, count)


# --- the pooler itself ----------------------------------------------------------------------------


def _lists(snapshots: Snapshots) -> Iterable[Row]:
    lists = snapshots.lists()
    return ((field.name, getattr(lists, field.name)) for field in fields(lists))


def _state(snapshots: Snapshots) -> Iterable[Row]:
    state = snapshots.state()
    for name in ("active", "paused", "suspended"):
        yield (name, "yes" if getattr(state, name) else "no")


def _leaks(snapshots: Snapshots) -> Iterable[Row]:
    return ((*key, count) for key, count in sorted(snapshots.reasons().leaks.items()))


def _version(snapshots: Snapshots) -> Iterable[Row]:
    build = snapshots.build()
    yield (version_text(compiled=build.compiled, pump=build.pump),)


_FDS: Final = (
    *_columns(INT4, "fd"),
    *_columns(TEXT, "task user database addr"),
    *_columns(INT4, "port"),
    *_columns(INT8, "cancel"),
    *_columns(INT4, "link"),
    *_columns(TEXT, "client_encoding std_strings datestyle timezone password"),
    *_columns(BYTEA, "scram_client_key scram_server_key"),
)
_LEAKS: Final = (*_columns(TEXT, "kind application"), *_columns(INT8, "count"))
_COUNTED: Final = (*_columns(TEXT, "kind"), *_columns(INT8, "count"))
_KEY_VALUE: Final = _columns(TEXT, "key value")
_WORKERS: Final = (
    *_columns(INT4, "worker pid"),
    *_columns(TEXT, "state"),
    *_columns(INT4, "clients servers"),
    *_columns(INT8, "cpu_us lag_us"),
    *_columns(INT4, "restarts"),
    *_columns(INT8, "memory"),
)
_SOCKETS: Final = ("clients", "servers")

VIEWS: Final[Mapping[str, View]] = {
    "active_sockets": View(
        (*_CONNECTION, *_BUFFERS), lambda snapshots: _sockets(snapshots, only_busy=True), _SOCKETS
    ),
    "clients": View(_CONNECTION, lambda snapshots: _connections(snapshots.clients()), ("clients",)),
    "config": _plain(_columns(TEXT, "key value default changeable"), "config"),
    "databases": _plain(_DATABASES, "databases"),
    "dns_hosts": _plain(
        (*_columns(TEXT, "hostname"), *_columns(INT8, "ttl"), *_columns(TEXT, "addrs")), "dns_hosts"
    ),
    "dns_zones": _empty((*_columns(TEXT, "zonename"), *_columns(INT8, "serial"), *_columns(INT4, "count"))),
    "fds": _empty(_FDS, admin_only=True),
    "leaks": View(_LEAKS, _leaks, ("reasons",)),
    "lists": View((*_columns(TEXT, "list"), *_columns(INT4, "items")), _lists, ("lists",)),
    "mem": _empty((*_columns(TEXT, "name"), *_columns(INT4, "size used free memtotal"))),
    "peer_pools": _plain(_PEER_POOLS, "peer_pools"),
    "peers": _plain(_PEERS, "peers"),
    "pools": _plain(_POOLS, "pools"),
    "prepared_statements": View(_PREPARED, _prepared_statements, ("prepared_statements",)),
    "servers": View(_CONNECTION, lambda snapshots: _connections(snapshots.servers()), ("servers",)),
    "sockets": View(
        (*_CONNECTION, *_BUFFERS), lambda snapshots: _sockets(snapshots, only_busy=False), _SOCKETS
    ),
    "state": View(_KEY_VALUE, _state, ("state",)),
    "stats": View(_STATS, _stats, ("stats",)),
    "stats_averages": View(_STATS_AVERAGES, _stats_averages, ("stats",)),
    "stats_totals": View(_STATS_TOTALS, _stats_totals, ("stats",)),
    "tls": View(_TLS, _tls, ("tls", "crowd")),
    "totals": View(
        (*_columns(TEXT, "name"), *_columns(NUMERIC, "value")),
        _totals,
        ("stats", "statement_counts", "reasons"),
    ),
    "users": View(_USERS, lambda snapshots: map(_user, snapshots.users()), ("users",)),
    "version": View(_columns(TEXT, "version"), _version, ("build",)),
    "violations": View(_COUNTED, lambda snapshots: snapshots.reasons().violations.items(), ("reasons",)),
    "workers": _plain(_WORKERS, "workers"),
}

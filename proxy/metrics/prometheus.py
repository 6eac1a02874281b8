"""Snapshots -> metric families, made when they are asked for.

Laws of this file: names, labels and units are those of the widespread exporter for PgBouncer, so its
dashboards and alerts keep working. It renamed its statistics once and both names are in use, so both are
given. What no PgBouncer has is called `howdah_...`. No label takes values without bound.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from proxy.snapshot import CrowdSnapshot
from proxy.source import Snapshots
from proxy.version import version_text

APPLICATION_LIMIT: Final = 50
"""How many application names are told apart; the clients of all others are counted as `other`."""
_OTHER: Final = "other"


class _Value(NamedTuple):
    """A metric made of one attribute: its name, what it means, the attribute, and what to divide it by."""

    name: str
    meaning: str
    attribute: str
    divisor: int = 1


_STATS: Final = (
    _Value("queries_pooled", "SQL queries pooled", "query_count"),
    _Value("queries_duration_seconds", "Time servers spent on queries", "query_time", 1_000_000),
    _Value("received_bytes", "Bytes received from clients", "client_bytes"),
    _Value("sent_bytes", "Bytes sent to clients", "server_bytes"),
    _Value("client_wait_seconds", "Time clients waited for a server", "wait_time", 1_000_000),
    _Value("sql_transactions_pooled", "SQL transactions pooled", "xact_count"),
    _Value("server_in_transaction_seconds", "Time servers spent in transactions", "xact_time", 1_000_000),
    _Value("client_parses", "Prepared statements received from clients", "client_parse_count"),
    _Value("server_parses", "Prepared statements sent to servers", "server_parse_count"),
    _Value("binds", "Prepared statements bound", "bind_count"),
    _Value("server_assignments", "Servers lent to clients", "server_assignment_count"),
)
_STATS_PREFIXES: Final = ("pgbouncer_stats_totals", "pgbouncer_stats")

_POOLS: Final = (
    _Value("client_active_connections", "Clients joined with a server or idle", "cl_active"),
    _Value("client_active_cancel_connections", "Cancel requests on their way", "cl_active_cancel_req"),
    _Value("client_waiting_connections", "Clients that wait for a server", "cl_waiting"),
    _Value("client_waiting_cancel_connections", "Cancel requests not yet sent", "cl_waiting_cancel_req"),
    _Value("server_active_connections", "Servers joined with a client", "sv_active"),
    _Value("server_active_cancel_connections", "Servers that carry a cancel request", "sv_active_cancel"),
    _Value("server_being_canceled_connections", "Servers kept until a cancel is over", "sv_being_canceled"),
    _Value("server_idle_connections", "Servers ready to be lent", "sv_idle"),
    _Value("server_used_connections", "Servers to be checked before they are lent", "sv_used"),
    _Value("server_testing_connections", "Servers being reset or checked", "sv_tested"),
    _Value("server_login_connections", "Servers that log in", "sv_login"),
    _Value(
        "client_maxwait_seconds", "How long the client that waits longest has waited", "waited", 1_000_000
    ),
)
_DATABASES: Final = (
    _Value("pool_size", "Servers allowed per pool", "pool_size"),
    _Value("reserve_pool", "Further servers allowed per pool", "reserve_pool_size"),
    _Value("max_connections", "Servers allowed for the database", "max_connections"),
    _Value("current_connections", "Servers of the database", "current_connections"),
    _Value("paused", "1 if the database is paused", "paused"),
    _Value("disabled", "1 if the database is disabled", "disabled"),
)
_DATABASE_LABELS: Final = ("name", "host", "port", "database", "force_user", "pool_mode")
_LISTS: Final = (
    _Value("databases", "Databases", "databases"),
    _Value("users", "Users", "users"),
    _Value("pools", "Pools", "pools"),
    _Value("free_clients", "Clients set aside", "free_clients"),
    _Value("used_clients", "Clients connected", "used_clients"),
    _Value("login_clients", "Clients that log in", "login_clients"),
    _Value("free_servers", "Servers set aside", "free_servers"),
    _Value("used_servers", "Servers connected", "used_servers"),
    _Value("cached_dns_names", "Host names remembered", "dns_names"),
    _Value("cached_dns_zones", "DNS zones remembered", "dns_zones"),
    _Value("in_flight_dns_queries", "Host names being looked up", "dns_queries"),
)
_PREPARED: Final = (
    _Value("prepared_statements", "Texts of prepared statements that clients share", "prepared_statements"),
    _Value("prepared_statement_bytes", "Bytes counted for them", "prepared_statement_bytes"),
)
_NEEDS: Final = (
    _Value("prepared_statement_hits", "Statements needed that the server had prepared", "hits"),
    _Value("prepared_statement_misses", "Statements that had to be prepared on the server", "misses"),
    _Value("prepared_statement_evictions", "Statements closed on servers to make room", "evictions"),
)
# The last is what an older exporter calls the first.
_CONFIG: Final = (
    _Value("max_client_connections", "Clients allowed", "max_client_conn"),
    _Value("max_user_connections", "Servers allowed per user", "max_user_connections"),
    _Value("max_client_conn", "Clients allowed", "max_client_conn"),
)
_WORKERS: Final = (
    _Value("clients", "Clients of a worker", "clients"),
    _Value("servers", "Servers of a worker", "servers"),
    _Value("loop_lag_seconds", "How late a timer of a worker was", "lag_us", 1_000_000),
    _Value("resident_memory_bytes", "Resident memory of a worker", "memory"),
)
_WORKER_COUNTERS: Final = (
    _Value("cpu_seconds", "Processor time of a worker, of those it replaced, too", "cpu_us", 1_000_000),
    _Value("restarts", "How often a worker was replaced", "restarts"),
)
PARTS: Final = (
    *("build", "stats", "pools", "databases", "lists", "config", "crowd", "tls", "statement_counts"),
    *("reasons", "state", "loop_lag", "workers"),
)
"""The parts of snapshots that metrics are made of."""
_CLIENT_LABELS: Final = ("database", "user", "application_name", "state")


class PoolerCollector(Collector):
    """Makes every metric of the pooler from one set of snapshots."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        """All families, for one scrape."""
        yield GaugeMetricFamily("pgbouncer_up", "1: the pooler answers", 1)
        build = self._snapshots.build()
        version = {"version": version_text(compiled=build.compiled, pump=build.pump)}
        yield InfoMetricFamily("pgbouncer_version", "What SHOW VERSION says", version)
        yield from self._stats()
        yield from self._pools()
        yield from self._databases()
        yield from self._lists_and_config()
        crowd = self._snapshots.crowd()
        yield self._clients(crowd)
        yield self._encryption(crowd)
        yield from self._certificates()
        needs = self._snapshots.statement_counts()
        for value in _NEEDS:
            yield _filled(CounterMetricFamily, "howdah", value, (), [((), needs)])
        yield from self._our_own()
        yield from self._workers()

    def _stats(self) -> Iterator[Metric]:
        stats = [(part.database, part.total) for part in self._snapshots.stats()]
        for prefix in _STATS_PREFIXES:
            for value in _STATS:
                counts = (([database], total) for database, total in stats)
                yield _filled(CounterMetricFamily, prefix, value, ["database"], counts)
        logins = _Value("client_logins", "Clients that logged in", "client_login_count")
        counts = (([database], total) for database, total in stats)
        yield _filled(CounterMetricFamily, "howdah", logins, ["database"], counts)

    def _pools(self) -> Iterator[Metric]:
        pools = [([pool.database, pool.user], pool) for pool in self._snapshots.pools()]
        for value in _POOLS:
            yield _filled(GaugeMetricFamily, "pgbouncer_pools", value, ["database", "user"], pools)

    def _databases(self) -> Iterator[Metric]:
        databases = [
            ([getattr(database, name) for name in _DATABASE_LABELS], database)
            for database in self._snapshots.databases()
        ]
        for value in _DATABASES:
            yield _filled(GaugeMetricFamily, "pgbouncer_databases", value, _DATABASE_LABELS, databases)

    def _lists_and_config(self) -> Iterator[Metric]:
        lists = self._snapshots.lists()
        for value in _LISTS:
            yield _filled(GaugeMetricFamily, "pgbouncer", value, (), [((), lists)])
        for value in _PREPARED:
            yield _filled(GaugeMetricFamily, "howdah", value, (), [((), lists)])
        settings = {row.key: row.value for row in self._snapshots.config()}
        for value in _CONFIG:
            number = float(settings.get(value.attribute, "0"))
            yield GaugeMetricFamily(f"pgbouncer_config_{value.name}", value.meaning, number)

    def _clients(self, crowd: CrowdSnapshot) -> Metric:
        sizes = Counter[str]()
        for (_, _, name, _), count in crowd.clients.items():
            sizes[name] += count
        kept = set(sorted(sizes, key=lambda name: (-sizes[name], name))[:APPLICATION_LIMIT])
        counts = Counter[tuple[str, ...]]()
        for (database, user, name, state), count in crowd.clients.items():
            counts[database, user, name if name in kept else _OTHER, state] += count
        family = GaugeMetricFamily("pgbouncer_client_connections", "Clients by state", labels=_CLIENT_LABELS)
        for labels, count in counts.items():
            family.add_metric(_labels(labels), count)
        return family

    def _encryption(self, crowd: CrowdSnapshot) -> Metric:
        meaning = "Connections by what encrypts them; those in the clear have neither version nor cipher"
        family = GaugeMetricFamily("howdah_tls_connections", meaning, labels=("side", "version", "cipher"))
        for labels, count in crowd.encryption.items():
            family.add_metric(_labels(labels), count)
        return family

    def _workers(self) -> Iterator[Metric]:
        workers = self._snapshots.workers()
        meaning = "Worker processes; of one alone nothing more is said"
        yield GaugeMetricFamily("howdah_workers", meaning, len(workers))
        each = [((worker.worker,), worker) for worker in workers if worker.worker]
        for value in _WORKERS:
            yield _filled(GaugeMetricFamily, "howdah_worker", value, ("worker",), each)
        for value in _WORKER_COUNTERS:
            yield _filled(CounterMetricFamily, "howdah_worker", value, ("worker",), each)

    def _certificates(self) -> Iterator[Metric]:
        tls = self._snapshots.tls()
        meaning = "Seconds until a certificate of ours expires"
        labels = ("side", "file", "subject")
        left = GaugeMetricFamily("howdah_tls_certificate_expiry_seconds", meaning, labels=labels)
        for each in tls.certificates:
            left.add_metric(_labels((each.side, each.file, each.subject)), each.left)
        yield left
        yield _counter("tls_handshake_failures", "TLS handshakes that failed", "side", tls.failures)

    def _our_own(self) -> Iterator[Metric]:
        reasons, state, build = self._snapshots.reasons(), self._snapshots.state(), self._snapshots.build()
        yield _counter("client_disconnects", "Clients gone, by reason", "reason", reasons.client_disconnects)
        yield _counter("server_disconnects", "Servers gone, by reason", "reason", reasons.server_disconnects)
        yield _counter(
            "unclean_servers", "Servers not proven clean, by missing proof", "proof", reasons.unclean
        )
        broken = "Servers that broke the protocol, by kind"
        yield _counter("server_protocol_violations", broken, "kind", reasons.violations)
        yield _counter("authenticated_clients", "Clients let in, by method", "method", reasons.logins)
        yield _counter("auth_failures", "Logins refused, by method", "method", reasons.login_failures)
        yield _counter("config_reloads", "Reloads, by result", "result", reasons.reloads)
        asked = "Questions of auth_query, and logins answered, refused or delayed by what came of them"
        yield _counter("auth_query", asked, "event", reasons.auth_query)
        by_class = "Errors the pooler itself sent, by class of SQLSTATE"
        yield _counted("errors", by_class, ("database", "class"), reasons.errors.items())
        leaked = "Session state left behind on servers, where audit_release is on"
        yield _counted("leaked_state", leaked, ("kind", "application"), reasons.leaks.items())
        requests = "Cancel requests received"
        yield CounterMetricFamily("howdah_cancel_requests", requests, reasons.cancel_requests)
        yield GaugeMetricFamily("howdah_draining", "1 while the pooler shuts down", int(state.draining))
        yield GaugeMetricFamily("howdah_paused", "1 while the whole pooler is paused", int(state.paused))
        lag = self._snapshots.loop_lag()
        if lag is not None:
            yield GaugeMetricFamily("howdah_event_loop_lag_seconds", "How late a timer was", lag)
        parts = {"version": build.version, "python": build.python, "event_loop": build.event_loop}
        parts["compiled"] = "yes" if build.compiled else "no"
        parts["pump"] = "yes" if build.pump else "no"
        yield InfoMetricFamily("howdah_build", "Which program this is", parts)


def registry_of(snapshots: Snapshots) -> CollectorRegistry:
    """A registry with the pooler's metrics and those of its process (memory, processor time, descriptors)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PoolerCollector(snapshots))
    ProcessCollector(registry=registry)
    return registry


def _labels(values: Iterable[object]) -> list[str]:
    """Label values as text; what cannot be encoded is escaped, or one bad name would spoil the scrape."""
    return [
        "" if value is None else str(value).encode("utf-8", "backslashreplace").decode() for value in values
    ]


def _filled(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
    prefix: str,
    value: _Value,
    labels: Iterable[str],
    items: Iterable[tuple[Iterable[object], object]],
) -> Metric:
    """A family with one sample per item, labelled with what stands beside the item."""
    family = kind(f"{prefix}_{value.name}", value.meaning, labels=tuple(labels))
    for own_labels, item in items:
        family.add_metric(_labels(own_labels), getattr(item, value.attribute) / value.divisor)
    return family


def _counter(name: str, meaning: str, label: str, counts: Mapping[str, int]) -> Metric:
    return _counted(name, meaning, (label,), (((key,), count) for key, count in counts.items()))


def _counted(
    name: str, meaning: str, labels: tuple[str, ...], counts: Iterable[tuple[Iterable[str], int]]
) -> Metric:
    family = CounterMetricFamily(f"howdah_{name}", meaning, labels=labels)
    for key, count in counts:
        family.add_metric(_labels(key), count)
    return family

"""Every metric by name and labels, and its value against what the console shows."""

from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from proxy.admin.show import VIEWS
from proxy.admin.table import Value
from proxy.metrics import prometheus
from proxy.metrics.prometheus import PoolerCollector, registry_of
from proxy.snapshot import BuildInfo, ClientSnapshot, PoolSnapshot, ReasonCounts, StateSnapshot
from tests.proxy.fakes import FakeSnapshots

STATS = (
    "queries_pooled_total",
    "queries_duration_seconds_total",
    "received_bytes_total",
    "sent_bytes_total",
    "client_wait_seconds_total",
    "sql_transactions_pooled_total",
    "server_in_transaction_seconds_total",
    "client_parses_total",
    "server_parses_total",
    "binds_total",
    "server_assignments_total",
)
POOLS = (
    "client_active_connections",
    "client_active_cancel_connections",
    "client_waiting_connections",
    "client_waiting_cancel_connections",
    "server_active_connections",
    "server_active_cancel_connections",
    "server_being_canceled_connections",
    "server_idle_connections",
    "server_used_connections",
    "server_testing_connections",
    "server_login_connections",
    "client_maxwait_seconds",
)
DATABASES = ("pool_size", "reserve_pool", "max_connections", "current_connections", "paused", "disabled")
LISTS = (
    "databases",
    "users",
    "pools",
    "free_clients",
    "used_clients",
    "login_clients",
    "free_servers",
    "used_servers",
    "cached_dns_names",
    "cached_dns_zones",
    "in_flight_dns_queries",
)
EXPECTED: dict[str, set[str]] = {
    **{f"pgbouncer_stats_totals_{name}": {"database"} for name in STATS},
    **{f"pgbouncer_stats_{name}": {"database"} for name in STATS},
    **{f"pgbouncer_pools_{name}": {"database", "user"} for name in POOLS},
    **{
        f"pgbouncer_databases_{name}": {"name", "host", "port", "database", "force_user", "pool_mode"}
        for name in DATABASES
    },
    **{f"pgbouncer_{name}": set() for name in LISTS},
    "pgbouncer_config_max_client_connections": set(),
    "pgbouncer_config_max_user_connections": set(),
    "pgbouncer_config_max_client_conn": set(),
    "pgbouncer_client_connections": {"database", "user", "application_name", "state"},
    "howdah_tls_connections": {"side", "version", "cipher"},
    "howdah_tls_certificate_expiry_seconds": {"side", "file", "subject"},
    "howdah_tls_handshake_failures_total": {"side"},
    "pgbouncer_version_info": {"version"},
    "pgbouncer_up": set(),
    "howdah_client_logins_total": {"database"},
    "howdah_client_disconnects_total": {"reason"},
    "howdah_server_disconnects_total": {"reason"},
    "howdah_auth_failures_total": {"method"},
    "howdah_authenticated_clients_total": {"method"},
    "howdah_auth_query_total": {"event"},
    "howdah_unclean_servers_total": {"proof"},
    "howdah_server_protocol_violations_total": {"kind"},
    "howdah_leaked_state_total": {"kind", "application"},
    "howdah_config_reloads_total": {"result"},
    "howdah_errors_total": {"database", "class"},
    "howdah_cancel_requests_total": set(),
    "howdah_prepared_statements": set(),
    "howdah_prepared_statement_bytes": set(),
    "howdah_prepared_statement_hits_total": set(),
    "howdah_prepared_statement_misses_total": set(),
    "howdah_prepared_statement_evictions_total": set(),
    "howdah_draining": set(),
    "howdah_paused": set(),
    "howdah_event_loop_lag_seconds": set(),
    "howdah_workers": set(),
    "howdah_worker_clients": {"worker"},
    "howdah_worker_servers": {"worker"},
    "howdah_worker_loop_lag_seconds": {"worker"},
    "howdah_worker_resident_memory_bytes": {"worker"},
    "howdah_worker_cpu_seconds_total": {"worker"},
    "howdah_worker_restarts_total": {"worker"},
    "howdah_build_info": {"version", "python", "event_loop", "compiled", "pump"},
}


def samples(snapshots: FakeSnapshots | None = None) -> list[Sample]:
    families = PoolerCollector(snapshots or FakeSnapshots()).collect()
    return [sample for family in families for sample in family.samples]


def value(name: str, snapshots: FakeSnapshots | None = None, /, **labels: str) -> float:
    found = [s.value for s in samples(snapshots) if s.name == name and labels.items() <= s.labels.items()]
    assert len(found) == 1, f"{name} {labels}: {len(found)} samples"
    return found[0]


def shown(view: str, snapshots: FakeSnapshots) -> Iterable[dict[str, Value]]:
    names = [column.name for column in VIEWS[view].columns]
    return [dict(zip(names, row, strict=True)) for row in VIEWS[view].rows(snapshots)]


def number(row: dict[str, Value], column: str) -> int:
    found = row[column]
    assert isinstance(found, int)
    return found


def test_the_list_of_metrics_and_their_labels_is_complete() -> None:
    assert {sample.name: set(sample.labels) for sample in samples()} == EXPECTED


def test_no_sample_is_given_twice() -> None:
    keys = [(sample.name, frozenset(sample.labels.items())) for sample in samples()]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("prefix", ["pgbouncer_stats_totals", "pgbouncer_stats"])
def test_both_generations_of_statistics_equal_the_console_in_base_units(prefix: str) -> None:
    snapshots = FakeSnapshots()
    columns = {
        "queries_pooled_total": ("query_count", 1),
        "queries_duration_seconds_total": ("query_time", 1_000_000),
        "received_bytes_total": ("bytes_received", 1),
        "sent_bytes_total": ("bytes_sent", 1),
        "client_wait_seconds_total": ("wait_time", 1_000_000),
        "sql_transactions_pooled_total": ("xact_count", 1),
        "server_in_transaction_seconds_total": ("xact_time", 1_000_000),
        "client_parses_total": ("client_parse_count", 1),
        "server_parses_total": ("server_parse_count", 1),
        "binds_total": ("bind_count", 1),
        "server_assignments_total": ("server_assignment_count", 1),
    }
    assert set(columns) == set(STATS)
    for row in shown("stats_totals", snapshots):
        for name, (column, divisor) in columns.items():
            found = value(f"{prefix}_{name}", snapshots, database=str(row["database"]))
            assert found == number(row, column) / divisor


def test_pools_equal_the_console() -> None:
    snapshots = FakeSnapshots()
    columns = [
        *("cl_active", "cl_active_cancel_req", "cl_waiting", "cl_waiting_cancel_req"),
        *(
            "sv_active",
            "sv_active_cancel",
            "sv_being_canceled",
            "sv_idle",
            "sv_used",
            "sv_tested",
            "sv_login",
        ),
    ]
    for row in shown("pools", snapshots):
        labels = {"database": str(row["database"]), "user": str(row["user"])}
        for name, column in zip(POOLS[:-1], columns, strict=True):
            assert value(f"pgbouncer_pools_{name}", snapshots, **labels) == row[column]
        waited = number(row, "maxwait") + number(row, "maxwait_us") / 1_000_000
        assert value("pgbouncer_pools_client_maxwait_seconds", snapshots, **labels) == waited


def test_databases_equal_the_console_and_unset_labels_are_empty() -> None:
    snapshots = FakeSnapshots()
    for row in shown("databases", snapshots):
        labels = {
            name: "" if row[name] is None else str(row[name])
            for name in ("name", "host", "port", "database", "force_user", "pool_mode")
        }
        for name in DATABASES:
            column = "reserve_pool_size" if name == "reserve_pool" else name
            assert value(f"pgbouncer_databases_{name}", snapshots, **labels) == row[column]


def test_lists_and_settings_equal_the_console() -> None:
    snapshots = FakeSnapshots()
    renamed = {
        "cached_dns_names": "dns_names",
        "cached_dns_zones": "dns_zones",
        "in_flight_dns_queries": "dns_queries",
    }
    lists = {row["list"]: row["items"] for row in shown("lists", snapshots)}
    for name in LISTS:
        assert value(f"pgbouncer_{name}", snapshots) == lists[renamed.get(name, name)]
    config = {row["key"]: row["value"] for row in shown("config", snapshots)}
    for name in ("max_client_connections", "max_client_conn"):
        assert value(f"pgbouncer_config_{name}", snapshots) == float(str(config["max_client_conn"]))
    assert value("pgbouncer_config_max_user_connections", snapshots) == 40


def test_prepared_statements_equal_the_console() -> None:
    snapshots = FakeSnapshots()
    lists = {row["list"]: row["items"] for row in shown("lists", snapshots)}
    for name in ("prepared_statements", "prepared_statement_bytes"):
        assert value(f"howdah_{name}", snapshots) == lists[name]
    totals = {row["name"]: row["value"] for row in shown("totals", snapshots)}
    for name, row_name in (("hits", "hit"), ("misses", "miss"), ("evictions", "eviction")):
        found = value(f"howdah_prepared_statement_{name}_total", snapshots)
        assert found == totals[f"total_ps_{row_name}_count"]


def test_clients_are_counted_as_the_console_lists_them() -> None:
    snapshots = FakeSnapshots()
    rows = list(shown("clients", snapshots))
    counted = [sample for sample in samples(snapshots) if sample.name == "pgbouncer_client_connections"]
    assert sum(sample.value for sample in counted) == len(rows)
    for sample in counted:
        assert sample.value == sum(all(row[k] == v for k, v in sample.labels.items()) for row in rows)


def test_connections_are_counted_by_what_encrypts_them() -> None:
    counted = "howdah_tls_connections"
    found = FakeSnapshots()
    assert value(counted, found, side="client", version="", cipher="") == len(found.clients())
    assert value(counted, found, side="server", version="", cipher="") == len(found.servers()) - 1
    assert value(counted, found, side="server", version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384") == 1


def test_certificates_are_told_by_the_seconds_they_have_left() -> None:
    labels = {"side": "client", "file": "server.crt", "subject": "CN=pooler"}
    assert value("howdah_tls_certificate_expiry_seconds", FakeSnapshots(), **labels) == 86400 * 3.5
    assert value("howdah_tls_handshake_failures_total", FakeSnapshots(), side="client") == 7


def test_version_equals_the_console() -> None:
    (row,) = shown("version", FakeSnapshots())
    assert value("pgbouncer_version_info", version=str(row["version"])) == 1


def test_a_compiled_build_says_so() -> None:
    snapshots = FakeSnapshots()
    snapshots.build = lambda: BuildInfo("0.1.0", "3.11", "uvloop", True)  # type: ignore[method-assign]
    assert value("howdah_build_info", snapshots, compiled="yes") == 1
    assert (
        value("pgbouncer_version_info", snapshots, version="PgBouncer 1.25.2 (Howdah 0.1.0, compiled)") == 1
    )


def test_only_so_many_application_names_are_told_apart() -> None:
    clients = [ClientSnapshot(n, "waiting", "u", "d", application_name=f"app{n:03}") for n in range(200)]
    busiest = [ClientSnapshot(n, "waiting", "u", "d", application_name="zebra") for n in range(200, 205)]
    snapshots = FakeSnapshots(client_list=clients + busiest)
    counted = [sample for sample in samples(snapshots) if sample.name == "pgbouncer_client_connections"]
    names = {sample.labels["application_name"] for sample in counted}
    assert len(names) == prometheus.APPLICATION_LIMIT + 1
    assert value("pgbouncer_client_connections", snapshots, application_name="zebra") == 5
    assert value("pgbouncer_client_connections", snapshots, application_name="other") == 200 - 49


def test_an_application_called_other_is_counted_with_the_others() -> None:
    names = [*("other" for _ in range(9)), *(f"app{n}" for n in range(60))]
    clients = [ClientSnapshot(n, "waiting", "u", "d", application_name=name) for n, name in enumerate(names)]
    snapshots = FakeSnapshots(client_list=clients)
    assert value("pgbouncer_client_connections", snapshots, application_name="other") == 9 + 60 - 49


def test_long_application_names_are_cut() -> None:
    snapshots = FakeSnapshots(
        client_list=[ClientSnapshot(1, "waiting", "u", "d", application_name="x" * 9999)]
    )
    assert value("pgbouncer_client_connections", snapshots, application_name="x" * 64) == 1


def test_reasons_are_counted_under_our_own_names() -> None:
    assert value("howdah_client_disconnects_total", reason="client close request") == 6
    assert value("howdah_server_disconnects_total", reason="server lifetime over") == 2
    assert value("howdah_errors_total", None, database="app", **{"class": "57"}) == 3
    assert value("howdah_auth_failures_total", method="scram-sha-256") == 5
    assert value("howdah_authenticated_clients_total", method="scram-sha-256-plus") == 7
    assert value("howdah_auth_query_total", event="questions") == 7
    assert value("howdah_config_reloads_total", result="failed") == 1
    assert value("howdah_cancel_requests_total") == 9
    assert value("howdah_unclean_servers_total", proof="replies owed") == 4
    assert value("howdah_server_protocol_violations_total", kind="idle") == 3_000_000_000
    assert value("howdah_leaked_state_total", kind="cursor", application="a\nb") == 2
    assert value("howdah_client_logins_total", database="app") == 12_000_000


@pytest.mark.parametrize(
    ("state", "draining", "paused"),
    [(StateSnapshot(), 0, 0), (StateSnapshot(draining=True), 1, 0), (StateSnapshot(paused=True), 0, 1)],
)
def test_the_state_of_the_pooler_is_a_number(state: StateSnapshot, draining: int, paused: int) -> None:
    snapshots = FakeSnapshots(present_state=state)
    assert value("howdah_draining", snapshots) == draining
    assert value("howdah_paused", snapshots) == paused


def test_a_lag_that_is_not_measured_is_not_shown() -> None:
    assert "howdah_event_loop_lag_seconds" not in {sample.name for sample in samples(FakeSnapshots(lag=None))}


def test_a_pooler_without_anything_is_shown_all_the_same() -> None:
    empty = FakeSnapshots([], [], [], [], [], [], [], reason_counts=ReasonCounts())
    found = {sample.name: sample.value for sample in samples(empty)}
    assert found["pgbouncer_up"] == 1
    assert found["pgbouncer_config_max_client_connections"] == 0


def odd_names() -> FakeSnapshots:
    name = 'a"b\\c\nd\udcff\u202eé'
    return FakeSnapshots(
        pool_list=[PoolSnapshot(name, name)],
        client_list=[ClientSnapshot(1, "waiting", name, name, application_name=name)],
    )


def test_any_name_can_be_scraped_and_read_back() -> None:
    text = generate_latest(registry_of(odd_names())).decode()
    labels = [
        sample.labels
        for family in parse_text(text)
        for sample in family.samples
        if sample.name == "pgbouncer_client_connections"
    ]
    assert labels[0]["application_name"] == 'a"b\\c\nd\\udcff\u202eé'


def test_the_same_metrics_are_valid_openmetrics() -> None:
    registry: CollectorRegistry = registry_of(FakeSnapshots())
    families = list(parse_openmetrics(generate_openmetrics(registry).decode()))  # type: ignore[no-untyped-call]
    names = {sample.name for family in families for sample in family.samples}
    assert set(EXPECTED) <= names


def test_the_process_is_measured_too() -> None:
    text = generate_latest(registry_of(FakeSnapshots())).decode()
    assert "process_resident_memory_bytes" in text
    assert "process_open_fds" in text

"""Every SHOW against PgBouncer 1.25: columns, order and types as data, and what stands in the rows."""

from collections.abc import Sequence
from typing import cast

import pytest

from proxy.admin.show import VIEWS, fake_parameter
from proxy.admin.table import BYTEA, INT4, INT8, NUMERIC, TEXT, TIME, ColumnType, Value
from proxy.snapshot import ClientSnapshot, StateSnapshot
from proxy.source import Snapshots
from tests.proxy.fakes import NOON, FakeSnapshots

LETTERS: dict[str, ColumnType] = {"s": TEXT, "i": INT4, "q": INT8, "N": NUMERIC, "b": BYTEA, "T": TIME}

SOCKET = (
    "type s, user s, database s, replication s, state s, addr s, port i, local_addr s, local_port i, "
    "connect_time T, request_time T, wait i, wait_us i, close_needed i, ptr s, link s, remote_pid i, tls s, "
    "application_name s, prepared_statements i, id i"
)
BUFFERS = "recv_pos i, pkt_pos i, pkt_remain i, send_pos i, send_remain i, pkt_avail i, send_avail i"
COLUMNS = {
    "stats": "database s, total_server_assignment_count N, total_xact_count N, total_query_count N, "
    "total_received N, total_sent N, total_xact_time N, total_query_time N, total_wait_time N, "
    "total_client_parse_count N, total_server_parse_count N, total_bind_count N, "
    "avg_server_assignment_count N, avg_xact_count N, avg_query_count N, avg_recv N, avg_sent N, "
    "avg_xact_time N, avg_query_time N, avg_wait_time N, avg_client_parse_count N, "
    "avg_server_parse_count N, avg_bind_count N",
    "stats_totals": "database s, server_assignment_count N, xact_count N, query_count N, bytes_received N, "
    "bytes_sent N, xact_time N, query_time N, wait_time N, client_parse_count N, server_parse_count N, "
    "bind_count N",
    "stats_averages": "database s, server_assignment_count N, xact_count N, query_count N, bytes_received N, "
    "bytes_sent N, xact_time N, query_time N, wait_time N, avg_client_parse_count N, "
    "avg_server_parse_count N, avg_bind_count N",
    "totals": "name s, value N",
    "pools": "database s, user s, cl_active i, cl_waiting i, cl_active_cancel_req i, "
    "cl_waiting_cancel_req i, sv_active i, sv_active_cancel i, sv_being_canceled i, sv_idle i, sv_used i, "
    "sv_tested i, sv_login i, maxwait i, maxwait_us i, pool_mode s, load_balance_hosts s",
    "peer_pools": "peer_id i, cl_active_cancel_req i, cl_waiting_cancel_req i, sv_active_cancel i, "
    "sv_login i",
    "clients": SOCKET,
    "servers": SOCKET,
    "sockets": f"{SOCKET}, {BUFFERS}",
    "active_sockets": f"{SOCKET}, {BUFFERS}",
    "databases": "name s, host s, port i, database s, force_user s, pool_size i, min_pool_size i, "
    "reserve_pool_size i, server_lifetime i, pool_mode s, load_balance_hosts s, max_connections i, "
    "current_connections i, max_client_connections i, current_client_connections i, paused i, disabled i",
    "users": "name s, pool_size s, reserve_pool_size s, pool_mode s, max_user_connections i, "
    "current_connections i, max_user_client_connections i, current_client_connections i",
    "peers": "peer_id i, host s, port i, pool_size i",
    "lists": "list s, items i",
    "config": "key s, value s, default s, changeable s",
    "fds": "fd i, task s, user s, database s, addr s, port i, cancel q, link i, client_encoding s, "
    "std_strings s, datestyle s, timezone s, password s, scram_client_key b, scram_server_key b",
    "mem": "name s, size i, used i, free i, memtotal i",
    "state": "key s, value s",
    "dns_hosts": "hostname s, ttl q, addrs s",
    "dns_zones": "zonename s, serial q, count i",
    "version": "version s",
    # Ours.
    "violations": "kind s, count q",
    "tls": "side s, file s, subject s, expires T, days i, version s, cipher s, connections i",
    "leaks": "kind s, application s, count q",
    "workers": "worker i, pid i, state s, clients i, servers i, cpu_us q, lag_us q, restarts i, memory q",
    "prepared_statements": "database s, user s, text s, clients i, uses q, servers i, bytes q, generation i",
}


def rows(name: str, snapshots: FakeSnapshots | None = None) -> list[Sequence[Value]]:
    return [tuple(row) for row in VIEWS[name].rows(snapshots or FakeSnapshots()) if row]


def column(name: str, wanted: str, snapshots: FakeSnapshots | None = None) -> list[Value]:
    at = [column.name for column in VIEWS[name].columns].index(wanted)
    return [row[at] for row in rows(name, snapshots)]


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_have_pgbouncers_names_order_and_types(name: str) -> None:
    expected = [(word.split()[0], LETTERS[word.split()[1]]) for word in COLUMNS[name].split(", ")]
    assert [(column.name, column.type) for column in VIEWS[name].columns] == expected


def test_no_output_of_pgbouncer_is_missing_and_none_has_no_expectation() -> None:
    assert set(VIEWS) == set(COLUMNS)


@pytest.mark.parametrize("name", COLUMNS)
def test_every_row_has_a_value_for_every_column(name: str) -> None:
    assert all(len(row) == len(VIEWS[name].columns) for row in rows(name))


@pytest.mark.parametrize("name", ["clients", "sockets", "active_sockets"])
def test_others_have_their_turn_among_many_clients_also_where_none_is_shown(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.admin.show._STEP", 1)
    found = [*VIEWS[name].rows(FakeSnapshots())]
    assert found.count(()) >= len([*FakeSnapshots().clients()])


class Only:
    """Snapshots of these parts and no others."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = parts
        self._all = FakeSnapshots()

    def __getattr__(self, name: str) -> object:
        assert name in self._parts, f"{name} is not among the parts {self._parts}"
        return getattr(self._all, name)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_view_asks_for_the_parts_it_is_made_of(name: str) -> None:
    view = VIEWS[name]
    assert [*view.rows(cast("Snapshots", Only(view.parts)))] == [*view.rows(FakeSnapshots())]


def test_workers_are_shown_with_what_they_cost() -> None:
    assert rows("workers") == [
        (1, 4001, "running", 40, 7, 5_000_000_000, 250, 1, 30_000_000_000),
        (2, 4002, "silent", 0, 0, 0, 0, 0, 0),
    ]


def test_pools_count_by_state_and_split_the_longest_wait() -> None:
    assert rows("pools") == [
        ("app", "alice", *range(1, 12), 3, 250_000, "transaction", None),
        ("hosts", "bob", *[0] * 13, "session", "round-robin"),
    ]


def test_a_client_is_shown_with_everything_known_about_it() -> None:
    assert rows("clients")[0] == (
        *("C", "alice", "app", "none", "active", "10.0.0.7", 51234, "10.0.0.1", 6432, NOON, NOON + 5),
        *(1, 2, 0, "0x1", "0x2", 0, "", "shop", 4, 1),
    )


def test_clients_that_still_log_in_are_only_among_the_sockets() -> None:
    assert column("clients", "state") == ["active", "idle", "waiting", "waiting_cancel_req"]
    assert column("servers", "state") == ["active", "new", "being_canceled"]
    assert column("sockets", "state") == [
        "cl_active",
        "cl_active",
        "cl_waiting",
        "cl_login",
        "sv_active",
        "sv_login",
    ]


def test_a_socket_without_user_and_database_says_so() -> None:
    snapshots = FakeSnapshots(client_list=[ClientSnapshot(4, "login")], server_list=[])
    assert rows("sockets", snapshots)[0][:5] == ("C", "(nouser)", "(nodb)", "none", "cl_login")


def test_active_sockets_have_bytes_in_a_buffer() -> None:
    assert column("active_sockets", "id") == [1]
    assert rows("active_sockets")[0][-7:] == (0, 0, 0, 0, 0, 0, 77)


def test_a_database_shows_what_acts_and_null_where_it_inherits() -> None:
    assert rows("databases") == [
        ("app", None, 5432, "app_live", "owner", 20, 2, 3, 3600, "transaction", None, 50, 7, 0, 0, 0, 0),
        ("hosts", "a,b", 5432, "hosts", None, 0, 0, 0, 0, None, "disable", 0, 0, 9, 4, 1, 1),
    ]


def test_sizes_of_users_are_text_aligned_to_the_right() -> None:
    assert rows("users") == [
        ("alice", "        1", "       22", "session", 5, 4, 3, 2),
        ("bob", "", "", None, 0, 0, 0, 0),
    ]


def test_totals_and_averages_stand_in_one_row_of_stats() -> None:
    totals = tuple(range(1_000_000, 12_000_000, 1_000_000))
    averages = (12, 14, 16, 18, 20, 110 // 70, 120 // 80, 130 // 60, 28, 30, 32)
    assert rows("stats")[0] == ("app", *totals, *averages)
    assert rows("stats_totals")[0] == ("app", *totals)
    assert rows("stats_averages")[0] == ("app", *averages)
    assert rows("stats")[1] == ("hosts", *[1] * 11, *[0] * 11)


def test_totals_add_up_all_databases_under_internal_names() -> None:
    found = rows("totals")[:22]
    assert [row[0] for row in found[:11]] == [
        "total_server_assignment_count",
        "total_xact_count",
        "total_query_count",
        "total_client_bytes",
        "total_server_bytes",
        "total_xact_time",
        "total_query_time",
        "total_wait_time",
        "total_ps_client_parse_count",
        "total_ps_server_parse_count",
        "total_ps_bind_count",
    ]
    assert [str(row[0]).replace("avg_", "total_") for row in found[11:]] == [row[0] for row in found[:11]]
    assert [row[1] for row in found[:3]] == [1_000_001, 2_000_001, 3_000_001]
    assert found[11] == ("avg_server_assignment_count", 12)


def test_what_is_ours_follows_pgbouncers_totals() -> None:
    assert rows("totals")[22:] == [
        ("total_ps_hit_count", 7_000_000_000),
        ("total_ps_miss_count", 62),
        ("total_ps_eviction_count", 23),
        ("total_auth_query_questions", 7),
    ]


def test_prepared_statements_are_shown_one_after_the_other() -> None:
    assert rows("prepared_statements") == [
        ("app", "alice", "select $1", 5, 3_000_000_000, 2, 4_000_000_000, 1),
        ("hosts", "bob", "select 2", 0, 1, 0, 521, 0),
    ]


def test_where_others_shall_have_their_turn_there_is_a_row_without_values() -> None:
    assert [len(row) for row in VIEWS["prepared_statements"].rows(FakeSnapshots())] == [0, 8, 8]


def test_lists_have_pgbouncers_rows_in_its_order_and_then_ours() -> None:
    names = (
        "databases users peers pools peer_pools free_clients used_clients login_clients free_servers "
        "used_servers dns_names dns_zones dns_queries dns_pending "
        "prepared_statements prepared_statement_bytes"
    )
    assert rows("lists") == list(zip(names.split(), range(1, 17), strict=True))


def test_faults_of_servers_are_shown_by_kind() -> None:
    assert rows("violations") == [("idle", 3_000_000_000), ("malformed", 0)]


def test_tls_is_certificates_and_then_connections_by_what_encrypts_them() -> None:
    found = FakeSnapshots()
    certificate, *connections = rows("tls", found)
    assert certificate == ("client", "server.crt", "CN=pooler", 1_800_000_000, 3, None, None, None)
    assert [(row[0], *row[5:]) for row in connections] == [
        ("client", "", "", len(found.clients())),
        ("server", "", "", len(found.servers()) - 1),
        ("server", "TLSv1.3", "TLS_AES_256_GCM_SHA384", 1),
    ]


def test_what_was_left_behind_is_shown_by_kind_and_application() -> None:
    assert rows("leaks") == [("cursor", "a\nb", 2), ("search_path", "psql", 3_000_000_000)]


def test_settings_are_shown_with_default_and_changeability() -> None:
    assert rows("config")[:2] == [("listen_addr", "*", "", "no"), ("max_client_conn", "300", "100", "yes")]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (StateSnapshot(), ["yes", "no", "no"]),
        (StateSnapshot(paused=True), ["no", "yes", "no"]),
        (StateSnapshot(suspended=True), ["no", "no", "yes"]),
    ],
)
def test_state_says_yes_once(state: StateSnapshot, expected: list[str]) -> None:
    snapshots = FakeSnapshots(present_state=state)
    assert column("state", "key", snapshots) == ["active", "paused", "suspended"]
    assert column("state", "value", snapshots) == expected


def test_version_begins_with_pgbouncers() -> None:
    assert rows("version") == [("PgBouncer 1.25.2 (Howdah 0.1.0)",)]


def test_peers_and_remembered_names_are_shown() -> None:
    assert rows("peers") == [(1, "peer.example", 6432, 20)]
    assert rows("peer_pools") == [(1, 2, 3, 4, 5)]
    assert rows("dns_hosts") == [("db.example", 12, "10.0.0.3,10.0.0.4")]


@pytest.mark.parametrize("name", ["fds", "mem", "dns_zones"])
def test_what_this_pooler_does_not_have_is_an_empty_result(name: str) -> None:
    assert rows(name) == []


def test_only_descriptors_are_for_admins_alone() -> None:
    assert [name for name, view in VIEWS.items() if view.admin_only] == ["fds"]


def test_a_faked_parameter_is_one_column_of_its_name() -> None:
    view = fake_parameter("timezone", "GMT")
    assert [column.name for column in view.columns] == ["timezone"]
    assert list(view.rows(FakeSnapshots())) == [("GMT",)]

"""Several workers against the one process that they stand for."""

from collections import Counter
from dataclasses import fields, replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import merge
from proxy.snapshot import (
    COUNTS,
    Counts,
    CrowdSnapshot,
    DatabaseSnapshot,
    DnsHostSnapshot,
    ListsSnapshot,
    PoolSnapshot,
    ReasonCounts,
    StatementCounts,
    StatementSnapshot,
    StateSnapshot,
    StatsSnapshot,
    UserSnapshot,
    WorkerSnapshot,
    sum_of,
)
from proxy.tls_snapshot import CertificateSnapshot, TlsSnapshot

SECOND = 1_000_000


def counts(number: int) -> Counts:
    return Counts(*(number * factor for factor in range(1, len(COUNTS) + 1)))


def test_pools_of_one_database_and_user_are_one_row() -> None:
    one = [PoolSnapshot("app", "alice", 1, 2, sv_idle=3, waited=5), PoolSnapshot("pgbouncer", "pgbouncer", 1)]
    two = [
        PoolSnapshot("app", "alice", 10, 20, sv_idle=30, waited=4),
        PoolSnapshot("app", "bob", 7),
        PoolSnapshot("pgbouncer", "pgbouncer", 1),
    ]
    assert merge.pools([one, two], "pgbouncer") == [
        PoolSnapshot("app", "alice", 11, 22, sv_idle=33, waited=5),
        PoolSnapshot("app", "bob", 7),
        PoolSnapshot("pgbouncer", "pgbouncer", 2),
    ]


def test_connections_of_databases_and_users_add_up_and_their_limits_do_not() -> None:
    app = DatabaseSnapshot(
        "app", "live", max_connections=9, current_connections=3, current_client_connections=5
    )
    made = DatabaseSnapshot("made", "made", current_connections=1)
    console = DatabaseSnapshot("pgbouncer", "pgbouncer")
    got = merge.databases([[app, console], [app, made, console]], "pgbouncer")
    assert got == [replace(app, current_connections=6, current_client_connections=10), made, console]
    alice = UserSnapshot(
        "alice", 4, max_user_connections=5, current_connections=2, current_client_connections=1
    )
    both = replace(alice, current_connections=4, current_client_connections=2)
    assert merge.users([[UserSnapshot("bob"), alice], [alice]]) == [both, UserSnapshot("bob")]


def test_statistics_add_up_and_averages_are_those_of_all_that_happened() -> None:
    one = StatsSnapshot("app", counts(100), counts(6), 2 * SECOND)
    two = StatsSnapshot("app", counts(50), counts(4), 2 * SECOND)
    (both,) = merge.stats([[one], [two]])
    assert both == sum_of([one, two], "app")
    assert both.average.xact_count == counts(10).xact_count // 2
    assert both.average.query_time == counts(10).query_time // counts(10).query_count


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_periods_of_different_length_count_per_second(order: tuple[int, ...]) -> None:
    slow = StatsSnapshot("app", recent=Counts(xact_count=600, xact_time=6000), period=60 * SECOND)
    fast = StatsSnapshot("app", recent=Counts(xact_count=100, xact_time=3000), period=5 * SECOND)
    new = StatsSnapshot("app", Counts(xact_count=3))
    parts = [[[slow], [fast], [new]][at] for at in order]
    (both,) = merge.stats(parts)
    assert both.average.xact_count == 10 + 20
    assert both.average.xact_time == (6000 + 12 * 3000) // (600 + 12 * 100)
    assert both.total.xact_count == 3


def test_of_who_has_gone_only_the_totals_are_left() -> None:
    gone = merge.ended(StatsSnapshot("app", counts(5), counts(3), SECOND))
    assert gone == StatsSnapshot("app", counts(5))
    (both,) = merge.stats([[gone], [StatsSnapshot("app", counts(2), counts(1), SECOND)]])
    assert both == StatsSnapshot("app", counts(7), counts(1), SECOND)


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=4), max_size=5))
def test_no_event_is_lost_or_counted_twice(parts: list[list[tuple[str, int]]]) -> None:
    rows = [[StatsSnapshot(name, counts(number)) for name, number in part] for part in parts]
    expected = Counter[str]()
    for part in parts:
        for name, number in part:
            expected[name] += number
    got = {row.database: row.total for row in merge.stats(rows)}
    assert got == {name: counts(number) for name, number in expected.items()} | {
        name: counts(0) for part in parts for name, number in part if not expected[name]
    }


def test_lists_count_what_several_know_once() -> None:
    one = ListsSnapshot(*range(1, 17))
    got = merge.lists([one, one], {"databases": 3, "users": 5, "pools": 7, "dns_hosts": 9})
    assert (got.databases, got.users, got.pools, got.dns_names) == (3, 5, 7, 9)
    once = {"databases", "users", "pools", "dns_names"}
    for field in fields(one):
        if field.name not in once:
            assert getattr(got, field.name) == 2 * getattr(one, field.name)


def test_counters_of_every_kind_are_sums() -> None:
    assert merge.statement_counts([StatementCounts(1, 2, 3), StatementCounts(10, 20, 30)]) == StatementCounts(
        11, 22, 33
    )
    one = ReasonCounts({"a": 1}, errors={("app", "57"): 2}, cancel_requests=4, violations={"idle": 0})
    two = ReasonCounts({"a": 2, "b": 1}, errors={("app", "57"): 3}, cancel_requests=5, logins={"trust": 1})
    assert merge.reasons([one, two]) == ReasonCounts(
        {"a": 3, "b": 1},
        errors={("app", "57"): 5},
        cancel_requests=9,
        violations={"idle": 0},
        logins={"trust": 1},
    )
    crowd = CrowdSnapshot({("app", "alice", "", "idle"): 2}, {("client", "", ""): 2})
    doubled = CrowdSnapshot({("app", "alice", "", "idle"): 4}, {("client", "", ""): 4})
    assert merge.crowd([crowd, crowd]) == doubled


def test_names_and_certificates_are_shown_once() -> None:
    old, new = DnsHostSnapshot("db", 3, "10.0.0.1"), DnsHostSnapshot("db", 9, "10.0.0.2")
    assert merge.dns_hosts([[old], [new], [old]]) == [new]
    certificate = CertificateSnapshot("client", "server.crt", "CN=pooler", 1_800_000_000, 5.0)
    one, two = TlsSnapshot((certificate,), {"client": 2}), TlsSnapshot((certificate,), {"client": 3})
    assert merge.tls([one, two]) == TlsSnapshot((certificate,), {"client": 5})


def test_what_holds_for_the_supervisor_holds() -> None:
    worker = StateSnapshot(listening=False)
    assert merge.state([StateSnapshot(draining=True), worker]) == StateSnapshot(draining=True)
    assert not merge.state([worker, worker]).listening
    assert merge.state([StateSnapshot(), replace(worker, paused=True)]).paused


def test_a_worker_says_what_it_costs_and_the_supervisor_the_rest() -> None:
    known = [WorkerSnapshot(2, 20, "silent", 3, 1), WorkerSnapshot(1, 11, "running", 1, 0, 500, restarts=2)]
    own = [WorkerSnapshot(1, 11, "running", 9, 4, 30, 7, 0, 4096)]
    assert merge.workers([known, own]) == [
        WorkerSnapshot(1, 11, "running", 9, 4, 530, 7, 2, 4096),
        WorkerSnapshot(2, 20, "silent", 3, 1),
    ]


def statement(text: str, uses: int, **more: int) -> StatementSnapshot:
    values = {"clients": 1, "servers": 1, "bytes": 100, "generation": 0, **more}
    return StatementSnapshot("app", "alice", text, uses=uses, **values)


def test_a_text_that_several_workers_share_is_one_row_the_most_used_first() -> None:
    one = [[statement("select 1", 5)], [statement("select 2", 4, generation=1)]]
    two = [[statement("select 2", 6), statement("select 3", 1)]]
    got = [row for row in merge.statements([one, two]) if row is not None]
    assert got == [
        statement("select 2", 10, clients=2, servers=2, bytes=200, generation=1),
        statement("select 1", 5),
        statement("select 3", 1),
    ]


def test_texts_that_look_alike_because_they_are_cut_stay_apart() -> None:
    one = [[statement("long...", 3), statement("long...", 2)]]
    got = [row for row in merge.statements([one, one]) if row is not None]
    assert [row.uses for row in got] == [6, 4]


def test_merging_many_texts_gives_others_their_turn() -> None:
    pieces = [
        [statement(f"select {at + number}", number) for number in range(200)] for at in range(0, 5000, 200)
    ]
    steps = list(merge.statements([pieces, pieces]))
    assert steps.count(None) == 2 * len(pieces) + 5
    uses = [row.uses for row in steps if row is not None]
    assert uses == sorted(uses, reverse=True)
    assert len(uses) == 5000

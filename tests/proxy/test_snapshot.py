import dataclasses

import pytest

from proxy.snapshot import (
    COUNTS,
    ClientSnapshot,
    ConfigRow,
    Counts,
    PoolSnapshot,
    ServerSnapshot,
    StateSnapshot,
    StatsSnapshot,
    sum_of,
    text,
)


def test_bytes_that_are_not_utf8_become_readable_text() -> None:
    assert text("müller".encode()) == "müller"
    assert text(b"a\xffb") == "a\\xffb"


@pytest.mark.parametrize(
    ("waited", "seconds", "rest"), [(0, 0, 0), (999_999, 0, 999_999), (3_250_000, 3, 250_000)]
)
def test_waiting_is_cut_into_seconds_and_microseconds(waited: int, seconds: int, rest: int) -> None:
    pool = PoolSnapshot("d", "u", waited=waited)
    client = ClientSnapshot(1, "waiting", waited=waited)
    assert (pool.maxwait, pool.maxwait_us) == (client.wait, client.wait_us) == (seconds, rest)


def test_an_active_connection_without_a_partner_is_shown_as_idle() -> None:
    assert ClientSnapshot(1, "active").shown_state == "idle"
    assert ClientSnapshot(1, "active", link="0x1").shown_state == "active"
    assert ServerSnapshot(1, "tested").shown_state == "tested"


def test_clients_and_servers_know_their_type() -> None:
    assert (ClientSnapshot(1, "active").type, ServerSnapshot(1, "idle").type) == ("C", "S")


def test_snapshots_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ClientSnapshot(1, "active").state = "idle"  # type: ignore[misc]


def test_counters_are_averaged_per_second_and_times_per_event() -> None:
    recent = Counts(
        server_assignment_count=10,
        xact_count=20,
        query_count=40,
        client_bytes=5_000,
        server_bytes=6_000,
        xact_time=2_000,
        query_time=8_000,
        wait_time=70,
        bind_count=5,
    )
    average = StatsSnapshot("d", Counts(), recent, period=10_000_000).average
    assert average == Counts(
        server_assignment_count=1,
        xact_count=2,
        query_count=4,
        client_bytes=500,
        server_bytes=600,
        xact_time=100,
        query_time=200,
        wait_time=7,
        bind_count=0,
    )


def test_averages_are_zero_before_the_first_period_is_over() -> None:
    assert StatsSnapshot("d", Counts(1, 2, 3)).average == Counts()


def test_times_without_an_event_average_to_themselves() -> None:
    assert StatsSnapshot("d", Counts(), Counts(wait_time=9), 1_000_000).average.wait_time == 9


def test_statistics_add_up_counter_by_counter() -> None:
    one = Counts(*range(1, 13))
    both = sum_of([StatsSnapshot("a", one, one, 5), StatsSnapshot("b", one, Counts(), 7)])
    assert both == StatsSnapshot("", Counts(*range(2, 25, 2)), one, 7)
    assert len(COUNTS) == 12


def test_no_statistics_add_up_to_zero() -> None:
    assert sum_of([]) == StatsSnapshot("")


def test_settings_say_yes_or_no() -> None:
    assert [ConfigRow("k", "v", "d", live).changeable for live in (True, False)] == ["yes", "no"]


@pytest.mark.parametrize(("paused", "suspended"), [(True, False), (False, True)])
def test_a_paused_or_suspended_pooler_is_not_active(paused: bool, suspended: bool) -> None:
    assert not StateSnapshot(paused, suspended).active
    assert StateSnapshot().active

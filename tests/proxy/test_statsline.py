from proxy.snapshot import Counts, StatsSnapshot
from proxy.statsline import stats_line


def test_the_line_has_pgbouncers_words_and_per_second_averages() -> None:
    recent = Counts(
        server_assignment_count=40,
        xact_count=20,
        query_count=60,
        client_bytes=2000,
        server_bytes=4000,
        xact_time=400,
        query_time=600,
        wait_time=80,
        client_parse_count=10,
        server_parse_count=4,
        bind_count=12,
        client_login_count=2,
    )
    line = stats_line([StatsSnapshot("app", Counts(), recent, 2_000_000)])
    assert line == (
        "stats: 10 xacts/s, 30 queries/s, 5 client parses/s, 2 server parses/s, 6 binds/s, "
        "1 client logins/s, in 1000 B/s, out 2000 B/s, xact 20 us, query 10 us, wait 2 us"
    )


def test_databases_are_added_up() -> None:
    one = StatsSnapshot("a", Counts(), Counts(query_count=10), 1_000_000)
    two = StatsSnapshot("b", Counts(), Counts(query_count=30), 1_000_000)
    assert ", 40 queries/s," in stats_line([one, two])


def test_without_any_database_everything_is_zero() -> None:
    assert stats_line([]).startswith("stats: 0 xacts/s, 0 queries/s,")

from proxy.pool.stats import COUNTERS, Stats


def counted(**counts: int) -> Stats:
    stats = Stats()
    for name, count in counts.items():
        setattr(stats, name, count)
    return stats


def named(values: tuple[int, ...]) -> dict[str, int]:
    return {name: value for name, value in zip(COUNTERS, values, strict=True) if value}


def test_all_counters_start_at_zero() -> None:
    assert set(Stats().totals()) == {0}


def test_totals_are_in_the_order_of_the_names() -> None:
    stats = Stats()
    for at, name in enumerate(COUNTERS):
        setattr(stats, name, at)
    assert stats.totals() == tuple(range(len(COUNTERS)))


def test_averages_are_of_the_last_full_period_only() -> None:
    stats = counted(xact_count=5)
    assert named(stats.last_period()) == {}
    stats.end_period()
    stats.xact_count += 3

    assert named(stats.last_period()) == {"xact_count": 5}
    stats.end_period()
    assert named(stats.last_period()) == {"xact_count": 3}
    stats.end_period()
    assert named(stats.last_period()) == {}


def test_adding_keeps_totals_and_periods() -> None:
    one, other = counted(query_count=2), counted(query_count=10, bytes_sent=1)
    one.end_period()
    other.end_period()
    other.query_count += 1

    one.add(other)

    assert named(one.totals()) == {"query_count": 13, "bytes_sent": 1}
    assert named(one.last_period()) == {"query_count": 12, "bytes_sent": 1}
    one.end_period()
    assert named(one.last_period()) == {"query_count": 1}

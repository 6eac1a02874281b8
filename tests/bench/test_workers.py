import pytest

from tests.bench.workers import Counted, cost


def test_what_one_worker_does_in_any_case_is_no_part_of_a_transaction() -> None:
    idle = Counted(instructions=2 * 300, transactions=0, seconds=2)
    one = Counted(instructions=1000 * 50 + 4 * 300, transactions=1000, seconds=4)
    alone = cost(idle, one)
    assert (alone.each, alone.second) == (50, 300)


def test_what_is_done_besides_counts_less_the_more_transactions_there_are() -> None:
    alone = cost(Counted(0, 0, 1), Counted(instructions=1000 * 50, transactions=1000, seconds=1))
    two = Counted(instructions=500 * 50 + 2 * 700, transactions=500, seconds=2)
    assert alone.extra(two) == 700
    assert alone.ratio(two, rate=1000) == pytest.approx(1.014)
    assert alone.ratio(two, rate=2000) == pytest.approx(1.007)


def test_of_what_is_done_in_any_case_only_the_second_workers_part_is_more() -> None:
    alone = cost(Counted(300, 0, 1), Counted(1000 * 50 + 300, 1000, 1))
    two = Counted(instructions=1000 * 50 + 2 * 300, transactions=1000, seconds=1)
    assert alone.extra(two) == 300
    assert alone.ratio(two, rate=100) == 1 + 300 / 5300

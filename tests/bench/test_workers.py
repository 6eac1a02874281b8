import pytest

from tests.bench.workers import Cost, Counted, cost


def test_two_runs_of_different_speed_tell_what_is_done_per_second_from_what_is_done_per_transaction() -> None:
    quick = Counted(instructions=1000 * 50 + 2 * 700, transactions=1000, seconds=2)
    slow = Counted(instructions=100 * 50 + 10 * 700, transactions=100, seconds=10)
    found = cost(quick, slow)
    assert found.each == pytest.approx(50)
    assert found.second == pytest.approx(700)


def test_what_is_done_per_second_counts_less_the_more_transactions_there_are() -> None:
    assert Cost(100, 5000).at(1000) == 105
    assert Cost(100, 5000).at(50) == 200

import pytest

from tests.bench.workers import Counted, extra, ratio


def test_what_is_done_besides_counts_less_the_more_transactions_there_are() -> None:
    one = Counted(instructions=1000 * 50, transactions=1000, seconds=1)
    two = Counted(instructions=500 * 50 + 2 * 700, transactions=500, seconds=2)
    assert extra(one, two) == 700
    assert ratio(one, two, rate=1000) == pytest.approx(1.014)
    assert ratio(one, two, rate=2000) == pytest.approx(1.007)

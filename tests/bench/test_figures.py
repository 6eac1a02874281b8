import math

import pytest

from tests.bench.figures import Spread, percentile, ratios, spread


def test_a_spread_is_the_median_with_its_quartiles() -> None:
    assert spread([5, 1, 4, 2, 3]) == Spread(median=3, low=2, high=4, count=5)


def test_one_round_is_its_own_median_and_quartiles() -> None:
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0, 1)


def test_nothing_measured_has_no_spread() -> None:
    assert spread([]) is None
    assert spread([math.nan]) is None


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


def test_rounds_the_reference_has_no_figure_for_are_left_out() -> None:
    assert ratios([2.0, 9.0, 4.0], [0.0, 3.0]) == [3.0]


@pytest.mark.parametrize(("fraction", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_a_percentile_is_the_value_of_the_nearest_rank(fraction: float, expected: int) -> None:
    assert percentile(range(1, 101), fraction) == expected


def test_the_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(percentile([], 0.5))

"""The count of steps is that of a search which really goes all ways."""

import pytest

from config.backtracking import (
    ANCHOR,
    CHARACTER,
    CHOICE,
    NOTHING,
    RUN,
    Estimate,
    TooManySteps,
    Tries,
)


def series(number: int) -> list[int]:
    """The numbers of a series."""
    found = []
    while number:
        found.append(number & ((1 << 64) - 1))
        number >>= 64
    return found


def test_parts_that_follow_each_other_multiply() -> None:
    estimate = Estimate(3)
    run = estimate.repeated(CHARACTER, 0, 3)
    assert series(run.ways) == [1, 1, 1, 1]
    both = estimate.then(run, run)
    assert series(both.ways) == [1, 2, 3, 4], "of so many characters either run may have had none to all"
    assert series(estimate.then(both, CHARACTER).ways) == [0, 1, 2, 3], "nothing behind the end"
    assert estimate.then(ANCHOR, CHARACTER) == Tries(1 << 64, 2)


def test_a_run_costs_by_what_it_may_give_back() -> None:
    estimate = Estimate(5)
    assert series(estimate.repeated(CHARACTER, 2, 4).steps) == [1, 1, RUN + 1, RUN + 1]
    assert series(estimate.repeated(CHARACTER, 2, 2).ways) == [0, 0, 1]
    assert estimate.repeated(CHARACTER, 0, 0) == NOTHING


def test_parentheses_that_repeat_cost_each_time_and_in_each_way() -> None:
    estimate = Estimate(4)
    maybe = estimate.repeated(CHARACTER, 0, 1)
    twice = estimate.repeated(maybe, 2, 2)
    assert series(twice.ways) == [1, 2, 1]
    once = CHOICE + RUN + 1
    assert series(twice.steps) == [2 * once, once]
    assert series(estimate.repeated(maybe, 0, 2).ways) == [3, 3, 1]


def test_alternatives_add_up() -> None:
    estimate = Estimate(4)
    either = estimate.either([CHARACTER, NOTHING])
    assert series(either.ways) == [1, 1]
    assert series(either.steps) == [2 * CHOICE + 1]


def test_a_part_that_can_end_in_one_place_leaves_one_way() -> None:
    run = Estimate(9).repeated(CHARACTER, 2, 9)
    assert run.shortest() == Tries(1 << 128, run.steps)


def test_what_costs_too_much_is_refused_at_once_or_where_it_may_begin_anywhere() -> None:
    estimate = Estimate(512)
    run = estimate.repeated(CHARACTER, 0, 512)
    two = estimate.then(run, run)
    estimate.check(two, anchored=True)
    with pytest.raises(TooManySteps):
        estimate.check(two, anchored=False)
    with pytest.raises(TooManySteps):
        estimate.then(two, run)
    with pytest.raises(TooManySteps):
        estimate.repeated(estimate.either([CHARACTER, CHARACTER]), 0, 512)

import pytest

from proxy.pool.backoff import FIRST, LONGEST, Backoff
from tests.support.clock import SECOND
from tests.support.doubles import Steady

MS = SECOND // 1000


def failing(random: float = 0.0) -> Backoff:
    """A backoff whose host failed once, at time 0."""
    backoff = Backoff(Steady(random))
    backoff.started()
    backoff.failed(0, "refused")
    return backoff


def test_a_host_that_is_well_may_be_tried_at_any_time_and_as_often_as_wanted() -> None:
    backoff = Backoff(Steady())
    for _ in range(3):
        assert backoff.may_try(0)
        backoff.started()
    assert not backoff.failing
    assert not backoff.probing


def test_after_a_failure_the_host_is_left_alone_for_50_ms() -> None:
    backoff = failing()

    assert backoff.failing
    assert backoff.error == "refused"
    assert not backoff.may_try(50 * MS - 1)
    assert backoff.may_try(50 * MS)


def test_only_one_probe_at_a_time_is_made() -> None:
    backoff = failing()
    backoff.started()

    assert backoff.probing
    assert not backoff.may_try(10 * SECOND)


def test_each_failed_probe_doubles_the_wait_up_to_a_second() -> None:
    backoff = failing()
    now, waits = backoff.retry_at, [backoff.retry_at]
    for _ in range(7):
        backoff.started()
        backoff.failed(now, "refused")
        waits.append(backoff.retry_at - now)
        now = backoff.retry_at

    assert [wait // MS for wait in waits] == [50, 100, 200, 400, 800, 1000, 1000, 1000]


@pytest.mark.parametrize(("random", "share"), [(0.0, 1.0), (0.5, 0.875), (0.999, 0.75025)])
def test_waits_are_shortened_at_random_by_up_to_a_quarter(random: float, share: float) -> None:
    assert failing(random).retry_at == pytest.approx(FIRST * share)
    assert failing(random).retry_at > FIRST * 0.75


def test_several_attempts_that_fail_together_count_as_one_failure() -> None:
    backoff = Backoff(Steady())
    for _ in range(3):
        backoff.started()
    for at in range(3):
        backoff.failed(at * MS, f"failure {at}")

    assert backoff.retry_at == FIRST
    assert backoff.error == "failure 2"


def test_a_late_failure_of_an_old_attempt_does_not_let_a_second_probe_start() -> None:
    backoff = failing()
    backoff.failed(49 * MS, "refused")
    backoff.started()

    assert backoff.probing
    assert not backoff.may_try(LONGEST)


def test_success_ends_the_backoff() -> None:
    backoff = failing()
    backoff.started()
    backoff.succeeded()

    assert not backoff.failing
    assert not backoff.probing
    assert backoff.error == ""
    assert backoff.may_try(0)


def test_after_success_the_waits_begin_anew() -> None:
    backoff = failing()
    backoff.started()
    backoff.failed(backoff.retry_at, "refused")
    backoff.succeeded()
    backoff.failed(SECOND, "refused")

    assert backoff.retry_at == SECOND + FIRST


def test_an_abandoned_probe_may_be_repeated_at_once() -> None:
    backoff = failing()
    backoff.started()
    backoff.abandoned()

    assert backoff.failing
    assert backoff.may_try(FIRST)


def test_a_probe_that_began_a_moment_early_counts_when_it_fails() -> None:
    backoff = failing()
    backoff.started()
    backoff.failed(backoff.retry_at - 1, "refused")
    assert not backoff.probing
    assert backoff.may_try(backoff.retry_at)

"""What is remembered of auth_query's answers, for how long, and who has to wait."""

import pytest

from config.effective import AuthSource
from protocol.login import PlainSecret, Secret
from proxy.answers import LONGEST_WAIT, UNKNOWN_FOR, Answers, Asked, Kinds, Known, Throttle, group
from tests.support.clock import SECOND, Clock

SOURCE = AuthSource("app", "asker", "select")
ALICE, BOB, CAROL = (Asked(SOURCE, name) for name in ("alice", "bob", "carol"))
SECRET: list[Secret] = [PlainSecret(b"x")]


def test_an_answer_is_believed_for_as_long_as_configured() -> None:
    answers, clock = Answers(), Clock()
    answers.put(ALICE, Known(SECRET, clock()))
    clock.advance(29.9)
    assert answers.get(ALICE, clock(), 30) == Known(SECRET, clock() - int(29.9 * SECOND))
    clock.advance(0.1)
    assert answers.get(ALICE, clock(), 30) is None
    assert len(answers) == 0


def test_that_a_name_is_unknown_is_believed_for_a_shorter_time() -> None:
    answers, clock = Answers(), Clock()
    answers.put(ALICE, Known(None, clock()))
    clock.advance(UNKNOWN_FOR - 0.1)
    assert answers.get(ALICE, clock(), 30) is not None
    clock.advance(0.1)
    assert answers.get(ALICE, clock(), 30) is None


def test_nothing_is_believed_longer_than_configured_even_if_unknown() -> None:
    answers, clock = Answers(), Clock()
    answers.put(ALICE, Known(None, clock()))
    clock.advance(1)
    assert answers.get(ALICE, clock(), 1) is None


def test_answers_about_other_databases_or_by_other_queries_are_other_answers() -> None:
    answers = Answers()
    answers.put(ALICE, Known(SECRET, 0))
    assert answers.get(Asked(SOURCE._replace(database="other"), "alice"), 0, 30) is None
    assert answers.get(Asked(SOURCE._replace(query="other"), "alice"), 0, 30) is None


def test_of_too_many_names_the_least_recently_used_goes() -> None:
    answers = Answers(most=2)
    answers.put(ALICE, Known(SECRET, 0))
    answers.put(BOB, Known(SECRET, 0))
    assert answers.get(ALICE, 0, 30)
    answers.put(CAROL, Known(SECRET, 0))
    assert [answers.get(one, 0, 30) is not None for one in (ALICE, BOB, CAROL)] == [True, False, True]


def test_what_most_users_have_is_usual_and_nobody_counts_twice() -> None:
    kinds = Kinds(4096)
    assert kinds.usual == 4096
    kinds.note("alice", 10_000)
    assert kinds.usual == 10_000
    for iterations in (2, 3, 4096):
        kinds.note("mallory", iterations)
    assert kinds.usual == 10_000
    kinds.note("bob", None)
    kinds.note("carol", None)
    assert kinds.usual is None
    for name in ("alice", "bob", "carol"):
        kinds.note(name, 4096)
    assert kinds.usual == 4096


def test_kinds_are_those_of_the_latest_users() -> None:
    kinds = Kinds(4096, most=3)
    for number in range(3):
        kinds.note(f"old{number}", 1)
    for number in range(2):
        kinds.note(f"new{number}", 2)
    assert (len(kinds), kinds.usual) == (3, 2)


def spent(throttle: Throttle, names: int, clock: Clock, address: str = "10.0.0.1") -> None:
    for _ in range(names):
        throttle.charge(address, 10, clock())


def test_unknown_names_of_one_second_cost_nothing() -> None:
    throttle, clock = Throttle(), Clock()
    spent(throttle, 9, clock)
    assert throttle.wait("10.0.0.1", 10, clock()) == 0


def test_whoever_spent_more_waits_until_it_is_earned_back() -> None:
    throttle, clock = Throttle(), Clock()
    spent(throttle, 12, clock)
    assert throttle.wait("10.0.0.1", 10, clock()) == int(0.3 * SECOND)
    assert throttle.wait("10.0.0.1", 10, clock()) == int(0.4 * SECOND), "behind the one before"
    assert throttle.wait("10.0.0.2", 10, clock()) == 0, "others do not wait"
    clock.advance(2)
    assert throttle.wait("10.0.0.1", 10, clock()) == 0


def test_a_known_name_that_waited_costs_nothing() -> None:
    throttle, clock = Throttle(), Clock()
    spent(throttle, 12, clock)
    first = throttle.wait("10.0.0.1", 10, clock())
    throttle.refund("10.0.0.1", 10)
    assert throttle.wait("10.0.0.1", 10, clock()) == first


def test_whoever_would_wait_too_long_is_refused() -> None:
    throttle, clock = Throttle(), Clock()
    spent(throttle, 10 + LONGEST_WAIT // SECOND * 10 + 1, clock)
    assert throttle.wait("10.0.0.1", 10, clock()) is None
    clock.advance(1)
    assert throttle.wait("10.0.0.1", 10, clock())


def test_without_a_rate_nobody_waits() -> None:
    throttle, clock = Throttle(), Clock()
    throttle.charge("10.0.0.1", 0, clock())
    throttle.refund("10.0.0.1", 0)
    assert throttle.wait("10.0.0.1", 0, clock()) == 0
    assert len(throttle) == 0


def test_only_so_many_addresses_are_kept() -> None:
    throttle, clock = Throttle(most=3), Clock()
    for number in range(10):
        throttle.charge(f"10.0.0.{number}", 10, clock())
        throttle.welcome("10.0.0.1", f"guest{number}")
    assert len(throttle) == 3
    assert sum(throttle.knows("10.0.0.1", f"guest{number}") for number in range(10)) == 3


def test_who_has_logged_in_is_known_where_it_came_from() -> None:
    throttle = Throttle()
    throttle.welcome("2001:db8:1:2::1", "alice")
    assert throttle.knows("2001:db8:1:2::7", "alice")
    assert not throttle.knows("2001:db8:1:2::1", "bob")
    assert not throttle.knows("10.0.0.1", "alice")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("unix", "unix", True),
        ("no:address", "no:address", True),
        ("no:address", "another:one", False),
    ],
)
def test_of_ipv6_a_network_counts_as_one_address(one: str, other: str, same: bool) -> None:
    assert (group(one) == group(other)) is same

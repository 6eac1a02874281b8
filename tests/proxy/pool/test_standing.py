import pytest

from proxy.pool.interfaces import PoolKey
from proxy.pool.leasing import Report
from proxy.pool.standing import PATIENCE, SMOOTHING, Held, Party, Standing, over_share, younger
from tests.support.clock import SECOND

KEY, OTHER, THIRD = PoolKey("app", "alice"), PoolKey("app", "bob"), PoolKey("app", "carol")
NOW = 100 * SECOND


def standing(
    leased: int, load: int, *, waited: float | None = None, spare: int = 0, tried: int = 0
) -> Standing:
    """How a party stands whose first client has waited so long (s)."""
    made = Standing(leased=leased, tried=tried)
    since = None if waited is None else NOW - int(waited * SECOND)
    made.reported(Report(KEY, waited is not None, since, load=load, spare=spare), NOW)
    return made


def held(worker: int, *others: Standing) -> list[Held]:
    return [(Party(worker + at, KEY), other) for at, other in enumerate(others)]


def test_load_is_averaged_over_time() -> None:
    one = standing(1, 10)
    one.reported(Report(KEY, 0, load=20), NOW + SMOOTHING // 2)
    assert one.load == 15
    one.reported(Report(KEY, 0, load=0), NOW + 2 * SMOOTHING)
    assert one.load == 0


def test_what_was_taken_already_is_not_spare_any_more() -> None:
    one = standing(3, 0, spare=2)
    one.taking = 1
    assert one.spare == 1
    assert Standing().spare == 0


@pytest.mark.parametrize(
    ("name", "busy"),
    [("leased", 1), ("taking", 1), ("due", 1), ("below", 1), ("claim", 0), ("closing", [None]), ("load", 5)],
)
def test_a_standing_is_kept_while_something_is_owed(name: str, busy: object) -> None:
    one = Standing()
    assert not one.busy
    setattr(one, name, busy)
    assert one.busy is (name != "load")


def test_the_usual_wait_is_that_of_the_last_report() -> None:
    assert standing(1, 5, waited=0.25).usual_wait == SECOND // 4
    assert standing(1, 5).usual_wait == 0
    assert Standing().usual_wait == 0


def test_who_holds_more_than_its_share_gives_to_who_holds_less() -> None:
    mine = standing(2, 32, waited=0.01)
    assert over_share(mine, SECOND // 100, held(2, standing(6, 32, waited=0.01))) == Party(2, KEY)


@pytest.mark.parametrize(
    ("mine", "theirs"), [((4, 32), (4, 32)), ((3, 32), (4, 32)), ((3, 28), (5, 36)), ((3, 24), (5, 40))]
)
def test_shares_that_are_nearly_right_are_left_alone(mine: tuple[int, int], theirs: tuple[int, int]) -> None:
    siblings = held(2, standing(*theirs, waited=0.05))
    assert over_share(standing(*mine, waited=0.05), SECOND // 20, siblings) is None


def test_of_several_who_have_too_much_the_one_with_most_gives() -> None:
    siblings = held(2, standing(5, 20), standing(7, 20), standing(0, 20))
    assert over_share(standing(0, 20, waited=0.01), 0, siblings) == Party(3, KEY)


def test_who_has_none_takes_its_turn_when_it_has_waited_as_long_as_the_others() -> None:
    siblings = held(2, standing(1, 60, waited=0.3))
    mine = standing(0, 1, waited=0.2)
    assert over_share(mine, SECOND // 5, siblings) is None
    assert over_share(mine, 3 * SECOND // 10, siblings) == Party(2, KEY)


def test_who_waits_much_longer_than_others_is_helped_whatever_the_shares_are() -> None:
    siblings = held(2, standing(4, 32, waited=0.1))
    mine = standing(4, 32, waited=0.9)
    assert over_share(mine, PATIENCE - 1, siblings) is None
    assert over_share(mine, PATIENCE, siblings) == Party(2, KEY)


def test_where_nobody_else_holds_any_nobody_gives() -> None:
    assert over_share(standing(0, 5, waited=1), SECOND, []) is None
    assert over_share(Standing(), 0, held(2, Standing(leased=1))) == Party(2, KEY)


def parties(*others: tuple[PoolKey, Standing]) -> list[Held]:
    return [(Party(at, key), other) for at, (key, other) in enumerate(others, 1)]


def test_a_pool_without_waiting_clients_gives_way_first() -> None:
    others = parties((KEY, standing(1, 1, waited=0.1)), (OTHER, standing(1, 1)))
    assert younger(NOW - SECOND, others, {KEY, OTHER}) == Party(2, OTHER)


def test_a_pool_whose_clients_wait_since_later_gives_way_if_it_is_rested() -> None:
    others = parties((KEY, standing(1, 1, waited=0.1)))
    assert younger(NOW - SECOND, others, {KEY}) == Party(1, KEY)
    assert younger(NOW - SECOND, others, set()) is None
    assert younger(NOW, others, {KEY}) is None


def test_who_was_asked_longest_ago_comes_first_and_who_gives_already_is_left_alone() -> None:
    asked, closing = standing(2, 1), standing(1, 1)
    asked.due = 1
    closing.closing = [None]
    others = parties(
        (KEY, asked), (OTHER, closing), (OTHER, standing(1, 1, tried=9)), (THIRD, standing(1, 1, tried=8))
    )
    assert younger(0, others, set()) == Party(4, THIRD)

"""The roster: who gets the next client, who has stood still, when a place is filled again."""

import random

from proxy.roster import FIRST_DELAY, LONGEST_DELAY, SLOW, YOUNG, Roster


def anybody(_: int) -> bool:
    return True


def serving(count: int, now: float = 0.0) -> Roster:
    roster = Roster(count)
    for number in roster.vacant(now):
        roster.started(number, now)
        roster.serves(number, now)
    return roster


def give(roster: Roster, now: float = 0.0) -> int | None:
    number = roster.choose(now, anybody)
    if number is not None:
        roster.given(number, now)
    return number


def test_every_place_is_filled_at_first() -> None:
    roster = Roster(3)
    assert roster.vacant(0.0) == [1, 2, 3]
    assert roster.empty
    roster.started(2, 0.0)
    assert roster.vacant(0.0) == [1, 3]
    assert not roster.empty


def test_a_worker_that_does_not_serve_yet_gets_no_client() -> None:
    roster = Roster(2)
    roster.started(1, 0.0)
    assert give(roster) is None
    roster.serves(1, 0.0)
    assert give(roster) == 1
    assert not roster.complete
    roster.started(2, 0.0)
    roster.serves(2, 0.0)
    assert roster.complete


def test_64_clients_on_4_workers_are_16_each() -> None:
    roster = serving(4)
    for _ in range(64):
        give(roster)
    assert [place.clients for place in roster] == [16] * 4


def test_who_has_the_fewest_gets_the_next_whoever_left() -> None:
    roster = serving(3)
    for _ in range(9):
        give(roster)
    roster.counted(2, adopted=3, clients=1, special=0, now=0.0)
    assert [give(roster), give(roster)] == [2, 2]
    assert [place.clients for place in roster] == [3, 3, 3]


def test_balance_holds_for_any_coming_and_going() -> None:
    draw = random.Random(7)
    roster = serving(4)
    present = {1: 0, 2: 0, 3: 0, 4: 0}
    adopted = dict(present)
    for _ in range(5_000):
        if draw.random() < 0.55:
            least = min(place.clients for place in roster)
            number = give(roster)
            assert number is not None
            assert roster.places[number].clients == least + 1
            adopted[number] += 1
            present[number] += 1
        elif (number := draw.randint(1, 4)) and present[number]:
            present[number] -= 1
        report = draw.randint(1, 4)
        roster.counted(report, adopted[report], present[report], 0, 0.0)
    for number in present:
        roster.counted(number, adopted[number], present[number], 0, 0.0)
        assert roster.places[number].clients == present[number]


def test_special_clients_are_none_that_others_count() -> None:
    roster = serving(3)
    for _ in range(6):
        give(roster)
    assert roster.others(1) == 4
    roster.counted(2, adopted=2, clients=2, special=1, now=0.0)
    assert (roster.others(1), roster.others(2), roster.others(3)) == (3, 4, 3)


def test_nobody_with_room_means_nobody() -> None:
    roster = serving(2)
    assert roster.choose(0.0, lambda number: number == 2) == 2
    assert roster.choose(0.0, lambda _: False) is None


def test_a_worker_that_takes_no_clients_gets_no_more_of_them_while_there_are_others() -> None:
    roster = serving(2)
    assert give(roster, now=10.0) == 1
    assert give(roster, now=10.0) == 2
    roster.counted(2, adopted=1, clients=1, special=0, now=10.0)
    later = 10.0 + SLOW + 0.1
    assert [give(roster, now=later) for _ in range(3)] == [2, 2, 2]
    roster.counted(1, adopted=1, clients=1, special=0, now=later)
    assert give(roster, now=later) == 1


def test_where_all_are_slow_newcomers_are_shared_nevertheless() -> None:
    roster = serving(2)
    give(roster), give(roster)
    assert {give(roster, now=9.0), give(roster, now=9.0)} == {1, 2}


def test_a_steady_flow_of_clients_makes_nobody_slow() -> None:
    roster = serving(2)
    give(roster, now=0.0)
    for step in range(1, 10):
        now = step * SLOW * 0.8
        roster.given(1, now)
        roster.counted(1, adopted=step, clients=0, special=0, now=now)
        assert roster.choose(now, lambda number: number == 1 or roster.places[1].clients > 1) == 1


def test_a_lost_worker_gets_no_client_and_keeps_its_place_until_it_has_ended() -> None:
    roster = serving(2)
    roster.lost(1)
    assert [give(roster), give(roster)] == [2, 2]
    assert roster.vacant(100.0) == []
    assert roster.ended(1, 100.0) == 0.0
    assert roster.vacant(100.0) == [1]
    roster.started(1, 100.0)
    assert roster.places[1].restarts == 1


def test_a_worker_that_served_for_long_is_replaced_at_once() -> None:
    roster = serving(1)
    assert roster.ended(1, YOUNG) == 0.0
    assert roster.vacant(YOUNG) == [1]


def test_workers_that_die_young_are_replaced_with_a_growing_delay() -> None:
    roster = Roster(1)
    now, delays = 0.0, []
    for _ in range(12):
        roster.started(1, now)
        delay = roster.ended(1, now)
        assert roster.vacant(now) == []
        assert roster.next_start() == now + delay
        delays.append(delay)
        now += delay
    assert delays[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY
    roster.started(1, now)
    assert roster.ended(1, now + YOUNG) == 0.0
    roster.started(1, now)
    assert roster.next_start() is None
    assert roster.ended(1, now) == FIRST_DELAY


def test_who_is_silent_for_too_long_is_overdue() -> None:
    roster = serving(2)
    for now in range(1, 10):
        roster.heard(2, float(now))
        assert list(roster.overdue(float(now), 9.5, 1.0)) == []
    roster.heard(2, 10.0)
    assert list(roster.overdue(10.0, 9.5, 1.0)) == [1]
    assert list(roster.overdue(10.5, 0, 1.0)) == []


def test_a_worker_that_never_comes_to_serve_is_overdue_too() -> None:
    roster = Roster(1)
    roster.started(1, 0.0)
    assert list(roster.overdue(3.0, 2.0, 1.0)) == [1]


def test_nobody_is_blamed_for_the_time_in_which_we_stood_still_ourselves() -> None:
    roster = serving(2)
    assert list(roster.overdue(1.0, 5.0, 1.0)) == []
    assert list(roster.overdue(3_600.0, 5.0, 1.0)) == []
    roster.heard(1, 3_601.0)
    for now in range(3_601, 3_604):
        assert list(roster.overdue(float(now), 5.0, 1.0)) == []
    roster.heard(1, 3_605.0)
    overdue = [list(roster.overdue(now, 5.0, 1.0)) for now in (3_604.0, 3_605.0, 3_606.0)]
    assert overdue == [[2], [2], [2]]

import gc
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

from proxy.garbage import _LEAST, Garbage

if TYPE_CHECKING:
    from proxy.lobby import Lobby


def lobby(closed: int = 0, present: int = 0, waiting: int = 0) -> "Lobby":
    """As much of one as is looked at."""
    return cast("Lobby", Entrance(closed, present, waiting))


class Entrance:
    def __init__(self, closed: int, present: int, waiting: int) -> None:
        self.closed_clients = Counter(gone=closed)
        self.clients = range(present)
        self.turnstile = range(waiting)


@pytest.fixture(autouse=True)
def same_collector_as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Ring:
    """Refers to itself."""

    alive = 0

    def __init__(self) -> None:
        self.self = self
        Ring.alive += 1

    def __del__(self) -> None:
        Ring.alive -= 1


@pytest.mark.parametrize(
    ("closed", "present", "waiting", "expected"),
    [
        (_LEAST, 0, 0, True),
        (_LEAST - 1, 0, 0, False),
        (_LEAST, _LEAST, 0, False),
        (2 * _LEAST, _LEAST, 0, True),
        (2 * _LEAST, 0, 1, False),
    ],
)
def test_everything_is_looked_at_when_enough_has_closed_and_nobody_waits(
    closed: int, present: int, waiting: int, expected: bool
) -> None:
    garbage = Garbage()
    gc.collect()
    Ring()
    assert Ring.alive == 1
    assert garbage.sweep(lobby(closed, present, waiting)) is expected
    assert Ring.alive == (0 if expected else 1)
    gc.collect()


def test_what_has_closed_counts_once() -> None:
    garbage = Garbage()
    gc.collect()
    assert garbage.sweep(lobby(_LEAST))
    assert not garbage.sweep(lobby(_LEAST + 1))
    assert garbage.sweep(lobby(2 * _LEAST))


def test_once_settled_the_collector_never_looks_at_everything_by_itself() -> None:
    Garbage().settle()
    before = gc.get_stats()[2]["collections"]
    kept = [[number] for number in range(400_000)]
    assert gc.get_stats()[2]["collections"] == before
    assert len(kept) == 400_000


def test_much_that_is_young_is_a_reason_too() -> None:
    Garbage().settle()
    garbage = Garbage()
    rounds = 0
    while not garbage.sweep(lobby()):
        kept = [[] for _ in range(20_000)]  # type: ignore[var-annotated]
        rounds += bool(kept)
        assert rounds < 1_000
    assert rounds > 10


def test_what_is_young_can_be_looked_at_any_time() -> None:
    gc.collect()
    gc.disable()
    try:
        Ring()
        Garbage().young()
        assert Ring.alive == 0
    finally:
        gc.enable()

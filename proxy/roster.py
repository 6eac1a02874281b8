"""Which workers there are, which of them gets the next client, which has stood still, when one is replaced.

Pure: no process and no socket is known here, and time comes in as an argument (s, of a monotonic clock).
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

YOUNG: Final = 5.0
"""A worker that ends within this time after its start is replaced with a delay."""
FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 15.0
SLOW: Final = 0.25
"""A worker that has not taken a client for this long gets no more while there are others."""


@dataclass(slots=True)
class Place:
    """One of the places for a worker, and how it goes with who has it. `given` clients were handed over, of
    which it has `adopted` some; the others are on their way.
    """

    number: int
    occupied: bool = False
    serving: bool = False
    started_at: float = 0.0
    heard_at: float = 0.0
    free_at: float = 0.0
    delay: float = 0.0
    starts: int = 0
    given: int = 0
    adopted: int = 0
    present: int = 0
    special: int = 0
    waiting_since: float = field(default=0.0)

    @property
    def clients(self) -> int:
        """Those it has, and those on their way to it."""
        return self.present + self.given - self.adopted

    @property
    def ordinary(self) -> int:
        """Those of them that count for max_client_conn, as far as is known."""
        return self.clients - self.special

    @property
    def restarts(self) -> int:
        """How often it had to be started again."""
        return max(self.starts - 1, 0)


class Roster:
    """Of `count` places, numbered from 1."""

    def __init__(self, count: int) -> None:
        self.places: dict[int, Place] = {number: Place(number) for number in range(1, count + 1)}
        self._looked_at: float | None = None

    def __iter__(self) -> Iterator[Place]:
        return iter(self.places.values())

    @property
    def complete(self) -> bool:
        """Whether every place has a worker that serves."""
        return all(place.serving for place in self)

    @property
    def empty(self) -> bool:
        """Whether there is no worker at all."""
        return not any(place.occupied for place in self)

    # Coming and going.

    def vacant(self, now: float) -> list[int]:
        """The places for which a worker is to be started now."""
        return [place.number for place in self if not place.occupied and place.free_at <= now]

    def next_start(self) -> float | None:
        """When the next worker is to be started; None when no place is free."""
        return min((place.free_at for place in self if not place.occupied), default=None)

    def started(self, number: int, now: float) -> None:
        """A worker is being made for this place."""
        old = self.places[number]
        self.places[number] = Place(
            number,
            occupied=True,
            started_at=now,
            heard_at=now,
            delay=old.delay,
            starts=old.starts + 1,
        )

    def serves(self, number: int, now: float) -> None:
        """It takes clients from now on."""
        place = self.places[number]
        place.serving = True
        place.heard_at = now

    def lost(self, number: int) -> None:
        """It is of no use any more, though its process may still be there."""
        place = self.places[number]
        place.serving = False
        place.present = place.special = place.given = place.adopted = 0

    def ended(self, number: int, now: float) -> float:
        """Its process has gone. Returns after which delay it is to be replaced."""
        place = self.places[number]
        place.occupied = place.serving = False
        place.present = place.special = place.given = place.adopted = 0
        if now - place.started_at < YOUNG:
            place.delay = min(max(place.delay * 2, FIRST_DELAY), LONGEST_DELAY)
        else:
            place.delay = 0.0
        place.free_at = now + place.delay
        return place.delay

    # Clients.

    def choose(self, now: float, has_room: Callable[[int], bool]) -> int | None:
        """Who gets the next client: the one with the fewest of those that are quick, or else of all.

        None when nobody can have one.
        """
        able = [place for place in self if place.serving and has_room(place.number)]
        quick = [place for place in able if not _is_slow(place, now)]
        best = min(quick or able, key=lambda place: place.clients, default=None)
        return None if best is None else best.number

    def given(self, number: int, now: float) -> None:
        """A client was handed over to it."""
        place = self.places[number]
        if place.given == place.adopted:
            place.waiting_since = now
        place.given += 1

    def others(self, number: int) -> int:
        """Ordinary clients of all but this one."""
        return sum(place.ordinary for place in self if place.number != number)

    def counted(self, number: int, adopted: int, clients: int, special: int, now: float) -> None:
        """It says how many clients it was ever given, how many it has, and how many of those are special."""
        place = self.places[number]
        if adopted > place.adopted:
            place.waiting_since = now
        place.adopted = adopted
        place.present = clients
        place.special = special

    # Heartbeats.

    def heard(self, number: int, now: float) -> None:
        """A sign of life."""
        self.places[number].heard_at = now

    def overdue(self, now: float, timeout: float, period: float) -> Collection[int]:
        """Who has given no sign of life for `timeout`; asked for each `period`.

        Where we have stood still ourselves, as when the whole machine has slept, nobody is to blame.
        """
        if self._looked_at is not None and (slept := now - self._looked_at - period) > period:
            for place in self:
                place.heard_at = min(place.heard_at + slept, now)
        self._looked_at = now
        if timeout <= 0:
            return []
        return [place.number for place in self if place.occupied and now - place.heard_at > timeout]


def _is_slow(place: Place, now: float) -> bool:
    return place.given > place.adopted and now - place.waiting_since > SLOW

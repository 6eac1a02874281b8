"""How many steps Python's `re` may take over a name that an expression nearly fits; counted beforehand.

Of a part of an expression two series are kept, numbers by how many characters were taken before: `ways`, in
how many ways it may have fitted, and `steps`, what trying them costs. Parts that follow each other multiply
like polynomials. A series is one big integer, 64 bits to a number, so that one multiplication does it all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_STEPS: Final = 7_200_000
"""What an expression may cost, about 2 ms; in sixteenths of the cost of RUN."""
RUN: Final = 16
"""Of giving back a character of a repeated character: some 6 ns."""
CHOICE: Final = 48
"""Of going into parentheses once more, or into an alternative."""

_BITS: Final = 64
_ONES: Final = (1 << _BITS) - 1


class TooManySteps(ValueError):
    """Some name could take too long."""

    def __init__(self) -> None:
        super().__init__("could take too long: it has too many ways to fit the same name")


@dataclass(frozen=True, slots=True)
class Tries:
    """The two series of a part; as it stands here, of one that takes no character and costs nothing."""

    ways: int = 1
    steps: int = 0

    def shortest(self) -> "Tries":
        """What remains of the ways where only one can be right: the one that leaves most of the name."""
        return Tries(self.ways & -self.ways, self.steps)


NOTHING: Final = Tries()
ANCHOR: Final = Tries(1, 1)
CHARACTER: Final = Tries(1 << _BITS, 1)


class Estimate:
    """For names of up to so many characters. Every method raises TooManySteps."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self._all = (1 << _BITS * (longest + 1)) - 1

    def then(self, first: Tries, second: Tries) -> Tries:
        """One part behind the other."""
        return self._kept(first.ways * second.ways, first.steps + first.ways * second.steps)

    def either(self, branches: Sequence[Tries]) -> Tries:
        """Alternatives."""
        steps = sum(branch.steps for branch in branches) + CHOICE * len(branches)
        return self._kept(sum(branch.ways for branch in branches), steps)

    def repeated(self, part: Tries, least: int, most: int) -> Tries:
        """A part that stands there from `least` to `most` times."""
        if part is CHARACTER:
            steps = _ones(most) * (1 + RUN) - _ones(least) * RUN
            return self._kept(_ones(most + 1) - _ones(least), steps)
        ways, steps = int(least == 0), 0
        before = NOTHING
        for count in range(1, most + 1):
            steps += before.ways * (part.steps + CHOICE)
            before = self._kept(before.ways * part.ways, 0)
            if count >= least:
                ways += before.ways
            self._kept(ways, steps)
            if not before.ways:
                break
        return self._kept(ways, steps)

    def check(self, whole: Tries, *, anchored: bool) -> None:
        """Whether the expression may be used; one that is not anchored is tried at every character."""
        if not anchored:
            self._kept(1, whole.steps * _ones(self.longest + 1))

    def _kept(self, ways: int, steps: int) -> Tries:
        """Without what is behind the end of the longest name."""
        ways &= self._all
        steps &= self._all
        # By one less than its base a number leaves the sum of its digits.
        if ways % _ONES > MOST_STEPS or steps % _ONES > MOST_STEPS:
            raise TooManySteps
        return Tries(ways, steps)


def _ones(count: int) -> int:
    """A series of so many ones."""
    return ((1 << _BITS * count) - 1) // _ONES

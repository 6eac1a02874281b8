"""Replies that may be this or that: the model chooses, and chooses again until it has predicted what came.

Law: at PostgreSQL itself there is nothing to choose; the first of several is PostgreSQL's.
"""

from collections.abc import Iterator


class Choices:
    """One way through the points at which there is a choice."""

    def __init__(self, taken: tuple[int, ...] = ()) -> None:
        self._taken = taken
        self._made: list[tuple[int, int]] = []

    def among(self, *options: str) -> str:
        at = len(self._made)
        chosen = self._taken[at] if at < len(self._taken) else 0
        self._made.append((chosen, len(options)))
        return options[chosen]

    def instead(self, postgresql: str, howdah: str) -> str:
        """What is no choice, but Howdah is better at than PostgreSQL."""
        return howdah

    def next(self) -> "Choices | None":
        """The way that comes after this one; None behind the last."""
        made = list(self._made)
        while made:
            chosen, many = made.pop()
            if chosen + 1 < many:
                return Choices((*(before for before, _ in made), chosen + 1))
        return None


class PostgreSQL(Choices):
    """No choice: what PostgreSQL does."""

    def among(self, *options: str) -> str:
        return options[0]

    def instead(self, postgresql: str, howdah: str) -> str:
        return postgresql


def ways(*, strict: bool) -> Iterator[Choices]:
    """All ways, PostgreSQL's first."""
    way: Choices | None = PostgreSQL() if strict else Choices()
    while way is not None:
        yield way
        way = way.next()

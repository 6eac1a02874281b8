"""Which databases are paused and which disabled, kept by whoever outlives the workers.

Law of this file: pure; a worker that is told `present()` at its start is in the state of those that heard
every order.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Halted:
    """The state as it is sent: whether all is paused, which databases differ in that, which are disabled."""

    paused: bool = False
    differing: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()


class Halts:
    """Databases by name; what is paused as a whole is so for databases that nobody has named yet."""

    def __init__(self) -> None:
        self.paused = False
        self._differing: set[str] = set()
        self._disabled: set[str] = set()

    def is_paused(self, database: str | None) -> bool:
        """Whether the database, or for None the pooler as a whole, is paused."""
        return self.paused if database is None else self.paused != (database in self._differing)

    def paused_databases(self) -> list[str]:
        """The databases paused by name."""
        return [] if self.paused else sorted(self._differing)

    def pause(self, database: str | None, paused: bool) -> None:
        """PAUSE, or RESUME."""
        if database is None:
            self.paused = paused
            self._differing.clear()
        elif paused == self.paused:
            self._differing.discard(database)
        else:
            self._differing.add(database)

    def disable(self, database: str, disabled: bool) -> None:
        """DISABLE, or ENABLE."""
        if disabled:
            self._disabled.add(database)
        else:
            self._disabled.discard(database)

    def forget(self, exists: Callable[[str], bool]) -> None:
        """Databases that are not configured any more have no state."""
        self._differing = set(filter(exists, self._differing))
        self._disabled = set(filter(exists, self._disabled))

    def present(self) -> Halted:
        """What a new worker has to be told."""
        return Halted(self.paused, tuple(sorted(self._differing)), tuple(sorted(self._disabled)))

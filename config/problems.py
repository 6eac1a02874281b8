"""What can be wrong with the settings, as data.

Nothing stops at the first mistake: readers collect `Problem`s, and whoever needs a yes or no raises one
`ConfigError` with all of them. A problem never carries the value of a secret.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """ERROR stops the start and fails a reload; WARNING is only said."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong, and where: `line` counts from 1; 0 means that no line can be named.

    `file` is a path, or "environment" or "override" for settings that come from elsewhere. `key` is the
    setting as written there, empty when the problem is not about one key.
    """

    file: str
    line: int
    key: str
    message: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        parts = [place, *(["warning"] if self.severity is Severity.WARNING else []), self.key, self.message]
        return ": ".join(part for part in parts if part)


class ConfigError(Exception):
    """The settings cannot be used; `problems` holds every reason found, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems: list[Problem] = list(problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class UnknownSetting(KeyError):
    """There is no setting of this name; `str()` is a sentence fit for the console."""

    def __init__(self, key: str, known: Iterable[str]) -> None:
        super().__init__(key)
        self.key: str = key
        self.message: str = f'unknown setting "{key}"{did_you_mean(key, known)}'

    def __str__(self) -> str:
        return self.message


class NotChangeable(Exception):
    """The setting exists, but only a restart can change it."""

    def __init__(self, key: str) -> None:
        super().__init__(f'"{key}" cannot be changed while running, only by a restart')
        self.key: str = key


def find_place(path: tuple[str, ...], places: Mapping[tuple[str, ...], Problem]) -> Problem | None:
    """Return where the value at the path was written, or else the nearest table around it."""
    around = (path[:depth] for depth in range(len(path), 0, -1))
    return next((places[at] for at in around if at in places), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean "x"?` for the known word most like `word`, or nothing if none is like it."""
    matches = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f', did you mean "{matches[0]}"?' if matches else ""

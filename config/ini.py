"""Read PgBouncer's ini format into entries with their place. Knows the syntax, not the keys.

The rules, where they differ from other ini files: `;` and `#` begin a comment only as the first thing on a
line; a section ends only where the next begins, even across files; `%include` reads another file at that
point, at most ten deep; a key may be quoted; a value is the rest of the line without blanks around it.
"""

import re
from dataclasses import dataclass, field

from .files import find_beside
from .problems import Problem

MAX_INCLUDE_DEPTH = 10
_BLANK = " \t\v\f\r"
_INCLUDE = re.compile(r"%include[ \t]+(.*)\Z")
_SECTION = re.compile(r"\[([^\]]*)\](.*)\Z")
_ENTRY = re.compile(
    r"""(?: "(?P<double>(?:[^"]|"")+)" | '(?P<single>(?:[^']|'')+)' | (?P<bare>[A-Za-z0-9_.*-]+) )
        [ \t]* = [ \t]* (?P<value>.*) \Z""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """`name = value` in a section; `name` is None where the section begins. `line` counts from 1."""

    file: str
    line: int
    section: str
    name: str | None = None
    value: str = ""


@dataclass(slots=True)
class IniFile:
    """What one file and its includes say, in reading order."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    section: str | None = None

    def read(self, path: str, *, depth: int = 0, asked_by: Problem | None = None) -> None:
        """Read the file at `path`; a mistake becomes a problem and reading goes on behind it."""
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            place = asked_by or Problem(path, 0, "", "")
            named = f"{path}: " if asked_by else ""
            self._problem(place.file, place.line, place.key, f"{named}cannot be read: {error.strerror}")
            return
        for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            try:
                text = line.decode()
            except UnicodeDecodeError:
                self._problem(path, number, "", "is not UTF-8")
                continue
            self._read_line(path, number, text, depth)

    def _read_line(self, path: str, number: int, text: str, depth: int) -> None:
        if "\0" in text:
            self._problem(path, number, "", "contains a NUL character")
            return
        text = text.strip(_BLANK)
        while match := _SECTION.match(text):
            # What follows the bracket on its line is read like a line of its own.
            self.section = match[1]
            self.entries.append(Entry(path, number, self.section))
            text = match[2].strip(_BLANK)
        if not text or text[0] in ";#":
            return
        if match := _INCLUDE.match(text):
            self._include(path, number, match[1], depth)
        elif match := _ENTRY.match(text):
            self._add(path, number, _name(match), match["value"])
        else:
            self._problem(path, number, "", f"expected name = value, found: {_excerpt(text)}")

    def _include(self, path: str, number: int, name: str, depth: int) -> None:
        if depth >= MAX_INCLUDE_DEPTH:
            self._problem(path, number, "%include", f"more than {MAX_INCLUDE_DEPTH} files deep")
            return
        asked_by = Problem(path, number, "%include", "")
        self.read(find_beside(name, path), depth=depth + 1, asked_by=asked_by)

    def _add(self, path: str, number: int, name: str, value: str) -> None:
        if self.section is None:
            self._problem(path, number, name, "stands before any [section]")
        else:
            self.entries.append(Entry(path, number, self.section, name, value))

    def _problem(self, file: str, line: int, key: str, message: str) -> None:
        self.problems.append(Problem(file, line, key, message))


def _name(match: re.Match[str]) -> str:
    if match["double"] is not None:
        return match["double"].replace('""', '"')
    if match["single"] is not None:
        return match["single"].replace("''", "'")
    return match["bare"]


def _excerpt(text: str) -> str:
    """Return the first word only: the rest of a broken line may well hold a password."""
    word = re.split(r"[\s=]", text, maxsplit=1)[0]
    return f"{word[:30]} ..." if word != text or len(word) > 30 else word

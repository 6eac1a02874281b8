"""Files of rules (auth_hba_file, auth_ident_file) as lines, fields and tokens. Not here: what they mean.

PostgreSQL's: blanks part fields, commas the tokens of one; `#` begins a comment anywhere; a backslash at the
end joins the next line; quotes keep blanks, commas and the letters of a keyword; `@file` stands for the
tokens in that file, `include`, `include_if_exists` and `include_dir` for the lines of others, beside the one
that names them. As in PgBouncer a comma may stand behind a blank.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from .problems import Problem, Severity

MAX_INCLUDE_DEPTH = 10
_BLANK = " \t\r\v\f"
_INCLUDES = ("include", "include_if_exists", "include_dir")


@dataclass(frozen=True, slots=True)
class Token:
    """One word; `quoted` when it began with a quote, so that it means nothing but its letters."""

    text: str
    quoted: bool = False

    def is_keyword(self, *words: str) -> bool:
        return not self.quoted and self.text in words


Field = tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """The fields of a line that has any; `number` counts from 1, in `file`."""

    file: str
    number: int
    fields: tuple[Field, ...]


@dataclass(slots=True)
class RuleFile:
    """What one file and those it includes say, in reading order. `key` is the setting that names it."""

    key: str
    lines: list[Line] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def read(self, path: str) -> "RuleFile":
        """Read the file at `path`; a mistake becomes a problem and reading goes on behind it."""
        data = self._content(path, Problem(path, 0, self.key, ""), "")
        return self if data is None else self.parse(data, path)

    def parse(self, data: bytes, file: str, depth: int = 0) -> "RuleFile":
        """Read what is the content of `file`."""
        for line in self._tokenized(data, file, depth):
            first, *others = line.fields
            if len(first) == 1 and first[0].is_keyword(*_INCLUDES):
                self._include(line, first[0].text, others, depth)
            else:
                self.lines.append(line)
        return self

    def problem(self, place: Line | Problem, message: str, severity: Severity = Severity.ERROR) -> None:
        """Note a mistake in a line."""
        number = place.number if isinstance(place, Line) else place.line
        self.problems.append(Problem(place.file, number, self.key, message, severity))

    def _tokenized(self, data: bytes, file: str, depth: int) -> Iterator[Line]:
        for number, text, joined in _logical_lines(data):
            place = Problem(file, number, self.key, "")
            if "\0" in text:
                self.problem(place, "contains a NUL character")
                continue
            try:
                fields = tuple(self._expanded(raw, place, depth) for raw in _split(text, joined))
            except ValueError as error:
                self.problem(place, str(error))
                continue
            if fields:
                yield Line(file, number, fields)

    def _expanded(self, raw: Field, place: Problem, depth: int) -> Field:
        tokens: list[Token] = []
        for token in raw:
            if token.quoted or len(token.text) < 2 or token.text[0] != "@":
                tokens.append(token)
                continue
            path = _beside(token.text[1:], place.file)
            _check_depth(depth)
            data = self._content(path, place, f"{path}: ")
            if data is None:
                continue
            for line in self._tokenized(data, path, depth + 1):
                tokens += [inner for part in line.fields for inner in part]
        return tuple(tokens)

    def _include(self, line: Line, how: str, others: list[Field], depth: int) -> None:
        if len(others) != 1 or len(others[0]) != 1:
            self.problem(line, f"expected {how} and one name")
            return
        path = _beside(others[0][0].text, line.file)
        try:
            _check_depth(depth)
            names = _names_in(path) if how == "include_dir" else [path]
        except OSError as error:
            self.problem(line, f"{path}: cannot be read: {error.strerror}")
            return
        except ValueError as error:
            self.problem(line, str(error))
            return
        for name in names:
            if how == "include_if_exists" and not os.path.exists(name):
                continue
            data = self._content(name, Problem(line.file, line.number, self.key, ""), f"{name}: ")
            if data is not None:
                self.parse(data, name, depth + 1)

    def _content(self, path: str, place: Problem, named: str) -> bytes | None:
        try:
            with open(path, "rb") as file:
                return file.read().removeprefix(b"\xef\xbb\xbf")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.problem(place, f"{named}cannot be read: {reason}")
            return None


def _beside(name: str, including: str) -> str:
    return os.path.join(os.path.dirname(including), name)


def _check_depth(depth: int) -> None:
    if depth >= MAX_INCLUDE_DEPTH:
        raise ValueError(f"more than {MAX_INCLUDE_DEPTH} files deep")


def _names_in(directory: str) -> list[str]:
    """What `include_dir` reads there, in PostgreSQL's order."""
    names = sorted(name for name in os.listdir(directory) if name.endswith(".conf") and name[0] != ".")
    paths = (os.path.join(directory, name) for name in names)
    return [path for path in paths if not os.path.isdir(path)]


def _logical_lines(data: bytes) -> Iterator[tuple[int, str, int]]:
    """Each line with its number, joined where it ends in a backslash, and how much of it was joined."""
    joined, began = "", 0
    for number, raw in enumerate(data.split(b"\n"), 1):
        text = raw.decode("utf-8", "surrogateescape").rstrip("\r")
        began = began or number
        if text.endswith("\\"):
            joined += text[:-1]
            continue
        yield began, joined + text, len(joined)
        joined, began = "", 0
    if joined:
        yield began, joined, 0


def _split(text: str, joined: int = 0) -> list[Field]:
    """Return the fields of one line. Raises ValueError."""
    fields: list[list[Token]] = []
    at, after_comma = 0, False
    while True:
        at = _skip_blanks(text, at)
        if text[at : at + 1] == "#" and at < joined:
            # PostgreSQL would take the next line for a part of the comment, PgBouncer would not.
            raise ValueError("a comment must not end in a backslash")
        if at == len(text) or text[at] == "#":
            break
        if text[at] == ",":
            if after_comma or not fields:
                raise ValueError("there is nothing before a comma")
            at, after_comma = at + 1, True
            continue
        token, at = _take(text, at)
        if after_comma:
            fields[-1].append(token)
        else:
            fields.append([token])
        after_comma = False
    if after_comma:
        raise ValueError("there is nothing behind a comma")
    return [tuple(tokens) for tokens in fields]


def _take(text: str, at: int) -> tuple[Token, int]:
    """Return the token that begins at `at`, and where it ends. Raises ValueError."""
    quoted, inside, letters = text[at] == '"', False, ""
    while at < len(text) and (inside or (text[at] not in _BLANK and text[at] not in ",#")):
        if text[at] != '"':
            letters += text[at]
        elif inside and text[at + 1 : at + 2] == '"':
            letters += '"'
            at += 1
        else:
            inside = not inside
        at += 1
    if inside:
        raise ValueError("a quote is not closed")
    return Token(letters, quoted), at


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at

"""Regular expressions of rules: PostgreSQL's advanced ones, as far as names need them, that cannot take long.

A client's name is matched before anybody knows who it is, so no expression may be slow on any name: one whose
ways to try a name are too many is refused when it is read, and so is what Python's `re` would read otherwise.
Like PostgreSQL's it is found anywhere unless anchored, `$` is the very end, and classes mean ASCII.
"""

import re
from dataclasses import dataclass

LONGEST_NAME = 127
"""Of a user; databases' are shorter."""
MAX_WAYS = 5_000_000

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r"\ \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": r"\ -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\ \t-\r",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_SETS = {"d": "digit", "s": "space", "w": "word"}
_CONSTRAINTS = {"A": r"\A", "Z": r"\Z", "m": r"\b(?=\w)", "M": r"\b(?<=\w)", "y": r"\b", "Y": r"(?!\b)"}
_BOUND = re.compile(r"\{([0-9]{1,3})(?:(,)([0-9]{1,3})?)?\}", re.ASCII)
_MAX_COUNT = 255
_FOLDED = "(?i)"
_FIRST = "first"


@dataclass(frozen=True, slots=True)
class Pattern:
    """An expression as written, and how to look for it; `mirrored` tries alternatives the other way round.

    `groups`: how many parentheses it has. `is_plain`: it repeats nothing as little as possible, and not its
    first parentheses; of others PostgreSQL and Python say differently what was caught.
    """

    text: str
    expression: re.Pattern[str]
    mirrored: re.Pattern[str]
    is_plain: bool

    @property
    def groups(self) -> int:
        return self.expression.groups

    def fits(self, name: str) -> bool:
        return self.expression.search(name) is not None

    def caught(self, name: str) -> str | None:
        """What the first parentheses of a plain expression caught; None if nothing, or if it depends on
        which alternative is tried first: PostgreSQL takes the longest, Python the first.
        """
        found, other = self.expression.search(name), self.mirrored.search(name)
        if found is None or other is None or not self.groups or found[_FIRST] != other[_FIRST]:
            return None
        value: str | None = found[_FIRST]
        return value


def compile_pattern(text: str) -> Pattern:
    """Read an expression. Raises ValueError with the reason."""
    if not text:
        raise ValueError("is empty, which would fit every name")
    folded = text.startswith(_FOLDED)
    at = len(_FOLDED) if folded else 0
    reader = _Reader(text, at)
    whole = reader.read()
    anchored = whole.text.startswith((r"\A", r"(?:\A")) and "|" not in text
    if whole.ways * (1 if anchored else LONGEST_NAME) > MAX_WAYS:
        raise ValueError("could take too long: it has too many ways to fit the same name")
    flags = re.ASCII | re.DOTALL | (re.IGNORECASE if folded else 0)
    try:
        expression = re.compile(whole.text, flags)
        mirrored = (
            re.compile(_Reader(text, at, mirrored=True).read().text, flags) if "|" in text else expression
        )
        return Pattern(text, expression, mirrored, reader.is_plain)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part in Python's writing, in how many ways it may fit, and its shortest length."""

    text: str
    ways: int = 1
    least: int = 0
    is_constraint: bool = False


class _Reader:
    def __init__(self, text: str, at: int, *, mirrored: bool = False) -> None:
        self._text = text
        self._at = at
        self._order = -1 if mirrored else 1
        self._depth = 0
        self._is_first = True
        self.is_plain = True

    def read(self) -> _Piece:
        whole = self._alternatives()
        if self._at < len(self._text):
            raise ValueError("a ) without its (")
        return whole

    def _peek(self, length: int = 1) -> str:
        return self._text[self._at : self._at + length]

    def _alternatives(self) -> _Piece:
        branches = [self._branch()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._branch())
        if len(branches) == 1:
            return branches[0]
        text = "|".join(branch.text for branch in branches[:: self._order])
        return _Piece(text, sum(b.ways for b in branches), min(b.least for b in branches))

    def _branch(self) -> _Piece:
        text, ways, least = "", 1, 0
        while self._peek() not in ("", "|", ")"):
            before = self._is_first
            atom = self._atom()
            piece = self._repeated(atom, holds_first=before and not self._is_first)
            text += piece.text
            ways = min(ways * piece.ways, MAX_WAYS + 1)
            least += piece.least
        return _Piece(text, ways, least)

    def _repeated(self, piece: _Piece, *, holds_first: bool) -> _Piece:
        bounds = self._bounds()
        if bounds is None:
            return piece
        if piece.is_constraint:
            raise ValueError("an anchor cannot be repeated")
        text, least, most = bounds
        if self._peek() == "?":
            self._at += 1
            text += "?"
            self.is_plain = False
        if holds_first and most > 1:
            self.is_plain = False
        if self._peek() in ("*", "+", "?") or (self._peek(2)[1:].isdecimal() and self._peek() == "{"):
            raise ValueError("two repetitions in a row")
        longest = LONGEST_NAME // piece.least if piece.least else LONGEST_NAME
        ways = _ways(piece.ways, least, max(least, min(most, longest)))
        return _Piece(piece.text + text, ways, piece.least * least)

    def _bounds(self) -> tuple[str, int, int] | None:
        """The repetition that stands here, as Python writes it, and its least and most."""
        sign = self._peek()
        simple = {"*": (0, LONGEST_NAME), "+": (1, LONGEST_NAME), "?": (0, 1)}.get(sign) if sign else None
        if simple is not None:
            self._at += 1
            return sign, *simple
        if sign != "{" or not self._peek(2)[1:].isdecimal():
            return None
        found = _BOUND.match(self._text, self._at)
        if found is None:
            raise ValueError("a repetition is {m}, {m,} or {m,n}")
        self._at = found.end()
        least = int(found[1])
        most = int(found[3]) if found[3] else LONGEST_NAME if found[2] else least
        if max(least, int(found[3] or 0)) > _MAX_COUNT or (found[3] and most < least):
            raise ValueError(f"a repetition goes from 0 to {_MAX_COUNT}, the lower number first")
        return found[0], least, max(least, most)

    def _atom(self) -> _Piece:
        letter = self._peek()
        self._at += 1
        if letter == "(":
            return self._group()
        if letter == "[":
            return _Piece(self._bracket(), least=1)
        if letter == "\\":
            return self._escape()
        if letter in "*+?" or (letter == "{" and self._peek().isdecimal()):
            raise ValueError("nothing to repeat")
        if letter in "^$":
            return _Piece(r"\A" if letter == "^" else r"\Z", is_constraint=True)
        return _Piece("." if letter == "." else re.escape(letter), least=1)

    def _group(self) -> _Piece:
        opening = f"(?P<{_FIRST}>" if self._is_first else "("
        if self._peek() == "?":
            if self._peek(2) != "?:":
                raise ValueError("(? is only supported as (?: and, at the beginning, as (?i)")
            self._at += 2
            opening = "(?:"
        else:
            self._is_first = False
        if self._depth > 20:
            raise ValueError("too many parentheses inside each other")
        self._depth += 1
        inner = self._alternatives()
        self._depth -= 1
        if self._peek() != ")":
            raise ValueError("a ( without its )")
        self._at += 1
        return _Piece(f"{opening}{inner.text})", inner.ways, inner.least)

    def _escape(self) -> _Piece:
        letter = self._peek()
        self._at += 1
        if not letter:
            raise ValueError("ends in a backslash")
        if letter.lower() in _SETS:
            negated = "^" if letter.isupper() else ""
            return _Piece(f"[{negated}{_CLASSES[_SETS[letter.lower()]]}]", least=1)
        if letter in _CONSTRAINTS:
            return _Piece(_CONSTRAINTS[letter], is_constraint=True)
        return _Piece(re.escape(self._literal(letter)), least=1)

    def _literal(self, letter: str) -> str:
        if letter.isascii() and letter.isdecimal():
            raise ValueError("back references are not supported")
        if letter.isascii() and letter.isalpha():
            raise ValueError(f"\\{letter} is not supported")
        return letter

    def _bracket(self) -> str:
        """What is behind a `[`, up to its end."""
        text = "["
        if self._peek() == "^":
            self._at += 1
            text += "^"
        first = True
        while first or self._peek() != "]":
            text += self._member()
            first = False
        self._at += 1
        return text + "]"

    def _member(self) -> str:
        """A character, a range or a class in brackets."""
        low = self._character()
        if len(low) > 1:
            return low
        if self._peek() != "-" or self._peek(2) == "-]":
            return re.escape(low)
        self._at += 1
        high = self._character()
        if len(high) > 1 or high < low:
            raise ValueError("a range in brackets goes from a character to a later one")
        return f"{re.escape(low)}-{re.escape(high)}"

    def _character(self) -> str:
        """One character in brackets, or a class as Python writes it (more than one character)."""
        letter = self._peek()
        if not letter:
            raise ValueError("a [ without its ]")
        if self._peek(2) in ("[.", "[="):
            raise ValueError("collating elements are not supported")
        if self._peek(2) == "[:":
            name, colon, _ = self._text[self._at + 2 :].partition(":]")
            if not colon or name not in _CLASSES:
                raise ValueError("there is no such class of characters")
            self._at += len(name) + 4
            return _CLASSES[name]
        self._at += 1
        if letter != "\\":
            return letter
        letter = self._peek()
        self._at += 1
        if not letter:
            raise ValueError("a [ without its ]")
        return _CLASSES[_SETS[letter]] if letter in _SETS else self._literal(letter)


def _ways(ways: int, least: int, most: int) -> int:
    """In how many ways something fits that is repeated."""
    if ways == 1:
        return most - least + 1
    total = 0
    for count in range(least, most + 1):
        total += ways**count
        if total > MAX_WAYS:
            break
    return min(total, MAX_WAYS + 1)

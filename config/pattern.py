"""Regular expressions of rules: PostgreSQL's advanced ones, as far as names need them, that cannot take long.

A client's name is matched before anybody knows who it is, so no expression may be slow on any name: one that
has too many ways to try one (`backtracking`) is refused when it is read, and so is what Python's `re` would
read otherwise. Like PostgreSQL's it is found anywhere unless anchored, `$` is the very end, classes ASCII.
"""

import re
from dataclasses import dataclass, replace

from .backtracking import ANCHOR, CHARACTER, NOTHING, Estimate, Tries

LONGEST_NAME = 127
"""Of a user, as in PgBouncer (bytes); databases' are shorter."""
LONGEST_SYSTEM_NAME = 512
"""Of what the system or a certificate calls somebody."""

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
_START = r"\A"
_CONSTRAINTS = {"A": _START, "Z": r"\Z", "m": r"\b(?=\w)", "M": r"\b(?<=\w)", "y": r"\b", "Y": r"(?!\b)"}
_BOUND = re.compile(r"\{([0-9]{1,3})(?:(,)([0-9]{1,3})?)?\}", re.ASCII)
_MAX_COUNT = 255
_FOLDED = "(?i)"
_FIRST = "first"
_BEGINS_ANYWHERE = re.compile(r"(\.\*|\(\?P<first>\.\*\)(?![?*+{]))")
"""Of an expression that, where it fits at all, fits from the first character on."""


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


def compile_pattern(text: str, longest: int = LONGEST_NAME) -> Pattern:
    """Read an expression for names of up to so many characters. Raises ValueError with the reason."""
    if not text:
        raise ValueError("is empty, which would fit every name")
    at = len(_FOLDED) if text.startswith(_FOLDED) else 0
    reader = _Reader(text, at, longest)
    whole = reader.read()
    reader.estimate.check(whole.tries, anchored=reader.is_anchored)
    try:
        expression = mirrored = re.compile(whole.text, reader.flags)
        if "|" in text:
            mirrored = re.compile(_Reader(text, at, longest, mirrored=True).read().text, reader.flags)
        return Pattern(text, expression, mirrored, reader.is_plain)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part in Python's writing, and what trying it costs. `letter`: the one character that it is; `run_of`:
    the class of characters, any number of which it is.
    """

    text: str
    tries: Tries = NOTHING
    is_constraint: bool = False
    letter: str = ""
    run_of: str = ""


class _Reader:
    def __init__(self, text: str, at: int, longest: int, *, mirrored: bool = False) -> None:
        self.flags = re.ASCII | re.DOTALL | (re.IGNORECASE if at else 0)
        self.estimate = Estimate(longest)
        self._text = text
        self._at = at
        self._order = -1 if mirrored else 1
        self._depth = 0
        self._is_first = True
        self.is_plain = True
        self.is_anchored = False

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
        if not self._depth:
            branches = [replace(branch, text=_anchored(branch.text)) for branch in branches]
            self.is_anchored = all(branch.text.startswith(_START) for branch in branches)
        if len(branches) == 1:
            return branches[0]
        text = "|".join(branch.text for branch in branches[:: self._order])
        return _Piece(text, self.estimate.either([branch.tries for branch in branches]))

    def _branch(self) -> _Piece:
        text, tries = "", NOTHING
        pieces = self._pieces()
        for at, piece in enumerate(pieces):
            cost = piece.tries
            letter = pieces[at + 1].letter if at + 1 < len(pieces) else ""
            if letter and piece.run_of and not re.match(piece.run_of, letter, self.flags):
                # What ends it is not among its characters: it can end in one place only.
                cost = cost.shortest()
            text += piece.text
            tries = self.estimate.then(tries, cost)
        return _Piece(text, tries, run_of=pieces[0].run_of if len(pieces) == 1 else "")

    def _pieces(self) -> list[_Piece]:
        pieces: list[_Piece] = []
        while self._peek() not in ("", "|", ")"):
            before = self._is_first
            atom = self._atom()
            pieces.append(self._repeated(atom, holds_first=before and not self._is_first))
        return pieces

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
        run_of = piece.text if piece.tries is CHARACTER else ""
        tries = self.estimate.repeated(piece.tries, least, most)
        return _Piece(piece.text + text, tries, run_of=run_of)

    def _bounds(self) -> tuple[str, int, int] | None:
        """The repetition that stands here, as Python writes it, and its least and most."""
        sign = self._peek()
        longest = self.estimate.longest
        simple = {"*": (0, longest), "+": (1, longest), "?": (0, 1)}.get(sign) if sign else None
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
        most = int(found[3]) if found[3] else longest if found[2] else least
        if max(least, int(found[3] or 0)) > _MAX_COUNT or (found[3] and most < least):
            raise ValueError(f"a repetition goes from 0 to {_MAX_COUNT}, the lower number first")
        return found[0], least, max(least, most)

    def _atom(self) -> _Piece:
        letter = self._peek()
        self._at += 1
        if letter == "(":
            return self._group()
        if letter == "[":
            return _Piece(self._bracket(), CHARACTER)
        if letter == "\\":
            return self._escape()
        if letter in "*+?" or (letter == "{" and self._peek().isdecimal()):
            raise ValueError("nothing to repeat")
        if letter in "^$":
            return _Piece(_START if letter == "^" else r"\Z", ANCHOR, is_constraint=True)
        return _Piece(".", CHARACTER) if letter == "." else _letter(letter)

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
        return _Piece(f"{opening}{inner.text})", inner.tries, run_of=inner.run_of)

    def _escape(self) -> _Piece:
        letter = self._peek()
        self._at += 1
        if not letter:
            raise ValueError("ends in a backslash")
        if letter.lower() in _SETS:
            negated = "^" if letter.isupper() else ""
            return _Piece(f"[{negated}{_CLASSES[_SETS[letter.lower()]]}]", CHARACTER)
        if letter in _CONSTRAINTS:
            return _Piece(_CONSTRAINTS[letter], ANCHOR, is_constraint=True)
        return _letter(self._literal(letter))

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


def _letter(letter: str) -> _Piece:
    return _Piece(re.escape(letter), CHARACTER, letter=letter)


def _anchored(branch: str) -> str:
    """The same alternative; where it may begin anywhere it is tried at the beginning only."""
    return _START + branch if _BEGINS_ANYWHERE.match(branch) else branch

"""A fault of one line: where it is, and what the line says instead.

Law: the place is told by function and text, never by number; a text that is not there just once is an error,
lest a fault get lost unseen when the product changes.
"""

import ast
from dataclasses import dataclass


class Lost(AssertionError):
    """The product has changed: its fault has to be written anew."""


@dataclass(frozen=True)
class Selection:
    """Tests of the short form: what pytest is given, and its -k."""

    tests: str
    keyword: str = ""


@dataclass(frozen=True)
class Fault:
    """`place` is a file and a function in it, as `Class.method`; `text` stands on one of its lines, `instead`
    in its stead. `found_by` is what must not pass any more.
    """

    name: str
    place: tuple[str, str]
    text: str
    instead: str
    found_by: Selection

    @property
    def file(self) -> str:
        return self.place[0]

    @property
    def function(self) -> str:
        return self.place[1]

    def applied(self, source: str) -> str:
        """The source with the fault in it. Raises Lost."""
        lines = source.splitlines(keepends=True)
        first, last = self._span(source)
        places = [at for at in range(first - 1, last) if self.text in lines[at]]
        if len(places) != 1:
            raise Lost(f"{self!s}: {self.text!r} is on {len(places)} lines of {self.function} instead of one")
        (at,) = places
        lines[at] = lines[at].replace(self.text, self.instead)
        changed = "".join(lines)
        if changed == source or len(changed.splitlines()) != len(lines):
            raise Lost(f"{self!s}: changes nothing, or more than one line")
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise Lost(f"{self!s}: the line is no longer Python: {error}") from None
        return changed

    def _span(self, source: str) -> tuple[int, int]:
        """The first and the last line of the function."""
        node: ast.AST = ast.parse(source)
        for name in self.function.split("."):
            inner = ast.iter_child_nodes(node)
            found = [each for each in inner if getattr(each, "name", None) == name]
            if len(found) != 1:
                raise Lost(f"{self!s}: there is no {self.function}")
            (node,) = found
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        return node.lineno, node.end_lineno or node.lineno

    def __str__(self) -> str:
        return f"{self.name} ({self.file}, {self.function})"

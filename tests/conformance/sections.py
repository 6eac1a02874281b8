"""The further parts of the suite, each a program of its own: `python -m tests.conformance.NAME`.

Law: a part says what it has found in its last line and by its exit code; one
that is not written yet is said to be so, and is no failure.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from tests.conformance import programs

NAMES = ("differential", "hostile", "faults", "nonce", "cancels", "mayhem", "model", "mutants", "fuzz")
PACKAGE = "tests.conformance"

_TAIL = 40


@dataclass(frozen=True)
class Section:
    """What became of one part; `code` is None for what does not exist."""

    name: str
    code: int | None
    last_line: str = ""
    tail: Sequence[str] = ()

    @property
    def failed(self) -> bool:
        return bool(self.code)

    def line(self) -> str:
        """The part's line below the table."""
        if self.code is None:
            return f"{self.name:12}  not there yet"
        verdict = "pass" if self.code == 0 else f"FAIL (exit code {self.code})"
        return f"{self.name:12}  {verdict}  {self.last_line}".rstrip()


def program(name: str, package: str = PACKAGE) -> str | None:
    """The module to run; None when there is none."""
    module = f"{package}.{name}"
    spec = find_spec(module)
    if spec is None:
        return None
    if spec.submodule_search_locations is not None and find_spec(f"{module}.__main__") is None:
        return None
    return module


def run(name: str, package: str = PACKAGE) -> Section:
    """Runs one part to its end, however long it takes."""
    module = program(name, package)
    if module is None:
        return Section(name, None)
    done = programs.run([sys.executable, "-m", module])
    lines = [line.rstrip() for line in done.said.splitlines() if line.strip()][-_TAIL:]
    return Section(name, done.code, lines[-1] if lines else "says nothing", lines)

"""Calls, writes and instructions per transaction beside those of counts.json.

`python -m tests.bench.counts` prints them, `--write` keeps them; that takes a minute, for the compiled build
has to be made. Tests compare them: what got worse fails, and so does what got much better, until it is kept.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench import instructions, micro
from tests.support import compiled

KEPT: Final = Path(__file__).with_name("counts.json")
INTERPRETED, COMPILED = "instructions, interpreted", "instructions, compiled"
# Instructions differ a little with the length of a path; calls and writes do not differ.
_BLUR: Final = 0.005
_MUCH_BETTER: Final = 0.03

_ADVICE: Final = (
    "Calls by name:  .venv/bin/python -m tests.bench.micro --calls",
    "If it is meant or for the better, keep the new numbers:  .venv/bin/python -m tests.bench.counts --write",
)

Numbers = Mapping[str, float]
"""By the name of the transaction."""


@dataclass(frozen=True, slots=True)
class Change:
    """One number that is no longer what was kept; None where there was none."""

    kind: str
    transaction: str
    before: float | None
    now: float

    @property
    def worse(self) -> bool:
        return self.before is not None and self.now > self.before

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.kind:26} {self.transaction:14} {'-':>12} {self.now:12,.0f}  new"
        share = self.now / self.before - 1
        return (
            f"{self.kind:26} {self.transaction:14} {self.before:12,.0f} {self.now:12,.0f} {share:+7.1%}"
            f"  {'worse' if self.worse else 'better'}"
        )


def changes(kind: str, before: Numbers, now: Numbers, blur: float = 0.0) -> list[Change]:
    """What got worse at all, beyond the blur, or much better, or is new."""
    found = []
    for transaction, number in now.items():
        kept = before.get(transaction)
        if kept is None or number > kept * (1 + blur) or number < kept * (1 - _MUCH_BETTER):
            found.append(Change(kind, transaction, kept, number))
    return found


def table(found: Sequence[Change]) -> str:
    """For whoever reads why the test failed; empty without changes."""
    if not found:
        return ""
    heading = f"{'per transaction':26} {'':14} {'before':>12} {'now':>12}"
    return "\n".join(["", heading, *map(str, found), *_ADVICE])


def calls_and_writes() -> dict[str, Numbers]:
    """Exact, and the same on every machine."""
    counted = {exchange.name: micro.counts(exchange) for exchange in micro.exchanges()}
    return {
        "calls": {name: one.calls.total() for name, one in counted.items()},
        "writes": {name: one.writes for name, one in counted.items()},
    }


def kept(kind: str) -> Numbers:
    """What counts.json has."""
    numbers: Numbers = json.loads(KEPT.read_text())["numbers"].get(kind, {})
    return numbers


def compared_calls() -> list[Change]:
    """Calls and writes of the sources as they are. Raises CannotCount where another Python counted."""
    by = json.loads(KEPT.read_text())["python"]
    if by != _python():
        raise instructions.CannotCount(f"calls were counted with Python {by}")
    counted = calls_and_writes()
    return [change for kind, now in counted.items() for change in changes(kind, kept(kind), now)]


def compared_instructions(kind: str, folder: Path) -> list[Change]:
    """Instructions of the build in `folder`. Raises CannotCount, also where others counted those kept."""
    by = json.loads(KEPT.read_text())["instructions"]
    if by != instructions.counted_by():
        raise instructions.CannotCount(f"instructions were counted with {by}")
    return changes(kind, kept(kind), instructions.count(folder), _BLUR)


def main(arguments: Sequence[str] | None = None) -> int:
    """Count everything that can be counted here."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.counts", description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep them in counts.json")
    options = parser.parse_args(arguments)
    now: dict[str, Numbers] = dict(calls_and_writes())
    try:
        now[INTERPRETED] = _rounded(instructions.count(compiled.ROOT))
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            wheel = compiled.kept_wheel()
            now[COMPILED] = _rounded(instructions.count(compiled.beside_tests(wheel, Path(folder))))
    except (instructions.CannotCount, compiled.CannotCompile) as reason:
        print(f"not everything was counted: {reason}", file=sys.stderr)
        if options.write:
            return 1
    about = {"python": _python(), "instructions": instructions.counted_by()}
    text = json.dumps({**about, "numbers": now}, indent=1)
    print(text)
    if options.write:
        KEPT.write_text(text + "\n")
    return 0


def _python() -> str:
    """Versions of Python differ in what is a call."""
    return ".".join(platform.python_version_tuple()[:2])


def _rounded(numbers: Numbers) -> dict[str, int]:
    return {exchange.name: round(numbers[exchange.name]) for exchange in micro.exchanges()}


if __name__ == "__main__":
    sys.exit(main())

"""The long form: `python -m tests.conformance.fuzz [--seconds S] [--runs N] [--seed N] [--only TEXT]`.

Exits with 1 where a target breaks a promise; the input that did it is printed, and stays in `--found`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.fuzz.run import Outcome, available, fuzz, names


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if not available():
        print("atheris is not built for this machine: nothing was fuzzed", file=sys.stderr)
        return 2
    chosen = [name for name in names() if options.only in name]
    options.found.mkdir(parents=True, exist_ok=True)
    print(f"{'target':<40} {'inputs':>12} {'coverage':>9}  verdict")
    failed = 0
    for name in chosen:
        outcome = fuzz(name, options.found, runs=options.runs, seconds=options.seconds, seed=options.seed)
        print(line(outcome), flush=True)
        failed += not outcome.good
    return 1 if failed or not chosen else 0


def line(outcome: Outcome) -> str:
    """A row of the table, and beneath it what was found."""
    row = f"{outcome.name:<40} {outcome.inputs:>12,} {outcome.coverage:>9}  "
    if outcome.good:
        return row + "ok"
    return f"{row}FAILED\n{outcome.report}\n    input: {outcome.input!r}"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.conformance.fuzz", description=__doc__)
    made.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    made.add_argument(
        "--runs", type=int, default=-1, help="inputs for each target (as many as there is time for)"
    )
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--only", default="", help="targets with this text in their names")
    made.add_argument(
        "--found", type=Path, default=Path(".hypothesis/fuzz"), help="folder for inputs that fail"
    )
    return made


if __name__ == "__main__":
    sys.exit(main())

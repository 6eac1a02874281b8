"""The long form: `python -m tests.conformance.model [--steps N] [--seed S] [--only postgresql|howdah]`.

Exits with 1 at the first reply that the model did not predict. PostgreSQL comes first: it proves the model.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from tests.conformance.model.author import Author
from tests.conformance.model.play import Difference, Play
from tests.conformance.model.stage import at_howdah, at_postgresql
from tests.support.choose_postgres import Chooser

STAGES = {"postgresql": at_postgresql, "howdah": at_howdah}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    with Chooser(None).choose()() as postgres:
        for name in STAGES if options.only is None else (options.only,):
            with STAGES[name](postgres) as play:
                started = time.monotonic()
                try:
                    play.run(Author(options.seed).steps(options.steps))
                except Difference as difference:
                    print(f"seed {options.seed}: {difference}")
                    return 1
                seconds = time.monotonic() - started
                print(
                    f"{name}: {options.steps:,} steps of seed {options.seed} as predicted, in {seconds:.0f} s"
                )
                print(counted(play), flush=True)
    return 0


def counted(play: Play) -> str:
    """What there was in the run."""
    return "\n".join(f"    {what:<24} {many:>9,}" for what, many in sorted(play.counted.items()))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.conformance.model", description=__doc__)
    made.add_argument("--steps", type=int, default=100_000)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--only", choices=STAGES)
    return made


if __name__ == "__main__":
    sys.exit(main())

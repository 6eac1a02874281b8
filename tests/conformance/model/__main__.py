"""The long form: `python -m tests.conformance.model [--steps N] [--seed S] [--only postgresql|howdah]`.

Exits with 1 at the first reply that the model did not predict, and prints the few steps that lead there.
PostgreSQL comes first: it proves the model.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence

from tests.conformance.model.author import Author, Step
from tests.conformance.model.play import Difference, Play
from tests.conformance.model.shrink import shrunk
from tests.conformance.model.stage import at_howdah, at_postgresql
from tests.support.choose_postgres import Chooser
from tests.support.postgres import PostgresServer

STAGES = {"postgresql": at_postgresql, "howdah": at_howdah}
SHRINK_SECONDS = 300


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    with Chooser(None).choose()() as postgres:
        for name in STAGES if options.only is None else (options.only,):
            difference = played(postgres, name, Author(options.seed).steps(options.steps), told=True)
            if difference is not None:
                print(f"seed {options.seed}: {difference}", flush=True)
                steps = Author(options.seed).steps(difference.number + 1)
                shrink(postgres, name, list(steps))
                return 1
    return 0


def played(
    postgres: PostgresServer, name: str, steps: Iterable[Step], *, told: bool = False
) -> Difference | None:
    """Plays the steps from the beginning; the first reply that was not predicted."""
    with STAGES[name](postgres) as play:
        started = time.monotonic()
        try:
            play.run(steps)
        except Difference as difference:
            return difference
        if told:
            print(
                f"{name}: all as predicted, in {time.monotonic() - started:.0f} s\n{counted(play)}",
                flush=True,
            )
    return None


def shrink(postgres: PostgresServer, name: str, steps: Sequence[Step]) -> None:
    """Prints the few steps that lead to the difference."""

    def differs(tried: Sequence[Step]) -> bool:
        difference = played(postgres, name, tried)
        return difference is not None and difference.number == len(tried) - 1

    print(f"looking for the steps that matter, for {SHRINK_SECONDS} s at most", flush=True)
    few = shrunk(steps, differs, SHRINK_SECONDS)
    print("\n".join(f"    {step}" for step in few))
    print(played(postgres, name, few))


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

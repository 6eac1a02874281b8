"""The long form: `python -m tests.conformance.differential [--seeds N] [--first S] [--mode M] [--loop L]`.

Exits with 1 at any difference, which it shrinks and prints, and where the run had too little in it.
"""

import argparse
import sys
from collections.abc import Sequence

import uvloop

from tests.conformance.differential import report
from tests.conformance.differential.coverage import Coverage
from tests.conformance.differential.run import Run
from tests.conformance.differential.shrink import shrunk
from tests.conformance.differential.stage import Stage, raised

SEEDS = 20_000
_REPORT_EVERY = 2_000


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    with raised(options.mode, options.loop, itself=options.itself) as stage:
        return uvloop.run(compared(stage, options))


async def compared(stage: Stage, options: argparse.Namespace) -> int:
    """Play, shrink what differs, print; the exit code."""
    run = Run(stage, Coverage(stage.mode), most=options.differences)

    def progress(played: int) -> None:
        if played % _REPORT_EVERY == 0:
            print(f"{played} of {options.seeds} played", flush=True)

    await run.seeds(options.first, options.seeds, progress)
    print("\n".join(run.coverage.lines()))
    print(f"{run.played / run.seconds:.0f} pipelines per second, {run.seconds:.0f} s; mode {stage.mode}")
    for kind, alike in report.by_kind(run.differences).items():
        print("\n".join(["", f"=== {len(alike)} times {kind}", *report.lines(alike[0])]))
        if not options.no_shrink:
            smaller = await shrunk(stage, alike[0])
            print("\n".join(["", "shrunk:", *report.lines(smaller)]), flush=True)
    if run.broken is not None:
        print(f"\nthe run is broken: {run.broken}")
        return 2
    missing = run.coverage.missing()
    for what in missing:
        print(f"coverage: {what}", file=sys.stderr)
    print(f"{len(run.differences)} differences in {run.played} pipelines")
    return 1 if run.differences or missing else 0


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.differential", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many pipelines (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (%(default)s)")
    parser.add_argument("--mode", choices=("transaction", "session", "statement"), default="transaction")
    parser.add_argument(
        "--loop", choices=("uvloop", "asyncio"), default="uvloop", help="what turns the pooler"
    )
    parser.add_argument("--itself", action="store_true", help="compare PostgreSQL with itself")
    parser.add_argument("--differences", type=int, default=1, help="stop after so many (%(default)s)")
    parser.add_argument("--no-shrink", action="store_true", help="print differences as they were found")
    return parser


if __name__ == "__main__":
    sys.exit(main())

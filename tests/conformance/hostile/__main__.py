"""`python -m tests.conformance.hostile`: every case and so many seeds; exit code 1 if anything was wrong."""

import argparse
import sys

from tests.conformance.hostile.campaign import campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.hostile", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many mutations (default 500)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--no-cases", action="store_true", help="only seeds")
    parser.add_argument(
        "--loop", choices=("uvloop", "asyncio"), default="uvloop", help="what turns the pooler"
    )
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    outcome = campaign(seeds, cases=not options.no_cases, settings={"event_loop": options.loop})
    print(outcome.report())
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())

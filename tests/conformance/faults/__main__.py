"""`python -m tests.conformance.faults`: exit code 1 if anything was wrong."""

import argparse
import sys

from tests.conformance.faults.campaign import campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.faults", description=__doc__)
    parser.add_argument("--step", type=int, default=11, help="cut at every STEP-th byte (default 11)")
    parser.add_argument(
        "--loop", choices=("uvloop", "asyncio"), default="uvloop", help="what turns the pooler"
    )
    options = parser.parse_args()
    outcome = campaign(options.step, {"event_loop": options.loop})
    print(outcome.report())
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())

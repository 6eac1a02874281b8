"""`python -m tests.conformance.mutants`: all faults, each in a copy of its own, and what finds it out."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future

from tests.conformance.mutants.fault import Fault, Lost
from tests.conformance.mutants.table import FAULTS
from tests.conformance.mutants.trial import Trial, trials

_TAIL = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Tries them, prints a line for each, and counts."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="only faults whose names contain one of these")
    words = parser.parse_args(arguments).words
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    began = time.monotonic()
    with trials(chosen) as begun:
        found = sum(told(fault, trial) for fault, trial in begun.of.items())
        sound = begun.unchanged.result()
    if not sound.passed:
        print("the unchanged product does not pass:", *sound.said.splitlines()[-_TAIL:], sep="\n")
    print(f"{found} of {len(chosen)} faults found out in {time.monotonic() - began:.0f} s", end="; ")
    print(f"without a fault {'all tests pass' if sound.passed else 'a test FAILS'}", flush=True)
    return 0 if sound.passed and found == len(chosen) else 1


def told(fault: Fault, trial: "Future[Trial]") -> bool:
    """Prints the line of a fault; whether it was found out."""
    try:
        done = trial.result()
    except Lost as error:
        print(f"LOST     {error}", flush=True)
        return False
    found = done.found_by
    print(f"found    {fault!s}: by {found}" if found else f"MISSED   {fault!s}: by {fault.found_by.tests}")
    sys.stdout.flush()
    if not found:
        print(*done.said.splitlines()[-_TAIL:], sep="\n", flush=True)
    return bool(found)


if __name__ == "__main__":
    # Whoever starts us in the background may ignore SIGINT, and what is started here would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())

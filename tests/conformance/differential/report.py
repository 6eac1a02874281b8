"""Prints a difference: the seed, the script, and both streams in trace form."""

from tests.conformance.differential.play import Difference, first_that_differs
from tests.conformance.differential.script import trace_replies

_AROUND = 12
"""Equal replies shown before the first that differs."""


def lines(difference: Difference) -> list[str]:
    """Seed, script and both streams."""
    expected, got = difference.expected, difference.got
    same = first_that_differs(expected, got)
    first = max(0, same - _AROUND)
    skipped = [f"... {first} equal replies"] if first else []
    return [
        f"seed {difference.script.seed}: {difference.what} ({same} were the same)",
        "--- the script",
        *difference.script.lines(),
        "--- PostgreSQL",
        *skipped,
        *marked(trace_replies(expected[first : same + _AROUND]), same - first),
        "--- through the pooler",
        *skipped,
        *marked(trace_replies(got[first:]), same - first),
    ]


def marked(trace: list[str], at: int) -> list[str]:
    """With an arrow at the first line that differs."""
    return [f"{'>' if number == at else ' '} {line}" for number, line in enumerate(trace)]

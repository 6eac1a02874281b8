"""Prints a difference: the seed, the script, and both streams in trace form."""

from collections.abc import Iterable

from tests.conformance.differential.compare import Difference
from tests.conformance.differential.script import trace_replies

_AROUND = 12
"""Equal replies shown before the first that differs."""


def lines(difference: Difference) -> list[str]:
    """Seed, script and both streams."""
    expected, got, same = difference.expected, difference.got, difference.at
    first = max(0, same - _AROUND)
    skipped = [f"... {first} equal replies"] if first else []
    return [
        f"seed {difference.script.seed}: {difference.what} ({same} were the same)",
        "--- the script",
        *difference.script.lines(difference.sent),
        "--- PostgreSQL",
        *skipped,
        *marked(trace_replies(expected[first : same + _AROUND]), same - first),
        "--- through the pooler",
        *skipped,
        *marked(trace_replies(got[first:]), same - first),
    ]


def by_kind(differences: Iterable[Difference]) -> dict[str, list[Difference]]:
    """Differences that may well have one cause, together; those with fewest messages first."""
    kinds: dict[str, list[Difference]] = {}
    for difference in sorted(differences, key=lambda each: len(each.script.steps)):
        kinds.setdefault(difference.kind, []).append(difference)
    return kinds


def marked(trace: list[str], at: int) -> list[str]:
    """With an arrow at the first line that differs."""
    return [f"{'>' if number == at else ' '} {line}" for number, line in enumerate(trace)]

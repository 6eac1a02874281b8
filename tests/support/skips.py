"""Which skipped tests are expected.

Law: a skip that nobody expected is a failure, since a test that silently stops running protects nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

EXPECTED = Path(__file__).parent.parent / "expected_skips.txt"


@dataclass(frozen=True)
class Skip:
    """One skipped test: pytest's node id and the reason it gave."""

    test: str
    reason: str

    def __str__(self) -> str:
        return f"{self.test} | {self.reason}"


def unexpected(skips: Iterable[Skip], expected: str) -> list[Skip]:
    """The skips that no line of `expected` covers.

    A line is `node id | reason`, where `*` stands for any text; empty lines and those starting with `#` count
    for nothing. Raises ValueError for a line without a reason.
    """
    patterns = [_pattern(line) for line in expected.splitlines() if line.strip() and not line.startswith("#")]
    return [skip for skip in skips if not any(pattern.fullmatch(str(skip)) for pattern in patterns)]


def _pattern(line: str) -> re.Pattern[str]:
    test, bar, reason = (part.strip() for part in line.partition(" | "))
    if not (test and bar and reason):
        raise ValueError(f"expected_skips.txt: `{line}` is not `node id | reason`")
    return re.compile(".*".join(re.escape(part) for part in f"{test} | {reason}".split("*")), re.DOTALL)

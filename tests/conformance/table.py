"""The table of the cases: one line for each, one column for each target, and the verdict.

Law: Howdah has to pass whatever PostgreSQL does not fail itself; what is missing
or was not tried is not passed. A case that PostgreSQL fails is a wrong case.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.outcomes import Outcome, Result, Results

LIST = Path(__file__).parents[1] / "bad_input.md"
CASE = r"O\d\d"

_UNTRIED = Result(Outcome.UNTRIED, ("no test of it has run",))


@dataclass(frozen=True)
class Column:
    """The results at one target; `judged` where they decide over the verdict."""

    title: str
    results: Results
    judged: bool = False
    reference: bool = False

    def of(self, case: str) -> Result:
        return self.results.get(case, _UNTRIED)


def listed(text: str) -> dict[str, str]:
    """Number and input of every case of the list."""
    return dict(re.findall(rf"^\| ({CASE}) \| (.+?) \|", text, re.MULTILINE))


def table(cases: dict[str, str], columns: Sequence[Column]) -> str:
    """Case by case, and how many each target passes of those that concern it."""
    words = max(len(text) for text in [*cases.values(), "input"])
    widths = [max(len(column.title), 9) for column in columns]

    def line(case: str, text: str, cells: Sequence[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        return "  ".join([case.ljust(4), text.ljust(words), *padded]).rstrip()

    lines = [line("case", "input", [column.title for column in columns])]
    lines += [
        line(case, text, [column.of(case).outcome for column in columns]) for case, text in cases.items()
    ]
    lines.append(line("", "passed", [_count(cases, column) for column in columns]))
    return "\n".join(lines)


def _count(cases: dict[str, str], column: Column) -> str:
    outcomes = [column.of(case).outcome for case in cases]
    return f"{outcomes.count(Outcome.PASS)} of {sum(outcome is not Outcome.NO_SENSE for outcome in outcomes)}"


def notes(cases: dict[str, str], columns: Sequence[Column]) -> list[str]:
    """Why others than Howdah do not pass."""
    return [
        f"{case}  {column.title}: {_reasons(column.of(case))}"
        for case in cases
        for column in columns
        if not column.judged and column.of(case).outcome not in (Outcome.PASS, Outcome.NO_SENSE)
    ]


def shortfalls(cases: dict[str, str], columns: Sequence[Column]) -> list[str]:
    """The findings that make the verdict a failure, and why."""
    found = []
    for case in cases:
        reference = [column.of(case).outcome for column in columns if column.reference]
        if Outcome.FAIL in reference:
            found.append(f"{case}  PostgreSQL itself fails it, so the case is wrong")
            continue
        for column in columns:
            outcome = column.of(case).outcome
            if column.judged and outcome is not Outcome.PASS:
                found.append(f"{case}  {column.title} {_WORDS[outcome]}: {_reasons(column.of(case))}")
    return found


def _reasons(result: Result) -> str:
    return "; ".join(result.reasons) or "no reason given"


_WORDS = {
    Outcome.FAIL: "fails it",
    Outcome.MISSING: "lacks what it asks for",
    Outcome.UNTRIED: "was not put to it",
    Outcome.NO_SENSE: "says it makes no sense",
}

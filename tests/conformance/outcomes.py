"""What became of each case in one run of pytest, collected by a plugin of its own.

Law: a case passes when every test that names it has passed, its oracle included;
what was not tried is not taken for passed. As a plugin it needs
`-p tests.conformance.outcomes --outcomes FILE` and adds `--case`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest

from tests.conformance.marks import MISSING, NO_SENSE


class Outcome(StrEnum):
    """What the table prints; of the outcomes of several tests the first in this order counts."""

    FAIL = "FAIL"
    MISSING = "missing"
    UNTRIED = "untried"
    PASS = "pass"
    NO_SENSE = "-"


@dataclass(frozen=True)
class Result:
    """What became of a case at one target, and why."""

    outcome: Outcome
    reasons: Sequence[str] = ()


Results = Mapping[str, Result]


def judge(report: pytest.TestReport) -> Result | None:
    """What one phase of one test says of its cases; None where it says nothing yet."""
    expected = getattr(report, "wasxfail", None)
    if report.failed:
        return Result(Outcome.FAIL, (f"{report.nodeid.rpartition('::')[2]}: {_last_line(report)}",))
    if report.skipped and expected is not None:
        lacks = expected.startswith(MISSING)
        return Result(Outcome.MISSING if lacks else Outcome.FAIL, (expected,))
    if report.skipped:
        reason = _skip_reason(report)
        if reason.startswith(NO_SENSE):
            return Result(Outcome.NO_SENSE, (reason,))
        return Result(Outcome.UNTRIED, (reason,))
    return Result(Outcome.PASS) if report.when == "call" else None


def _last_line(report: pytest.TestReport) -> str:
    """The error itself, without the way to it."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash is not None else report.longrepr)
    return (text.strip().splitlines() or ["no reason given"])[0][:200]


def _skip_reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def merged(results: Iterable[Result]) -> Result:
    """Of several tests, or phases of one, the worst; its reasons, each once."""
    found = list(results)
    order = list(Outcome)
    worst = min((result.outcome for result in found), key=order.index)
    reasons = [reason for result in found if result.outcome is worst for reason in result.reasons]
    return Result(worst, tuple(dict.fromkeys(reasons)))


def cases_of(item: pytest.Item) -> list[str]:
    """The numbers in its marks."""
    return [str(number) for mark in item.iter_markers("case") for number in mark.args]


@dataclass
class Collector:
    """The plugin: keeps what every phase said, and writes it down at the end."""

    path: Path
    cases: dict[str, list[str]] = field(default_factory=dict)
    seen: dict[str, list[Result]] = field(default_factory=dict)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.cases = {item.nodeid: cases_of(item) for item in session.items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        result = judge(report)
        if result is not None:
            for case in self.cases[report.nodeid]:
                self.seen.setdefault(case, []).append(result)

    def results(self) -> dict[str, Result]:
        """By case, also of those whose tests ended without a word."""
        named = {case for cases in self.cases.values() for case in cases}
        silent = Result(Outcome.UNTRIED, ("the run ended before it",))
        return {case: merged(self.seen.get(case, [silent])) for case in sorted(named)}

    def pytest_sessionfinish(self) -> None:
        self.path.write_text(json.dumps({case: asdict(result) for case, result in self.results().items()}))


def read(path: Path) -> Results:
    """What a run has written; nothing of one that did not come to its end."""
    if not path.exists() or not path.stat().st_size:
        return {}
    found = json.loads(path.read_text())
    return {case: Result(Outcome(one["outcome"]), tuple(one["reasons"])) for case, one in found.items()}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--outcomes", type=Path, metavar="FILE", help="where to write what became of each case")
    group.addoption("--case", action="append", default=[], metavar="Onn", help="only this case; repeatable")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--outcomes")
    if path is not None:
        config.pluginmanager.register(Collector(path), "case-outcomes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(config.getoption("--case"))
    if wanted:
        others = [item for item in items if not wanted & {*cases_of(item)}]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if wanted & {*cases_of(item)}]

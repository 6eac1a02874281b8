"""The targets of the table, and one run of all cases against each.

Law: a target is chosen by the environment alone, so that
`HOWDAH_TEST_POOLER=pgbouncer pytest tests/conformance/cases` is the same run.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proxy.demo.binaries import NoPostgres, find
from tests.conformance import direct, programs
from tests.conformance.outcomes import Results, read
from tests.conformance.table import Column
from tests.support.pooler import PgBouncer

CASES = Path("tests") / "conformance" / "cases"
_CASE_SECONDS = 90
_RUN_SECONDS = 1800.0


@dataclass(frozen=True)
class Played:
    """One run: what became of the cases, and all that pytest said."""

    results: Results
    said: str


@dataclass(frozen=True)
class Target:
    """Something to put the cases to; `version` returns None where it is not installed."""

    name: str
    title: str
    environment: Mapping[str, str]
    version: Callable[[], str | None] = field(default=lambda: "")
    judged: bool = False
    reference: bool = False

    def column(self, results: Results) -> Column:
        title = f"{self.title} {self.version() or ''}".strip()
        return Column(title, results, self.judged, self.reference)

    def play(self, cases: Sequence[str] = (), *, folder: Path = CASES) -> Played:
        """Runs pytest to its end."""
        with tempfile.TemporaryDirectory(prefix="howdah-cases-") as place:
            path = Path(place) / "outcomes.json"
            done = programs.run(command(path, cases, folder), self.environment, within=_RUN_SECONDS)
            return Played(read(path), done.said)


def command(path: Path, cases: Sequence[str], folder: Path) -> list[str]:
    """pytest with our plugin, writing to that path."""
    chosen = [word for case in cases for word in ("--case", case)]
    plugins = ["-p", "no:cacheprovider", "-p", "tests.conformance.outcomes"]
    quiet = ["-q", "--tb=short", f"--timeout={_CASE_SECONDS}"]
    return [sys.executable, "-m", "pytest", *plugins, *quiet, "--outcomes", str(path), *chosen, str(folder)]


def postgresql_version() -> str | None:
    """Of what the tests start unless they are told otherwise."""
    if os.environ.get("HOWDAH_TEST_PG"):
        return ""
    try:
        return str(find().version)
    except NoPostgres:
        return ""


def pgbouncer_version() -> str | None:
    program = PgBouncer.find()
    if program is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"PgBouncer (\S+)", said.stdout)
    return found[1] if found else ""


def _howdah(loop: str) -> Target:
    environment = {"HOWDAH_TEST_POOLER": "howdah", "HOWDAH_TEST_EVENT_LOOP": loop}
    return Target(f"howdah-{loop}", f"Howdah ({loop})", environment, judged=True)


TARGETS = (
    Target(
        "postgresql", "PostgreSQL", {"HOWDAH_TEST_POOLER": direct.KIND}, postgresql_version, reference=True
    ),
    Target("pgbouncer", "PgBouncer", {"HOWDAH_TEST_POOLER": "pgbouncer"}, pgbouncer_version),
    _howdah("uvloop"),
    _howdah("asyncio"),
)

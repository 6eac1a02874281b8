"""Puts tests of the short form to a copy of the product.

Law: a fault is found out only by a test that fails while it runs; what cannot be imported, collected or
started proves nothing.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from tests.conformance import programs
from tests.conformance.mutants.copies import copied
from tests.conformance.mutants.fault import Fault, Selection
from tests.support.choose_postgres import VARIABLE, Chooser

_WIDTH = 2
"""Trials at the same time: much of one is waiting for what never comes."""
_WITHIN = 240.0
_TEST_SECONDS = 60
_PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout")
"""All others are left out: to import them takes as long as the rest of a trial."""
_FAILED = re.compile(r"^FAILED (.+?)(?: - .*)?$", re.MULTILINE)
_PASSED, _SOME_FAILED = 0, 1


@dataclass(frozen=True)
class Trial:
    """pytest's exit code, and what it said."""

    code: int
    said: str

    @property
    def passed(self) -> bool:
        return self.code == _PASSED

    @property
    def found_by(self) -> str:
        """The test that has failed; empty if none has."""
        found = _FAILED.search(self.said) if self.code == _SOME_FAILED else None
        return found[1].partition("tests/conformance/")[2] if found is not None else ""


def tried(fault: Fault, dsn: str) -> Trial:
    """What becomes of the selection of this fault. Raises Lost."""
    with copied(fault) as folder:
        return run(folder, fault.found_by, dsn)


def unchanged(selections: Iterable[Selection], dsn: str) -> Trial:
    """What becomes of them all without a fault: the first run that does not pass, else the last."""
    by_keyword: dict[str, list[str]] = {}
    for selection in dict.fromkeys(selections):
        by_keyword.setdefault(selection.keyword, []).append(selection.tests)
    trial = Trial(_PASSED, "")
    with copied() as folder:
        for keyword, tests in by_keyword.items():
            trial = run(folder, Selection(" ".join(tests), keyword), dsn)
            if not trial.passed:
                break
    return trial


def run(folder: Path, selection: Selection, dsn: str) -> Trial:
    """The tests of the folder, against the product beside them and this PostgreSQL."""
    tests = [str(folder / test) for test in selection.tests.split()]
    # With -P the folder that we are in is not searched, which holds the original.
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-x",
        "-q",
        "-rf",
        "--tb=short",
        "-p",
        "no:cacheprovider",
    ]
    command += ["--tb=short", "--show-capture=no"]
    command += [word for plugin in _PLUGINS for word in ("-p", plugin)]
    command += [f"--timeout={_TEST_SECONDS}", f"--rootdir={folder}", "-k", selection.keyword, *tests]
    environment = {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        VARIABLE: dsn,
    }
    done = programs.run(command, environment, within=_WITHIN)
    return Trial(done.code, done.said)


@dataclass(frozen=True)
class Trials:
    """Those of some faults, and that of the unchanged product, to be waited for."""

    of: dict[Fault, "Future[Trial]"]
    unchanged: "Future[Trial]"


@contextmanager
def servers() -> Iterator[Sequence[str]]:
    """A PostgreSQL for each of the trials at a time, which look at all that goes on there; one that is given
    is had to itself by one trial after the other. Raises Unavailable.
    """
    start = Chooser(os.environ.get(VARIABLE)).choose()
    with ExitStack() as stack:
        found = [stack.enter_context(start())]
        if found[0].cluster is not None:
            found += [stack.enter_context(start()) for _ in range(1, _WIDTH)]
        yield [postgres.dsn() for postgres in found]


@contextmanager
def trials(faults: Sequence[Fault]) -> Iterator[Trials]:
    """Begins them all; leaves out what has not begun when the block is left. Raises Unavailable."""
    with servers() as free, ThreadPoolExecutor(len(free)) as pool:
        idle: SimpleQueue[str] = SimpleQueue()
        for dsn in free:
            idle.put(dsn)

        def alone(trial: Callable[[str], Trial]) -> Trial:
            dsn = idle.get()
            try:
                return trial(dsn)
            finally:
                idle.put(dsn)

        sound = pool.submit(alone, partial(unchanged, [fault.found_by for fault in faults]))
        try:
            yield Trials({fault: pool.submit(alone, partial(tried, fault)) for fault in faults}, sound)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

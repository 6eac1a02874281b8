"""That the short form of the suite can fail: faults of one line, each in a copy of the product.

A part of them is tried here; `python -m tests.conformance.mutants` tries them all.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conformance.mutants.copies import FOLDERS, copied
from tests.conformance.mutants.fault import Fault, Lost
from tests.conformance.mutants.table import (
    FAULTS,
    PIPELINES,
)
from tests.conformance.mutants.trial import Trial, Trials, trials
from tests.support.choose_postgres import Unavailable
from tests.support.pooler import ROOT
from tests.support.standard import howdah_only

SHORT = {
    "released at the first ReadyForQuery",
    "a parameter is not aligned",
    "released with bytes in the buffer",
    "late COPY data is forwarded",
    "nothing is skipped behind an error",
    "a Sync during COPY is counted",
    "a known Parse is confirmed in a failed transaction",
    "statements are closed in the middle of a transaction",
    "lent while a cancel is under way",
    "a name is used twice",
}
"""One for each part of the product that a promise hangs on."""

SOURCE = """
class Here:
    def say(self):
        return "a"

    def tell(self):
        return "a" or "b"

def say():
    if "a":
        return "b"
"""


def fault(function: str, text: str = '"a"', instead: str = '"c"') -> Fault:
    return Fault("x", ("somewhere.py", function), text, instead, PIPELINES)


# --- the faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "line"), [("Here.say", 4), ("Here.tell", 7), ("say", 10)])
def test_a_fault_changes_one_line_of_its_function(function: str, line: int) -> None:
    changed = fault(function).applied(SOURCE).splitlines()
    before = SOURCE.splitlines()
    assert [at for at, text in enumerate(before, 1) if changed[at - 1] != text] == [line]
    assert changed[line - 1] == before[line - 1].replace('"a"', '"c"')


@pytest.mark.parametrize(
    ("lost", "why"),
    [
        (fault("Here.say", '"b"'), "is on 0 lines of Here.say"),
        (fault("Here"), "is on 2 lines of Here"),
        (fault("Here.shout"), "there is no Here.shout"),
        (fault("There.say"), "there is no There.say"),
        (fault("say", instead='"'), "no longer Python"),
        (fault("say", instead='"a"'), "changes nothing"),
        (fault("say", instead='"a":\n    if "c"'), "more than one line"),
    ],
    ids=["gone", "twice", "no function", "no class", "no Python", "no change", "two lines"],
)
def test_a_fault_that_has_lost_its_line_says_so(lost: Fault, why: str) -> None:
    with pytest.raises(Lost, match=rf"^x \(somewhere.py, {lost.function}\): .*{why}"):
        lost.applied(SOURCE)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_finds_its_line_in_the_product(fault: Fault) -> None:
    fault.applied((ROOT / fault.file).read_text())


def test_every_fault_has_a_name_of_its_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) >= 12
    assert set(names) >= SHORT


def test_a_copy_differs_from_the_product_by_its_fault_alone() -> None:
    with copied(FAULTS[0]) as folder:
        paths = [path for name in FOLDERS for path in (ROOT / name).rglob("*.py")]
        other = [
            path for path in paths if path.read_bytes() != (folder / path.relative_to(ROOT)).read_bytes()
        ]
        assert other == [ROOT / FAULTS[0].file]
        assert not list((folder / FAULTS[0].file).parent.glob("__pycache__/session_replies.*"))
    assert not folder.exists()


# --- the trials ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "1 passed"),
        (1, "ERROR a/test_b.py::test_c - StartFailed\n1 error"),
        (2, "FAILED tests/conformance/a/test_b.py::test_c\nInterrupted"),
        (4, "ERROR: not found: a/test_b.py::test_c"),
        (5, "no tests ran"),
    ],
)
def test_only_a_test_that_fails_finds_a_fault(code: int, said: str) -> None:
    assert Trial(code, said).found_by == ""
    failed = f"F\nFAILED tests/conformance/a/test_b.py::test_c[d e] - E - e\n{said}"
    assert Trial(1, failed).found_by == "a/test_b.py::test_c[d e]"


@pytest.fixture(scope="module")
def begun(request: pytest.FixtureRequest) -> Iterator[Trials]:
    """Those that tests of this run wait for, two at a time."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    chosen = {item.callspec.id for item in items if "mutant" in item.fixturenames}
    with ExitStack() as stack:
        try:
            begun = stack.enter_context(trials([fault for fault in FAULTS if fault.name in chosen]))
        except Unavailable as reason:
            pytest.skip(str(reason))
        yield begun


@howdah_only("it is Howdah's faults that are tried")
@pytest.mark.slow
@pytest.mark.parametrize("mutant", [fault for fault in FAULTS if fault.name in SHORT], ids=lambda f: f.name)
def test_a_fault_is_found_out(begun: Trials, mutant: Fault) -> None:
    trial = begun.of[mutant].result()
    assert trial.found_by, trial.said


@howdah_only("it is Howdah's faults that are tried")
@pytest.mark.slow
def test_without_a_fault_all_that_finds_them_passes(begun: Trials) -> None:
    trial = begun.unchanged.result()
    assert trial.passed, trial.said

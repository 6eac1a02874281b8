"""The plug-in in real runs of pytest: what each way to end makes of a case."""

from pathlib import Path

import pytest

from tests.conformance.outcomes import Outcome, Result, Results, merged, read
from tests.conformance.targets import Target

TARGET = Target("somewhere", "Somewhere", {})

HEAD = """
import pytest
from tests.conformance.marks import MISSING, NO_SENSE

@pytest.fixture
def breaks_down():
    yield
    raise AssertionError("the oracle says no")

@pytest.fixture
def never_comes_up():
    raise RuntimeError("cannot start")
"""

ENDS = {
    "passes": ("", "pass", Outcome.PASS),
    "fails": ("", "assert 1 == 2", Outcome.FAIL),
    "errs": ("", "raise RuntimeError('boom')", Outcome.FAIL),
    "passes_but_its_oracle_fails": ("@pytest.mark.usefixtures('breaks_down')", "pass", Outcome.FAIL),
    "never_begins": ("@pytest.mark.usefixtures('never_comes_up')", "pass", Outcome.FAIL),
    "makes_no_sense": ("@pytest.mark.skipif(True, reason=NO_SENSE + 'why')", "pass", Outcome.NO_SENSE),
    "lacks_a_program": ("", "pytest.skip('needs openssl')", Outcome.UNTRIED),
    "lacks_a_capability": (
        "@pytest.mark.xfail(True, reason=MISSING + 'TLS', strict=True)",
        "assert 1 == 2",
        Outcome.MISSING,
    ),
    "has_what_was_missing": (
        "@pytest.mark.xfail(True, reason=MISSING + 'TLS', strict=True)",
        "pass",
        Outcome.FAIL,
    ),
    "is_known_to_fail": ("@pytest.mark.xfail(True, reason='is slow')", "assert 1 == 2", Outcome.FAIL),
    "was_thought_to_fail": ("@pytest.mark.xfail(True, reason='is slow')", "pass", Outcome.PASS),
}


def played(folder: Path, text: str, *cases: str) -> Results:
    (folder / "test_cases.py").write_text(HEAD + text)
    run = TARGET.play(cases, folder=folder)
    assert run.results, run.said
    return run.results


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """One run with a case for each end, numbered in their order."""
    parts = [
        f"@pytest.mark.case('O{number:02}')\n{mark}\ndef test_{name}():\n    {body}\n"
        for number, (name, (mark, body, _)) in enumerate(ENDS.items(), 1)
    ]
    return played(tmp_path_factory.mktemp("cases"), "\n".join(parts))


@pytest.mark.parametrize(("number", "name"), [*enumerate(ENDS, 1)])
def test_every_end_of_a_test_has_its_outcome(ends: Results, number: int, name: str) -> None:
    assert ends[f"O{number:02}"].outcome is ENDS[name][2]


def test_the_reason_of_a_failure_names_the_test_and_the_error(ends: Results) -> None:
    assert ends["O02"].reasons == ("test_fails: assert 1 == 2",)
    assert ends["O04"].reasons == ("test_passes_but_its_oracle_fails: AssertionError: the oracle says no",)
    assert ends["O08"].reasons == ("missing: TLS",)


def test_a_case_passes_only_if_all_of_its_tests_do(tmp_path: Path) -> None:
    text = """
@pytest.mark.case("O01")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_one(number):
    assert number != 2

@pytest.mark.case("O01", "O02")
def test_two():
    pass
"""
    results = played(tmp_path, text)
    assert results["O01"].outcome is Outcome.FAIL
    assert len(results["O01"].reasons) == 1
    assert results["O02"].outcome is Outcome.PASS


def test_a_single_case_can_be_chosen(tmp_path: Path) -> None:
    text = """
@pytest.mark.case("O01")
def test_one():
    raise AssertionError

@pytest.mark.case("O02")
def test_two():
    pass
"""
    assert played(tmp_path, text, "O02") == {"O02": Result(Outcome.PASS, ())}


def test_cases_behind_the_end_of_the_run_are_untried(tmp_path: Path) -> None:
    text = """
@pytest.mark.case("O01")
def test_one():
    pytest.exit("enough")

@pytest.mark.case("O02")
def test_two():
    pass
"""
    assert played(tmp_path, text)["O02"].outcome is Outcome.UNTRIED


def test_a_run_that_dies_has_no_results(tmp_path: Path) -> None:
    (tmp_path / "test_cases.py").write_text("import os\nos._exit(3)\n")
    assert TARGET.play(folder=tmp_path).results == {}
    assert read(tmp_path / "nowhere") == {}


def test_what_pytest_says_is_kept(tmp_path: Path) -> None:
    (tmp_path / "test_cases.py").write_text("def test_one():\n    assert 'this' == 'that'\n")
    assert "'this' == 'that'" in TARGET.play(folder=tmp_path).said


def test_the_environment_chooses_the_target(tmp_path: Path) -> None:
    text = """
import os

@pytest.mark.case(os.environ["HOWDAH_TEST_POOLER"])
def test_one():
    pass
"""
    (tmp_path / "test_cases.py").write_text(HEAD + text)
    target = Target("x", "X", {"HOWDAH_TEST_POOLER": "postgresql"})
    assert list(target.play(folder=tmp_path).results) == ["postgresql"]


def test_of_several_outcomes_the_worst_counts_with_its_reasons() -> None:
    results = [
        Result(Outcome.NO_SENSE, ("a",)),
        Result(Outcome.PASS),
        Result(Outcome.UNTRIED, ("b",)),
        Result(Outcome.UNTRIED, ("b",)),
    ]
    assert merged(results[:1]).outcome is Outcome.NO_SENSE
    assert merged(results[:2]) == Result(Outcome.PASS)
    assert merged(results) == Result(Outcome.UNTRIED, ("b",))
    assert merged([*results, Result(Outcome.MISSING, ("c",))]).outcome is Outcome.MISSING

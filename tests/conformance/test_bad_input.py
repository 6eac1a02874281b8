"""Every case of tests/bad_input.md has its test, and no test claims a case that is not listed."""

import re
from pathlib import Path

from tests.conformance.table import CASE, LIST, listed

CASES = Path(__file__).parent / "cases"
ALL = {f"O{number:02}" for number in range(1, 61)}


def named_by_tests() -> set[str]:
    """The numbers in marks."""
    marks = (
        found
        for path in CASES.glob("test_*.py")
        for found in re.findall(r"^@pytest\.mark\.case\((.*)\)$", path.read_text(), re.MULTILINE)
    )
    return {case for mark in marks for case in re.findall(CASE, mark)}


def test_the_list_and_the_tests_name_the_same_cases() -> None:
    assert set(listed(LIST.read_text())) == named_by_tests() == ALL


def test_every_test_among_the_cases_names_one() -> None:
    for path in CASES.glob("test_*.py"):
        text = path.read_text()
        tests = re.findall(r"^def test_", text, re.MULTILINE)
        assert len(tests) == len(re.findall(r"^@pytest\.mark\.case\(", text, re.MULTILINE)), path.name

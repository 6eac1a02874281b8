"""Every case of tests/bad_input.md has its test, and no test claims a case that is not listed."""

import re
from pathlib import Path

HERE = Path(__file__).parent
LIST = HERE.parent / "bad_input.md"
CASE = r"O\d\d"


def listed() -> set[str]:
    return set(re.findall(rf"^\| ({CASE}) \|", LIST.read_text(), re.MULTILINE))


def named_by_tests() -> set[str]:
    """The numbers in brackets at the beginning of docstrings."""
    brackets = (
        found
        for path in HERE.glob("test_*.py")
        for found in re.findall(rf'"""\[((?:{CASE}(?:, )?)+)\]', path.read_text())
    )
    return {case for bracket in brackets for case in re.findall(CASE, bracket)}


def test_the_list_and_the_tests_name_the_same_cases() -> None:
    assert listed() == named_by_tests()
    assert len(listed()) > 50

"""The syntax of the ini file, by PgBouncer's rules."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.ini import Entry, IniFile


def read(path: Path, data: str | bytes) -> IniFile:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    ini = IniFile()
    ini.read(str(path))
    return ini


def pairs(ini: IniFile) -> list[tuple[str, str, str]]:
    return [(entry.section, entry.name, entry.value) for entry in ini.entries if entry.name is not None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.ini"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[s]\na = 1\n", [("s", "a", "1")]),
        ("[s]\n  a=1  \r\n", [("s", "a", "1")]),
        ("[s]\na =\n", [("s", "a", "")]),
        ("[s]\na = b = c ; no comment # either\n", [("s", "a", "b = c ; no comment # either")]),
        ("[s]\n; a = 1\n # b = 2\n\t\n", []),
        ("[s] a = 1\n", [("s", "a", "1")]),
        ("[s] ; comment\na = 1", [("s", "a", "1")]),
        ("[s][t]\na = 1", [("t", "a", "1")]),
        ("[s]\n* = host=x\n", [("s", "*", "host=x")]),
        ("[s]\na.b-c_d = 1\n", [("s", "a.b-c_d", "1")]),
        ('[s]\n"my ""db""" = 1\n', [("s", 'my "db"', "1")]),
        ("[s]\n'my ''db''' = 1\n", [("s", "my 'db'", "1")]),
        ("[s]\na = 1\n[t]\na = 2\n[s]\na = 3\n", [("s", "a", "1"), ("t", "a", "2"), ("s", "a", "3")]),
        ("\ufeff[s]\na = 1\n", [("s", "a", "1")]),
        ("[s]\na = ä\xa0\n", [("s", "a", "ä\xa0")]),
        ("[s]\n%includes = 1", None),
    ],
)
def test_syntax(file: Path, text: str, expected: list[tuple[str, str, str]] | None) -> None:
    ini = read(file, text)
    assert pairs(ini) == (expected or [])
    assert bool(ini.problems) == (expected is None)


def test_entries_know_their_file_and_line(file: Path) -> None:
    ini = read(file, "\n[s]\n\na = 1\n")
    assert ini.entries == [Entry(str(file), 2, "s"), Entry(str(file), 4, "s", "a", "1")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "expected name = value, found: nonsense"),
        ("= 1", "expected name = value"),
        ("a b = 1", "expected name = value, found: a ..."),
        ('"open = 1', "expected name = value"),
        ("[open", "expected name = value, found: [open"),
        ("%include", "expected name = value, found: %include"),
        ("a = \0", "contains a NUL character"),
    ],
)
def test_mistake_is_a_problem_and_reading_goes_on(file: Path, line: str, message: str) -> None:
    ini = read(file, f"[s]\n{line}\na = 1\n")
    (problem,) = ini.problems
    assert (problem.file, problem.line) == (str(file), 2)
    assert message in problem.message
    assert pairs(ini) == [("s", "a", "1")]


def test_broken_line_is_not_printed_in_full_because_it_may_hold_a_password(file: Path) -> None:
    ini = read(file, "[s]\nmy db = password=hunter2\nx:password=hunter2\n")
    assert len(ini.problems) == 2
    assert "hunter2" not in str(ini.problems)


def test_line_that_is_not_utf8_is_a_problem(file: Path) -> None:
    ini = read(file, b"[s]\na = \xff\nb = 1\n")
    assert [(problem.line, problem.message) for problem in ini.problems] == [(2, "is not UTF-8")]
    assert pairs(ini) == [("s", "b", "1")]


def test_value_before_any_section_is_a_problem(file: Path) -> None:
    ini = read(file, "a = 1\n[s]\n")
    assert [(problem.line, problem.key) for problem in ini.problems] == [(1, "a")]


def test_missing_file_is_a_problem(tmp_path: Path) -> None:
    ini = IniFile()
    ini.read(str(tmp_path / "none.ini"))
    assert [problem.message for problem in ini.problems] == ["cannot be read: No such file or directory"]


def test_include_reads_another_file_in_place_and_shares_the_section(file: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner.ini"
    inner.write_text("b = 2\n[t]\nc = 3\n")
    ini = read(file, f"[s]\na = 1\n%include {inner} \nd = 4\n")
    assert pairs(ini) == [("s", "a", "1"), ("s", "b", "2"), ("t", "c", "3"), ("t", "d", "4")]
    assert [entry.file for entry in ini.entries if entry.name == "c"] == [str(inner)]


def test_include_is_relative_to_the_working_directory_first(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "x.ini").write_text("a = working directory\n")
    (tmp_path / "x.ini").write_text("a = beside\n")
    monkeypatch.chdir(here)
    assert pairs(read(file, "[s]\n%include x.ini\n")) == [("s", "a", "working directory")]
    (here / "x.ini").unlink()
    assert pairs(read(file, "[s]\n%include x.ini\n")) == [("s", "a", "beside")]


def test_missing_include_is_a_problem_of_the_including_line(file: Path) -> None:
    (problem,) = read(file, "[s]\n%include none.ini\n").problems
    assert (problem.file, problem.line, problem.key) == (str(file), 2, "%include")
    assert problem.message == "none.ini: cannot be read: No such file or directory"


def test_file_that_includes_itself_ends(file: Path) -> None:
    ini = read(file, f"[s]\na = 1\n%include {file}\n")
    (problem,) = ini.problems
    assert problem.message == "more than 10 files deep"
    assert len(pairs(ini)) == 11


NAMES = st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), min_size=1)
LINES = st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"])).map(
    lambda text: text.strip(" \t\r\v\f")
)


@given(st.lists(st.tuples(NAMES, LINES)))
def test_quoted_names_and_values_of_any_content_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[str, str]]
) -> None:
    lines = ['"' + name.replace('"', '""') + f'" = {value}' for name, value in written]
    ini = read(tmp_path_factory.mktemp("ini") / "a.ini", "\n".join(["[s]", *lines]))
    assert ini.problems == []
    assert pairs(ini) == [("s", name, value) for name, value in written]


@given(st.binary(max_size=80))
def test_no_file_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    ini = read(tmp_path_factory.mktemp("ini") / "a.ini", data.replace(b"%include", b""))
    assert all(problem.line >= 1 for problem in ini.problems)

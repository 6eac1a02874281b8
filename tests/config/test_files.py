"""Files that the settings name are found and read."""

from pathlib import Path

import pytest

from config.files import find_beside, read_auth_file
from config.settings import Settings


def test_file_is_looked_for_in_the_working_directory_then_beside_the_naming_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    naming = str(there / "a.ini")
    assert find_beside("x", naming) == "x"
    (there / "x").touch()
    assert find_beside("x", naming) == str(there / "x")
    assert find_beside("x", None) == "x"
    (here / "x").touch()
    assert find_beside("x", naming) == "x"
    assert find_beside("/none", naming) == "/none"


def test_without_auth_file_nobody_is_known() -> None:
    assert read_auth_file(Settings()) == ({}, [])


def test_auth_file_is_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text('"u" "pw"\n"v"\n')
    settings = Settings(auth_file="users.txt", conffile=str(tmp_path / "a.ini"))
    credentials, problems = read_auth_file(settings)
    assert list(credentials) == ["u"]
    assert [(problem.file, problem.line) for problem in problems] == [(str(tmp_path / "users.txt"), 2)]


def test_auth_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    credentials, (problem,) = read_auth_file(Settings(auth_file=str(tmp_path)))
    assert credentials == {}
    assert (problem.file, problem.key, problem.message) == (
        str(tmp_path),
        "auth_file",
        "cannot be read: Is a directory",
    )

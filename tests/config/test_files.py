"""Files that the settings name are found and read."""

import re
from pathlib import Path
from typing import Any

import pytest

from config.files import find_beside, read_auth_file, read_rule_files
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


def rules_say(tmp_path: Path, rules: str, maps: str | None = None, **values: object) -> list[str]:
    (tmp_path / "hba").write_text(rules)
    (tmp_path / "ident").write_text(maps or "")
    ident = None if maps is None else "ident"
    settings = Settings.model_validate(
        {"auth_hba_file": "hba", "auth_ident_file": ident, "conffile": str(tmp_path / "a.ini"), **values}
    )
    _, _, problems = read_rule_files(settings)
    return [f"{problem.severity}: {problem.line}: {problem.message}" for problem in problems]


def test_without_files_there_are_no_rules() -> None:
    assert read_rule_files(Settings()) == ((), (), [])


def test_rules_and_maps_are_found_beside_the_configuration(tmp_path: Path) -> None:
    assert rules_say(tmp_path, "local all all peer map=m\n", "m joe alice\n") == []


@pytest.mark.parametrize("maps", [None, "other joe alice\n"])
def test_a_map_that_nobody_defines_is_a_mistake(tmp_path: Path, maps: str | None) -> None:
    expected = ['error: 2: there is no map "m" in auth_ident_file']
    assert rules_say(tmp_path, "\nlocal all all peer map=m\n", maps) == expected


@pytest.mark.parametrize(
    ("rule", "values", "message"),
    [
        ("hostssl all all all md5", {}, "is for nobody while client_tls_sslmode is disable"),
        (
            "hostssl all all all cert",
            {"client_tls_sslmode": "prefer"},
            "lets nobody in: without client_tls_ca_file no certificate can be verified",
        ),
        (
            "hostssl all all all md5 clientcert=verify-ca",
            {"client_tls_sslmode": "prefer"},
            "lets nobody in: without client_tls_ca_file no certificate can be verified",
        ),
    ],
)
def test_what_a_rule_lacks_is_pointed_out(
    tmp_path: Path, rule: str, values: dict[str, Any], message: str
) -> None:
    assert rules_say(tmp_path, rule, **values) == [f"warning: 1: {message}"]
    complete = {"client_tls_sslmode": "prefer", "client_tls_ca_file": "ca"}
    assert rules_say(tmp_path, rule, **complete) == []


def test_roles_need_somebody_who_asks_for_them(tmp_path: Path) -> None:
    rule = "local all +staff md5"
    warning = ["warning: 1: needs an auth_user who asks the server for roles"]
    assert rules_say(tmp_path, rule) == warning
    assert rules_say(tmp_path, rule, databases={"app": {"host": "h"}}) == warning
    assert rules_say(tmp_path, rule, auth_user="asker") == []
    assert rules_say(tmp_path, rule, databases={"app": {"auth_user": "asker"}}) == []


def test_the_example_of_the_readme_is_understood(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    rules, maps = (
        block.strip("`\n") for block in re.findall(r"```\n(?:# type|people).*?```", readme, re.DOTALL)
    )
    (tmp_path / "friends").write_text("carol\n")
    needed = {"client_tls_sslmode": "prefer", "client_tls_ca_file": "ca", "auth_user": "asker"}
    assert rules_say(tmp_path, rules, maps, **needed) == []
    assert len(rules.splitlines()) == 6

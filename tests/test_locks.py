"""The lock files name versions and hashes, and nothing about where packages come from."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-postgres.lock")
REQUIREMENT = re.compile(r"^([a-z0-9-]+)==(\S+)(?: ; .*?)? \\$")
COMMENT = re.compile(r"    # (?:via|  )[ a-z0-9.:()\[\]-]*")


def locked(name: str) -> dict[str, str]:
    """Package to version."""
    matches = (REQUIREMENT.match(line) for line in (ROOT / name).read_text().splitlines())
    return {match[1]: match[2] for match in matches if match}


def wanted(name: str) -> set[str]:
    """What pyproject.toml asks for directly."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    if "postgres" in name:
        return {re.split(r"[<>=]", each)[0] for each in project["dependency-groups"]["postgres"]}
    asked = list(project["project"]["dependencies"])
    if "dev" in name:
        groups = project["dependency-groups"]
        asked += [*project["project"]["optional-dependencies"]["demo"], *groups["test"], *groups["lint"]]
        asked += [each for each in groups["dev"] if isinstance(each, str)]
    return {re.split(r"[<>=!~\[; ]", each)[0] for each in asked}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_only_versions_and_hashes(name: str) -> None:
    for line in (ROOT / name).read_text().splitlines():
        known = REQUIREMENT.match(line) or re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?", line)
        assert known or COMMENT.fullmatch(line), line


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_everything_that_is_asked_for(name: str) -> None:
    assert wanted(name) - locked(name).keys() == set()


def test_development_uses_the_versions_that_are_released() -> None:
    runtime, development = (locked(name) for name in LOCKS[:2])
    assert runtime.items() <= development.items()

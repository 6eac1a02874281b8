"""The Makefile's promises on a fresh machine; nothing is installed here."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKE = shutil.which("make") or "make"


def make(folder: Path, *words: str, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    command = [MAKE, "--no-print-directory", *words]
    return subprocess.run(
        command, cwd=folder, env={"PATH": path}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "requirements-dev.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def pretend_python(folder: Path, script: str) -> str:
    (folder / "python").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "python").chmod(0o755)
    return str(folder / "python")


def test_help_names_every_target(checkout: Path) -> None:
    done = make(checkout)
    listed = re.findall(r"^make (\w+) ", done.stdout, re.MULTILINE)
    assert {"demo", "test", "lint", "bench", "build", "help"} <= set(listed)
    assert sorted(listed) == sorted(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_without_python_it_says_so_in_one_line(checkout: Path) -> None:
    done = make(checkout, "test", "PYTHON=")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0].startswith("make needs Python 3.11 or newer")
    assert "apt-get install" in done.stderr.splitlines()[0]


def test_without_venv_it_says_what_to_install_in_one_line(checkout: Path, tmp_path: Path) -> None:
    python = pretend_python(tmp_path, "exit 1")
    done = make(checkout, "test", f"PYTHON={python}", "UV=")
    assert done.returncode != 0
    assert (
        done.stderr.splitlines()[0] == "make needs Python's venv module:  sudo apt-get install python3-venv"
    )


def test_the_environment_is_made_from_the_lock_once(checkout: Path, tmp_path: Path) -> None:
    pip = 'echo "$@" >> pip.log'
    python = pretend_python(
        tmp_path,
        'case "$*" in *venv\\ .venv) mkdir -p .venv/bin; cp "$0" .venv/bin/python;'
        f" printf '#!/bin/sh\\n%s\\n' '{pip}' > .venv/bin/pip; chmod +x .venv/bin/pip;; esac",
    )
    for _ in range(2):
        done = make(checkout, "test", f"PYTHON={python}", "UV=")
        assert done.returncode == 0, done.stderr
    calls = (checkout / "pip.log").read_text().splitlines()
    assert len(calls) == 2
    assert "--require-hashes -r requirements-dev.lock" in calls[0]
    assert "--no-deps" in calls[1]

"""A wheel with the hot files compiled, unpacked beside a copy of the tests, away from the work tree.

Law: a compiled file in the work tree would hide its edited source, so there is none. One build serves all who
want one of the same sources: the wheel is kept in a folder of the user's cache.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BUILT_FROM = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "protocol", "config", "proxy")
_KEPT = 4
_BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
# The copy's conftest.py keeps it in the copy.
_ITS_OWN_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": ""}
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "build", "dist")


class CannotCompile(Exception):
    """Why there is no compiled build."""


def hot_files() -> list[str]:
    """What setup.py compiles."""
    text = (ROOT / "setup.py").read_text()
    listed = re.search(r"^HOT = \((.*?)^\)", text, re.MULTILINE | re.DOTALL)
    assert listed is not None
    return re.findall(r'"([^"]+)"', listed[1])


def copy_of_sources(folder: Path) -> Path:
    """What a wheel is built from, in `folder`; returns it."""
    for name in _BUILT_FROM:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=_NOT_COPIED)
        else:
            shutil.copy(source, folder / name)
    return folder


def build(sources: Path, compile_: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel into `sources`/dist with HOWDAH_COMPILE at this value."""
    return subprocess.run(
        [sys.executable, "-c", _BUILD, str(sources / "dist")],
        cwd=sources,
        env=os.environ | {"HOWDAH_COMPILE": compile_} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )


def hasty_compiler(folder: Path) -> Path:
    """A C compiler that optimises nothing, whatever it is told, in a quarter of the time: for who looks at
    what a build holds, and not at how fast it is.
    """
    program = folder / "cc"
    program.write_text(f'#!/bin/sh\nexec {os.environ.get("CC") or "cc"} "$@" -O0\n')
    program.chmod(0o755)
    return program


def kept_wheel() -> Path:
    """A compiled wheel of the sources as they are, built unless there is one. Raises CannotCompile."""
    store = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "howdah" / "compiled"
    store.mkdir(parents=True, exist_ok=True)
    with (store / "lock").open("w") as lock, tempfile.TemporaryDirectory(prefix="howdah-build-") as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sources = copy_of_sources(Path(folder))
        kept = store / _fingerprint(sources)
        if not kept.exists():
            done = build(sources, "1")
            if done.returncode != 0:
                raise CannotCompile(done.stdout + done.stderr)
            if "not compiled" in done.stderr:
                raise CannotCompile("needs a C compiler")
            shutil.copytree(sources / "dist", store / "new", dirs_exist_ok=True)
            (store / "new").rename(kept)
        kept.touch()
        old = sorted(store.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime)[:-_KEPT]
        for each in old:
            shutil.rmtree(each)
        (wheel,) = kept.glob("*.whl")
        return wheel


def _fingerprint(sources: Path) -> str:
    """Of everything that the wheel depends on."""
    digest = hashlib.sha256()
    for path in sorted(path for path in sources.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(sources)}\0".encode() + path.read_bytes())
    compiler = b""
    with contextlib.suppress(OSError):
        command = [*os.environ.get("CC", "cc").split(), "--version"]
        compiler = subprocess.run(command, capture_output=True, check=False).stdout
    flags = [f"{name}={os.environ.get(name)}" for name in ("CC", "CFLAGS", "LDFLAGS")]
    versions = [sys.version, sys.prefix, *(f"{name} {version(name)}" for name in ("mypy", "setuptools"))]
    digest.update("\0".join([*versions, *flags]).encode() + compiler)
    return digest.hexdigest()[:32]


def wheel_in(sources: Path) -> Path:
    """The one wheel that was built."""
    (wheel,) = (sources / "dist").glob("*.whl")
    return wheel


def beside_tests(wheel: Path, folder: Path) -> Path:
    """The wheel unpacked in `folder`, and a copy of the tests that will import it; returns `folder`."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=_NOT_COPIED)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run_tests(
    folder: Path, *words: str, seconds: int, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """pytest over the copy, and so over what the wheel has."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
        cwd=folder,
        env=os.environ | _ITS_OWN_BYTECODE | {"PYTHONPATH": str(folder)} | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )

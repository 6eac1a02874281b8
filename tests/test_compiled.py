"""The hot files compiled: how the build is asked for it, and that what comes out is the same pooler."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.bench import counts
from tests.bench.instructions import CannotCount
from tests.support.compiled import (
    CannotCompile,
    beside_tests,
    build,
    copy_of_sources,
    hot_files,
    kept_wheel,
    run_tests,
    wheel_in,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# PostgreSQL's own compiler or ours may be missing; the tests of a plain build need neither.
NO_COMPILER = {"CC": "/bin/false"}


@pytest.fixture(scope="module")
def wheel() -> Path:
    try:
        return kept_wheel()
    except CannotCompile as reason:
        if str(reason) != "needs a C compiler":
            raise
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def copy(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = beside_tests(wheel, tmp_path_factory.mktemp("compiled"))
    # Daemons among the tests run as another user than root.
    for each in (folder, *folder.parents[:2]):
        each.chmod(0o755)
    return folder


def _unit_tests(copy: Path) -> list[str]:
    """The unit tests of what is compiled, playbooks among them, and of what runs on the pump."""
    sources = map(Path, [*hot_files(), "proxy/transports.py", "proxy/tls.py", "proxy/dialler.py"])
    found = [
        path for each in sources for path in (copy / "tests" / each.parent).glob(f"test_{each.stem}*.py")
    ]
    return sorted({str(path.relative_to(copy)) for path in found})


def test_a_wheel_has_each_hot_file_compiled_beside_its_source(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    assert {name.removesuffix(".py") + suffix for name in hot_files()} <= names
    assert set(hot_files()) <= names
    assert sysconfig.get_platform().replace("-", "_").replace(".", "_") in wheel.name


def test_a_compiled_build_says_so(copy: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "-V"], cwd=copy, capture_output=True, text=True, check=True
    )
    pump = sys.platform == "linux"
    assert done.stdout.splitlines()[0].endswith(", compiled, pump)" if pump else ", compiled)")
    assert "compiled: yes" in done.stdout
    assert f"pump: {'yes' if pump else 'no'}" in done.stdout


def test_unit_tests_and_playbooks_pass_on_compiled_files(copy: Path) -> None:
    done = run_tests(copy, *_unit_tests(copy), seconds=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


# uvloop is what hosts the pump.
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_the_short_conformance_suite_passes_compiled_and_on_both_loops(copy: Path, loop: str) -> None:
    files = [f"tests/conformance/test_{name}.py" for name in ("differential", "hand_over", "hostile")]
    done = run_tests(copy, *files, seconds=900, environment={"HOWDAH__EVENT_LOOP": loop})
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_cut_and_trickling_messages_and_crowds_that_vanish_harm_no_compiled_pooler(copy: Path) -> None:
    names = [f"conformance/test_{name}" for name in ("faults", "cut_clients", "cut_servers")]
    names += [f"integration/test_{name}" for name in ("trickles", "malformed")]
    done = run_tests(copy, *(f"tests/{name}.py" for name in names), seconds=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_no_transaction_takes_more_instructions_compiled(copy: Path) -> None:
    try:
        found = counts.compared_instructions(counts.COMPILED, copy)
    except CannotCount as reason:
        pytest.skip(str(reason))
    assert not found, counts.table(found)


def test_without_a_compiler_the_build_is_plain_and_says_why(tmp_path: Path) -> None:
    done = build(copy_of_sources(tmp_path), "1", **NO_COMPILER)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("howdah:")]
    assert line.startswith("howdah: a plain build, not compiled: no C compiler with Python's headers")
    assert wheel_in(tmp_path).name.endswith("-py3-none-any.whl")


def test_what_is_required_and_cannot_be_had_fails_the_build(tmp_path: Path) -> None:
    done = build(copy_of_sources(tmp_path), "require", **NO_COMPILER)
    assert done.returncode != 0
    assert "howdah: cannot compile: no C compiler with Python's headers" in done.stderr
    assert not (tmp_path / "dist").exists() or not list((tmp_path / "dist").glob("*.whl"))


def test_a_build_that_is_not_asked_is_plain_and_says_nothing(tmp_path: Path) -> None:
    done = build(copy_of_sources(tmp_path), "")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "howdah:" not in done.stderr
    assert wheel_in(tmp_path).name.endswith("-py3-none-any.whl")


def test_a_value_that_means_nothing_is_refused(tmp_path: Path) -> None:
    done = build(copy_of_sources(tmp_path), "yes")
    assert done.returncode != 0
    assert "HOWDAH_COMPILE = yes: must be 1, require, or 0 for a plain build" in done.stderr

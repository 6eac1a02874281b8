import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.skips import EXPECTED, Skip, unexpected

ROOT = Path(__file__).parents[2]
LISTED = "# a comment\n\ntests/a.py::* | needs root*\n"


@pytest.mark.parametrize("reason", ["needs root", "needs root, and more", "needs root\nover two lines"])
def test_a_listed_skip_is_expected(reason: str) -> None:
    assert unexpected([Skip("tests/a.py::test_x[1]", reason)], LISTED) == []


@pytest.mark.parametrize(
    "skip",
    [
        Skip("tests/a.py::test_x", "because"),
        Skip("tests/b.py::test_x", "needs root"),
        Skip("tests/a.py::test_x", "really needs root"),
    ],
)
def test_another_test_or_another_reason_is_not_expected(skip: Skip) -> None:
    assert unexpected([skip], LISTED) == [skip]


def test_brackets_of_a_parameter_stand_for_themselves() -> None:
    listed = "tests/a.py::test_x[ab] | why"
    assert unexpected([Skip("tests/a.py::test_x[ab]", "why")], listed) == []
    assert unexpected([Skip("tests/a.py::test_xa", "why")], listed) != []


@pytest.mark.parametrize("line", ["tests/a.py::test_x", "tests/a.py::test_x | ", " | why"])
def test_a_line_without_test_or_reason_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="is not `node id \\| reason`"):
        unexpected([], line)


def test_the_list_can_be_read() -> None:
    assert unexpected([], EXPECTED.read_text()) == []


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(f"import pytest\n{text}\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", "/dev/null"]
    quiet = ["-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function"]
    return subprocess.run(
        [*command, *quiet, f"--rootdir={folder}", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "text",
    [
        "def test_x(): pytest.skip('for no listed reason')",
        "@pytest.mark.skipif(True, reason='for no listed reason')\ndef test_x(): pass",
        "pytest.skip('for no listed reason', allow_module_level=True)",
    ],
    ids=["in the test", "by a mark", "of a module"],
)
def test_a_run_with_an_unlisted_skip_fails_and_names_it(tmp_path: Path, text: str) -> None:
    done = run(tmp_path, text)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "| for no listed reason" in done.stdout
    assert "1 skipped" in done.stdout.splitlines()[-1]


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    done = run(tmp_path, "@pytest.mark.xfail\ndef test_x(): assert False")
    assert done.returncode == pytest.ExitCode.OK, done.stdout


def test_a_run_without_skips_succeeds(tmp_path: Path) -> None:
    assert run(tmp_path, "def test_x(): pass").returncode == pytest.ExitCode.OK

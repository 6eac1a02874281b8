"""Who may import whom, and how long a file and a function may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("protocol", "config", "proxy", "tests")

FILE_LINES = 400
FUNCTION_LINES = 40
HOT_FUNCTION_LINES = 70
DOCSTRING_LINES = 10

HOT = {
    "protocol/wire.py",
    "protocol/framer.py",
    "protocol/outstanding.py",
    "protocol/rename.py",
    "proxy/prepared.py",
    "proxy/session_replies.py",
    "proxy/session_requests.py",
}
"""Where a loop may be long and repeat itself, because a call per message costs more than it explains."""

LONG_FILES: dict[str, str] = {
    "proxy/server.py": "everything that may change what is known of one server connection",
    "tests/protocol/test_scram.py": "two lists of mutated messages",
    "tests/proxy/test_cli.py": "one command line",
}
LONG_FUNCTIONS: dict[str, str] = {}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function's `file:name` and its lines, its docstring not counted."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                lines -= (first.end_lineno or first.lineno) - first.lineno + 1
            yield f"{name_of(path)}:{node.name}", lines


def test_imports_keep_to_the_contracts() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_is_too_long() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in files()}
    long = [name for name, length in lengths.items() if length > FILE_LINES and name not in LONG_FILES]
    assert not long, ", ".join(f"{name} has {lengths[name]} lines" for name in long)


def test_no_function_is_too_long() -> None:
    long = []
    for path in files():
        limit = HOT_FUNCTION_LINES if name_of(path) in HOT else FUNCTION_LINES
        long += [
            (name, lines) for name, lines in functions(path) if lines > limit and name not in LONG_FUNCTIONS
        ]
    assert not long, ", ".join(f"{name} has {lines} lines" for name, lines in long)


def test_the_exceptions_still_need_to_be_one() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in files()}
    lines = {name: length for path in files() for name, length in functions(path)}
    assert [name for name in LONG_FILES if lengths.get(name, 0) <= FILE_LINES] == []
    assert [name for name in LONG_FUNCTIONS if lines.get(name, 0) <= FUNCTION_LINES] == []


@pytest.mark.parametrize("package", ["protocol", "config", "proxy"])
def test_every_module_states_its_law_in_a_few_lines(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text()))
        assert text, f"{name_of(path)} has no docstring"
        assert len(text.splitlines()) <= DOCSTRING_LINES, f"{name_of(path)} explains too much"

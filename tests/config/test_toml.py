"""TOML, with the line of each key."""

from pathlib import Path

import pytest

from config.toml import find_lines, read_toml

TEXT = """#:schema x
[howdah]
pool_mode = "session"   # comment = 1
admin_users = [
  "a",
]
[databases]
app.host = "h"
"x = y" = "host=1"
[databases."my db"]
host = "h"
  [users.bob]
pool_size = 5
"""


def test_every_key_is_found_on_its_line() -> None:
    lines = find_lines(TEXT)
    assert lines["howdah",] == 2
    assert lines["howdah", "pool_mode"] == 3
    assert lines["howdah", "admin_users"] == 4
    assert lines["databases", "app", "host"] == 8
    assert lines["databases", "my db"] == 10
    assert lines["databases", "my db", "host"] == 11
    assert lines["users", "bob", "pool_size"] == 13


def test_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    tables, lines, problems = read_toml(str(path))
    assert tables["users"] == {"bob": {"pool_size": 5}}
    assert lines["users", "bob"] == 12
    assert problems == []


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"[a]\nb = \n", 2, "is not TOML: Invalid value"),
        (b"[a]\nb = 1\nb = 2\n", 3, "is not TOML: Cannot overwrite a value"),
        (b"[a]\nb = '''", 2, "is not TOML: Expected \"'''\""),
        (b"[a]\nb = '\xff'\n", 2, "is not UTF-8"),
    ],
)
def test_broken_file_is_one_problem_with_its_line(
    tmp_path: Path, data: bytes, line: int, message: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(data)
    tables, lines, (problem,) = read_toml(str(path))
    assert (tables, lines) == ({}, {})
    assert (problem.file, problem.line, problem.message) == (str(path), line, message)


def test_missing_file_is_a_problem(tmp_path: Path) -> None:
    _, _, (problem,) = read_toml(str(tmp_path / "none.toml"))
    assert problem.message == "cannot be read: No such file or directory"

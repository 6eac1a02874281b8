"""The tables for the README and the JSON schema."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from config.databases import DatabaseSettings
from config.docs import BEGIN, END, json_schema, main, replaced, settings_table
from config.keys import Keys
from config.users import UserSettings


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")]


def test_table_has_a_row_of_five_cells_for_every_key() -> None:
    rows = [cells(line) for line in settings_table().splitlines() if line.startswith("| `")]
    assert all(len(row) == 5 for row in rows)
    expected = [*sorted(Keys.model_fields), *sorted(DatabaseSettings.model_fields)]
    assert [row[0].strip("`") for row in rows] == expected + sorted(UserSettings.model_fields)


def test_rows_show_type_default_change_and_support() -> None:
    lines = settings_table().splitlines()
    rows = {cells(line)[0]: cells(line)[1:4] for line in reversed(lines) if line.startswith("| `")}
    assert rows["`listen_port`"] == ["number", "`6432`", "restart"]
    assert rows["`auth_file`"] == ["text", "unset", "reload"]
    assert rows["`pool_mode`"] == ["session / transaction / statement", "`session`", "reload"]
    assert rows["`listen_addr`"] == ["list", "empty", "restart"]
    table = settings_table()
    assert "(not supported yet: peer, ldap, pam)" in table
    assert "options for `auth_type = ldap` (not supported yet)" in table


def test_tables_are_put_between_the_marks_and_nothing_else_is_touched() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    new = replaced(text)
    assert new == f"before\n{BEGIN}\n{settings_table()}{END}\nafter\n"
    assert replaced(new) == new


@pytest.mark.parametrize("text", ["", BEGIN, f"{END} {BEGIN}"])
def test_missing_mark_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="are needed around the tables"):
        replaced(text)


def test_write_then_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# x\n{BEGIN}\n{END}\n")
    assert main(["--check", str(readme)]) == 1
    assert "out of date" in capsys.readouterr().err
    assert main(["--write", str(readme)]) == 0
    assert main(["--check", str(readme)]) == 0
    assert "`pool_mode`" in readme.read_text()


def test_without_options_the_tables_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == settings_table() + "\n"


def test_module_is_a_command(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"{BEGIN}{END}")
    command = [sys.executable, "-m", "config.docs", "--check", str(readme)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_schema_is_printed_and_its_references_lead_somewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schema"]) == 0
    text = capsys.readouterr().out
    schema = json.loads(text)
    assert schema == json_schema()
    assert set(schema["properties"]) == {"howdah", "pgbouncer", "databases", "users", "peers"}
    names = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert names <= set(schema["$defs"])
    assert set(schema["$defs"]["Keys"]["properties"]) == set(Keys.model_fields)
    assert schema["$defs"]["DatabaseSettings"]["properties"]["password"]["writeOnly"] is True

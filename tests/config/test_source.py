"""Layers: what each source says, and where it said it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.problems import Severity
from config.secret import Secret
from config.source import EnvironmentLayer, IniLayer, Layer, Merged, OverrideLayer, TomlLayer

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write_file


def messages(layer: Layer) -> list[str]:
    return [str(problem) for problem in layer.problems]


def merged(*layers: Layer) -> dict[str, Any]:
    return Merged(layers=layers).model_extra or {}  # type: ignore[call-arg]


def test_ini_gives_keys_and_entries_with_their_places(write: Write) -> None:
    path = write(
        "a.ini", "[pgbouncer]\npool_mode = session\n[databases]\napp = host=a\n[users]\nu = pool_size=1\n"
    )
    layer = IniLayer(path)
    assert layer() == {
        "pool_mode": "session",
        "databases": {"app": {"host": "a"}},
        "users": {"u": {"pool_size": "1"}},
    }
    assert (layer.places["pool_mode",].line, layer.places["pool_mode",].key) == (2, "pool_mode")
    assert (layer.places["databases", "app", "host"].line, layer.places["databases", "app"].key) == (4, "app")
    assert layer.problems == []


def test_ini_takes_the_howdah_section_too_and_warns_when_there_are_two(write: Write) -> None:
    path = write("a.ini", "[howdah]\npool_mode = session\n[users]\n[pgbouncer]\nverbose = 1\n")
    layer = IniLayer(path)
    assert layer() == {"pool_mode": "session", "verbose": "1"}
    (problem,) = layer.problems
    assert (problem.line, problem.key, problem.severity) == (4, "[pgbouncer]", Severity.WARNING)


def test_ini_with_an_unknown_section_suggests_one_and_skips_its_entries(write: Write) -> None:
    layer = IniLayer(path := write("a.ini", "[database]\nx = host=a\n[zzz]\ny = 1\n"))
    assert layer() == {}
    assert messages(layer) == [
        f'{path}:1: [database]: unknown section, did you mean "databases"?',
        f"{path}:3: [zzz]: unknown section",
    ]


def test_later_value_of_a_key_counts_and_the_earlier_is_warned_about(write: Write) -> None:
    layer = IniLayer(path := write("a.ini", "[pgbouncer]\nverbose = 1\nverbose = 2\n"))
    assert layer() == {"verbose": "2"}
    assert messages(layer) == [f"{path}:3: warning: verbose: is set again, {path}:2 counts no more"]


def test_later_entry_of_a_database_replaces_the_earlier_one_whole(write: Write) -> None:
    layer = IniLayer(write("a.ini", "[databases]\na = host=x port=1\na = host=y\n"))
    assert layer() == {"databases": {"a": {"host": "y"}}}
    assert ("databases", "a", "port") not in layer.places
    assert len(layer.problems) == 1


def test_alternative_spellings_have_the_real_name_but_keep_the_written_one(write: Write) -> None:
    layer = IniLayer(write("a.ini", "[pgbouncer]\nservice_name = x\n[databases]\na = reserve_pool=2\n"))
    assert layer() == {"job_name": "x", "databases": {"a": {"reserve_pool_size": "2"}}}
    assert layer.places["job_name",].key == "service_name"
    assert layer.places["databases", "a", "reserve_pool_size"].key == "reserve_pool"


def test_broken_connection_string_is_a_problem_of_its_line(write: Write) -> None:
    layer = IniLayer(path := write("a.ini", "[databases]\na = host=x oops\n"))
    assert messages(layer) == [f'{path}:2: a: expected key=value, found "oops"']
    assert layer() == {"databases": {"a": {"host": "x"}}}


def test_syntax_problems_of_the_ini_are_passed_on(write: Write) -> None:
    layer = IniLayer(path := write("a.ini", "nonsense\n"))
    assert messages(layer) == [f"{path}:1: expected name = value, found: nonsense"]


def test_toml_gives_tables_strings_and_places(write: Write) -> None:
    text = (
        '[howdah]\npool_mode = "session"\n[databases]\na = "host=x port=1"\n'
        '[databases.b]\nhost = "y"\nreserve_pool = 3\n'
    )
    layer = TomlLayer(write("a.toml", text))
    assert layer() == {
        "unknown_startup_parameters": "apply",
        "pool_mode": "session",
        "databases": {"a": {"host": "x", "port": "1"}, "b": {"host": "y", "reserve_pool_size": 3}},
    }
    assert layer.places["databases", "a", "port"].line == 4
    assert layer.places["databases", "b", "host"].line == 6
    assert layer.places["databases", "b", "reserve_pool_size"].line == 7
    assert layer.problems == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('pool_mode = "session"\n', "1: pool_mode: unknown section, write it below [howdah]"),
        ("[database]\n", '1: database: unknown section, did you mean "databases"?'),
        ("databases = 5\n", "1: databases: must be a table"),
        (
            "[howdah]\nverbose=1\n[pgbouncer]\nverbose=2\n",
            "4: verbose: is set in [howdah] and in [pgbouncer]",
        ),
        ("[howdah]\nexpand_env = true\n", "2: expand_env: is for ini files; TOML always expands"),
        ("[howdah\n", "1: is not TOML: Expected ']' at the end of a table declaration"),
        ('[databases]\na = "host"\n', '2: databases.a: expected key=value, found "host"'),
    ],
)
def test_toml_problem(write: Write, text: str, message: str) -> None:
    layer = TomlLayer(path := write("a.toml", text))
    assert messages(layer) == [f"{path}:{message}"]


def test_toml_place_of_an_inline_table_is_its_line(write: Write) -> None:
    layer = TomlLayer(write("a.toml", '[databases]\n\na = {host = "x"}\n'))
    assert layer.places["databases", "a", "host"].line == 3


def test_environment_gives_keys_entries_and_sections() -> None:
    layer = EnvironmentLayer(
        {
            "HOWDAH__POOL_MODE": "session",
            "HOWDAH__SERVICE_NAME": "x",
            "HOWDAH__DATABASES": '{"My-Db": {"host": "j"}, "app": "host=json port=9"}',
            "HOWDAH__DATABASES__APP__HOST": "a",
            "HOWDAH__DATABASES__MixedCase__RESERVE_POOL": "2",
            "HOWDAH__DATABASES__TWO__PARTS__PORT": "1",
            "HOWDAH__DATABASES__STR": "host=s",
            "HOWDAH__DATABASES__PORT": "host=named-like-a-key",
            "HOWDAH__USERS__BOB__POOL_SIZE": "3",
            "HOWDAHX": "no",
            "POOL_MODE": "no",
        }
    )
    assert layer() == {
        "pool_mode": "session",
        "job_name": "x",
        "databases": {
            "My-Db": {"host": "j"},
            "app": {"host": "a", "port": "9"},
            "MixedCase": {"reserve_pool_size": "2"},
            "two__parts": {"port": "1"},
            "str": {"host": "s"},
            "port": {"host": "named-like-a-key"},
        },
        "users": {"bob": {"pool_size": "3"}},
    }
    assert layer.places["databases", "app", "host"].key == "HOWDAH__DATABASES__APP__HOST"
    assert layer.places["databases", "str", "host"].key == "HOWDAH__DATABASES__STR"
    assert layer.problems == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HOWDAH__POOLMODE", "x", 'unknown setting, did you mean "pool_mode"?'),
        ("HOWDAH__", "x", "unknown setting"),
        ("HOWDAH__DATABASES__A__HOTS", "x", 'unknown setting, did you mean "host"?'),
        ("HOWDAH__DATABASES", "[1]", 'must be a JSON object such as {"app": {"host": "db1"}}'),
        ("HOWDAH__USERS", "x", 'must be a JSON object such as {"app": {"host": "db1"}}'),
        ("HOWDAH__DATABASES__A", "host", 'expected key=value, found "host"'),
    ],
)
def test_unknown_or_broken_variable_is_a_problem(name: str, value: str, message: str) -> None:
    layer = EnvironmentLayer({name: value})
    assert messages(layer) == [f"environment: {name}: {message}"]


def test_overrides_are_keys_or_sections() -> None:
    layer = OverrideLayer({"service_name": "x", "databases": {"a": {"host": "h"}}, "users": 5, "usr": 5})
    assert layer() == {"job_name": "x", "databases": {"a": {"host": "h"}}}
    assert layer.places["databases", "a"].key == "databases.a"
    assert messages(layer) == [
        "override: users: must be a table of settings",
        'override: usr: unknown setting, did you mean "user"?',
    ]


def test_stronger_layers_win_key_by_key_down_to_the_keys_of_a_database() -> None:
    strong = OverrideLayer({"verbose": 1, "databases": {"a": {"host": "strong"}}})
    weak = OverrideLayer(
        {"verbose": 2, "syslog": 1, "databases": {"a": {"host": "weak", "port": 1}, "b": {}}}
    )
    assert merged(strong, weak) == {
        "verbose": 1,
        "syslog": 1,
        "databases": {"a": {"host": "strong", "port": 1}, "b": {}},
    }


def test_passwords_leave_a_layer_as_secrets_only() -> None:
    layer = OverrideLayer({"databases": {"a": {"password": "hunter2"}, "b": {"password": ""}, "c": 5}})
    assert "hunter2" not in repr(merged(layer))
    assert layer()["databases"]["a"]["password"] == Secret(b"hunter2")
    assert layer()["databases"]["b"]["password"] == ""


def test_layer_answers_for_one_field() -> None:
    layer = OverrideLayer({"verbose": 1})
    field = Merged.model_fields.get("verbose")
    assert layer.get_field_value(field, "verbose") == (1, "verbose", False)  # type: ignore[arg-type]


def test_references_are_replaced_everywhere_and_files_in_secrets_only() -> None:
    layer = OverrideLayer(
        {
            "verbose": 1,
            "logfile": "file:${A}",
            "mock_authentication_nonce": "file:/nonce",
            "admin_users": ["${A}", "b", 5],
            "databases": {"x": {"host": "h-${A}", "password": "file:${A}"}, "y": {"password": "p-${A}"}},
        }
    )
    layer.expand({"A": "value"}, lambda name: f"content of {name}".encode())
    assert layer() == {
        "verbose": 1,
        "logfile": "file:value",
        "mock_authentication_nonce": Secret(b"content of /nonce"),
        "admin_users": ["value", "b", 5],
        "databases": {
            "x": {"host": "h-value", "password": Secret(b"content of value")},
            "y": {"password": Secret(b"p-value")},
        },
    }
    assert layer.problems == []


def test_reference_that_leads_nowhere_is_a_problem_of_its_place() -> None:
    def missing(name: str) -> bytes:
        raise FileNotFoundError(2, "No such file or directory", name)

    layer = OverrideLayer({"logfile": "${NONE}", "databases": {"x": {"password": "file:/secret"}}})
    layer.expand({}, missing)
    assert messages(layer) == [
        "override: logfile: the environment variable NONE is not set",
        "override: password: /secret cannot be read: No such file or directory",
    ]
    empty = OverrideLayer({"databases": {"x": {"password": "file:/secret"}}})
    empty.expand({}, lambda name: b"")
    assert messages(empty) == ["override: password: must not be empty"]

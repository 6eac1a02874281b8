"""The settings object: direct construction, lookups, SET and SHOW CONFIG."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.databases import DatabaseSettings
from config.keys import Keys
from config.problems import ConfigError, NotChangeable, UnknownSetting
from config.secret import Secret
from config.settings import Settings, to_credentials
from config.types import PoolMode


def test_direct_construction_reads_neither_environment_nor_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOWDAH__POOL_MODE", "transaction")
    monkeypatch.setenv("POOL_MODE", "transaction")
    settings = Settings(auth_file="/does/not/exist")
    assert settings.pool_mode is PoolMode.SESSION
    assert settings.credentials == {}


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().pool_mode = PoolMode.STATEMENT


def test_database_falls_back_to_the_star_entry() -> None:
    star, app = DatabaseSettings(host="star"), DatabaseSettings(host="app")
    settings = Settings(databases={"*": star, "app": app})
    assert settings.database("app") is app
    assert settings.database("other") is star
    assert Settings(databases={"app": app}).database("other") is None


@pytest.mark.parametrize("name", ["pgbouncer", "howdah"])
def test_the_console_is_not_a_database_even_with_a_star_entry(name: str) -> None:
    assert Settings(databases={"*": DatabaseSettings()}).database(name) is None


@pytest.mark.parametrize(
    ("section", "name", "message"),
    [
        ("databases", "pgbouncer", "reserved"),
        ("databases", "howdah", "reserved"),
        ("databases", "x" * 64, "1 to 63 bytes"),
        ("users", "x" * 128, "1 to 127 bytes"),
    ],
)
def test_names_of_entries_are_checked(section: str, name: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate({section: {name: {}}})


def test_credentials_take_text_bytes_secrets_and_lists_of_them() -> None:
    found = to_credentials({"a": "1", "b": [b"2", Secret(b"3")], "c": [], "d": Secret(b"4"), "e": None})
    revealed = {user: [secret.reveal() for secret in secrets] for user, secrets in found.items()}
    assert revealed == {"a": [b"1"], "b": [b"2", b"3"], "c": [], "d": [b"4"], "e": []}


@pytest.mark.parametrize("value", [["a"], {"a": 5}, {"a": [""]}])
def test_credentials_refuse_other_things(value: object) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"credentials": value})


def test_no_secret_appears_when_settings_are_printed_or_dumped() -> None:
    settings = Settings.model_validate(
        {"credentials": {"u": "hunter2"}, "databases": {"a": {"user": "u", "password": "hunter2"}}}
    )
    shown = [
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        str(dict(settings)),
        str(settings.rows()),
    ]
    assert not any("hunter2" in text for text in shown)
    assert settings.credentials["u"][0].reveal() == b"hunter2"


def test_rows_are_all_keys_in_alphabetical_order() -> None:
    rows = Settings(pool_mode=PoolMode.TRANSACTION, log_stats=False, listen_addr=("a", "b")).rows()
    assert [row[0] for row in rows] == sorted(Keys.model_fields)
    shown = {row[0]: row[1:] for row in rows}
    assert shown["pool_mode"] == ("transaction", "session", "yes")
    assert shown["log_stats"] == ("0", "1", "yes")
    assert shown["listen_addr"] == ("a, b", "", "no")
    assert shown["auth_file"] == (None, None, "yes")
    assert shown["unix_socket_mode"] == ("0777", "0777", "no")


def test_set_gives_a_changed_copy_and_leaves_the_old_alone() -> None:
    old = Settings(databases={"a": DatabaseSettings()}, credentials={"u": (Secret(b"x"),)})
    new = old.with_value("query_timeout", "0.5")
    assert (old.query_timeout, new.query_timeout) == (0.0, 0.5)
    assert new.databases == old.databases
    assert new.credentials == old.credentials


def test_set_of_an_unknown_key_suggests_one() -> None:
    with pytest.raises(UnknownSetting, match='did you mean "query_timeout"'):
        Settings().with_value("query_timout", "1")


@pytest.mark.parametrize("key", ["databases", "users", "peers", "credentials"])
def test_set_changes_keys_only(key: str) -> None:
    with pytest.raises(UnknownSetting):
        Settings().with_value(key, "{}")


@pytest.mark.parametrize("key", ["listen_port", "job_name", "service_name"])
def test_set_of_what_needs_a_restart_is_refused(key: str) -> None:
    with pytest.raises(NotChangeable, match=key):
        Settings().with_value(key, "1")


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("pool_mode", "bogus", "must be 'session', 'transaction' or 'statement'"),
        ("default_pool_size", "many", "must be a whole number, not 'many'"),
        ("auth_type", "ldap", '"ldap" is not supported by this version'),
    ],
)
def test_set_to_a_wrong_value_says_why(key: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings().with_value(key, text)
    assert str(caught.value) == f"SET: {key}: {message}"


def test_set_of_auth_file_reads_it_at_once(tmp_path: Path) -> None:
    users = tmp_path / "users.txt"
    users.write_text('"u" "pw"\n')
    assert list(Settings().with_value("auth_file", str(users)).credentials) == ["u"]
    settings = Settings(auth_file=str(users), credentials={"old": ()})
    assert settings.with_value("auth_file", "").credentials == {}
    users.write_text("broken\n")
    with pytest.raises(ConfigError, match="expected"):
        settings.with_value("auth_file", str(users))
    with pytest.raises(ConfigError, match="cannot be read"):
        settings.with_value("auth_file", str(tmp_path / "none"))


def test_set_of_a_file_of_rules_reads_it_at_once(tmp_path: Path) -> None:
    rules, maps = tmp_path / "hba.conf", tmp_path / "ident.conf"
    rules.write_text("local all all peer map=m\n")
    maps.write_text("m joe alice\n")
    with pytest.raises(ConfigError, match=r'hba\.conf:1: auth_hba_file: there is no map "m"'):
        Settings().with_value("auth_hba_file", str(rules))
    settings = Settings().with_value("auth_ident_file", str(maps)).with_value("auth_hba_file", str(rules))
    assert (len(settings.hba), len(settings.ident)) == (1, 1)
    assert settings.with_value("auth_hba_file", "").hba == ()
    with pytest.raises(ConfigError, match="cannot be read"):
        settings.with_value("auth_ident_file", str(tmp_path / "none"))


def test_set_of_rules_that_are_only_suspicious_is_done(tmp_path: Path) -> None:
    rules = tmp_path / "hba.conf"
    rules.write_text("hostssl all all 10.1.1.1/8 md5\n")
    assert len(Settings().with_value("auth_hba_file", str(rules)).hba) == 1

"""What a reload finds different."""

import pytest

from config.changes import Changes, applicable, changes
from config.databases import DatabaseSettings
from config.secret import Secret
from config.settings import Settings
from config.types import PoolMode
from config.users import UserSettings


def test_nothing_changed() -> None:
    found = changes(Settings(), Settings())
    assert found == Changes()
    assert not found


def test_keys_are_split_by_whether_a_restart_is_needed() -> None:
    new = Settings(pool_mode=PoolMode.TRANSACTION, auth_file="x", listen_port=1, pidfile="p")
    found = changes(Settings(), new)
    assert found == Changes(keys=("auth_file", "pool_mode"), restart_keys=("listen_port", "pidfile"))
    assert found


def test_databases_added_removed_and_changed() -> None:
    same = DatabaseSettings(host="same")
    old = Settings(databases={"a": same, "b": same, "c": same})
    new = Settings(
        databases={"b": same, "c": DatabaseSettings(host="same", pool_size=1), "d": same, "*": same}
    )
    assert changes(old, new) == Changes(
        databases_added=("*", "d"), databases_removed=("a",), databases_changed=("c",)
    )


@pytest.mark.parametrize(
    ("key", "value", "moved"),
    [
        ("host", "x", True),
        ("port", 1, True),
        ("dbname", "x", True),
        ("user", "x", True),
        ("connect_query", "x", True),
        ("client_encoding", "x", True),
        ("datestyle", "x", True),
        ("timezone", "x", True),
        ("application_name", "x", True),
        ("password", "x", False),
        ("pool_size", 1, False),
        ("pool_mode", "session", False),
        ("server_lifetime", 1, False),
    ],
)
def test_database_has_moved_when_its_open_connections_are_of_no_use(
    key: str, value: object, moved: bool
) -> None:
    new = Settings(databases={"a": DatabaseSettings.model_validate({key: value})})
    found = changes(Settings(databases={"a": DatabaseSettings()}), new)
    assert found.databases_changed == ("a",)
    assert found.databases_moved == (("a",) if moved else ())


def test_users_and_credentials_that_came_went_or_differ() -> None:
    entry, other = UserSettings(pool_size=1), UserSettings(pool_size=2)
    old = Settings(users={"a": entry, "b": entry, "c": entry}, credentials={"x": (Secret(b"1"),), "y": ()})
    new = Settings(users={"b": entry, "c": other, "d": entry}, credentials={"x": (Secret(b"2"),), "y": ()})
    assert changes(old, new) == Changes(users_changed=("a", "c", "d"), credentials_changed=("x",))


def test_applicable_keeps_what_only_a_restart_can_change() -> None:
    old = Settings(listen_port=1, pool_mode=PoolMode.SESSION)
    new = Settings(listen_port=2, pool_mode=PoolMode.TRANSACTION, databases={"a": DatabaseSettings()})
    found = applicable(old, new)
    assert (found.listen_port, found.pool_mode, list(found.databases)) == (1, PoolMode.TRANSACTION, ["a"])
    assert changes(old, found).restart_keys == ()

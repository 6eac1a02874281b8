"""What a reload finds different."""

from config.changes import Changes, applicable, changes
from config.databases import DatabaseSettings
from config.settings import Settings
from config.types import PoolMode


def test_nothing_changed() -> None:
    found = changes(Settings(), Settings())
    assert found == Changes()


def test_keys_are_split_by_whether_a_restart_is_needed() -> None:
    new = Settings(pool_mode=PoolMode.TRANSACTION, auth_file="x", listen_port=1, pidfile="p")
    found = changes(Settings(), new)
    assert found == Changes(keys=("auth_file", "pool_mode"), restart_keys=("listen_port", "pidfile"))


def test_applicable_keeps_what_only_a_restart_can_change() -> None:
    old = Settings(listen_port=1, pool_mode=PoolMode.SESSION)
    new = Settings(listen_port=2, pool_mode=PoolMode.TRANSACTION, databases={"a": DatabaseSettings()})
    found = applicable(old, new)
    assert (found.listen_port, found.pool_mode, list(found.databases)) == (1, PoolMode.TRANSACTION, ["a"])
    assert changes(old, found).restart_keys == ()

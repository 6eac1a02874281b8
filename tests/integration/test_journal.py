"""The journal of the console: every command with who gave it and from where, and no password."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.conftest import Launch
from tests.support.pooler import ADMIN, CONSOLE, STATS, Pooler
from tests.support.standard import howdah_only

pytestmark = howdah_only("log lines of our own")


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="howdah-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, sockets: Path) -> Pooler:
    return module_launch(settings={"unix_socket_dir": str(sockets), "verbose": 2})


def test_who_gave_an_order_by_tcp_is_written_down(pooler: Pooler) -> None:
    mark = pooler.log_mark()
    pooler.admin("RELOAD")
    pooler.wait_for_log(rf"LOG C-0x\w+: pgbouncer/{ADMIN}@127\.0\.0\.1:\d+ admin command: RELOAD", since=mark)


def test_who_gave_an_order_on_the_unix_socket_is_known_by_process_and_user(
    pooler: Pooler, sockets: Path
) -> None:
    mark = pooler.log_mark()
    with psycopg.connect(pooler.conninfo(CONSOLE, ADMIN, host=str(sockets)), autocommit=True) as console:
        console.execute("SET query_timeout = 7")
    where = rf"unix\(pid {os.getpid()}, uid {os.getuid()}\)"
    pooler.wait_for_log(rf"pgbouncer/{ADMIN}@{where} admin command: SET query_timeout = 7", since=mark)
    pooler.admin("RELOAD")


def test_who_looks_is_written_down_for_the_curious(pooler: Pooler) -> None:
    mark = pooler.log_mark()
    pooler.admin("SHOW POOLS", STATS)
    pooler.wait_for_log(rf"DEBUG C-0x\w+: pgbouncer/{STATS}@\S+ admin command: SHOW POOLS", since=mark)


@pytest.mark.parametrize("user", [ADMIN, STATS])
@pytest.mark.parametrize(
    "command",
    [
        "SET password = 'pa55'",
        "SET auth_query = 'select pa55'",
        "SET password pa55",
        "ALTER USER joe PASSWORD 'pa55'",
        "CREATE ROLE joe PASSWORD $x$pa55$x$",
        "KILL 'pa55'",
    ],
)
def test_no_password_is_written_down(pooler: Pooler, user: str, command: str) -> None:
    mark = pooler.log_mark()
    if command.startswith("SET auth_query") and user == ADMIN:
        pooler.admin(command, user)
        pooler.admin("RELOAD")
    else:
        with pytest.raises(psycopg.Error):
            pooler.admin(command, user)
    pooler.wait_for_log(rf"pgbouncer/{user}@\S+ admin command", since=mark)
    assert "pa55" not in pooler.log(mark)


def test_no_line_can_be_forged(pooler: Pooler) -> None:
    mark = pooler.log_mark()
    with pytest.raises(psycopg.Error):
        pooler.admin(
            "KILL\n2026-11-21 10:00:00.000 UTC [1] LOG C-0x1: pgbouncer/boss@unix admin command: X\x1b[2J"
        )
    pooler.wait_for_log(r"admin command refused: .*KILL\\x0a2026.*\\x1b\[2J", since=mark)
    assert not [line for line in pooler.log(mark).splitlines() if line.endswith("admin command: X")]

"""Orders and refusals are written down: who, from where, what; and no password."""

import logging

import pytest

from proxy.admin.commands import Identity
from proxy.log import printable
from tests.proxy.admin.harness import Admin
from tests.support import messages as m


async def test_every_order_is_logged_once_with_who_and_from_where(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "howdah")
    await Admin().ask(m.query("PAUSE app; "), m.query("SET query_timeout = '1'"), m.query("SHOW POOLS"))
    assert caplog.messages == [
        "C-0x1f: pgbouncer/alice@10.0.0.7:5000 admin command: PAUSE app;",
        "C-0x1f: pgbouncer/alice@10.0.0.7:5000 admin command: SET query_timeout = '1'",
    ]
    assert {record.name for record in caplog.records} == {"howdah"}


async def test_refused_commands_are_logged_with_control_characters_escaped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "howdah")
    await Admin(Identity(33, "ev\nil", False, True, "10.0.0.9:1")).ask(
        m.query("KILL\n;"), m.query("FROB\x1b[2J")
    )
    assert len(caplog.messages) == 2
    assert all(line.isprintable() for line in caplog.messages)
    killing = printable("KILL\n;")
    assert caplog.messages[0].endswith(f"admin command refused: admin access needed: {killing}")
    assert caplog.messages[1].endswith("refused: invalid command 'FROB\\x1b[2J', use SHOW HELP;")


async def test_an_order_that_fails_is_logged_as_given_and_as_failed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "howdah")
    await Admin().ask(m.query("RESUME"))
    assert [line.split(" ", 2)[2] for line in caplog.messages] == [
        "admin command: RESUME",
        "admin command failed: pooler is not paused/suspended",
    ]


async def test_no_password_reaches_the_log_whatever_was_meant(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "howdah")
    texts = ("SET password = 'pa55'", "SET password pa55", "ALTER USER x PASSWORD 'pa55'", "SHOW 'pa55'")
    for identity in (Identity(1, "a", True, False, "x"), Identity(2, "s", False, True, "x")):
        for text in texts:
            await Admin(identity).ask(m.query(text))
    assert len(caplog.messages) >= len(texts)
    assert "pa55" not in caplog.text


async def test_who_looks_at_what_is_told_only_to_the_curious(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "howdah")
    await Admin().ask(m.query("SHOW POOLS;"))
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.getMessage() == "C-0x1f: pgbouncer/alice@10.0.0.7:5000 admin command: SHOW POOLS;"

"""The console, and what it makes of those who may not and of input that it does not understand."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conformance.expect import login_refused
from tests.conformance.marks import pgbouncer_fails, pooler_only
from tests.support import messages as m
from tests.support.pooler import ADMIN, CONSOLE, STATS, Pooler
from tests.support.standard import APP
from tests.support.wire import Raw

pytestmark = pooler_only("PostgreSQL has no console")

CHANGES = [
    "PAUSE",
    "RESUME",
    "DISABLE app",
    "ENABLE app",
    "RELOAD",
    "RECONNECT",
    "WAIT_CLOSE",
    "KILL app",
    "KILL_CLIENT 1",
    "SHUTDOWN",
    "SHUTDOWN WAIT_FOR_SERVERS",
    "SHUTDOWN WAIT_FOR_CLIENTS",
    "SUSPEND",
    "SET default_pool_size = 7",
]


@pytest.fixture
def console(pooler: Pooler) -> Iterator[Raw]:
    """An admin who is logged in; leaves nothing paused."""
    with pooler.raw(CONSOLE, ADMIN) as client:
        yield client
    with pooler.raw(CONSOLE, ADMIN) as client:
        client.query("RESUME")


@pytest.mark.case("O56")
def test_the_extended_protocol_works_or_is_refused_with_one_clear_error(pooler: Pooler) -> None:
    with pooler.raw(CONSOLE, ADMIN) as client:
        if pooler.kind == "pgbouncer":
            client.send(m.one_shot("SHOW VERSION"))
            (fields,) = m.errors(client.until(b"E"))
            assert "extended query protocol not supported" in fields["M"]
            return
        got = client.ask(m.one_shot("SHOW VERSION"))
        assert m.tags(got) == "12TDCZ"
        got = client.ask(m.one_shot("FROB"))
        assert "E" in m.tags(got)
        assert m.tags(got).endswith("Z")
        assert client.rows("SHOW VERSION")
    with psycopg.connect(pooler.conninfo(CONSOLE, ADMIN), autocommit=True, prepare_threshold=0) as connection:
        connection.execute("SHOW LISTS", prepare=True)
        assert connection.execute("SHOW POOLS", binary=False).fetchall()


@pytest.mark.case("O57")
def test_an_unknown_command_is_answered_with_a_short_text(console: Raw) -> None:
    fields = console.error("FROB; SHOW POOLS")
    assert fields["M"].startswith("invalid command 'FROB; SHOW POOLS'")
    assert fields["M"].endswith("use SHOW HELP;")
    assert fields["C"] == "08P01"
    assert console.rows("SHOW VERSION")


@pytest.mark.case("O57")
@pgbouncer_fails("hangs up on long commands")
def test_a_megabyte_of_junk_is_answered_with_a_short_text(pooler: Pooler, console: Raw) -> None:
    before = pooler.rss()
    got = console.query("x" * 1_000_000)
    assert len(m.errors(got)[0]["M"]) < 1000
    assert pooler.rss() - before < 8 * 2**20
    assert console.rows("SHOW VERSION")


@pytest.mark.case("O55")
@pytest.mark.parametrize("sql", CHANGES)
def test_a_stats_user_may_change_nothing(pooler: Pooler, console: Raw, sql: str) -> None:
    """CVE-2026-6667: PgBouncer's KILL_CLIENT did not ask whether it was an administrator's."""
    if sql.startswith("KILL_CLIENT"):
        with pooler.raw(APP) as client:
            (row,) = pooler.show("CLIENTS", port=client.local_port())
            if "id" in row:
                sql = f"KILL_CLIENT {row['id']}"
    with pooler.raw(CONSOLE, STATS) as client:
        fields = client.error(sql)
        assert fields["M"] == "admin access needed" or "invalid command" in fields["M"]
        assert client.rows("SHOW VERSION")
    with pooler.raw(APP) as client:
        assert client.value("select 1") == "1"


@pytest.mark.case("O55")
def test_every_command_of_help_but_show_is_refused_to_a_stats_user(pooler: Pooler, console: Raw) -> None:
    """The list comes from SHOW HELP, so that a new command cannot be forgotten."""
    with pooler.raw(CONSOLE, STATS) as client:
        got = client.query("SHOW HELP")
        help_text = m.fields_of(next(message.body for message in got if message.tag == b"N"))["D"]
        verbs = {line.split()[0] for line in help_text.splitlines() if line.split()} - {"SHOW"}
        assert len(verbs) >= 10
        for verb in sorted(verbs):
            sql = "SET verbose = 1" if verb == "SET" else f"{verb} 1" if verb == "KILL_CLIENT" else verb
            if verb in ("DISABLE", "ENABLE"):
                sql = f"{verb} {APP}"
            assert client.error(sql)["M"] == "admin access needed", sql
            assert client.error(sql)["C"] in ("42501", "08P01")


@pytest.mark.case("O55")
def test_an_ordinary_user_is_not_let_in(pooler: Pooler) -> None:
    fields = login_refused(pooler, CONSOLE, pooler.user)
    assert fields["S"] == "FATAL"
    assert fields["M"] == "not allowed"
    assert fields["C"] in ("42501", "08P01")

"""The console in the extended protocol, as drivers use it."""

import struct

import pytest

from protocol.backend import ParameterDescription, RowDescription
from proxy.admin import portals
from proxy.control import ShutdownMode
from proxy.snapshot import ConfigRow
from tests.proxy.admin.harness import STATS, Admin
from tests.proxy.fakes import FakeSnapshots
from tests.support import messages as m


def bind(portal: str = "", statement: str = "", formats: tuple[int, ...] = ()) -> bytes:
    """A Bind without values that asks for results in these formats."""
    codes = b"".join(struct.pack("!h", code) for code in formats)
    body = m.string(portal) + m.string(statement) + bytes(4) + struct.pack("!h", len(formats)) + codes
    return m.message(b"B", body)


def three_settings() -> Admin:
    return Admin(snapshots=FakeSnapshots(config_list=[ConfigRow(key, "v", "d", True) for key in "abc"]))


async def test_one_round_trip_parses_binds_describes_and_executes() -> None:
    replies = await Admin().ask(m.one_shot("SHOW VERSION"))
    assert m.tags(replies) == "12TDCZ"
    assert m.rows(replies) == [["PgBouncer 1.25.2 (Howdah 0.1.0)"]]


async def test_preparing_first_and_executing_later_works() -> None:
    admin = Admin()
    replies = await admin.ask(m.parse("s1", "SHOW LISTS"), m.describe(b"S", "s1"), m.sync())
    assert m.tags(replies) == "1tTZ"
    assert ParameterDescription.decode(replies[1].body).types == []
    assert {field.format for field in RowDescription.decode(replies[2].body).fields} == {0}
    for _ in range(2):
        replies = await admin.ask(bind("", "s1"), m.execute(), m.sync())
        assert m.tags(replies) == "2" + "D" * 16 + "CZ"


async def test_flush_brings_the_replies_so_far() -> None:
    admin = Admin()
    assert m.tags(await admin.ask(m.parse("", "SHOW VERSION"), m.flush())) == "1"
    assert m.tags(await admin.ask(bind(), m.execute(), m.sync())) == "2DCZ"


async def test_results_come_in_binary_where_it_is_asked_for() -> None:
    admin = Admin()
    replies = await admin.ask(
        m.parse("", "SHOW LISTS"), bind(formats=(0, 1)), m.describe(b"P"), m.execute(max_rows=1), m.sync()
    )
    assert [field.format for field in RowDescription.decode(replies[2].body).fields] == [0, 1]
    assert replies[3].body == b"\0\2" + b"\0\0\0\x09databases" + b"\0\0\0\4\0\0\0\1"


@pytest.mark.parametrize("text", ["RELOAD", "SHOW HELP", "SET timezone = x", ""])
async def test_what_returns_no_rows_is_described_as_no_data(text: str) -> None:
    admin = Admin()
    replies = await admin.ask(m.parse("", text), m.describe(b"S"), bind(), m.describe(b"P"), m.sync())
    assert m.tags(replies) == "1tn2nZ"
    assert admin.daemon.calls == []


@pytest.mark.parametrize(
    ("text", "tags"),
    [("RELOAD", "12CZ"), ("SHOW HELP", "12NCZ"), ("SET timezone = x", "12NCZ"), (";", "12IZ")],
)
async def test_commands_without_rows_can_be_executed(text: str, tags: str) -> None:
    assert m.tags(await Admin().ask(m.parse("", text), bind(), m.execute(), m.sync())) == tags


async def test_an_order_is_carried_out_at_execute_and_only_once() -> None:
    admin = Admin()
    replies = await admin.ask(m.parse("", "DISABLE app"), bind(), m.execute(), m.execute(), m.sync())
    assert m.tags(replies) == "12CEZ"
    assert m.errors(replies)[0]["C"] == "55000"
    assert admin.daemon.calls == [("disable", "app")]


async def test_a_row_limit_suspends_the_portal_until_the_next_execute() -> None:
    admin = three_settings()
    replies = await admin.ask(
        m.parse("", "SHOW CONFIG"),
        bind("p"),
        m.execute("p", 2),
        m.execute("p", 2),
        m.execute("p", 2),
        m.sync(),
    )
    assert m.tags(replies) == "12DDsDCCZ"
    assert [row[0] for row in m.rows(replies)] == ["a", "b", "c"]


async def test_a_limit_reached_with_the_last_row_still_suspends() -> None:
    replies = await three_settings().ask(
        m.parse("", "SHOW CONFIG"), bind(), m.execute(max_rows=3), m.execute(max_rows=3), m.sync()
    )
    assert m.tags(replies) == "12DDDsCZ"


async def test_after_an_error_everything_is_skipped_until_sync() -> None:
    admin = Admin()
    replies = await admin.ask(
        m.parse("", "FROB"), bind(), m.query("SHOW VERSION"), m.parse("a", "RELOAD"), m.execute(), m.sync()
    )
    assert m.tags(replies) == "EZ"
    assert m.tags(await admin.ask(m.one_shot("SHOW VERSION"))) == "12TDCZ"
    assert m.errors(await admin.ask(bind("", "a"), m.sync()))[0]["C"] == "26000"


async def test_a_client_may_leave_while_messages_are_skipped() -> None:
    admin = Admin()
    await admin.ask(m.parse("", "FROB"), m.terminate())
    assert admin.closed


async def test_errors_in_a_pipeline_end_one_group_only() -> None:
    replies = await Admin().ask(m.one_shot("FROB"), m.one_shot("SHOW VERSION"), m.one_shot("KILL nix"))
    assert m.tags(replies) == "EZ" + "12TDCZ" + "12nEZ"


async def test_a_waiting_order_holds_up_its_pipeline() -> None:
    admin = Admin()
    admin.daemon.drained.clear()
    assert m.tags(await admin.ask(m.one_shot("PAUSE"), m.one_shot("SHOW VERSION"))) == "12n"
    admin.daemon.drained.set()
    await admin.settle()
    assert m.tags(admin.read()) == "CZ" + "12TDCZ"


async def test_ctrl_c_on_a_waiting_execute_skips_to_sync() -> None:
    admin = Admin()
    admin.daemon.drained.clear()
    await admin.ask(m.one_shot("PAUSE", end=m.execute()))
    admin.console.cancel()
    await admin.settle()
    assert m.errors(admin.read())[0]["C"] == "57014"
    assert m.tags(await admin.ask(m.sync())) == "Z"
    assert not admin.daemon.is_paused(None)


async def test_an_immediate_shutdown_answers_nothing_more() -> None:
    admin = Admin()
    assert m.tags(await admin.ask(m.one_shot("SHUTDOWN"))) == "12n"
    assert admin.daemon.calls == [("shutdown", ShutdownMode.IMMEDIATE)]


@pytest.mark.parametrize(
    ("messages", "sqlstate", "text"),
    [
        ((bind("", "no"),), "26000", 'prepared statement "no" does not exist'),
        ((m.describe(b"S"),), "26000", "unnamed prepared statement does not exist"),
        ((m.execute("no"),), "34000", 'portal "no" does not exist'),
        ((m.describe(b"P", "no"),), "34000", 'portal "no" does not exist'),
        (
            (m.parse("a", "SHOW USERS"), m.parse("a", "SHOW LISTS")),
            "42P05",
            'prepared statement "a" already exists',
        ),
        (
            (m.parse("", "SHOW USERS"), bind("p"), bind("p")),
            "42P03",
            'portal "p" already exists',
        ),
        ((m.parse("", "SHOW USERS", [23]),), "0A000", "admin console takes no parameters"),
        (
            (m.parse("", "SHOW USERS"), m.bind(values=["1"])),
            "08P01",
            'bind message supplies 1 parameters, but prepared statement "" requires 0',
        ),
        ((m.parse("", "SHOW USERS"), bind(formats=(7,))), "22023", "unsupported format code: 7"),
        ((m.parse("", "SHOW $1"),), "08P01", "invalid command 'SHOW $1', use SHOW HELP;"),
    ],
)
async def test_mistakes_get_postgresqls_code(messages: tuple[bytes, ...], sqlstate: str, text: str) -> None:
    admin = Admin()
    replies = await admin.ask(*messages, m.sync())
    assert m.errors(replies) == [{"S": "ERROR", "C": sqlstate, "M": text}]
    assert m.tags(replies).endswith("EZ")
    assert m.tags(await admin.ask(m.one_shot("SHOW VERSION"))) == "12TDCZ"


async def test_a_stats_user_is_refused_at_parse() -> None:
    admin = Admin(STATS)
    replies = await admin.ask(m.one_shot("KILL"))
    assert m.tags(replies) == "EZ"
    assert m.errors(replies)[0]["C"] == "42501"
    assert admin.daemon.calls == []


async def test_close_forgets_and_closing_what_is_not_there_succeeds() -> None:
    admin = Admin()
    replies = await admin.ask(
        m.parse("a", "SHOW USERS"), m.close(b"S", "a"), m.close(b"S", "b"), m.close(b"P", "c"), m.sync()
    )
    assert m.tags(replies) == "1333Z"
    assert m.errors(await admin.ask(m.describe(b"S", "a"), m.sync()))[0]["C"] == "26000"


async def test_portals_end_with_sync_and_with_a_simple_query() -> None:
    admin = Admin()
    await admin.ask(m.parse("a", "SHOW USERS"), bind("p", "a"), m.sync())
    assert m.errors(await admin.ask(m.execute("p"), m.sync()))[0]["C"] == "34000"
    replies = await admin.ask(bind("p", "a"), m.query("SHOW VERSION"), m.execute("p"), m.sync())
    assert m.errors(replies)[0]["C"] == "34000"


async def test_a_simple_query_forgets_the_unnamed_statement_only() -> None:
    admin = Admin()
    await admin.ask(m.parse("", "SHOW USERS"), m.parse("a", "SHOW USERS"), m.sync(), m.query(""))
    assert m.errors(await admin.ask(bind(), m.sync()))[0]["C"] == "26000"
    assert m.tags(await admin.ask(bind("", "a"), m.sync())) == "2Z"


async def test_the_unnamed_statement_and_portal_are_replaced_silently() -> None:
    replies = await Admin().ask(
        m.parse("", "SHOW USERS"), m.parse("", "SHOW VERSION"), bind(), bind(), m.execute(), m.sync()
    )
    assert m.tags(replies) == "1122DCZ"


async def test_the_number_of_statements_and_portals_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portals, "LIMIT", 2)
    admin = Admin()
    statements = [m.parse(name, "SHOW USERS") for name in "abc"]
    assert m.errors(await admin.ask(*statements, m.sync()))[0]["C"] == "54000"
    binds = [bind(name, "a") for name in "pqr"]
    assert m.errors(await admin.ask(*binds, m.sync()))[0]["C"] == "54000"

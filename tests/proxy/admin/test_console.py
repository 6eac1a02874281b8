"""The console in the simple protocol: answers, waiting orders, limits, and the way it ends."""

import asyncio

import pytest

from config.problems import ConfigError, Problem
from proxy.admin import console as module
from proxy.admin.console import GREETING
from proxy.control import ShutdownMode
from proxy.snapshot import ClientSnapshot, StateSnapshot
from tests.proxy.admin.harness import STATS, Admin
from tests.proxy.fakes import FakeSnapshots
from tests.support import messages as m


def test_the_greeting_is_pgbouncers() -> None:
    assert GREETING == {
        b"server_version": b"1.25.2/bouncer",
        b"client_encoding": b"UTF8",
        b"server_encoding": b"UTF8",
        b"DateStyle": b"ISO",
        b"TimeZone": b"GMT",
        b"standard_conforming_strings": b"on",
        b"is_superuser": b"on",
    }


async def test_show_answers_with_rows_and_the_tag_show() -> None:
    replies = await Admin().ask(m.query("SHOW LISTS"))
    assert m.tags(replies) == "T" + "D" * 16 + "CZ"
    assert m.column_names(replies[0].body) == ["list", "items"]
    assert m.rows(replies)[0] == ["databases", "1"]
    assert m.command_tags(replies) == ["SHOW"]
    assert replies[-1].body == b"I"


async def test_whoever_did_not_answer_is_named_before_the_rows() -> None:
    admin = Admin(snapshots=FakeSnapshots(silent_workers=[3]))
    notice, *rest = (await admin.ask(m.query("SHOW STATE")))[1:]
    assert m.fields_of(notice.body)["M"] == "worker 3 did not answer and is left out"
    assert m.tags(rest) == "DDDCZ"


async def test_select_is_another_word_for_show() -> None:
    admin = Admin()
    assert await admin.ask(m.query("SELECT Users;")) == await admin.ask(m.query("show users"))


async def test_an_empty_query_gets_the_reply_for_it() -> None:
    assert m.tags(await Admin().ask(m.query(""), m.query(" ; "))) == "IZIZ"


async def test_help_is_a_notice() -> None:
    replies = await Admin().ask(m.query("SHOW HELP"))
    assert m.tags(replies) == "NCZ"
    fields = m.fields_of(replies[0].body)
    assert {code: fields[code] for code in "SCM"} == {"S": "NOTICE", "C": "00000", "M": "Console usage"}
    assert fields["D"].startswith("\n\tSHOW HELP|")


async def test_a_setting_every_driver_sets_is_ignored_with_a_notice() -> None:
    replies = await Admin(STATS).ask(m.query("SET extra_float_digits = 3"))
    assert m.tags(replies) == "NCZ"
    assert m.fields_of(replies[0].body)["M"] == "SET ignored"
    assert m.command_tags(replies) == ["SET"]


@pytest.mark.parametrize(
    ("text", "tag", "call"),
    [
        ("PAUSE;", "PAUSE", ("pause", None)),
        ("DISABLE app", "DISABLE", ("disable", "app")),
        ("kill_client 7", "KILL_CLIENT", ("kill_client", 7)),
        ("SET query_timeout = '5'", "SET query_timeout=5", ("set", "query_timeout", "5")),
        ("RELOAD", "RELOAD", ("reload",)),
        ("SHUTDOWN WAIT_FOR_SERVERS", "SHUTDOWN", ("shutdown", ShutdownMode.WAIT_FOR_SERVERS)),
        ("WAIT_CLOSE", "WAIT_CLOSE", ("closed", None)),
    ],
)
async def test_an_order_is_carried_out_and_answered_with_its_tag(
    text: str, tag: str, call: tuple[object, ...]
) -> None:
    admin = Admin()
    replies = await admin.ask(m.query(text))
    assert (m.tags(replies), m.command_tags(replies), admin.daemon.calls) == ("CZ", [tag], [call])


@pytest.mark.parametrize(
    ("text", "sqlstate", "message"),
    [
        ("FROB; SHOW POOLS", "08P01", "invalid command 'FROB; SHOW POOLS', use SHOW HELP;"),
        ("PAUSE nix", "08P01", "no such database: nix"),
        ("RESUME", "08P01", "pooler is not paused/suspended"),
        ("KILL_CLIENT 999", "08P01", "client not found"),
        ("SUSPEND", "0A000", "SUSPEND is not supported"),
        ("S" * 16, "08P01", "bad arguments"),
    ],
)
async def test_errors_have_severity_code_and_message_and_the_session_goes_on(
    text: str, sqlstate: str, message: str
) -> None:
    admin = Admin()
    replies = await admin.ask(m.query(text))
    assert m.tags(replies) == "EZ"
    assert m.errors(replies) == [{"S": "ERROR", "C": sqlstate, "M": message}]
    assert m.tags(await admin.ask(m.query("SHOW VERSION"))) == "TDCZ"


async def test_a_failed_reload_adds_the_reason_as_detail() -> None:
    admin = Admin()
    admin.daemon.problem = ConfigError([Problem("howdah.ini", 3, "pool_mode", "no such mode")])
    replies = await admin.ask(m.query("RELOAD"))
    assert m.tags(replies) == "EZ"
    assert m.errors(replies) == [
        {
            "S": "ERROR",
            "C": "F0000",
            "M": "RELOAD failed, see logs for additional details",
            "D": "howdah.ini:3: pool_mode: no such mode",
        }
    ]


async def test_a_megabyte_of_junk_gets_one_short_error() -> None:
    admin = Admin()
    replies = await admin.ask(m.query("FROB " + "x" * (1 << 20)))
    assert m.tags(replies) == "EZ"
    assert m.errors(replies)[0]["M"].endswith("...', use SHOW HELP;")
    assert len(replies[0].body) < 1100


async def test_queries_sent_together_are_answered_in_order() -> None:
    replies = await Admin().ask(m.query("SHOW VERSION"), m.query("FROB"), m.query("RELOAD"))
    assert m.tags(replies) == "TDCZ" + "EZ" + "CZ"


async def test_messages_may_arrive_byte_by_byte() -> None:
    admin = Admin()
    for byte in m.query("SHOW VERSION"):
        admin.console.receive(bytes([byte]))
        await asyncio.sleep(0)
    await admin.settle()
    assert m.tags(admin.read()) == "TDCZ"


async def test_names_that_are_not_ascii_arrive_as_utf8() -> None:
    snapshots = FakeSnapshots(client_list=[ClientSnapshot(1, "waiting", "müller", application_name="a\\xff")])
    replies = await Admin(snapshots=snapshots).ask(m.query("SHOW CLIENTS"))
    assert m.rows(replies)[0][1] == "müller"
    assert m.rows(replies)[0][18] == "a\\xff"


@pytest.mark.parametrize("text", ["RELOAD", "KILL", "SET query_timeout = 1", "SHOW FDS", "KILL_CLIENT 7"])
async def test_a_stats_user_changes_nothing(text: str) -> None:
    admin = Admin(STATS)
    replies = await admin.ask(m.query(text))
    assert m.errors(replies) == [{"S": "ERROR", "C": "42501", "M": "admin access needed"}]
    assert admin.daemon.calls == []


# --- waiting --------------------------------------------------------------------------------------


async def test_what_comes_while_an_order_waits_is_answered_after_it() -> None:
    admin = Admin()
    admin.daemon.drained.clear()
    assert await admin.ask(m.query("PAUSE"), m.query("SHOW STATE")) == []
    assert await admin.ask(m.query("SHOW VERSION")) == []
    admin.snapshots.present_state = StateSnapshot(paused=True)
    admin.daemon.drained.set()
    await admin.settle()
    replies = admin.read()
    assert m.tags(replies) == "CZ" + "TDDDCZ" + "TDCZ"
    assert m.rows(replies)[1] == ["paused", "yes"]


async def test_ctrl_c_undoes_a_waiting_pause_and_the_session_goes_on() -> None:
    admin = Admin()
    admin.daemon.drained.clear()
    await admin.ask(m.query("PAUSE app"))
    assert admin.daemon.is_paused("app")
    admin.console.cancel()
    await admin.settle()
    replies = admin.read()
    assert m.tags(replies) == "EZ"
    assert m.errors(replies)[0]["C"] == "57014"
    assert not admin.daemon.is_paused("app")
    assert m.tags(await admin.ask(m.query("SHOW VERSION"))) == "TDCZ"


async def test_ctrl_c_ends_a_wait_close_and_nothing_else() -> None:
    admin = Admin()
    admin.daemon.drained.clear()
    await admin.ask(m.query("WAIT_CLOSE"))
    admin.console.cancel()
    await admin.settle()
    assert m.errors(admin.read())[0]["C"] == "57014"
    assert admin.daemon.calls == [("closed", None)]


async def test_ctrl_c_on_an_idle_console_does_nothing() -> None:
    admin = Admin()
    admin.console.cancel()
    await admin.ask(m.query("SHOW VERSION"))
    admin.console.cancel()
    assert m.tags(await admin.ask(m.query("SHOW VERSION"))) == "TDCZ"


async def test_ctrl_c_does_not_interrupt_a_reload() -> None:
    admin = Admin()
    admin.daemon.reloadable.clear()
    await admin.ask(m.query("RELOAD"))
    admin.console.cancel()
    admin.daemon.reloadable.set()
    await admin.settle()
    assert m.command_tags(admin.read()) == ["RELOAD"]


async def test_an_admin_who_leaves_stops_waiting_but_the_pause_stays() -> None:
    admin = Admin()
    admin.daemon.drained.clear()
    await admin.ask(m.query("PAUSE app"))
    admin.console.lost()
    await admin.settle()
    assert admin.daemon.abandoned == ["app"]
    assert admin.daemon.is_paused("app")
    assert admin.read() == []


async def test_a_reload_goes_on_when_its_admin_leaves() -> None:
    admin = Admin()
    admin.daemon.reloadable.clear()
    await admin.ask(m.query("RELOAD"))
    admin.console.lost()
    await admin.settle()
    admin.daemon.reloadable.set()
    await admin.settle()
    assert admin.daemon.calls == [("reload",)]


async def test_an_admin_may_leave_before_saying_anything() -> None:
    admin = Admin()
    admin.console.lost()
    assert await admin.ask(m.query("SHOW VERSION")) == []


# --- ending ---------------------------------------------------------------------------------------


async def test_an_immediate_shutdown_has_no_answer() -> None:
    admin = Admin()
    assert await admin.ask(m.query("SHUTDOWN"), m.query("SHOW VERSION")) == []
    assert admin.daemon.calls == [("shutdown", ShutdownMode.IMMEDIATE)]
    assert not admin.closed


async def test_terminate_closes_without_a_word() -> None:
    admin = Admin()
    assert await admin.ask(m.terminate(), m.query("SHOW VERSION")) == []
    assert admin.closed


@pytest.mark.parametrize(
    ("data", "sqlstate"),
    [
        (m.message(b"?"), "08P01"),
        (m.password("secret"), "08P01"),
        (m.message(b"Q", b"SHOW VERSION"), "08P01"),
        (m.message(b"Q", b"SHOW\0VERSION\0"), "08P01"),
        (m.message(b"D", b"X\0"), "08P01"),
        (m.message_claiming(b"Q", 3), "08P01"),
        (m.message_claiming(b"Q", 0xFFFFFFFF), "08P01"),
        (m.message_claiming(b"S", 100_000), "54000"),
    ],
)
async def test_a_broken_message_gets_one_fatal_error_and_the_end(data: bytes, sqlstate: str) -> None:
    admin = Admin()
    replies = await admin.ask(m.query("SHOW VERSION"), data, m.query("SHOW VERSION"))
    assert m.tags(replies) == "TDCZE"
    assert (m.errors(replies)[0]["S"], m.errors(replies)[0]["C"]) == ("FATAL", sqlstate)
    assert admin.closed


async def test_sending_too_much_ahead_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKLOG_LIMIT", 1000)
    admin = Admin()
    admin.daemon.drained.clear()
    await admin.ask(m.query("PAUSE"))
    for _ in range(100):
        admin.console.receive(m.query("SHOW VERSION"))
    await admin.settle()
    assert m.errors(admin.read())[0]["C"] == "54000"
    assert admin.closed
    assert admin.daemon.abandoned == [None]


async def test_much_in_all_is_not_too_much_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKLOG_LIMIT", 100)
    admin = Admin()
    for _ in range(50):
        assert m.tags(await admin.ask(m.query("SHOW VERSION"))) == "TDCZ"


async def test_a_mistake_of_ours_is_logged_and_ends_this_console_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    admin = Admin()
    admin.snapshots.user_list = [None]  # type: ignore[list-item]
    replies = await admin.ask(m.query("SHOW USERS"))
    assert m.errors(replies) == [{"S": "FATAL", "C": "XX000", "M": "internal error"}]
    assert admin.closed
    assert "AttributeError" in caplog.text


async def test_function_calls_are_refused() -> None:
    assert m.errors(await Admin().ask(m.function_call(1, [])))[0]["C"] == "0A000"


async def test_copy_messages_outside_of_a_copy_are_ignored_as_postgresql_does() -> None:
    replies = await Admin().ask(m.copy_data(b"x"), m.copy_done(), m.copy_fail("no"), m.query("SHOW VERSION"))
    assert m.tags(replies) == "TDCZ"


# --- long results and slow readers ----------------------------------------------------------------


def crowd(count: int) -> FakeSnapshots:
    return FakeSnapshots(client_list=[ClientSnapshot(n, "waiting", "alice", "app") for n in range(count)])


async def test_a_long_result_leaves_in_pieces_and_is_whole() -> None:
    admin = Admin(snapshots=crowd(5000))
    replies = await admin.ask(m.query("SHOW CLIENTS"))
    assert m.tags(replies) == "T" + "D" * 5000 + "CZ"
    assert [row[-1] for row in m.rows(replies)] == [str(n) for n in range(5000)]
    assert admin.writes > 10


async def test_other_work_gets_its_turn_during_a_long_result() -> None:
    admin = Admin(snapshots=crowd(5000))
    admin.console.receive(m.query("SHOW CLIENTS"))
    turns = 0
    while not admin.written.endswith(b"Z\0\0\0\5I"):
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10


async def test_a_client_that_does_not_read_costs_one_piece() -> None:
    admin = Admin(snapshots=crowd(5000))
    admin.console.pause_writing()
    admin.console.receive(m.query("SHOW CLIENTS") * 2)
    await admin.settle()
    assert admin.writes == 1
    assert len(admin.written) < 40_000
    admin.console.resume_writing()
    await admin.settle()
    assert m.tags(admin.read()) == ("T" + "D" * 5000 + "CZ") * 2

"""A server between its sessions: what it says unasked, queries of ours, cancels, the end."""

import asyncio

import pytest

from protocol import tags
from proxy.pool import states
from proxy.pool.parameters import CHANGED, NOTHING_APPLIED
from proxy.reasons import ServerClosed, Unclean
from tests.support import messages as m
from tests.support.playbook import Playbook, fatal

OK = ("C X", "Z I")
TIMEZONE = 2


def test_a_server_fresh_from_its_login_is_idle_and_clean() -> None:
    book = Playbook()
    server = book.server_at()
    assert server.status == tags.STATUS_IDLE
    assert server.unclean() is None
    assert server.cleanup() == ""
    assert "idle" in repr(server)


def test_a_parameter_reported_while_idle_is_remembered() -> None:
    book = Playbook()
    book.server("S TimeZone=Asia/Tokyo")
    assert book.server_at().values[TIMEZONE] == b"Asia/Tokyo"
    assert book.state() == "idle"


def test_a_report_is_shared_by_server_and_session_where_they_agree() -> None:
    server = Playbook().server_at()
    values = server.reported(b"TimeZone\0Asia/Tokyo\0", server.values)
    assert values is server.values
    unknown = server.pool.tracked.unknown
    mixed = server.reported(b"TimeZone\0UTC\0", unknown)
    assert mixed[TIMEZONE] == server.values[TIMEZONE] == b"UTC"
    assert mixed[0] is None
    assert server.reported(b"in_hot_standby\0on\0", unknown) is unknown


@pytest.mark.parametrize(
    ("command", "listening", "applied"),
    [
        (b"LISTEN\0", True, ((b"a", b"1"),)),
        (b"DISCARD ALL\0", False, NOTHING_APPLIED),
        (b"DISCARD PLANS\0", True, ((b"a", b"1"),)),
        (b"DISCARD TEMP\0", True, ((b"a", CHANGED),)),
        (b"SET\0", True, ((b"a", CHANGED),)),
        (b"RESET\0", True, ((b"a", CHANGED),)),
        (b"SELECT 1\0", True, ((b"a", b"1"),)),
        (b"UNLISTEN\0", True, ((b"a", b"1"),)),
    ],
)
def test_commands_tell_what_the_server_remembers(
    command: bytes, listening: bool, applied: tuple[tuple[bytes, bytes], ...]
) -> None:
    server = Playbook().server_at()
    server.applied = ((b"a", b"1"),)
    server.listening = command != b"LISTEN\0"
    server.noted(command)
    assert server.listening is listening
    assert server.applied == applied


def test_a_server_that_listens_has_something_to_undo() -> None:
    server = Playbook().server_at()
    server.noted(b"LISTEN\0")
    assert server.cleanup() == "UNLISTEN *"


# Queries of ours.


def test_a_check_that_succeeds_makes_the_server_idle_again() -> None:
    book = Playbook()
    server = book.server_at()
    book.pool.move(server, states.TESTED)
    book.now += 5
    server.check("select 1", book.now)
    book.to_server("Q select 1")
    assert server.status == tags.STATUS_BUSY
    assert server.unclean() is Unclean.BUSY
    book.server("T", "D 1", "C SELECT 1", "Z I")
    assert book.state() == "idle"
    assert server.released_at == book.now


def test_the_empty_check_is_the_empty_query() -> None:
    book = Playbook()
    book.pool.move(book.server_at(), states.TESTED)
    book.server_at().check("<empty>", book.now)
    book.to_server("Q ")
    book.server("I", "Z I")
    assert book.state() == "idle"


@pytest.mark.parametrize("reply", [("E 42601 no", "Z I"), ("C X", "Z T"), ("Z I", "Z I"), (b"W\0\0\0\4",)])
def test_a_check_that_fails_closes_the_server(reply: tuple[str | bytes, ...]) -> None:
    book = Playbook()
    book.pool.move(book.server_at(), states.TESTED)
    book.server_at().check("x", book.now)
    book.server(*reply)
    assert book.state() == "closing"


def test_a_server_lost_during_a_check_frees_its_slot() -> None:
    book = Playbook()
    book.pool.move(book.server_at(), states.TESTED)
    book.server_at().check("x", book.now)
    book.server(fatal("57P01", "bye"))
    book.server_closes()
    assert book.state() == "gone"
    assert book.pool.open == 0


def test_an_idle_server_is_tested_before_it_is_lent_after_server_check_delay() -> None:
    book = Playbook(server_check_delay=30)
    book.now += 31 * 1_000_000_000
    book.client("Q a")
    book.to_server("Q ")
    book.to_client()
    assert book.state() == "tested"
    book.server("I", "Z I")
    book.to_server("Q a")
    book.to_client()


def test_a_server_that_died_unnoticed_costs_the_client_nothing() -> None:
    book = Playbook(server_check_delay=30)
    book.now += 31 * 1_000_000_000
    book.client("Q a")
    book.server_closes()
    book.opens()
    book.to_server("Q a", on=2)
    assert not book.stage().ends


# Cancels.


def test_a_cancel_is_for_one_owner_only() -> None:
    book = Playbook()
    before = book.server_at().generation
    book.client("Q a")
    book.server(*OK)
    assert book.server_at().generation != before


def test_a_cancel_that_ends_after_the_server_was_closed_changes_nothing() -> None:
    book = Playbook()
    book.client("Q a")
    book.cancel()
    book.server_at().close(ServerClosed.KILLED)
    book.cancel_over(sent_and_closed=False)
    assert book.state() == "closing"
    book.server_closes()
    book.cancel_over()
    assert book.state() == "gone"


async def test_those_who_wait_for_a_cancel_are_all_told() -> None:
    book = Playbook()
    book.client("Q a")
    book.cancel()
    waiting = [book.server_at().cancel_done() for _ in range(3)]
    waiting[0].cancel()
    assert not waiting[1].done()
    book.cancel_over()
    await asyncio.gather(*waiting[1:])
    assert book.server_at().cancel_done().done()


# The end.


@pytest.mark.parametrize("severity", ["FATAL", "PANIC"])
def test_a_fatal_error_is_recognized_in_any_language(severity: str) -> None:
    server = Playbook().server_at()
    assert server.is_fatal(m.error_response("57P01", "x", severity=severity)[5:])
    assert server.is_fatal(b"SFATAL\0C57P01\0\0")
    assert server.is_fatal(b"SSCHWERWIEGEND\0VFATAL\0C57P01\0\0")
    assert not server.is_fatal(m.error_response("57P01", "FATAL", severity="ERROR")[5:])


def test_what_comes_after_goodbye_is_ignored() -> None:
    book = Playbook()
    book.server_at().close(ServerClosed.LIFETIME)
    book.server("T", b"garbage", "Z I")
    assert book.closed == [ServerClosed.LIFETIME]


def test_closing_a_busy_server_cancels_its_query() -> None:
    book = Playbook()
    book.client("Q a")
    book.client_leaves()
    book.server_at().close(ServerClosed.CANCEL_TIMEOUT)
    assert len(book.cancels) == 1
    assert book.wire().ended


def test_giving_up_aborts_the_connection() -> None:
    book = Playbook()
    book.server_at().close(ServerClosed.LIFETIME)
    assert not book.wire().aborted
    book.server_at().abort()
    assert book.wire().aborted


def test_a_failure_of_ours_closes_the_server_and_tells_its_client() -> None:
    book = Playbook()
    book.client("Q a")
    book.server_at().failed(ValueError("ours"))
    book.error_to_client("08006", "internal error")
    assert book.closed == [ServerClosed.PROTOCOL]


def test_a_connection_lost_twice_is_lost_once() -> None:
    book = Playbook(open=2)
    book.server_closes()
    assert book.pool.open == 1
    assert book.manager.ledger.of_pool(book.pool.key) == 1

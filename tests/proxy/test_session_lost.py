"""Servers that go away under a session: exactly one error, PostgreSQL's own where it sent one."""

import pytest

from proxy.errors import ServerLost
from proxy.reasons import ClientClosed, ServerClosed
from tests.support.playbook import Playbook, fatal

SHUTDOWN = fatal("57P01", "terminating connection due to administrator command")
OK = ("C X", "Z I")
CRASHED = ("08006", "server conn crashed?")


def in_transaction() -> Playbook:
    book = Playbook()
    book.client("Q begin")
    book.server("C BEGIN", "Z T")
    book.to_client("C BEGIN", "Z T")
    return book


def test_a_server_lost_before_its_reply_gives_one_error() -> None:
    book = Playbook()
    book.client("Q a")
    book.server_closes()
    book.error_to_client(*CRASHED)
    assert book.stage().ends == [ClientClosed.SERVER_LOST]
    assert book.state() == "gone"
    assert book.closed == [ServerClosed.SERVER_CLOSED]


def test_a_server_lost_in_the_middle_of_its_reply_gives_one_error_behind_it() -> None:
    book = Playbook()
    book.client("Q a")
    book.server("T", "D 1")
    book.to_client("T", "D 1")
    book.server_closes()
    book.error_to_client(*CRASHED)


def test_a_server_lost_in_an_idle_transaction_gives_one_error_at_once() -> None:
    book = in_transaction()
    book.server_closes()
    book.error_to_client(*CRASHED)


@pytest.mark.parametrize("when", ["running", "in transaction", "before its sync"])
def test_the_servers_own_last_words_are_the_only_error(when: str) -> None:
    book = in_transaction() if when == "in transaction" else Playbook()
    if when == "running":
        book.client("Q a")
    elif when == "before its sync":
        book.client("P a", "H")
        book.server("1")
        book.to_client("1")
    book.server(SHUTDOWN)
    book.to_client(SHUTDOWN)
    assert not book.stage().ends
    book.server_closes()
    book.to_client()
    assert book.stage().ends == [ClientClosed.SERVER_LOST]
    assert book.stage().transport.closed


def test_last_words_cut_in_two_are_still_the_only_error() -> None:
    book = in_transaction()
    for at in range(0, len(SHUTDOWN), 10):
        book.server(SHUTDOWN[at : at + 10])
    book.server_closes()
    book.to_client(SHUTDOWN)


def test_half_of_the_last_words_count_as_none() -> None:
    book = Playbook()
    book.client("Q a")
    book.server(SHUTDOWN[:20])
    book.server_closes()
    book.error_to_client(*CRASHED)


def test_an_error_that_ended_a_statement_is_not_taken_for_last_words() -> None:
    book = in_transaction()
    book.client("Q bad")
    book.server("E 42601 syntax error", "Z E")
    book.to_client("E 42601 syntax error", "Z E")
    book.server_closes()
    book.error_to_client(*CRASHED)


def test_an_error_nobody_asked_for_that_is_not_fatal_ends_both() -> None:
    book = in_transaction()
    book.server("E 42601 why")
    assert book.state() == "closing"
    assert book.stage().ends == [ClientClosed.SERVER_LOST]


def test_a_session_without_the_server_does_not_notice() -> None:
    book = Playbook()
    book.client("Q a")
    book.server(*OK)
    book.to_client(*OK)
    book.server_closes()
    book.to_client()
    book.client("Q 2")
    book.opens()
    book.to_server("Q 2", on=2)


def test_those_who_wait_get_the_next_server() -> None:
    book = Playbook()
    book.client("Q a")
    book.client("Q b", by="b")
    book.server_closes()
    book.to_client(by="b")
    book.opens()
    book.to_server("Q b", on=2)


def test_a_server_that_we_close_tells_its_session_why() -> None:
    book = Playbook()
    book.client("Q a")
    book.server_at().close(ServerClosed.KILLED)
    book.error_to_client("57P01", "admin forced disconnect")
    assert len(book.cancels) == 1
    assert book.wire().ended


def test_a_server_that_fails_tells_its_session_what() -> None:
    book = Playbook()
    book.client("Q a")
    book.server_at().close(ServerClosed.PROTOCOL, ServerLost("internal error"))
    book.error_to_client("08006", "internal error")


def test_a_closed_server_keeps_its_slot_until_postgresql_has_closed() -> None:
    book = Playbook()
    book.client("Q a")
    book.client("Q b", by="b")
    book.server_at().close(ServerClosed.KILLED)
    assert len(book.dialled) == 1
    book.server("T", "D 1", b"nonsense")
    book.server_closes()
    assert len(book.dialled) == 2


def test_closing_twice_is_closing_once() -> None:
    book = Playbook()
    server = book.server_at()
    server.close(ServerClosed.LIFETIME)
    server.close(ServerClosed.KILLED)
    book.server_closes()
    assert book.closed == [ServerClosed.LIFETIME]


def test_a_clean_server_is_told_goodbye() -> None:
    book = Playbook()
    book.server_at().close(ServerClosed.LIFETIME)
    book.to_server("X")
    assert book.wire().ended


def test_an_idle_server_that_says_what_it_may_not_is_closed() -> None:
    book = Playbook()
    book.server("T")
    assert book.closed == [ServerClosed.PROTOCOL]


def test_an_idle_server_that_shuts_down_is_closed_without_a_warning_to_anybody() -> None:
    book = Playbook()
    book.enter("a")
    book.server(SHUTDOWN)
    assert book.closed == [ServerClosed.SERVER_SHUTDOWN]
    book.to_client()


def test_half_a_notice_on_an_idle_server_closes_it() -> None:
    book = Playbook()
    book.server(b"N\0\0\0\x30S")
    assert book.state() == "closing"


def test_a_server_past_its_lifetime_is_closed_at_its_release() -> None:
    book = Playbook()
    book.client("Q a")
    book.now = book.server_at().expires_at
    book.server(*OK)
    book.to_client(*OK)
    assert book.closed == [ServerClosed.LIFETIME]


def test_a_server_marked_to_be_closed_is_closed_at_its_release() -> None:
    book = Playbook()
    book.client("Q begin")
    book.manager.reconnect("app")
    book.server("C BEGIN", "Z T")
    book.client("Q commit")
    book.server(*OK)
    book.to_client("C BEGIN", "Z T", *OK)
    assert book.closed == [ServerClosed.RECONNECT]

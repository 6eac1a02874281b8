"""What a client is told when its connection ends: once, and never in the middle of a message."""

import pytest

from protocol.errors import ProtocolError
from proxy.errors import Killed, ServerLost, TimedOut
from proxy.reasons import ClientClosed, ServerClosed
from tests.support import messages as m
from tests.support.playbook import Playbook, fatal, from_backend

SHUTDOWN = fatal("57P01", "terminating connection due to administrator command")
ROW = from_backend("D " + "x" * 1000)
CRASHED = ("08006", "server conn crashed?")


def halfway(message: bytes = ROW) -> Playbook:
    """The client has been sent the first half of a message."""
    book = Playbook()
    book.client("Q a")
    book.server("T")
    book.to_client("T")
    book.server(message[:600])
    book.to_client(message[:600])
    return book


HALVES = [ROW, m.copy_data(b"y" * 1000)]


# In the middle of a message.


@pytest.mark.parametrize("message", HALVES)
def test_a_server_that_is_lost_in_the_middle_of_a_message_leaves_nothing_to_say(message: bytes) -> None:
    book = halfway(message)
    book.server_closes()
    book.to_client()
    assert book.stage().transport.closed
    assert book.stage().ends == [ClientClosed.SERVER_LOST]


@pytest.mark.parametrize("message", HALVES)
def test_nonsense_behind_the_other_half_of_a_message_leaves_nothing_to_say(
    message: bytes,
) -> None:
    book = halfway(message)
    book.server(message[600:] + b"nonsense")
    book.to_client()
    assert book.stage().transport.closed
    assert book.closed == [ServerClosed.PROTOCOL]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Killed(), ClientClosed.KILLED),
        (TimedOut("query timeout"), ClientClosed.TIMEOUT),
        (ProtocolError("unexpected"), ClientClosed.PROTOCOL),
    ],
)
def test_whatever_ends_a_client_in_the_middle_of_a_message_is_kept_for_the_log(
    error: ProtocolError | Killed | TimedOut, reason: ClientClosed
) -> None:
    book = halfway()
    book.stage().finish(error, reason)
    book.to_client()
    assert book.stage().ends == [reason]


def test_behind_a_message_that_came_in_halves_an_error_can_be_told() -> None:
    book = halfway()
    book.server(ROW[600:])
    book.to_client(ROW[600:])
    book.server_closes()
    book.error_to_client(*CRASHED)


def test_half_of_what_was_held_back_is_none_of_the_client_s() -> None:
    book = Playbook()
    book.client("Q a")
    tag = from_backend("C SELECT 1")
    book.server("T", ROW, tag[:4])
    book.to_client("T", ROW)
    book.server_closes()
    book.error_to_client(*CRASHED)


def test_a_wrong_reply_in_the_chunk_of_the_end_of_a_message_costs_both() -> None:
    """Of that chunk the client is sent nothing, so what it has is half a message."""
    book = halfway()
    book.server(ROW[600:], "1")
    book.to_client()
    assert book.stage().transport.closed
    assert book.closed == [ServerClosed.PROTOCOL]


# Behind the last word of a server.


@pytest.mark.parametrize("error", [Killed(), TimedOut("query timeout"), ServerLost("internal error")])
def test_what_ends_a_client_behind_its_server_s_last_word_is_not_told_too(
    error: Killed | TimedOut | ServerLost,
) -> None:
    book = Playbook()
    book.client("Q a")
    book.server(SHUTDOWN)
    book.to_client(SHUTDOWN)
    book.stage().finish(error, ClientClosed.KILLED)
    book.to_client()


def test_a_server_that_speaks_on_behind_its_last_word_has_said_it_all() -> None:
    book = Playbook()
    book.client("Q a")
    book.server(SHUTDOWN)
    book.server("1")
    book.to_client(SHUTDOWN)
    assert book.stage().transport.closed


@pytest.mark.parametrize("more", ["1", "Z X", "T"])
def test_a_last_word_that_was_not_passed_on_leaves_one_error_to_be_told(more: str) -> None:
    book = Playbook()
    book.client("P a", "H")
    book.server(SHUTDOWN, more)
    told = book.stage().transport.take()
    assert told.count(b"SFATAL\0") == 1
    book.server_closes()
    book.to_client()


def test_an_error_that_is_not_the_last_word_leaves_another_to_be_told() -> None:
    book = Playbook()
    book.client("Q a")
    book.server("E 42601 syntax error")
    book.to_client("E 42601 syntax error")
    book.server_closes()
    book.error_to_client(*CRASHED)


# A client that goes on.


def test_what_the_client_before_was_sent_in_halves_is_none_of_the_next_one_s() -> None:
    book = halfway()
    book.server(ROW[600:], "C SELECT 1", "Z I")
    book.to_client(ROW[600:], "C SELECT 1", "Z I")
    book.enter("b", timezone="Asia/Tokyo")
    book.client("Q b", by="b")
    book.server("S TimeZone=Asia/Tokyo", "C SET", "1")
    book.server_closes()
    book.opens()
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I", on=2)
    book.server("T", on=2)
    book.to_client("T", by="b")
    book.server_closes(2)
    book.error_to_client(*CRASHED, by="b")


def test_a_server_that_ends_while_it_is_given_our_settings_is_replaced() -> None:
    book = Playbook()
    book.enter("b", timezone="Asia/Tokyo")
    book.client("Q b", by="b")
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I", SHUTDOWN)
    book.to_client(by="b")
    assert book.closed == [ServerClosed.SERVER_SHUTDOWN]
    book.server_closes()
    book.opens()
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I", on=2)
    book.to_server("Q SET TimeZone='Asia/Tokyo'", "Q b", on=2)


# Rows nobody asked for.


@pytest.mark.parametrize(
    ("said", "replies"),
    [
        (("P a", "H"), ("D 1",)),
        (("P a", "H"), ("D 1", "1")),
        (("P a", "B", "H"), ("1", "D 1")),
        (("P a", "B", "E", "S"), ("1", "2", "C SELECT 1", "D 1", "Z I")),
        (("S",), ("D 1", "Z I")),
        (("F",), ("d 1",)),
    ],
)
def test_rows_nobody_asked_for_end_server_and_client(said: tuple[str, ...], replies: tuple[str, ...]) -> None:
    book = Playbook()
    book.client(*said)
    book.server(*replies)
    assert book.closed == [ServerClosed.PROTOCOL]
    assert book.stage().ends == [ClientClosed.SERVER_LOST]
    assert b"D\0\0\0\x0b" not in book.stage().transport.take()


def test_what_rows_look_like_is_not_said_when_nobody_asked() -> None:
    book = Playbook()
    book.client("Q begin")
    book.server("C BEGIN", "Z T")
    book.server("T a")
    assert book.closed == [ServerClosed.PROTOCOL]
    assert book.stage().ends == [ClientClosed.SERVER_LOST]


def test_a_describe_behind_a_query_is_answered_by_what_rows_look_like() -> None:
    book = Playbook()
    book.client("Q begin")
    book.server("T a", "D 1", "C BEGIN", "Z T")
    book.client("P a", "D P", "S")
    book.server("1", "T a", "Z T")
    book.client("Q commit")
    book.server("C COMMIT", "Z I")
    assert book.state() == "idle"

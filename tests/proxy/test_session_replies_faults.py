"""What no client and no server may say, and what a server says behind the reply that releases it."""

import pytest

from proxy.reasons import ClientClosed, ServerClosed, Unclean
from tests.support import messages as m
from tests.support.playbook import Playbook, fatal

ROW = ("T", "D 1", "C SELECT 1")


# What comes behind the ReadyForQuery that releases.


@pytest.mark.parametrize(
    "behind",
    [
        *("T", "D 1", "C SELECT 1", "Z I", "E 22012 late", "1"),
        *(b"?\0\0\0\4", b"?", b"C\0\0\0\0"),
    ],
)
def test_a_reply_behind_the_releasing_ready_closes_the_server_and_reaches_nobody(behind: str | bytes) -> None:
    book = Playbook()
    book.client("Q 1")
    book.client("Q x", by="b")
    book.server(*ROW, "Z I", behind)
    book.to_client(*ROW, "Z I")
    book.to_client(by="b")
    assert book.state() == "closing"
    assert not book.stage().ends
    assert not book.stage("b").ends


def test_half_a_message_behind_the_releasing_ready_closes_the_server() -> None:
    book = Playbook()
    book.client("Q 1")
    book.server(*ROW, "Z I", b"D\0\0")
    book.to_client(*ROW, "Z I")
    assert book.state() == "closing"


def test_a_notice_and_a_parameter_behind_the_releasing_ready_are_harmless() -> None:
    book = Playbook()
    book.client("Q 1")
    book.server(*ROW, "Z I", "N odd", "S TimeZone=Asia/Tokyo")
    book.to_client(*ROW, "Z I")
    assert book.state() == "idle"
    at = book.pool.tracked.index(b"timezone")
    assert book.server_at().values[at] == b"Asia/Tokyo"


def test_a_shutdown_behind_the_releasing_ready_costs_no_client_an_error() -> None:
    book = Playbook()
    book.client("Q 1")
    book.client("Q x", by="b")
    book.server(*ROW, "Z I", fatal("57P01", "terminating connection"))
    book.to_client(*ROW, "Z I")
    assert book.closed == [ServerClosed.SERVER_SHUTDOWN]
    book.server_closes()
    book.opens()
    book.to_server("Q x", on=2)
    book.to_client(by="b")


def test_a_notice_for_an_idle_server_reaches_nobody() -> None:
    book = Playbook()
    book.client("Q 1")
    book.server(*ROW, "Z I")
    book.to_client(*ROW, "Z I")
    book.server("N odd", "A channel")
    book.to_client()
    assert book.state() == "idle"


def test_a_server_with_unsent_bytes_is_not_reused() -> None:
    book = Playbook()
    book.client("Q 1")
    book.wire().unsent = 1
    book.server(*ROW, "Z I")
    assert book.state() == "closing"
    assert book.pool.unclean == {Unclean.UNSENT: 1}


# Replies that cannot be.


@pytest.mark.parametrize("reply", ["1", "2", "n", "s", "V"])
def test_a_reply_a_query_cannot_have_ends_server_and_client_with_one_error(reply: str) -> None:
    book = Playbook()
    book.client("Q 1")
    book.server(reply)
    assert m.fields_of(book.stage().transport.take()[5:])["C"] == "08P01"
    assert book.stage().ends == [ClientClosed.SERVER_LOST]
    assert book.state() == "closing"


@pytest.mark.parametrize("body", [b"", b"X", b"\0", b"II"])
def test_a_ready_for_query_with_a_wrong_status_ends_server_and_client(body: bytes) -> None:
    book = Playbook()
    book.client("Q 1")
    book.server("C SET", m.message(b"Z", body), "N x")
    assert book.state() == "closing"
    assert book.stage().ends == [ClientClosed.SERVER_LOST]


@pytest.mark.parametrize("tag", [b"C", b"Z"])
def test_a_reply_without_its_body_ends_server_and_client(tag: bytes) -> None:
    book = Playbook()
    book.client("Q 1")
    book.server(m.message(tag))
    assert book.state() == "closing"
    assert book.stage().ends == [ClientClosed.SERVER_LOST]


@pytest.mark.parametrize("tag", [b"W", b"R", b"K", b"x", b"\0"])
def test_a_message_no_server_may_send_ends_both(tag: bytes) -> None:
    book = Playbook()
    book.client("Q 1")
    book.server(m.message(tag, b"\0\0\0\0"))
    assert book.state() == "closing"
    assert book.stage().ends == [ClientClosed.SERVER_LOST]


# Requests that cannot be.


@pytest.mark.parametrize(
    "bad", [b"T\0\0\0\4", b"\0\0\0\0\4", b"~\0\0\0\4", b"p\0\0\0\5x", b"Q\0\0\0\3", b"S\0\1\0\0"]
)
@pytest.mark.parametrize("linked", [False, True], ids=["without server", "in transaction"])
def test_a_message_no_client_may_send_ends_that_client_with_one_error(bad: bytes, linked: bool) -> None:
    book = Playbook()
    if linked:
        book.client("Q begin")
        book.server("C BEGIN", "Z T")
        book.to_client("C BEGIN", "Z T")
    book.client(bad)
    fields = m.fields_of(book.stage().transport.take()[5:])
    assert fields["C"] in ("08P01", "54000")
    assert book.stage().ends == [ClientClosed.PROTOCOL]
    assert book.state() == ("closing" if linked else "idle")


def test_terminate_without_a_server_just_ends() -> None:
    book = Playbook()
    book.client("X")
    book.to_client()
    book.to_server()
    assert book.stage().ends == [ClientClosed.CLIENT_LEFT]
    assert book.state() == "idle"


def test_terminate_in_a_transaction_closes_the_server() -> None:
    book = Playbook()
    book.client("Q begin")
    book.server("C BEGIN", "Z T")
    book.client("X")
    assert book.closed == [ServerClosed.ABANDONED]


def test_a_query_and_terminate_in_one_chunk_leave_the_server_usable_or_closed() -> None:
    """PostgreSQL would run the query; what must not be is a server that owes the reply of an unsent one."""
    book = Playbook()
    book.client("Q insert", "X")
    assert book.stage().ends == [ClientClosed.CLIENT_LEFT]
    book.client("Q x", by="b")
    if book.state() == "active":
        book.to_server("Q x")
        book.server(*ROW, "Z I")
        book.to_client(*ROW, "Z I", by="b")

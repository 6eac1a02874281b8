"""Waiting for a server: what is held, for how long, and what becomes of it when somebody leaves."""

import pytest

from proxy.errors import TimedOut
from proxy.reasons import ClientClosed, ServerClosed
from tests.support.playbook import Playbook, from_frontend

OK = ("C X", "Z I")


def busy() -> Playbook:
    """`a` has the only server."""
    book = Playbook()
    book.client("Q a")
    book.to_server("Q a")
    return book


def test_those_who_wait_are_served_in_their_order() -> None:
    book = busy()
    for name in "bcd":
        book.client(f"Q {name}", by=name)
    for name in "bcd":
        book.to_server()
        book.server(*OK)
        book.to_server(f"Q {name}")


def test_everything_held_is_sent_once_and_in_order() -> None:
    book = busy()
    said = [("P b", "B"), ("E",), ("S", "Q 2"), ("F",)]
    for chunk in said:
        book.client(*chunk, by="b")
    book.server(*OK)
    book.to_server(*(one for chunk in said for one in chunk))
    book.server("1", "2", *OK, *OK, "V", "Z I")
    book.to_client("1", "2", *OK, *OK, "V", "Z I", by="b")
    assert book.state() == "idle"


def test_a_client_is_read_up_to_64_kib_while_it_waits() -> None:
    book = busy()
    book.client("Q " + "x" * 60_000, by="b")
    assert book.stage("b").transport.reading
    book.client("Q " + "y" * 6_000, by="b")
    assert not book.stage("b").transport.reading
    book.server(*OK)
    assert book.stage("b").transport.reading
    book.to_server("Q " + "x" * 60_000, "Q " + "y" * 6_000)


def test_one_chunk_over_the_limit_pauses_the_client_too() -> None:
    book = busy()
    book.client("Q " + "x" * 70_000, by="b")
    assert not book.stage("b").transport.reading
    book.server(*OK)
    assert book.stage("b").transport.reading


def test_a_long_query_may_arrive_in_pieces_before_and_after_the_server() -> None:
    book = busy()
    query = from_frontend("Q " + "x" * 50_000)
    book.client(query[:20_000], by="b")
    book.client(query[20_000:30_000], by="b")
    book.server(*OK)
    book.to_server(query[:30_000])
    book.client(query[30_000:], by="b")
    book.to_server(query[30_000:])
    book.server(*OK)
    book.to_client(*OK, by="b")


@pytest.mark.parametrize("how", ["terminate", "lost", "garbage"])
def test_a_client_that_goes_while_it_waits_never_has_its_query_sent(how: str) -> None:
    book = busy()
    book.client("Q insert", by="b")
    if how == "terminate":
        book.client("X", by="b")
    elif how == "garbage":
        book.client(b"\0\0\0\0\0", by="b")
    else:
        book.client_leaves("b")
    assert not book.pool.waiting
    book.server(*OK)
    book.to_server()
    assert book.state() == "idle"


def test_query_and_terminate_in_one_chunk_while_waiting_are_both_gone() -> None:
    book = busy()
    book.client("Q insert", "X", by="b")
    assert book.stage("b").ends == [ClientClosed.CLIENT_LEFT]
    book.server(*OK)
    book.to_server()


def test_terminate_behind_the_rest_of_a_long_query_ends_the_wait() -> None:
    book = busy()
    query = from_frontend("Q " + "x" * 50_000)
    book.client(query[:20_000], by="b")
    book.client(query[20_000:], "X", by="b")
    assert book.stage("b").ends == [ClientClosed.CLIENT_LEFT]
    book.server(*OK)
    book.to_server()


def test_terminate_behind_the_rest_of_a_long_query_does_not_leave_the_server_waiting_for_it() -> None:
    book = Playbook()
    query = from_frontend("Q " + "x" * 50_000)
    book.client(query[:20_000])
    book.client(query[20_000:], "X")
    assert book.stage().ends == [ClientClosed.CLIENT_LEFT]
    whole = book.wire().take() == query
    assert book.state() == ("being_canceled" if whole else "closing")


def test_a_refusal_ends_the_client_with_its_text_and_sends_nothing() -> None:
    book = busy()
    book.client("Q b", by="b")
    session = book.session("b")
    book.pool.leave(session)
    session.refused(TimedOut("query_wait_timeout"), ClientClosed.TIMEOUT)
    book.error_to_client("57014", "query_wait_timeout", by="b")
    book.server(*OK)
    book.to_server()
    assert book.stage("b").ends == [ClientClosed.TIMEOUT]


def test_a_paused_database_keeps_clients_waiting() -> None:
    book = Playbook()
    book.manager.pause("app")
    book.server_closes()
    book.client("Q a")
    book.to_client()
    book.manager.resume("app")
    book.opens()
    book.to_server("Q a", on=2)


def test_a_client_that_waits_is_told_once_when_the_queue_is_long() -> None:
    book = busy()
    book.client("Q b", by="b")
    book.session("b").still_waiting()
    assert book.stage("b").notices == 1
    assert book.session("b").notified


def test_an_idle_session_is_idle_and_a_waiting_one_is_not() -> None:
    book = busy()
    session = book.session("b")
    assert session.is_idle()
    book.client("Q b", by="b")
    assert not session.is_idle()
    book.server(*OK)
    assert not session.is_idle()
    book.server("C BEGIN", "Z T")
    assert not session.is_idle()
    book.client("Q commit", by="b")
    book.server(*OK)
    assert session.is_idle()


def test_the_pool_learns_how_long_a_client_waited() -> None:
    book = busy()
    book.client("Q b", by="b")
    book.now += 5_000
    book.server(*OK)
    assert book.pool.stats.wait_time == 5_000


# Leaving in the other phases.


def test_a_client_that_goes_while_its_query_runs_has_it_cancelled_and_the_server_comes_back() -> None:
    book = busy()
    book.client("Q b", by="b")
    book.client_leaves()
    assert book.state() == "being_canceled"
    book.to_server()
    assert len(book.cancels) == 1
    book.server("E 57014 canceling", "Z I")
    book.to_server()
    book.cancel_over()
    book.to_server("Q b")
    book.server(*OK)
    book.to_client(*OK, by="b")


def test_a_cancel_that_is_over_first_leaves_the_server_to_its_reply() -> None:
    book = busy()
    book.client_leaves()
    book.cancel_over()
    assert book.state() == "being_canceled"
    book.server(*OK)
    assert book.state() == "idle"


def test_a_client_that_goes_in_an_idle_transaction_closes_its_server() -> None:
    book = busy()
    book.server("C BEGIN", "Z T")
    book.client_leaves()
    assert book.closed == [ServerClosed.ABANDONED]
    assert not book.cancels


def test_an_abandoned_query_that_ends_in_a_transaction_closes_its_server() -> None:
    book = busy()
    book.client_leaves()
    book.cancel_over()
    book.server("C BEGIN", "Z T")
    assert book.state() == "closing"


def test_an_abandoned_query_with_an_endless_reply_closes_its_server() -> None:
    book = busy()
    book.client_leaves()
    book.server("T")
    for _ in range(20):
        book.server("D " + "x" * 60_000)
    assert book.closed == [ServerClosed.ABANDONED]


def test_a_client_that_goes_before_its_sync_closes_its_server() -> None:
    book = Playbook()
    book.client("P b", "B", "H")
    book.client_leaves()
    assert book.state() == "closing"


def test_a_client_that_goes_with_half_a_request_sent_closes_its_server() -> None:
    book = Playbook()
    book.client(from_frontend("Q " + "x" * 50_000)[:20_000])
    book.client_leaves()
    assert book.closed == [ServerClosed.ABANDONED]
    assert book.wire().ended


def test_a_client_that_goes_with_replies_owed_to_a_pipeline_has_all_of_them_awaited() -> None:
    book = Playbook()
    book.client("Q 1", "Q 2", "P 3", "B", "E", "S")
    book.client_leaves()
    book.cancel_over()
    book.server(*OK, *OK)
    assert book.state() == "being_canceled"
    book.server("1", "2", *OK)
    assert book.state() == "idle"


def test_a_clean_server_of_a_leaving_session_goes_back_at_once() -> None:
    book = Playbook(pool_mode="session", server_reset_query="")
    book.client("Q a")
    book.server(*OK)
    book.client("Q b", by="b")
    book.client_leaves()
    assert book.session("b").server is book.server_at()


def test_what_an_abandoned_query_did_is_remembered() -> None:
    book = Playbook()
    book.client("Q listen x", "Q set timezone")
    book.client_leaves()
    book.cancel_over()
    book.server("C LISTEN", "Z I", "S TimeZone=Asia/Tokyo", "C SET", "Z I")
    book.to_server("Q listen x", "Q set timezone", "Q UNLISTEN *")
    assert book.server_at().values[2] == b"Asia/Tokyo"


def test_leaving_twice_is_leaving_once() -> None:
    book = busy()
    book.client("X")
    book.client_leaves()
    assert book.stage().ends == [ClientClosed.CLIENT_LEFT]

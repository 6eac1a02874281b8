"""The simple protocol: queries, FunctionCall, what a server says unasked; and when a server goes back."""

import pytest

from config.types import PoolMode
from proxy.reasons import ClientClosed, ServerClosed
from tests.support.playbook import Playbook, from_backend, from_frontend

ROW = ("T", "D 1", "C SELECT 1")


def test_a_query_passes_and_its_server_goes_back() -> None:
    book = Playbook()
    book.client("Q select 1")
    book.to_server("Q select 1")
    assert book.state() == "active"
    book.server(*ROW, "Z I")
    book.to_client(*ROW, "Z I")
    assert book.state() == "idle"
    assert book.session().server is None


def test_the_very_objects_received_are_forwarded_in_one_write_each() -> None:
    book = Playbook()
    sent = book.client("Q select 1", "Q select 2")
    assert len(book.wire().parts) == 1
    assert book.wire().parts[0][0] is sent
    answer = book.server(*ROW, "Z I", *ROW, "Z I")
    parts = book.stage().transport.parts
    assert len(parts) == 1
    assert parts[0][0] is answer


def test_rows_are_forwarded_as_they_come() -> None:
    book = Playbook()
    book.client("Q select 1")
    rows = from_backend("T", "D abcdef")
    book.server(rows[:-3])
    book.to_client(rows[:-3])
    book.server(rows[-3:], "C SELECT 1")
    book.to_client(rows[-3:], "C SELECT 1")
    book.server("Z I")
    book.to_client("Z I")


def test_a_ready_for_query_cut_in_two_is_sent_whole() -> None:
    book = Playbook()
    book.client("Q select 1")
    reply = from_backend(*ROW, "Z I")
    book.server(reply[:-1])
    book.to_client(*ROW)
    assert book.state() == "active"
    book.server(reply[-1:])
    book.to_client("Z I")
    assert book.state() == "idle"


def test_a_multi_statement_query_ends_with_its_one_ready_for_query() -> None:
    book = Playbook()
    book.client("Q select 1; select 2")
    book.server(*ROW)
    assert book.state() == "active"
    book.server(*ROW, "Z I")
    book.to_client(*ROW, *ROW, "Z I")
    assert book.state() == "idle"


def test_an_error_in_a_multi_statement_query_is_followed_by_ready_for_query() -> None:
    book = Playbook()
    book.client("Q insert; select 1/0; insert")
    book.server("C INSERT 0 1", "E 22012 division by zero", "Z I")
    book.to_client("C INSERT 0 1", "E 22012 division by zero", "Z I")
    assert book.state() == "idle"


@pytest.mark.parametrize("reply", [("I",), ("C SET",), ("E 42601 syntax error",)])
def test_short_replies_of_every_kind_release(reply: tuple[str, ...]) -> None:
    book = Playbook()
    book.client("Q x")
    book.server(*reply, "Z I")
    book.to_client(*reply, "Z I")
    assert book.state() == "idle"


def test_a_server_is_kept_inside_a_transaction() -> None:
    book = Playbook()
    book.client("Q begin")
    book.server("C BEGIN", "Z T")
    book.client("Q select 1/0")
    book.server("E 22012 division by zero", "Z E")
    assert book.state() == "active"
    book.client("Q rollback")
    book.server("C ROLLBACK", "Z I")
    book.to_client("C BEGIN", "Z T", "E 22012 division by zero", "Z E", "C ROLLBACK", "Z I")
    assert book.state() == "idle"


def test_pipelined_queries_keep_the_server_until_the_last_is_answered() -> None:
    book = Playbook()
    book.client("Q 1", "Q 2")
    book.client("Q x", by="b")
    book.server(*ROW, "Z I")
    assert book.session().server is book.server_at()
    book.to_client(*ROW, "Z I")
    book.to_server("Q 1", "Q 2")
    book.server(*ROW, "Z I")
    book.to_server("Q x")
    book.to_client(*ROW, "Z I")
    book.to_client(by="b")


def test_a_function_call_is_answered_like_a_query() -> None:
    book = Playbook()
    book.client("F")
    book.to_server("F")
    book.server("V", "Z I")
    book.to_client("V", "Z I")
    assert book.state() == "idle"


def test_a_failed_function_call_is_answered_by_error_and_ready() -> None:
    book = Playbook()
    book.client("F", "Q 2")
    book.server("E 42883 no such function", "Z I")
    assert book.state() == "active"
    book.server(*ROW, "Z I")
    book.to_client("E 42883 no such function", "Z I", *ROW, "Z I")
    assert book.state() == "idle"


def test_notices_reach_the_client_in_their_place() -> None:
    book = Playbook()
    book.client("Q do")
    book.server("N one", "C DO", "N two", "Z I")
    book.to_client("N one", "C DO", "N two", "Z I")


def test_each_client_gets_its_own_reply() -> None:
    book = Playbook()
    for name in ("a", "b", "c"):
        book.client(f"Q {name}", by=name)
    for name in ("a", "b", "c"):
        book.to_server(f"Q {name}")
        book.server("T", f"D {name}", "C SELECT 1", "Z I")
        book.to_client("T", f"D {name}", "C SELECT 1", "Z I", by=name)


def test_session_mode_keeps_the_server_until_the_client_leaves() -> None:
    book = Playbook(pool_mode="session", server_reset_query="")
    book.client("Q 1")
    book.server(*ROW, "Z I")
    assert book.state() == "active"
    assert book.session().is_idle()
    book.client("Q x", by="b")
    book.to_client(by="b")
    book.client("X")
    book.to_server("Q 1", "Q x")
    assert book.stage().ends == [ClientClosed.CLIENT_LEFT]


def test_session_mode_resets_the_server_before_the_next_session_has_it() -> None:
    book = Playbook(pool_mode="session")
    book.client("Q 1")
    book.server(*ROW, "Z I")
    book.client("Q x", by="b")
    book.client("X")
    book.to_server("Q 1", "Q DISCARD ALL")
    assert book.state() == "tested"
    book.server("C DISCARD ALL", "Z I")
    book.to_server("Q x")
    book.to_client(*ROW, "Z I")
    book.to_client(by="b")


def test_a_failed_reset_closes_the_server() -> None:
    book = Playbook(pool_mode="session")
    book.client("Q 1")
    book.server(*ROW, "Z I")
    book.client("X")
    book.server("E XX000 no", "Z I")
    assert book.state() == "closing"


def test_statement_mode_refuses_a_transaction_and_closes_its_server() -> None:
    book = Playbook(pool_mode="statement")
    book.client("Q begin")
    book.server("C BEGIN", "Z T")
    book.error_to_client("0A000", "transaction blocks not allowed in statement pooling mode")
    assert book.state() == "closing"
    assert book.closed == [ServerClosed.ABANDONED]


def test_statement_mode_lends_anew_for_each_statement() -> None:
    book = Playbook(pool_mode="statement")
    book.client("Q 1")
    book.client("Q x", by="b")
    book.server(*ROW, "Z I")
    book.to_server("Q 1", "Q x")


def test_the_mode_of_the_pool_may_change_between_two_queries() -> None:
    book = Playbook()
    book.client("Q 1")
    book.pool.mode = PoolMode.SESSION
    book.server(*ROW, "Z I")
    assert book.state() == "active"
    book.pool.mode = PoolMode.TRANSACTION
    book.client("Q 2")
    book.server(*ROW, "Z I")
    assert book.state() == "idle"


def test_counters_count_queries_transactions_and_bytes() -> None:
    book = Playbook()
    sent = book.client("Q begin")
    book.now += 1000
    received = book.server("C BEGIN", "Z T")
    sent += book.client("Q commit")
    book.now += 500
    received += book.server("C COMMIT", "Z I")
    stats = book.pool.stats
    assert (stats.query_count, stats.xact_count, stats.server_assignment_count) == (2, 1, 1)
    assert (stats.bytes_received, stats.bytes_sent) == (len(sent), len(received))
    assert (stats.query_time, stats.xact_time) == (1500, 1500)


def test_every_cutting_of_a_conversation_gives_the_same_bytes() -> None:
    asked = from_frontend("Q begin", "Q select 1", "Q commit")
    replies = from_backend("C BEGIN", "Z T", *ROW, "N hm", "Z T", "C COMMIT", "Z I")
    for cut in range(1, len(asked)):
        book = Playbook()
        book.client(asked[:cut])
        book.client(asked[cut:])
        book.to_server(asked)
        at = cut * len(replies) // len(asked)
        book.server(replies[:at])
        book.server(replies[at:])
        book.to_client(replies)
        assert book.state() == "idle"


def test_one_byte_at_a_time_gives_the_same_bytes() -> None:
    book = Playbook()
    asked = from_frontend("Q begin", "F", "Q commit")
    replies = from_backend("C BEGIN", "Z T", "V", "Z T", "S TimeZone=UTC", "C COMMIT", "Z I")
    for at in range(len(asked)):
        book.client(asked[at : at + 1])
    book.to_server(asked)
    for at in range(len(replies)):
        book.server(replies[at : at + 1])
    book.to_client(replies)
    assert book.state() == "idle"

"""The extended protocol: pipelines, Flush, portals, errors in groups; when a server may go and when not."""

import pytest

from proxy.reasons import ClientClosed
from tests.support.playbook import Playbook, from_backend, from_frontend

ONE = ("P select 1", "B", "D", "E", "S")
ONE_REPLY = ("1", "2", "T", "D 1", "C SELECT 1", "Z I")
BAD = "E 42601 syntax error"


def with_rival() -> Playbook:
    """`b` waits for the only server, which `a` has."""
    book = Playbook()
    book.client("Q begin")
    book.server("C BEGIN", "Z T")
    book.client("Q x", by="b")
    book.client("Q commit")
    book.to_server("Q begin", "Q commit")
    book.to_client("C BEGIN", "Z T")
    assert book.session("b") in book.pool.waiting
    return book


def test_one_extended_query_passes_and_releases() -> None:
    book = Playbook()
    sent = book.client(*ONE)
    assert book.wire().parts == [[sent]]
    received = book.server(*ONE_REPLY)
    assert book.stage().transport.parts == [[received]]
    assert book.state() == "idle"


@pytest.mark.parametrize("count", [1, 2, 7, 500])
def test_a_pipeline_keeps_its_server_until_the_last_sync_is_answered(count: int) -> None:
    book = Playbook()
    book.client(*(ONE * count))
    book.client("Q x", by="b")
    for left in range(count, 0, -1):
        book.to_client(by="b")
        assert book.session().server is book.server_at(), f"{left} to come"
        book.server(*ONE_REPLY)
    assert book.session("b").server is book.server_at()
    book.to_client(*(ONE_REPLY * count))


def test_a_pipeline_answered_in_one_chunk_releases_at_its_end() -> None:
    book = Playbook()
    book.client(*ONE, *ONE, *ONE)
    book.server(*ONE_REPLY, *ONE_REPLY, *ONE_REPLY)
    book.to_client(*ONE_REPLY, *ONE_REPLY, *ONE_REPLY)
    assert book.state() == "idle"


def test_transactions_inside_a_pipeline_may_end_and_begin_anew() -> None:
    book = Playbook()
    book.client("Q begin", *ONE, "Q commit", *ONE)
    book.server("C BEGIN", "Z T", *ONE_REPLY[:-1], "Z T", "C COMMIT", "Z I")
    assert book.state() == "active"
    book.server(*ONE_REPLY)
    assert book.state() == "idle"


def test_parse_describe_flush_keeps_the_server_with_a_rival_waiting() -> None:
    book = with_rival()
    book.client("P select 1", "D S", "H")
    book.server("C COMMIT", "Z I")
    book.to_client("C COMMIT", "Z I")
    book.to_server("P select 1", "D S", "H")
    book.server("1", "t", "T")
    book.to_client("1", "t", "T")
    assert book.state() == "active"
    assert book.session().server is book.server_at()
    book.client("B", "E", "S")
    book.to_server("B", "E", "S")
    book.server("2", "D 1", "C SELECT 1", "Z I")
    book.to_client("2", "D 1", "C SELECT 1", "Z I")
    book.to_server("Q x")


def test_a_bad_parse_with_flush_then_query_then_sync_keeps_the_server_to_the_end() -> None:
    book = with_rival()
    book.server("C COMMIT", "Z I")
    book.to_server("Q x")
    book.server("C X", "Z I")
    book.client("P bad", "H")
    book.client("Q x", by="b")
    book.to_server("P bad", "H")
    book.server(BAD)
    assert book.session().server is book.server_at()
    book.client("Q select 1")
    book.to_server("Q select 1")
    assert book.session().server is book.server_at()
    book.client("S")
    book.to_server("S")
    book.server("Z I")
    book.to_server("Q x")
    book.to_client("C COMMIT", "Z I", BAD, "Z I")


def test_a_query_behind_a_failed_group_is_forwarded_and_not_counted() -> None:
    book = Playbook()
    book.client("P bad", "H")
    book.server(BAD)
    book.client("Q a", "F", "P b", "B", "E", "S", "Q c")
    book.to_server("P bad", "H", "Q a", "F", "P b", "B", "E", "S", "Q c")
    book.server("Z I")
    assert book.state() == "active"
    book.server("C C", "Z I")
    assert book.state() == "idle"
    book.to_client(BAD, "Z I", "C C", "Z I")


def test_flushes_with_no_rows_limit_by_limit() -> None:
    book = Playbook()
    book.client("P select", "B", "E 1", "H")
    book.server("1", "2", "D 1", "s")
    for _ in range(3):
        book.client("E 1", "H")
        book.server("D 1", "s")
    book.client("Q x", by="b")
    book.client("E 1", "H")
    book.server("C SELECT 4")
    assert book.session().server is book.server_at()
    book.client("C", "S")
    book.server("3", "Z I")
    assert book.session("b").server is book.server_at()


@pytest.mark.parametrize("failing", range(4))
def test_an_error_drops_what_is_left_of_its_group_and_no_more(failing: int) -> None:
    book = Playbook()
    book.client(*ONE, *ONE)
    replies = (*ONE_REPLY[:failing], BAD, "Z I")
    book.server(*replies)
    assert book.state() == "active"
    book.server(*ONE_REPLY)
    book.to_client(*replies, *ONE_REPLY)
    assert book.state() == "idle"


def test_errors_in_every_group_of_a_pipeline() -> None:
    book = Playbook()
    book.client(*(ONE * 5))
    book.server(*((BAD, "Z I") * 5))
    book.to_client(*((BAD, "Z I") * 5))
    assert book.state() == "idle"


def test_an_error_at_sync_itself_is_followed_by_ready() -> None:
    """A deferred constraint fails when the implicit transaction commits."""
    book = Playbook()
    book.client(*ONE)
    book.server(*ONE_REPLY[:-1], "E 23503 violates", "Z I")
    book.to_client(*ONE_REPLY[:-1], "E 23503 violates", "Z I")
    assert book.state() == "idle"


def test_an_error_before_the_sync_was_sent_waits_for_it() -> None:
    book = Playbook()
    book.client("P bad", "B", "E")
    book.client("H")
    book.server(BAD)
    book.client("Q x", by="b")
    assert book.session().server is book.server_at()
    book.client("S")
    book.server("Z I")
    book.to_client(BAD, "Z I")
    assert book.session("b").server is book.server_at()


def test_close_of_statements_and_portals_is_counted() -> None:
    book = Playbook()
    book.client("C one", "C two", "S")
    book.server("3")
    assert book.state() == "active"
    book.server("3", "Z I")
    assert book.state() == "idle"


def test_a_lone_sync_is_answered_by_a_server() -> None:
    book = Playbook()
    book.client("S")
    book.to_server("S")
    book.server("Z I")
    book.to_client("Z I")
    assert book.state() == "idle"


def test_a_group_that_comes_message_by_message() -> None:
    book = Playbook()
    for one in ONE:
        book.client(one)
        book.to_server(one)
    for one in ONE_REPLY:
        book.server(one)
        book.to_client(one)
    assert book.state() == "idle"


def test_a_flush_that_makes_the_server_say_nothing_is_not_sent() -> None:
    book = Playbook()
    book.client("H")
    assert book.state() == "idle"
    book.client("Q 1", "H")
    book.client("Q 2")
    book.to_server("Q 1", "Q 2")
    book.server("C X", "Z I", "C X", "Z I")
    assert book.state() == "idle"
    book.client("H")
    book.to_server()


def test_empty_query_and_no_data_complete_what_they_answer() -> None:
    book = Playbook()
    book.client("P", "B", "D", "E", "S")
    book.server("1", "2", "n", "I", "Z I")
    assert book.state() == "idle"


@pytest.mark.parametrize(
    "wrong", [("2",), ("1", "1"), ("1", "2", "C SELECT 1"), ("Z I",), ("1", "2", "T", "Z I")]
)
def test_a_reply_out_of_turn_ends_server_and_client(wrong: tuple[str, ...]) -> None:
    book = Playbook()
    book.client(*ONE)
    book.server(*wrong)
    assert book.state() == "closing"
    assert book.stage().ends == [ClientClosed.SERVER_LOST]


def test_more_requests_than_may_be_owed_pause_the_client_until_half_are_answered() -> None:
    book = Playbook()
    book.client(*(["S"] * 10_000))
    assert book.stage().transport.reading
    book.client("S")
    assert not book.stage().transport.reading
    book.server(*(["Z I"] * 5000))
    assert not book.stage().transport.reading
    book.server(*(["Z I"] * 5000))
    assert book.stage().transport.reading
    book.server("Z I")
    assert book.state() == "idle"


def test_a_pause_for_many_requests_ends_when_the_last_reply_comes_in_one_chunk() -> None:
    book = Playbook()
    book.client(*(["S"] * 10_001))
    book.server(*(["Z I"] * 10_001))
    assert book.stage().transport.reading
    assert book.state() == "idle"


def test_a_pause_for_many_requests_ends_when_their_group_fails() -> None:
    book = Playbook()
    book.client(*(["P x"] * 10_001), "H")
    assert not book.stage().transport.reading
    book.server(BAD)
    assert book.stage().transport.reading
    book.client("S")
    book.server("Z I")
    assert book.state() == "idle"


def test_every_cutting_of_a_pipeline_gives_the_same_bytes() -> None:
    said = ("P select 1", "D S", "H", "B", "E 1", "S", "P bad", "B", "E", "S", "C", "S", "Q q")
    heard = ("1", "t", "T", "2", "D 1", "s", "Z T", BAD, "Z E", "3", "Z E", "C ROLLBACK", "Z I")
    asked, replies = from_frontend(*said), from_backend(*heard)
    for cut in range(1, len(asked)):
        book = Playbook()
        book.client(asked[:cut])
        book.client(asked[cut:])
        at = cut * len(replies) // len(asked)
        book.server(replies[:at])
        book.server(replies[at:])
        book.to_client(replies)
        book.to_server(asked)
        assert book.state() == "idle", cut


def test_large_messages_stream_through_without_being_collected() -> None:
    book = Playbook()
    query = from_frontend("Q " + "x" * 300_000)
    book.client(query[:65536])
    book.to_server(query[:65536])
    assert book.state() == "active"
    for at in range(65536, len(query), 65536):
        book.client(query[at : at + 65536])
        book.to_server(query[at : at + 65536])
    row = from_backend("D " + "y" * 300_000)
    book.server("T", row[:70_000])
    book.to_client("T", row[:70_000])
    book.server(row[70_000:], "C SELECT 1", "Z I")
    book.to_client(row[70_000:], "C SELECT 1", "Z I")
    assert book.state() == "idle"


def test_a_server_that_answers_before_the_request_is_complete_is_not_reused() -> None:
    book = Playbook()
    query = from_frontend("Q " + "x" * 60_000)
    book.client(query[:50_000])
    book.server("E 54000 too long", "Z I")
    book.to_client("E 54000 too long", "Z I")
    assert book.state() == "closing"
    book.client(query[50_000:])
    book.client("Q 2")
    book.server_closes()
    book.opens()
    book.to_server("Q 2", on=2)


def test_half_a_short_request_borrows_no_server() -> None:
    book = Playbook()
    query = from_frontend("Q " + "x" * 1000)
    book.client(query[:900])
    assert book.state() == "idle"
    book.client(query[900:])
    book.to_server(query)

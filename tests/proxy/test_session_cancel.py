"""Cancel requests for a session in each of its phases."""

import pytest

from proxy.errors import Canceled, error_response
from proxy.reasons import ServerClosed
from tests.support.playbook import Playbook, from_frontend

CANCELED = error_response(Canceled())
OK = ("C X", "Z I")


def waiting(*chunks: tuple[str | bytes, ...]) -> Playbook:
    """`a` has the only server, `b` waits with these chunks."""
    book = Playbook()
    book.client("Q a")
    book.to_server("Q a")
    for chunk in chunks:
        book.client(*chunk, by="b")
    return book


def test_a_running_query_is_cancelled_on_its_server() -> None:
    book = Playbook()
    book.client("Q a")
    book.cancel()
    assert book.cancels == [(book.server_at(), book.server_at().generation)]
    book.server("E 57014 canceling", "Z I")
    book.to_client("E 57014 canceling", "Z I")


def test_a_server_with_a_cancel_under_way_goes_to_nobody() -> None:
    book = Playbook()
    book.client("Q a")
    book.client("Q b", by="b")
    book.cancel()
    book.server(*OK)
    book.to_server("Q a")
    assert book.state() == "being_canceled"
    book.to_client(*OK)
    book.cancel_over()
    book.to_server("Q b")


def test_a_cancel_of_unknown_effect_closes_its_server() -> None:
    book = Playbook()
    book.client("Q a")
    book.cancel()
    book.server(*OK)
    book.cancel_over(sent_and_closed=False)
    assert book.closed == [ServerClosed.CANCEL_TIMEOUT]


def test_a_cancel_of_unknown_effect_lets_the_transaction_end_first() -> None:
    book = Playbook()
    book.client("Q begin")
    book.cancel()
    book.server("C BEGIN", "Z T")
    book.cancel_over(sent_and_closed=False)
    book.client("Q commit")
    book.server(*OK)
    book.to_client("C BEGIN", "Z T", *OK)
    assert book.state() == "closing"


def test_many_cancels_at_a_time_are_at_most_two() -> None:
    book = Playbook()
    book.client("Q a")
    for _ in range(100):
        book.cancel()
    assert len(book.cancels) == 1
    book.cancel_over()
    assert len(book.cancels) == 2
    book.cancel_over()
    assert len(book.cancels) == 2


def test_a_second_cancel_is_not_sent_to_a_server_that_has_answered() -> None:
    book = Playbook()
    book.client("Q a")
    book.cancel()
    book.cancel()
    book.server(*OK)
    book.cancel_over()
    assert len(book.cancels) == 1
    assert book.state() == "idle"


def test_a_second_cancel_is_not_sent_to_the_next_owner() -> None:
    book = Playbook()
    book.client("Q a")
    book.client("Q b", by="b")
    book.cancel()
    book.cancel()
    book.server(*OK)
    book.cancel_over()
    book.to_server("Q a", "Q b")
    assert len(book.cancels) == 1


@pytest.mark.parametrize("by", ["a", "b"])
def test_a_cancel_for_an_idle_client_does_nothing(by: str) -> None:
    book = Playbook()
    book.client("Q begin")
    book.server("C BEGIN", "Z T")
    book.to_client("C BEGIN", "Z T")
    book.cancel(by)
    book.to_client(by=by)
    assert not book.cancels


def test_a_cancel_followed_by_a_leaving_client_still_cancels_its_query() -> None:
    """Drivers do so on a timeout: send the request, then close."""
    book = Playbook()
    book.client("Q a")
    book.cancel()
    first = book.cancels[0]
    book.client_leaves()
    # What `Canceller` does: a request for an older generation is not sent.
    sent = first[1] == book.server_at().generation
    book.cancel_over()
    assert sent or len(book.cancels) == 2


def test_an_abandoned_query_is_cancelled_once() -> None:
    book = Playbook()
    book.client("Q a")
    book.client_leaves()
    book.cancel_over()
    assert len(book.cancels) == 1


# While waiting.


def test_a_waiting_query_is_answered_and_never_sent() -> None:
    book = waiting(("Q b",))
    book.cancel("b")
    book.to_client(CANCELED, "Z I", by="b")
    assert not book.pool.waiting
    book.server(*OK)
    book.to_server()
    book.client("Q 2", by="b")
    book.to_server("Q 2")


def test_a_waiting_group_is_answered_at_its_sync() -> None:
    book = waiting(("P b", "B"), ("E", "S"))
    book.cancel("b")
    book.to_client(CANCELED, "Z I", by="b")
    book.server(*OK)
    book.to_server()


def test_only_the_first_of_several_waiting_requests_is_cancelled() -> None:
    book = waiting(("Q 1", "Q 2"), ("P 3", "B", "E", "S"))
    book.cancel("b")
    book.to_client(CANCELED, "Z I", by="b")
    assert book.session("b") in book.pool.waiting
    book.server(*OK)
    book.to_server("Q 2", "P 3", "B", "E", "S")
    book.server(*OK, "1", "2", *OK)
    book.to_client(*OK, "1", "2", *OK, by="b")
    assert book.state() == "idle"


def test_requests_are_cancelled_one_by_one() -> None:
    book = waiting(("Q 1", "F"), ("S",), ("P 3", "B", "E", "S"))
    for _ in range(4):
        book.cancel("b")
        book.to_client(CANCELED, "Z I", by="b")
    assert not book.pool.waiting
    book.cancel("b")
    book.to_client(by="b")


def test_a_cancelled_client_keeps_its_place_with_what_is_left() -> None:
    book = waiting(("Q 1", "Q 2"))
    book.client("Q c", by="c")
    book.cancel("b")
    book.server(*OK)
    book.to_server("Q 2")


@pytest.mark.parametrize("rest", [("S",), ("E", "S"), ("H", "P more", "B", "E", "Q skipped", "S")])
def test_a_group_without_its_sync_is_refused_up_to_it(rest: tuple[str, ...]) -> None:
    book = waiting(("P b", "B"))
    book.cancel("b")
    book.to_client(CANCELED, by="b")
    book.server(*OK)
    book.client(*rest, by="b")
    book.to_client("Z I", by="b")
    book.to_server()
    assert book.state() == "idle"
    book.client("Q 2", by="b")
    book.to_server("Q 2")


def test_the_sync_of_a_refused_group_and_the_next_query_in_one_chunk() -> None:
    book = waiting(("P b", "B"))
    book.cancel("b")
    book.server(*OK)
    book.client("E", "S", "Q 2", by="b")
    book.to_client(CANCELED, "Z I", by="b")
    book.to_server("Q 2")


def test_terminate_in_a_refused_group_ends_the_client() -> None:
    book = waiting(("P b", "B"))
    book.cancel("b")
    book.client("X", by="b")
    assert book.stage("b").ends


def test_half_a_long_query_is_cancelled_and_its_rest_swallowed() -> None:
    query = from_frontend("Q " + "x" * 50_000)
    book = waiting((query[:20_000],))
    book.cancel("b")
    book.to_client(CANCELED, "Z I", by="b")
    book.server(*OK)
    book.client(query[20_000:30_000], by="b")
    book.client(query[30_000:], "Q 2", by="b")
    book.to_server("Q 2")


def test_a_long_query_in_pieces_is_cancelled_whole() -> None:
    query = from_frontend("Q " + "x" * 50_000)
    book = waiting((query[:20_000],), (query[20_000:30_000],), (query[30_000:],))
    book.cancel("b")
    book.to_client(CANCELED, "Z I", by="b")
    book.server(*OK)
    book.to_server()
    book.client("Q 2", by="b")
    book.to_server("Q 2")


def test_what_follows_a_cancelled_long_query_is_kept() -> None:
    query = from_frontend("Q " + "x" * 50_000)
    book = waiting((query[:20_000],), (query[20_000:], "Q 2"), ("Q 3",))
    book.cancel("b")
    book.to_client(CANCELED, "Z I", by="b")
    book.server(*OK)
    book.to_server("Q 2", "Q 3")


def test_a_cancelled_long_query_leaves_no_trace_on_the_next_one() -> None:
    query = from_frontend("Q " + "x" * 50_000)
    book = waiting((query[:20_000],), (query[20_000:],))
    book.cancel("b")
    book.server(*OK)
    book.client(query[:20_000], by="b")
    book.client(query[20_000:], by="b")
    book.to_server(query)


def test_a_client_paused_for_what_it_sent_ahead_is_read_again_after_a_cancel() -> None:
    book = waiting(("Q 1",), ("Q " + "x" * 70_000,))
    assert not book.stage("b").transport.reading
    book.cancel("b")
    book.cancel("b")
    assert book.stage("b").transport.reading


# While the server is being given the client's parameters.


def test_a_cancel_waits_for_the_alignment() -> None:
    book = Playbook()
    book.enter("a", timezone="Asia/Tokyo")
    book.client("Q a")
    book.to_server("Q SET TimeZone='Asia/Tokyo'")
    book.cancel()
    assert not book.cancels
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I")
    book.to_server("Q a")
    assert len(book.cancels) == 1


def test_a_cancel_during_alignment_dies_with_its_client() -> None:
    book = Playbook()
    book.enter("a", timezone="Asia/Tokyo")
    book.client("Q a")
    book.cancel()
    book.client_leaves()
    book.server_closes()
    book.client("Q b", by="b")
    book.opens()
    book.to_server("Q b", on=2)
    assert all(server is not book.server_at(2) for server, _ in book.cancels)

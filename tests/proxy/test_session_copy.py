"""COPY in and out, simple and extended, in every shape of failure."""

import pytest

from proxy.reasons import ClientClosed, ServerClosed, Unclean
from tests.support import messages as m
from tests.support.playbook import Playbook, from_frontend

DUPLICATE = m.copy_error("23505", "duplicate key")
DATA = "d " + "1\tone\n" * 20


def copying(book: Playbook | None = None) -> Playbook:
    """`a` has begun COPY FROM STDIN by the simple protocol."""
    book = book or Playbook()
    book.client("Q copy t from stdin")
    book.server("G")
    book.to_server("Q copy t from stdin")
    book.to_client("G")
    return book


def test_copy_in_streams_and_releases() -> None:
    book = copying()
    sent = book.client(DATA, DATA, DATA)
    assert book.wire().parts[-1] == [sent]
    book.client(DATA, "c")
    book.server("C COPY 4", "Z I")
    book.to_server(DATA, DATA, DATA, DATA, "c")
    book.to_client("C COPY 4", "Z I")
    assert book.state() == "idle"


def test_copy_in_with_everything_sent_ahead() -> None:
    book = Playbook()
    book.client("Q copy t from stdin", DATA, DATA, "c")
    book.to_server("Q copy t from stdin", DATA, DATA, "c")
    book.server("G", "C COPY 2", "Z I")
    book.to_client("G", "C COPY 2", "Z I")
    assert book.state() == "idle"


def test_copy_out_streams_and_releases() -> None:
    book = Playbook()
    book.client("Q copy t to stdout")
    received = book.server("H", DATA, DATA)
    assert book.stage().transport.parts == [[received]]
    book.server(DATA, "c", "C COPY 3", "Z I")
    book.to_client("H", DATA, DATA, DATA, "c", "C COPY 3", "Z I")
    assert book.state() == "idle"


def test_copy_fail_is_answered_by_error_and_ready() -> None:
    book = copying()
    book.client(DATA, "f no more")
    book.server(m.copy_refused("no more"), "Z I")
    book.to_server(DATA, "f no more")
    book.to_client(m.copy_refused("no more"), "Z I")
    assert book.state() == "idle"


def test_a_query_behind_copy_done_is_answered() -> None:
    book = copying()
    book.client(DATA, "c", "Q 2")
    book.server("C COPY 1", "Z I")
    assert book.state() == "active"
    book.server("C X", "Z I")
    assert book.state() == "idle"


def test_two_copies_in_one_query() -> None:
    book = copying()
    book.client(DATA, "c")
    book.server("C COPY 1", "G")
    book.client(DATA, "c")
    book.server("C COPY 1", "Z I")
    book.to_server(DATA, "c", DATA, "c")
    assert book.state() == "idle"


@pytest.mark.parametrize("status", ["I", "E"])
def test_data_behind_a_failure_is_swallowed(status: str) -> None:
    book = copying()
    book.client(DATA)
    book.server(DUPLICATE, f"Z {status}")
    book.to_server(DATA)
    assert book.state() == ("idle" if status == "I" else "active")
    book.client(DATA, DATA)
    book.client(DATA, "c")
    book.to_server()
    book.client("Q rollback")
    book.to_server("Q rollback")
    book.server("C ROLLBACK", "Z I")
    book.to_client(DUPLICATE, f"Z {status}", "C ROLLBACK", "Z I")
    assert book.state() == "idle"


@pytest.mark.parametrize("end", ["c", "f no"])
def test_late_data_its_end_and_the_next_query_in_one_chunk(end: str) -> None:
    book = copying()
    book.server(DUPLICATE, "Z I")
    book.client(DATA, DATA, end, "Q 2")
    book.to_server("Q 2")
    book.server("C X", "Z I")
    book.to_client(DUPLICATE, "Z I", "C X", "Z I")
    assert book.state() == "idle"


def test_late_data_cut_at_every_byte_is_swallowed_and_the_next_query_is_not() -> None:
    late = from_frontend("d abcdef", "d ghi", "c", "Q 2")
    for cut in range(1, len(late)):
        book = copying()
        book.server(DUPLICATE, "Z I")
        book.client(late[:cut])
        book.client(late[cut:])
        book.to_server("Q 2")
        book.server("C X", "Z I")
        assert book.state() == "idle", cut


def test_late_data_never_reaches_the_next_owner_of_the_server() -> None:
    book = copying()
    book.client("Q x", by="b")
    book.server(DUPLICATE, "Z I")
    assert book.session("b").server is book.server_at()
    book.client(DATA, "c")
    book.to_server("Q x")
    assert not book.stage().ends


def test_a_failure_in_the_middle_of_data_closes_the_server_and_swallows_the_rest() -> None:
    for cut in range(6, len(from_frontend(DATA))):
        book = copying()
        data = from_frontend(DATA)
        book.client(data[:cut])
        book.server(DUPLICATE, "Z I")
        assert book.pool.unclean == {Unclean.PARTIAL_REQUEST: 1}, cut
        book.server_closes()
        book.client(data[cut:], DATA, "c", "Q 2")
        book.opens()
        book.to_server("Q 2", on=2)
        book.to_client(DUPLICATE, "Z I")


def test_a_failure_inside_a_transaction_lets_the_message_under_way_be_completed() -> None:
    book = Playbook()
    book.client("Q begin")
    book.server("C BEGIN", "Z T")
    book.client("Q copy t from stdin")
    book.server("G")
    data = from_frontend(DATA)
    book.client(data[:50])
    book.server(DUPLICATE, "Z E")
    book.client(data[50:], DATA, "c", "Q rollback")
    book.to_server("Q begin", "Q copy t from stdin", data, "Q rollback")
    book.server("C ROLLBACK", "Z I")
    assert book.state() == "idle"


def test_stray_copy_messages_without_copy_are_ignored_as_postgresql_does() -> None:
    book = Playbook()
    book.client("d stray", "c", "f stray")
    book.to_server()
    assert book.state() == "idle"
    book.client("Q begin")
    book.server("C BEGIN", "Z T")
    book.client("d stray", "c", "Q commit")
    book.server("C COMMIT", "Z I")
    book.to_server("Q begin", "Q commit")
    assert book.state() == "idle"


def test_copy_data_behind_a_query_that_does_not_copy_is_ignored_by_postgresql() -> None:
    book = Playbook()
    book.client("Q select 1", "d stray", "c", "Q 2")
    book.server("T", "C SELECT 0", "Z I")
    assert book.state() == "active"
    book.server("C X", "Z I")
    assert book.state() == "idle"


# The extended protocol.


def test_extended_copy_in_whose_sync_follows_the_data() -> None:
    book = Playbook()
    book.client("P copy", "B", "E", "H")
    book.server("1", "2", "G")
    book.client(DATA, "c", "S")
    book.server("C COPY 1", "Z I")
    book.to_server("P copy", "B", "E", "H", DATA, "c", "S")
    book.to_client("1", "2", "G", "C COPY 1", "Z I")
    assert book.state() == "idle"


def test_extended_copy_in_whose_first_sync_is_ignored_by_postgresql() -> None:
    book = Playbook()
    book.client("P copy", "B", "D", "E", "S")
    book.server("1", "2", "n", "G")
    book.client(DATA)
    book.client("c", "S")
    book.server("C COPY 1")
    assert book.state() == "active"
    book.server("Z I")
    assert book.state() == "idle"


def test_extended_copy_out() -> None:
    book = Playbook()
    book.client("P copy", "B", "E", "S")
    book.server("1", "2", "H", DATA, "c", "C COPY 1", "Z I")
    assert book.state() == "idle"


def test_extended_copy_fail() -> None:
    book = Playbook()
    book.client("P copy", "B", "E", "H")
    book.server("1", "2", "G")
    book.client(DATA, "f stop", "S")
    book.server(m.copy_refused("stop"), "Z I")
    assert book.state() == "idle"
    book.to_server("P copy", "B", "E", "H", DATA, "f stop", "S")


def test_extended_copy_failed_by_the_server_waits_for_the_sync() -> None:
    book = Playbook()
    book.client("P copy", "B", "E", "H")
    book.server("1", "2", "G")
    book.client(DATA)
    book.server(DUPLICATE)
    assert book.state() == "active"
    book.client(DATA, DATA, "c", "S")
    book.server("Z I")
    book.to_client("1", "2", "G", DUPLICATE, "Z I")
    assert book.state() == "idle"
    book.client("Q 2")
    assert book.state() == "active"


def test_a_failure_among_syncs_that_may_have_been_ignored_gives_the_server_up() -> None:
    book = Playbook()
    book.client("P copy", "B", "E", "S")
    book.server("1", "2", "G")
    book.client(DATA)
    book.server(DUPLICATE)
    book.client("c", "S")
    book.server("Z I")
    book.to_client("1", "2", "G", DUPLICATE, "Z I")
    assert book.state() == "closing"
    assert not book.stage().ends


def test_a_copy_that_fails_before_it_reads_has_its_sync_answered() -> None:
    book = Playbook()
    book.client("P copy a_view", "B", "E", "S")
    book.server("1", "2", "G", "E 42809 cannot copy to view", "Z I")
    assert book.state() == "idle"
    book.client(DATA, "c", "S")
    book.to_server("P copy a_view", "B", "E", "S", "S")
    book.server("Z I")
    book.to_client("1", "2", "G", "E 42809 cannot copy to view", "Z I", "Z I")


def test_syncs_among_data_that_the_client_gives_up_are_not_answered() -> None:
    book = Playbook()
    book.client("P copy", "B", "E", "S")
    book.server("1", "2", "G")
    book.client(DATA, "S", DATA, "f no more", "S", "Q 2")
    book.server(m.copy_refused("no more"), "Z I")
    assert book.state() == "active"
    book.server("C X", "Z I")
    assert book.state() == "idle"
    assert not book.stage().ends


def test_a_fault_in_data_that_a_sync_stands_among_ends_the_client() -> None:
    book = Playbook()
    book.client("P copy", "B", "E", "H")
    book.server("1", "2", "G")
    book.client(DATA, "S", DATA, "c", "S")
    book.server(DUPLICATE)
    assert book.stage().ends == [ClientClosed.SERVER_LOST]
    assert book.state() == "closing"


def test_data_for_a_copy_that_never_began_casts_no_doubt_on_the_next() -> None:
    book = Playbook()
    book.client("P copy nothing", "B", "E", DATA, "S", "P copy", "B", "E", DATA, "f no", "S")
    book.server("E 42P01 no such table", "Z I")
    book.server("1", "2", "G", m.copy_refused("no"), "Z I")
    assert book.state() == "idle"
    assert not book.stage().ends


def test_a_sync_among_the_data_of_the_second_copy_of_a_query_is_seen_behind_the_end_of_the_first() -> None:
    book = Playbook()
    book.client("Q copy twice")
    book.server("G")
    book.client(DATA, "c", DATA, "S", "c")
    book.server("C COPY 1", "G", DUPLICATE)
    assert book.stage().ends == [ClientClosed.SERVER_LOST]


def test_extended_copy_with_all_sent_ahead() -> None:
    book = Playbook()
    book.client("P copy", "B", "E", DATA, "c", "S")
    book.to_server("P copy", "B", "E", DATA, "c", "S")
    book.server("1", "2", "G", "C COPY 1", "Z I")
    assert book.state() == "idle"


def test_extended_copy_with_all_sent_ahead_and_a_bad_parse() -> None:
    book = Playbook()
    book.client("P copy", "B", "E", DATA, "c", "S", "Q 2")
    book.server("E 42601 syntax error", "Z I")
    assert book.state() == "active"
    book.server("C X", "Z I")
    assert book.state() == "idle"


def test_two_extended_copies_one_after_the_other() -> None:
    book = Playbook()
    for _ in range(2):
        book.client("P copy", "B", "E", "H")
        book.server("1", "2", "G")
        book.client(DATA, "c", "S")
        book.server("C COPY 1", "Z I")
        assert book.state() == "idle"


def test_copy_cut_at_every_byte_gives_the_same_bytes() -> None:
    asked = from_frontend("d abc", "d defg", "c", "Q 2")
    for cut in range(1, len(asked)):
        book = copying()
        book.client(asked[:cut])
        book.client(asked[cut:])
        book.to_server(asked)
        book.server("C COPY 2", "Z I", "C X", "Z I")
        assert book.state() == "idle", cut


# Clients and servers that go in the middle.


@pytest.mark.parametrize("said", [(), (DATA,), (DATA, b"d\0\0\1\0ha")])
def test_a_client_that_goes_in_the_middle_of_copy_in_closes_its_server(said: tuple[str | bytes, ...]) -> None:
    book = copying()
    if said:
        book.client(*said)
    book.client_leaves()
    assert book.closed == [ServerClosed.ABANDONED]
    assert b"X" not in book.wire().writes, "a Terminate could be taken for data"


def test_a_client_that_goes_in_the_middle_of_copy_out_has_it_cancelled() -> None:
    book = Playbook()
    book.client("Q copy t to stdout")
    book.server("H", DATA)
    book.client_leaves()
    assert book.state() == "being_canceled"
    assert book.cancels == [(book.server_at(), book.server_at().generation)]
    book.server(DATA, "E 57014 canceling", "Z I")
    assert book.state() == "being_canceled"
    book.cancel_over()
    assert book.state() == "idle"


def test_a_server_that_dies_in_the_middle_of_copy_gives_one_error() -> None:
    book = copying()
    book.client(DATA)
    book.server_closes()
    book.error_to_client("08006", "server conn crashed?")
    assert book.stage().ends == [ClientClosed.SERVER_LOST]


def test_copy_both_is_no_business_of_a_pooler() -> None:
    book = Playbook()
    book.client("Q start_replication")
    book.server(m.message(b"W", b"\0\0\0"))
    assert book.state() == "closing"

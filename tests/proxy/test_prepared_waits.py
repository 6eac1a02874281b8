"""Messages that depend on how an earlier group of messages ended wait for its ReadyForQuery."""

import pytest

from proxy.reasons import ClientClosed, ServerClosed
from proxy.session_waiting import HELD_MOST
from tests.support import messages as m
from tests.support.named import elsewhere, give_back, prepare, taken, two_servers, unknown
from tests.support.playbook import Playbook

FIRST = ("1", "t", "T", "Z I")
ROW = ("2", "D 1", "C SELECT 1")
BAD = "E 42601 syntax error"


def pipelined(book: Playbook | None = None) -> Playbook:
    """A group that prepares a name, and at once one that uses it."""
    book = book or Playbook()
    book.client("p x select 1", "S", "B x", "E", "S")
    book.to_server("p howdah_1 select 1", "s howdah_1", "S")
    return book


def test_a_name_is_used_once_it_is_known_to_be_there() -> None:
    book = pipelined()
    book.server("1")
    book.to_client("1")
    book.to_server("B howdah_1", "E", "S")
    book.server("t", "T", "Z I", *ROW, "Z I")
    book.to_client("Z I", *ROW, "Z I")
    assert book.state() == "idle"


def test_a_name_whose_parse_failed_is_unknown() -> None:
    book = pipelined()
    book.server(BAD, "Z I")
    book.to_server("B howdah_0", "E", "S")
    book.server(unknown("howdah_0"), "Z I")
    book.to_client(BAD, "Z I", unknown("x"), "Z I")
    assert book.state() == "idle"


def test_in_a_transaction_the_rest_goes_to_the_same_server_at_once() -> None:
    book = Playbook()
    book.client("Q begin", "p x select 1", "S", "B x", "E", "S", "Q commit")
    book.to_server("Q begin", "p howdah_1 select 1", "s howdah_1", "S")
    book.server("C BEGIN", "Z T", "1", "t", "T", "Z T")
    book.to_server("B howdah_1", "E", "S", "Q commit")
    book.server(*ROW, "Z T", "C COMMIT", "Z I")
    book.to_client("C BEGIN", "Z T", "1", "Z T", *ROW, "Z T", "C COMMIT", "Z I")
    assert book.state() == "idle"


def test_what_comes_meanwhile_waits_behind_it() -> None:
    book = pipelined()
    book.client("C x", "S")
    book.client("Q last")
    book.to_server()
    book.server(*FIRST)
    book.to_server("B howdah_1", "E", "S", "C x", "S", "Q last")
    book.server(*ROW, "Z I", "3", "Z I", "C LAST", "Z I")
    book.to_client("1", "Z I", *ROW, "Z I", "3", "Z I", "C LAST", "Z I")
    assert book.state() == "idle"


def test_many_groups_wait_for_each_other_in_turn() -> None:
    book = Playbook()
    book.client("p x select 1", "S", "C x", "S", "B x", "S", "p x select 2", "S")
    book.to_server("p howdah_1 select 1", "s howdah_1", "S")
    book.server(*FIRST)
    book.to_server("C x", "S")
    book.server("3", "Z I")
    book.to_server("B howdah_0", "S", "p howdah_2 select 2", "s howdah_2", "S")
    book.server(unknown("howdah_0"), "Z I", *FIRST)
    book.to_client("1", "Z I", "3", "Z I", unknown("x"), "Z I", "1", "Z I")
    assert book.state() == "idle"


def test_the_server_goes_to_who_waited_longer_and_another_does_the_rest() -> None:
    book = pipelined(two_servers())
    book.client("Q rival", by="b")
    book.opens()
    book.to_server("Q rival", on=2)
    book.client("Q second", by="c")
    book.server(*FIRST)
    book.to_server("Q second")
    book.to_server(on=2)
    book.server("C RIVAL", "Z I", on=2)
    book.to_server("p howdah_2 select 1", "B howdah_2", "E", "S", on=2)
    book.server("1", *ROW, "Z I", on=2)
    book.to_client("1", "Z I", *ROW, "Z I")
    assert book.state(2) == "idle"


def test_the_first_half_of_a_long_message_waits_for_its_other_half_too() -> None:
    book = Playbook()
    bind = m.bind("", "x", ["y" * 40_000])
    book.client("p x select 1", "S", bind[:20_000])
    book.to_server("p howdah_1 select 1", "s howdah_1", "S")
    book.client(bind[20_000:30_000])
    book.server(*FIRST)
    book.client(bind[30_000:], "S")
    book.to_server(m.bind("", "howdah_1", ["y" * 40_000]), "S")
    book.server("2", "Z I")
    book.to_client("1", "Z I", "2", "Z I")
    assert book.state() == "idle"


@pytest.mark.parametrize("second", range(10, 14))
def test_what_waits_behind_the_end_of_copy_data_is_whole_however_it_is_cut(second: int) -> None:
    book = Playbook()
    bind = m.bind("", "x")
    book.client("Q copy t from stdin")
    book.server("G")
    book.client("f no more", "p x select 1", "S", bind[:9])
    book.client(bind[9:second])
    book.client(bind[second:], "E", "S")
    book.to_server("Q copy t from stdin", "f no more", "p howdah_1 select 1", "s howdah_1", "S")
    book.server(m.copy_refused("no more"), "Z I", *FIRST)
    book.to_server("B howdah_1", "E", "S")
    book.server(*ROW, "Z I")
    book.to_client("G", m.copy_refused("no more"), "Z I", "1", "Z I", *ROW, "Z I")
    assert book.state() == "idle"


@pytest.mark.parametrize("step", [1, 3, 100])
def test_copy_data_nobody_can_want_is_dropped_in_however_many_pieces_it_waited(step: int) -> None:
    book = Playbook()
    book.enter("a", timezone="Asia/Tokyo")
    data = m.copy_data(b"stray")
    book.client("S", data[:5])
    for at in range(5, len(data), step):
        book.client(data[at : at + step])
    book.client("Q next")
    book.to_server("Q SET TimeZone='Asia/Tokyo'")
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I")
    book.to_server("S", "Q next")


def test_a_client_that_sends_much_while_it_waits_is_read_no_further_until_it_goes_on() -> None:
    book = pipelined()
    book.client("Q " + "x" * HELD_MOST)
    assert not book.stage().transport.reading
    book.server(*FIRST)
    assert book.stage().transport.reading
    book.to_server("B howdah_1", "E", "S", "Q " + "x" * HELD_MOST)


def test_a_parse_of_a_taken_name_waits_for_what_may_free_it() -> None:
    book = Playbook()
    prepare(book)
    book.client("Q deallocate all", "p x select 2", "S")
    book.to_server("Q deallocate all")
    book.server("C DEALLOCATE ALL", "Z I")
    book.to_server("p howdah_2 select 2", "s howdah_2", "S")


def test_copy_data_that_comes_while_something_waits_behind_another_copy_waits_too() -> None:
    book = Playbook()
    prepare(book)
    book.client("Q copy")
    book.server("G")
    book.to_server("Q copy")
    book.client("d 1", "c", "Q deallocate all", "p x select 2", "S", "Q copy again")
    book.client("d 2", "d 3")
    book.client("c")
    book.to_server("d 1", "c", "Q deallocate all")
    book.server("C COPY 1", "Z I", "C DEALLOCATE ALL", "Z I")
    book.to_server("p howdah_2 select 2", "s howdah_2", "S", "Q copy again", "d 2", "d 3", "c")


def test_a_parse_of_a_taken_name_waits_in_vain_where_it_stays_taken() -> None:
    book = Playbook()
    prepare(book)
    book.client("Q x", "p x select 2", "S")
    book.to_server("Q x")
    book.server("C X", "Z I")
    book.to_server("p howdah_1 select 2", "S")
    book.server(taken("howdah_1"), "Z I")
    book.to_client("C X", "Z I", taken("x"), "Z I")


def test_a_close_is_waited_for() -> None:
    book = Playbook()
    prepare(book)
    book.client("C x", "S", "p x select 2", "S")
    book.to_server("C x", "S")
    book.server("3", "Z I")
    book.to_server("p howdah_2 select 2", "s howdah_2", "S")


def test_a_name_that_is_there_and_certain_waits_for_nothing() -> None:
    book = Playbook()
    prepare(book)
    book.client("Q x", "B x", "E", "S", "B x", "E", "S", "C x", "S")
    book.to_server("Q x", "B howdah_1", "E", "S", "B howdah_1", "E", "S", "C x", "S")


def test_behind_a_query_a_server_that_lacks_the_name_is_not_given_it_before_the_answer() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("Q begin", "B x", "E", "S")
    book.to_server("Q begin", on=2)
    book.server("C BEGIN", "Z T", on=2)
    book.to_server("p howdah_2 select 1", "B howdah_2", "E", "S", on=2)
    give_back(book)


@pytest.mark.parametrize("said", ["B x", "s x", "C x", "p x select 2", "Q deallocate x"])
def test_whatever_names_it_waits(said: str) -> None:
    book = Playbook()
    book.client("p x select 1", "S", said)
    book.to_server("p howdah_1 select 1", "s howdah_1", "S")
    assert book.session().held


# What happens meanwhile.


def test_a_cancel_meanwhile_is_for_what_the_server_does() -> None:
    book = pipelined()
    book.cancel()
    assert book.cancels == [(book.server_at(), book.server_at().generation)]
    book.server("E 57014 canceled", "Z I")
    book.to_server()
    book.cancel_over()
    book.to_server("B howdah_0", "E", "S")


def test_a_client_that_leaves_meanwhile_is_forgotten() -> None:
    book = pipelined()
    book.client_leaves()
    assert book.state() == "being_canceled"
    book.server(*FIRST)
    book.cancel_over()
    assert book.state() == "idle"
    book.client("Q x", by="b")
    book.to_server("C howdah_1", "Q x")


def test_a_server_that_goes_meanwhile_costs_the_client_its_connection() -> None:
    book = pipelined()
    book.server_closes()
    book.error_to_client("08006", "server conn crashed?")
    assert book.stage().ends == [ClientClosed.SERVER_LOST]


def test_a_server_that_says_too_much_meanwhile_is_closed() -> None:
    book = pipelined()
    book.server(*FIRST, "Z I")
    assert book.closed == [ServerClosed.PROTOCOL]
    book.to_client("1", "Z I")
    book.server_closes()
    book.opens()
    book.to_server("p howdah_2 select 1", "B howdah_2", "E", "S", on=2)


def test_a_notice_and_a_parameter_are_passed_on_meanwhile() -> None:
    book = pipelined()
    book.server("N hello", "S TimeZone=Asia/Tokyo")
    book.to_client("N hello", "S TimeZone=Asia/Tokyo")
    book.to_server()
    assert book.session().held

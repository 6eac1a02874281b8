"""Parameters that follow a client to whichever server it gets, and notifications that must not."""

import pytest

from protocol import tags
from proxy.pool.janitor import Janitor
from proxy.pool.units import SECOND
from proxy.reasons import ClientClosed
from tests.support import messages as m
from tests.support.playbook import Playbook, from_backend, from_frontend

OK = ("C X", "Z I")
SET = "Q SET TimeZone='Asia/Tokyo'"


def tokyo() -> Playbook:
    """`a` wants another time zone than the one server has."""
    book = Playbook()
    book.enter("a", timezone="Asia/Tokyo")
    return book


def test_the_parameters_are_set_first_and_alone() -> None:
    book = tokyo()
    book.client("Q a", "Q 2")
    book.to_server(SET)
    book.client("Q 3")
    book.to_server()
    book.server("S TimeZone=Asia/Tokyo", "C SET")
    book.to_server()
    book.to_client()
    book.server("Z I")
    book.to_server("Q a", "Q 2", "Q 3")
    book.server(*OK, *OK, *OK)
    book.to_client(*OK, *OK, *OK)
    assert book.state() == "idle"


def test_the_reply_to_the_set_may_come_in_pieces() -> None:
    book = tokyo()
    book.client("Q a")
    for one in (b"S", b"\0\0\0", b"\x18TimeZone\0Asia/Tok", b"yo\0", b"", b"C\0\0\0\x08SET\0Z\0\0\0\5"):
        book.server(one)
    book.to_server(SET)
    book.server(b"I")
    book.to_server("Q a")
    book.to_client()


def test_a_server_that_has_the_parameters_already_is_given_nothing() -> None:
    book = tokyo()
    book.client("Q a")
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I")
    book.server(*OK)
    book.wire().take()
    book.client("Q 2")
    book.to_server("Q 2")


def test_checkout_prefers_a_server_with_the_parameters() -> None:
    book = Playbook(open=2)
    book.enter("a", timezone="Asia/Tokyo")
    book.client("Q a")
    one = book.session().server
    assert one is not None
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I", on=one.id)
    book.server(*OK, on=one.id)
    book.client("Q b", by="b")
    other = book.session("b").server
    assert other is not one
    book.client("Q a")
    assert book.session().server is one


def test_the_next_client_gets_its_own_parameters_back() -> None:
    book = tokyo()
    book.client("Q a")
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I")
    book.server(*OK)
    book.wire().take()
    book.client("Q b", by="b")
    book.to_server("Q SET TimeZone='UTC'")
    book.server("S TimeZone=UTC", "C SET", "Z I")
    book.to_server("Q b")
    book.to_client(by="b")


def test_a_refused_set_ends_that_client_only() -> None:
    book = tokyo()
    book.client("Q a")
    book.client("Q b", by="b")
    book.server("E 22023 invalid value", "Z I")
    book.error_to_client("22023", "invalid value")
    assert book.stage().ends == [ClientClosed.SERVER_REFUSED]
    book.to_server(SET, "Q b")
    book.server(*OK)
    book.to_client(*OK, by="b")


def test_a_refused_set_with_half_a_query_held_keeps_the_server() -> None:
    book = tokyo()
    book.client(from_frontend("Q " + "x" * 50_000)[:20_000])
    book.to_server(SET)
    book.server("E 22023 invalid value", "Z I")
    assert book.state() == "idle"


def test_a_server_that_answers_the_set_with_an_open_transaction_is_closed() -> None:
    book = tokyo()
    book.client("Q a")
    book.server("C SET", "Z T")
    assert book.state() == "closing"


def test_bytes_behind_the_reply_to_the_set_close_the_server() -> None:
    book = tokyo()
    book.client("Q a")
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I", "T")
    assert book.state() == "closing"
    book.to_server(SET)


def test_a_client_that_leaves_during_the_set_never_has_its_query_sent() -> None:
    book = tokyo()
    book.client("Q a")
    book.client_leaves()
    book.to_server(SET)
    assert book.state() in ("closing", "being_canceled")


@pytest.mark.parametrize("cut", [None, 20_000])
def test_a_server_lost_during_the_set_costs_nothing(cut: int | None) -> None:
    query = from_frontend("Q " + "x" * 50_000)
    book = tokyo()
    book.client(query[:cut])
    book.server_closes()
    book.opens()
    assert not book.stage().ends
    book.to_server(SET, on=2)
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I", on=2)
    if cut is not None:
        book.client(query[cut:])
    book.to_server(query, on=2)
    book.to_client()


def test_a_shutdown_during_the_set_costs_nothing() -> None:
    book = tokyo()
    book.client("Q a")
    book.server(m.error_response("57P01", "terminating", severity="FATAL"))
    book.server_closes()
    book.opens()
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I", on=2)
    book.to_server(SET, "Q a", on=2)
    book.to_client()


def test_idle_time_before_the_set_is_no_query_timeout() -> None:
    book = Playbook(query_timeout=5)
    book.enter("a", timezone="Asia/Tokyo")
    book.now += 20 * SECOND
    book.client("Q a")
    Janitor(book.manager, book.now).sweep(book.now)
    assert not book.stage().ends
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I")
    book.now += 6 * SECOND
    Janitor(book.manager, book.now).sweep(book.now)
    book.error_to_client("57014", "query timeout")


def test_quotes_and_backslashes_in_a_value_stay_in_it() -> None:
    book = Playbook()
    book.enter("a", application_name="a'; drop table x; --")
    book.client("Q a")
    book.to_server("Q SET application_name='a''; drop table x; --'")


def test_a_set_by_the_client_follows_it() -> None:
    book = Playbook()
    book.client("Q set timezone")
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I")
    book.to_client("S TimeZone=Asia/Tokyo", "C SET", "Z I")
    book.client("Q b", by="b")
    book.server("S TimeZone=UTC", "C SET", "Z I")
    book.server(*OK)
    book.wire().take()
    book.client("Q a")
    book.to_server(SET)


def test_a_set_in_a_rolled_back_transaction_is_forgotten() -> None:
    book = Playbook()
    book.client("Q begin; set timezone")
    book.server("C BEGIN", "S TimeZone=Asia/Tokyo", "C SET", "Z T")
    book.client("Q rollback")
    book.server("S TimeZone=UTC", "C ROLLBACK", "Z I")
    book.wire().take()
    book.client("Q b", by="b")
    book.to_server("Q b")
    book.server(*OK)
    book.client("Q a")
    book.to_server("Q a")


def test_a_parameter_nobody_tracks_is_passed_on_and_forgotten() -> None:
    book = Playbook()
    before = book.session().values
    book.client("Q set role")
    book.server("S is_superuser=off", "C SET", "Z I")
    book.to_client("S is_superuser=off", "C SET", "Z I")
    assert book.session().values is before


def test_a_parameter_status_cut_in_two_is_understood() -> None:
    book = Playbook()
    book.client("Q set timezone")
    status = m.parameter_status("TimeZone", "Asia/Tokyo")
    book.server(status[:12])
    book.server(status[12:], "C SET", "Z I")
    book.to_client(status, "C SET", "Z I")
    assert b"Asia/Tokyo" in book.session().values


@pytest.mark.parametrize("how", ["SET", "RESET", "DISCARD ALL"])
def test_settings_asked_for_at_login_are_set_anew_when_a_command_may_have_changed_them(how: str) -> None:
    book = Playbook()
    book.enter("a", applied=((b"search_path", b"x"),))
    book.client("Q a")
    anew = "Q SELECT pg_catalog.set_config('search_path','x',false)"
    book.to_server(anew)
    book.server("T", "D x", "C SELECT 1", "Z I")
    book.server(f"C {how}", "Z I")
    book.to_server("Q a")
    book.client("Q 2")
    book.to_server(anew)


def test_settings_asked_for_at_login_are_reset_for_the_next_client() -> None:
    book = Playbook()
    book.enter("a", applied=((b"search_path", b"x"),))
    book.client("Q a")
    book.server("T", "D x", "C SELECT 1", "Z I")
    book.server(*OK)
    book.wire().take()
    book.client("Q b", by="b")
    book.to_server('Q RESET "search_path"')
    book.server("C RESET", "Z I")
    book.to_server("Q b")


# LISTEN and NOTIFY.


def test_a_notification_reaches_only_a_session_that_listens_on_this_server() -> None:
    book = Playbook()
    book.client("Q begin")
    book.server("C BEGIN", "A other", "Z T")
    book.to_client("C BEGIN", "Z T")
    book.client("Q listen x")
    book.server("C LISTEN", "Z T")
    book.client("Q commit")
    book.server("C COMMIT", "A x", "Z I")
    book.to_client("C LISTEN", "Z T", "C COMMIT", "A x", "Z I")


def test_a_server_on_which_somebody_listened_is_cleaned_before_the_next_has_it() -> None:
    book = Playbook()
    book.client("Q listen x")
    book.client("Q b", by="b")
    book.server("C LISTEN", "Z I")
    book.to_server("Q listen x", "Q UNLISTEN *")
    assert book.state() == "tested"
    book.server("A x")
    book.server("C UNLISTEN", "Z I")
    book.to_server("Q b")
    book.server("A x", *OK)
    book.to_client(*OK, by="b")


def test_in_session_mode_a_notification_comes_at_any_time() -> None:
    book = Playbook(pool_mode="session")
    book.client("Q listen x")
    book.server("C LISTEN", "Z I")
    book.server("A x")
    book.to_client("C LISTEN", "Z I", "A x")
    assert book.server_at().status == tags.STATUS_IDLE


def test_a_notification_that_is_dropped_may_be_cut_anywhere() -> None:
    note = m.message(b"A", m.int32(7) + m.string("x") + m.string(""))
    for cut in range(1, len(note)):
        book = Playbook()
        book.client("Q begin")
        book.server("C BEGIN", note[:cut])
        book.server(note[cut:], "Z T")
        book.to_client("C BEGIN", "Z T")


SAID = ("S TimeZone=Asia/Tokyo", "C SET", "Z I")


def again() -> Playbook:
    """`b` of another time zone had the server behind `a`, which asks again."""
    book = tokyo()
    book.enter("b", timezone="UTC")
    book.client("Q a")
    book.server(*SAID)
    book.server(*OK)
    book.client("Q b", by="b")
    book.server("S TimeZone=UTC", "C SET", "Z I")
    book.server(*OK)
    book.wire().take()
    book.stage().transport.take()
    book.client("Q a")
    book.to_server(SET)
    return book


def values_of(book: Playbook) -> tuple[object, object]:
    """Of the server and of `a`, which are one object."""
    server = book.session().server
    assert server is not None
    assert server.values is book.session().values
    return server.values, book.pool.tracked.overlay(server.values, {b"TimeZone": b"Asia/Tokyo"})


def test_a_reply_that_was_heard_before_means_the_same_again() -> None:
    book = again()
    book.server(*SAID)
    have, wanted = values_of(book)
    assert have is wanted
    book.to_server("Q a")
    book.server(*OK)
    book.to_client(*OK)
    assert book.state() == "idle"


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_reply_that_was_heard_before_may_come_in_pieces(cut: int) -> None:
    said = from_backend(*SAID)
    book = again()
    book.server(said[:cut])
    book.to_server()
    book.server(said[cut:])
    book.to_server("Q a")


def test_another_reply_than_the_one_heard_before_is_read() -> None:
    book = again()
    book.server("S TimeZone=Japan", "C SET", "Z I")
    have, _ = values_of(book)
    assert have is book.pool.tracked.overlay(book.session().values, {b"TimeZone": b"Japan"})
    book.to_server("Q a")


def test_a_refusal_of_what_was_accepted_before_ends_that_client() -> None:
    book = again()
    book.server("E 22023 invalid value", "Z I")
    assert book.stage().ends == [ClientClosed.SERVER_REFUSED]
    book.to_server()
    assert book.state() == "idle"


def test_bytes_behind_a_reply_that_was_heard_before_close_the_server() -> None:
    book = again()
    book.server(*SAID, "T")
    assert book.state() == "closing"
    book.to_server()

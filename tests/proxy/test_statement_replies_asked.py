"""Who asks what rows look like gets them as they are after a change of the schema; who does not is told."""

import pytest

from proxy.reasons import ServerClosed
from tests.support import messages as m
from tests.support.named import (
    NOTHING,
    STALE,
    TOKYO,
    UNPLANNABLE,
    altered,
    elsewhere,
    give_back,
    moved_to_tokyo,
    prepare,
    run,
    stale,
    two_servers,
    use,
)
from tests.support.playbook import Playbook

CALL = ("B x", "E", "S")
VERIFY = ("p howdah_2 select 1", "s howdah_2", "H")
WIDER = m.row_description(["c0", "c1"])


def test_a_change_that_did_not_pass_through_here_is_seen_by_who_asks() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("B x", "D", "E", "S")
    book.to_server("p howdah_2 select 1", "s howdah_2", "B howdah_2", "D", "E", "S", on=2)
    book.server("1", "t", WIDER, "2", WIDER, "D 1", "C SELECT 1", "Z I", on=2)
    book.to_client("2", WIDER, "D 1", "C SELECT 1", "Z I")
    give_back(book)
    run(book, "alter table other", "ALTER TABLE")
    book.server_at(2).close(ServerClosed.LIFETIME)
    book.server_closes(2)
    book.client(*CALL)
    book.to_server("p howdah_3 select 1", "s howdah_3", "H")
    book.server("1", "t", WIDER)
    book.to_server("B howdah_3", "E", "S")


@pytest.mark.parametrize("describe", ["s x", "D"])
def test_a_group_that_asks_for_the_new_rows_gets_them(describe: str) -> None:
    book = altered()
    book.client("B x", describe, "E", "S")
    book.to_server(*VERIFY, on=2)
    book.server("1", "t", WIDER, on=2)
    book.to_server("B howdah_2", describe.replace("x", "howdah_2"), "E", "S", on=2)
    book.server("2", WIDER, "D 1", "C SELECT 1", "Z I", on=2)
    book.to_client("2", WIDER, "D 1", "C SELECT 1", "Z I")
    use(book, at="howdah_2", on=2)


@pytest.mark.parametrize(
    ("before", "replies", "later", "told"),
    [
        ("Q x", ("C X", "Z I"), (), False),
        ("S", ("Z I",), (), False),
        ("Q begin", ("C BEGIN", "Z T"), (), True),
        ("D", (), ("n",), True),
    ],
)
def test_only_a_group_of_its_own_outside_of_a_transaction_gets_new_rows(
    before: str, replies: tuple[str, ...], later: tuple[str, ...], told: bool
) -> None:
    book = altered()
    book.client(before, "B x", "D", "E", "S")
    book.server(*replies, on=2)
    book.to_server(before, *VERIFY, on=2)
    book.server(*later, "1", "t", WIDER, on=2)
    book.to_server(*(stale() if told else ("B howdah_2",)), "D", "E", "S", on=2)


@pytest.mark.parametrize("describe", ["s y", "D"])
def test_a_group_that_asks_for_the_new_rows_of_a_name_that_is_known_to_be_stale_gets_them(
    describe: str,
) -> None:
    book = two_servers()
    prepare(book)
    book.client("p y select 1", "S")
    book.to_server(NOTHING, "S")
    book.server("3", "Z I")
    book.to_client("1", "Z I")
    run(book, "alter table t", "ALTER TABLE")
    elsewhere(book)
    book.client(*CALL)
    book.to_server(*VERIFY, on=2)
    book.server("1", "t", WIDER, on=2)
    book.server("1", UNPLANNABLE, "Z I", on=2)
    book.to_server(*stale(), "E", "S", on=2)
    book.to_client(STALE, "Z I")
    book.client("B y", describe, "E", "S")
    asked = describe.replace("y", "howdah_2")
    book.to_server("C howdah_3", "B howdah_2", asked, "E", "S", on=2)
    book.server("3", "2", WIDER, "D 1", "C SELECT 1", "Z I", on=2)
    book.to_client("2", WIDER, "D 1", "C SELECT 1", "Z I")


@pytest.mark.parametrize(
    "group",
    [
        ("B x", "E", "B y", "D", "E"),
        ("B x", "E", "B x", "D", "E"),
        ("B x", "s y", "E"),
        ("B x", "B y", "D", "E"),
    ],
)
def test_who_asks_for_other_rows_or_too_late_is_told(group: tuple[str, ...]) -> None:
    book = Playbook()
    prepare(book)
    prepare(book, "y", "select 2", at="howdah_2")
    book.client(*group, "S")
    book.wire().take()
    book.server(STALE, "Z I")
    book.to_client(STALE, "Z I")


def test_a_group_ahead_of_which_something_was_prepared_is_healed_as_any_other() -> None:
    book = two_servers()
    prepare(book)
    prepare(book, "y", "select 2", at="howdah_2")
    elsewhere(book)
    moved_to_tokyo(book)
    book.client("B x", "S")
    book.server("1", "2", "C SELECT 0", "1", "Z I", on=2)
    book.server("3", "2", "Z I", on=2)
    book.client("B x", "D", "E", "B y", "E", "S")
    book.server("1", "2", "C SELECT 0", "1", "Z I", on=2)
    book.stage().transport.take()
    book.wire(2).take()
    book.server("3", STALE, "Z I", on=2)
    book.to_client()
    assert b"select 1" in book.wire(2).take()


def test_who_asked_once_has_not_asked_for_good() -> None:
    book = altered()
    book.client("B x", "D", "E", "S")
    book.server("1", "t", "T", on=2)
    book.server("2", "T", "D 1", "C SELECT 1", "Z I", on=2)
    book.wire(2).take()
    book.stage().transport.take()
    moved_to_tokyo(book)
    run(book, "alter table t", "ALTER TABLE", ready="T")
    book.server_at(2).close(ServerClosed.LIFETIME)
    book.server_closes(2)
    book.client(*CALL)
    book.opens()
    book.server(TOKYO, "C SET", "Z I", on=3)
    book.server("1", "2", "C SELECT 0", "1", "t", WIDER, "Z I", on=3)
    assert b"OPERATOR(pg_catalog./)" in book.wire(3).take()

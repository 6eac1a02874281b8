"""A simple query behind an Execute without its Sync: PostgreSQL loses track; nobody else gets that server."""

from typing import Any

import pytest

from proxy.reasons import ServerClosed
from tests.support.named import prepare
from tests.support.playbook import Playbook

MODES: list[dict[str, Any]] = [{}, {"max_prepared_statements": 0}]
ROW = ("2", "D 1", "C SELECT 1")


@pytest.mark.parametrize("settings", MODES)
def test_in_one_chunk(settings: dict[str, Any]) -> None:
    book = Playbook(**settings)
    book.client("P a", "B", "E", "Q b", "S")
    book.to_server("P a", "B", "E", "Q b", "S")
    book.server("1", *ROW, "C B", "Z I", "Z I")
    book.to_client("1", *ROW, "C B", "Z I", "Z I")
    assert book.closed == [ServerClosed.UNCLEAN]


@pytest.mark.parametrize("settings", MODES)
def test_when_all_has_been_answered(settings: dict[str, Any]) -> None:
    book = Playbook(**settings)
    book.client("P a", "B", "E", "H")
    book.server("1", *ROW)
    book.client("Q b")
    book.to_server("P a", "B", "E", "H", "Q b")
    book.server("C B", "Z I")
    book.to_client("1", *ROW, "C B", "Z I")
    assert book.closed == [ServerClosed.UNCLEAN]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("said", [("Q b", "S"), ("Q b", "Q c"), ("F",)])
def test_among_others_when_all_has_been_answered(said: tuple[str, ...], named: bool) -> None:
    book = Playbook()
    if named:
        prepare(book)
    book.client("P a", "B", "E", "H")
    book.server("1", *ROW)
    book.client(*said)
    replies = {"S": ("Z I",), "F": ("V", "Z I")}
    for one in said:
        book.server(*replies.get(one, ("C B", "Z I")))
    assert book.closed == [ServerClosed.UNCLEAN]


def test_behind_a_group_that_failed_it_does_no_harm() -> None:
    book = Playbook()
    book.client("P bad", "H")
    book.server("E 42601 syntax error")
    book.client("Q a", "F", "S", "Q b")
    book.server("Z I", "C B", "Z I")
    book.to_client("E 42601 syntax error", "Z I", "C B", "Z I")
    assert book.state() == "idle"


@pytest.mark.parametrize("settings", MODES)
def test_a_query_that_was_discarded_did_no_harm(settings: dict[str, Any]) -> None:
    book = Playbook(**settings)
    book.client("P a", "B", "E", "Q b", "S")
    book.server("E 42601 syntax error", "Z I")
    book.to_client("E 42601 syntax error", "Z I")
    assert book.state() == "idle"


@pytest.mark.parametrize("said", [("P a", "B", "Q b"), ("P a", "B", "E", "S", "Q b")])
def test_elsewhere_it_does_no_harm(said: tuple[str, ...]) -> None:
    book = Playbook()
    book.client(*said)
    replies = ("1", "2", "C B", "Z I") if len(said) == 3 else ("1", *ROW, "Z I", "C B", "Z I")
    book.server(*replies)
    book.to_client(*replies)
    assert book.state() == "idle"


def test_a_query_that_deallocates_is_one() -> None:
    book = Playbook()
    prepare(book)
    book.client("B x", "E", "Q deallocate x")
    book.to_server("B howdah_1", "E", "p howdah_2 COMMIT", "Q DEALLOCATE howdah_2")
    book.server(*ROW, "1", "C DEALLOCATE", "Z I")
    book.to_client(*ROW, "C DEALLOCATE", "Z I")
    assert book.closed == [ServerClosed.UNCLEAN]

"""Names of clients and what servers have under them: Parse, Bind, Describe and Close in transaction mode."""

from typing import Any

import pytest

from proxy.reasons import ClientClosed
from tests.support import messages as m
from tests.support.named import (
    NOTHING,
    prepare,
    run,
    take,
    taken,
    unknown,
    use,
)
from tests.support.playbook import Playbook, from_backend, from_frontend

ROW = ("2", "D 1", "C SELECT 1")


# One server.


def test_a_text_is_prepared_under_a_name_of_ours_and_described_for_us() -> None:
    book = Playbook()
    book.client("p x select 1", "S")
    book.to_server("p howdah_1 select 1", "s howdah_1", "S")
    book.server("1", "t", "T", "Z I")
    book.to_client("1", "Z I")
    assert book.state() == "idle"


def test_a_name_is_used_in_another_transaction() -> None:
    book = Playbook()
    prepare(book)
    book.client("s x", "B x", "D", "E", "C x", "S")
    book.to_server("s howdah_1", "B howdah_1", "D", "E", "C x", "S")
    replies = "t", "T", "2", "T", "D 1", "C SELECT 1", "3", "Z I"
    book.server(*replies)
    book.to_client(*replies)
    assert book.state() == "idle"


def test_everything_may_be_said_in_one_group() -> None:
    book = Playbook()
    book.client("p x select 1", "s x", "B x", "E", "S")
    book.to_server("p howdah_1 select 1", "s howdah_1", "s howdah_1", "B howdah_1", "E", "S")
    book.server("1", "t", "T", "t", "T", *ROW, "Z I")
    book.to_client("1", "t", "T", *ROW, "Z I")
    assert book.state() == "idle"


def test_what_is_known_of_a_text_is_asked_once_only() -> None:
    book = Playbook()
    book.client("p x insert", "S")
    book.to_server("p howdah_1 insert", "s howdah_1", "S")
    book.server("1", "t", "n", "Z I")
    book.to_client("1", "Z I")
    book.client("Q begin", "p y insert", "S")
    book.to_server("Q begin", "p howdah_2 insert", "S")


def test_a_second_client_is_served_from_what_the_first_prepared() -> None:
    book = Playbook()
    prepare(book, "x")
    book.client("p y select 1", "B y", "E", "S", by="b")
    book.to_server(NOTHING, "B howdah_1", "E", "S")
    book.server("3", *ROW, "Z I")
    book.to_client("1", *ROW, "Z I", by="b")
    texts = book.pool.statements
    assert (len(texts.statements), texts.hits, texts.misses) == (1, 2, 1)
    (statement,) = texts.statements.values()
    assert (statement.clients, statement.uses) == (2, 3)


def test_other_types_of_parameters_are_another_statement() -> None:
    book = Playbook()
    prepare(book, "x", "select $1")
    book.client(m.parse("y", "select $1", [23]), "S")
    book.to_server(m.parse("howdah_2", "select $1", [23]), "s howdah_2", "S")


def test_a_name_that_is_taken_by_one_client_is_free_for_another() -> None:
    book = Playbook()
    prepare(book)
    prepare(book, "x", "select 2", at="howdah_2", by="b")
    use(book)
    use(book, at="howdah_2", by="b")


def test_portals_are_left_alone() -> None:
    book = Playbook()
    prepare(book)
    book.client(m.bind("p", "x"), m.describe(b"P", "p"), m.execute("p", 1), m.close(b"P", "p"), "S")
    book.to_server(m.bind("p", "howdah_1"), m.describe(b"P", "p"), m.execute("p", 1), m.close(b"P", "p"), "S")
    book.server("2", "T", "D 1", "s", "3", "Z I")
    book.to_client("2", "T", "D 1", "s", "3", "Z I")
    assert book.state() == "idle"


def test_values_follow_the_name_whole_however_long_they_are() -> None:
    book = Playbook()
    prepare(book)
    bind = m.bind("", "x", ["y" * 100_000, None])
    renamed = m.bind("", "howdah_1", ["y" * 100_000, None])
    for at in range(0, len(bind), 30_000):
        book.client(bind[at : at + 30_000])
    book.client("E", "S")
    book.to_server(renamed, "E", "S")
    book.server(*ROW, "Z I")
    book.to_client(*ROW, "Z I")


def test_a_name_counts_as_far_as_postgresql_compares_it() -> None:
    book = Playbook()
    prepare(book, "x" * 63)
    use(book, "x" * 70)
    book.client("C " + "x" * 64, "S")
    book.to_server(NOTHING, "S")
    book.server("3", "Z I")
    book.to_client("3", "Z I")
    book.client("B " + "x" * 63, "S")
    book.to_server(NOTHING.replace("C", "B"), "S")


def test_a_parse_that_is_not_in_the_shape_of_one_is_left_to_postgresql() -> None:
    book = Playbook()
    for odd in (m.message(b"P", b"no end"), m.message(b"P"), m.message(b"B", b"no end"), m.message(b"D")):
        book.client(odd, "S")
        book.to_server(odd, "S")
        book.server("E 08P01 invalid message", "Z I")
        book.to_client("E 08P01 invalid message", "Z I")
    assert not book.session().prepared.names  # type: ignore[union-attr]


def test_a_name_without_an_end_is_not_waited_for() -> None:
    book = Playbook()
    book.client(m.message(b"B", b"x" * 20_000)[:10_000])
    book.client(b"x" * 8_000)
    book.error_to_client("42602", "prepared statement name too long")
    assert book.stage().ends == [ClientClosed.PROTOCOL]


# The reply that a Parse of what is there already gets.


def test_a_parse_that_needs_none_is_answered_when_postgresql_would_answer_it() -> None:
    book = Playbook()
    prepare(book)
    book.client("p y select 1")
    book.to_server(NOTHING)
    book.to_client()
    book.client("H")
    book.to_server("H")
    book.server("3")
    book.to_client("1")
    book.client("S")
    book.server("Z I")
    book.to_client("Z I")


def test_in_a_failed_transaction_postgresql_itself_is_asked() -> None:
    book = Playbook()
    prepare(book)
    take(book, by="a")
    book.client("Q bad")
    book.server("E 42601 bad", "Z E")
    book.to_server("Q bad")
    book.client("p y select 1", "S")
    book.to_server("p howdah_2 select 1", "S")
    aborted = "E 25P02 current transaction is aborted"
    book.server(aborted, "Z E")
    book.to_client("E 42601 bad", "Z E", aborted, "Z E")
    run(book, "rollback", "ROLLBACK", by="a")
    book.client("p y select 1", "B y", "S")
    book.to_server("C howdah_1", "p howdah_3 select 1", "B howdah_3", "S")


def test_in_a_transaction_that_failed_and_goes_on_known_texts_are_known_again() -> None:
    """After ROLLBACK TO, or COMMIT AND CHAIN."""
    book = Playbook()
    prepare(book)
    take(book, by="a")
    book.client("Q bad", "Q rollback to s")
    book.server("E 42601 bad", "Z E", "C ROLLBACK", "Z T")
    book.to_server("Q bad", "Q rollback to s")
    book.client("p y select 1", "S")
    book.to_server(NOTHING, "S")
    book.server("3", "Z T")
    book.to_client("E 42601 bad", "Z E", "C ROLLBACK", "Z T", "1", "Z T")


@pytest.mark.parametrize(
    ("before", "replies"),
    [
        (("Q begin",), ("C BEGIN", "Z I")),
        (("B x", "E"), ROW),
        (("S",), ("Z I",)),
        (("F",), ("V", "Z I")),
    ],
)
def test_behind_what_may_change_plans_a_text_is_prepared_once_more(
    before: tuple[str, ...], replies: tuple[str, ...]
) -> None:
    book = Playbook()
    prepare(book)
    book.client(*before, "p y select 1", "S")
    book.to_server(*(said.replace("B x", "B howdah_1") for said in before), "p howdah_2 select 1", "S")
    book.server(*replies, "1", "Z I")
    book.to_client(*replies, "1", "Z I")
    book.client("B y", "B x", "S")
    book.to_server("C howdah_1", "B howdah_2", "B howdah_2", "S")
    book.server("3", "2", "2", "Z I")
    book.to_client("2", "2", "Z I")


def test_behind_a_long_pipeline_a_text_is_prepared_once_more() -> None:
    book = Playbook()
    prepare(book)
    book.client(*(["B x", "D"] * 40), "p y select 1", "S")
    book.to_server(*(["B howdah_1", "D"] * 40), "p howdah_2 select 1", "S")
    book.server(*(["2", "T"] * 40), "1", "Z I")
    book.to_client(*(["2", "T"] * 40), "1", "Z I")


# Cutting.


GROUPS = (
    (
        ("p x select 1", "s x", "H", "B x", "E", "S"),
        ("p howdah_1 select 1", "s howdah_1", "s howdah_1", "H", "B howdah_1", "E", "S"),
        ("1", "t", "T", "t", "T", *ROW, "Z I"),
        ("1", "t", "T", *ROW, "Z I"),
    ),
    (
        ("p y select 1", "s y", "B z", "E", "S"),
        (NOTHING, "s howdah_1", "B howdah_0", "E", "S"),
        ("3", "t", "T", unknown("howdah_0"), "Z I"),
        ("1", "t", "T", unknown("z"), "Z I"),
    ),
    (
        ("C y", "p y select 2", "p x select 3", "S", "Q bye"),
        ("C y", "p howdah_2 select 2", "s howdah_2", "p howdah_1 select 3", "S", "Q bye"),
        ("3", "1", "t", "n", taken("howdah_1"), "Z I", "C BYE", "Z I"),
        ("3", "1", taken("x"), "Z I", "C BYE", "Z I"),
    ),
)
"""Of each group of messages what the client says and what is made of it, the replies and what of them."""


@pytest.mark.parametrize("part", range(10))
def test_every_cutting_of_a_conversation_gives_the_same_bytes(part: int) -> None:
    longest = max(len(from_backend(*heard)) for _, _, heard, _ in GROUPS)
    for cut in range(1 + part, longest, 10):
        book = Playbook()
        for said, sent, heard, told in GROUPS:
            asked, replies = from_frontend(*said), from_backend(*heard)
            book.client(asked[:cut])
            book.client(asked[cut:])
            book.to_server(*sent)
            book.server(replies[:cut])
            book.server(replies[cut:])
            book.to_client(*told)
            assert book.state() == "idle", cut


# Where names are passed through.


@pytest.mark.parametrize(
    "settings", [{"max_prepared_statements": 0}, {"pool_mode": "session", "server_reset_query": ""}]
)
def test_where_names_are_not_ours_everything_passes_untouched(settings: dict[str, Any]) -> None:
    book = Playbook(**settings)
    for said in (
        ("p x select 1", "s x", "H", "B x", "E", "C x", "S"),
        ("p howdah_1 select 1", "B howdah_0", "Q deallocate x", "S"),
    ):
        sent = book.client(*said)
        assert book.wire().parts[-1] == [sent]
    received = book.server("1", "t", "T", *ROW, "3", "Z I", "1", unknown("howdah_0"))
    assert book.stage().transport.parts == [[received]]
    assert book.session().prepared is None
    assert not book.pool.statements.statements


def test_names_are_ours_no_longer_from_the_next_server_on_when_the_setting_says_so() -> None:
    book = Playbook()
    prepare(book)
    book.manager.apply(book.settings.model_copy(update={"max_prepared_statements": 0}))
    book.client("p x select 1", "B x", "S")
    book.to_server("p x select 1", "B x", "S")
    book.server("1", "2", "Z I")
    book.to_client("1", "2", "Z I")


def test_names_become_ours_from_the_next_server_on_when_the_setting_says_so() -> None:
    book = Playbook(max_prepared_statements=0)
    run(book, "begin", "BEGIN", by="a", ready="T")
    book.manager.apply(book.settings.model_copy(update={"max_prepared_statements": 1}))
    book.client("p x select 1", "S")
    book.to_server("p x select 1", "S")
    book.server("1", "Z T")
    book.to_client("1", "Z T")
    run(book, "commit", "COMMIT", by="a")
    prepare(book, "y", "select 2")

"""The list of shared texts: what stands in it, in which order, and how little is done at a stretch."""

from collections.abc import Iterable

import pytest

from proxy.pool.interfaces import PoolKey
from proxy.pool.statements import OVERHEAD, Preparation, Registry, ServerStatements, Statement
from proxy.snapshot import StatementSnapshot
from proxy.statement_list import PART, TEXT_LIMIT, listed

TAIL = b"\0\0\0"


def shared(registry: Registry, query: bytes, *, uses: int = 0, database: str = "app") -> Statement:
    statement = registry.find(PoolKey(database, "alice"), query + TAIL, (), (), 0)
    assert statement is not None
    statement.uses = uses
    return statement


def registry(most: int = 0) -> Registry:
    return Registry(lambda: (most, 0))


def server(*statements: Statement, confirmed: bool = True) -> ServerStatements:
    """A server on which these are prepared."""
    made = ServerStatements()
    for statement in statements:
        preparation = Preparation(b"howdah_1", statement, 0, 0)
        made.add(preparation, 1000, 0)
        if confirmed:
            made.confirm(preparation)
    return made


def rows(texts: Registry, servers: Iterable[ServerStatements] = ()) -> list[StatementSnapshot]:
    return [row for row in listed(texts, servers) if row is not None]


def test_a_text_is_shown_with_all_that_is_known_of_it() -> None:
    texts = registry()
    statement = texts.find(PoolKey("app", "alice"), b"select $1" + b"\0\0\1\0\0\0\x17", (), (), 3)
    assert statement is not None
    statement.uses = 9
    for _ in range(2):
        texts.wanted(statement)
    size = OVERHEAD + len(b"select $1\0\0\1\0\0\0\x17")
    assert rows(texts, [server(statement)]) == [
        StatementSnapshot("app", "alice", "select $1", 2, 9, 1, size, 3)
    ]


def test_the_most_used_texts_come_first_and_of_the_others_the_oldest() -> None:
    texts = registry()
    for number, uses in enumerate([3, 0, 7, 3, 0]):
        shared(texts, b"%d" % number, uses=uses)
    assert [(row.text, row.uses) for row in rows(texts)] == [("2", 7), ("0", 3), ("3", 3), ("1", 0), ("4", 0)]


def test_the_order_holds_for_more_texts_than_are_sorted_at_once() -> None:
    texts = registry()
    for number in range(3 * PART + 1):
        shared(texts, b"%d" % number, uses=number * 7919 % 1009)
    found = [row.uses for row in rows(texts)]
    assert found == sorted(found, reverse=True)
    assert len({row.text for row in rows(texts)}) == 3 * PART + 1


def test_servers_are_counted_that_have_the_text_prepared() -> None:
    texts = registry()
    one, two, three = (shared(texts, query, uses=3 - at) for at, query in enumerate([b"1", b"2", b"3"]))
    servers = [server(one, two), server(one), server(), server(three, confirmed=False)]
    assert [row.servers for row in rows(texts, servers)] == [2, 1, 0]


def test_what_clients_do_not_share_is_not_listed() -> None:
    texts = registry()
    private = Statement((PoolKey("app", "alice"), b"select 1" + TAIL, (), ()), 0, shared=False)
    assert rows(texts, [server(private)]) == []


def test_a_text_that_made_room_for_another_is_no_longer_listed() -> None:
    texts = registry(most=1)
    shared(texts, b"old")
    shared(texts, b"new")
    assert [row.text for row in rows(texts)] == ["new"]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (b"", ""),
        ("select 'ü'".encode(), "select 'ü'"),
        (b"select '\xfc'", "select '\\xfc'"),
        (b"x" * TEXT_LIMIT, "x" * TEXT_LIMIT),
        (b"x" * (TEXT_LIMIT + 1), "x" * TEXT_LIMIT + "..."),
        (b"x" * (TEXT_LIMIT - 1) + "üü".encode(), "x" * (TEXT_LIMIT - 1) + "..."),
        (b"\xfc" * (TEXT_LIMIT + 1), "\\xfc" * TEXT_LIMIT + "..."),
    ],
)
def test_a_query_is_shown_as_text_and_a_long_one_cut_between_two_characters(query: bytes, shown: str) -> None:
    texts = registry()
    shared(texts, query)
    assert [row.text for row in rows(texts)] == [shown]


def test_a_database_whose_name_is_no_text_is_shown_escaped() -> None:
    texts = registry()
    shared(texts, b"1", database="\udcff")
    assert rows(texts)[0].database == "\\xff"


def test_others_get_their_turn_between_the_parts_of_the_work() -> None:
    texts = registry()
    statements = [shared(texts, b"%d" % number) for number in range(2 * PART + 1)]
    servers = [server(*statements[: PART + 1]), server(*statements)]
    steps = [row is None for row in listed(texts, servers)]
    assert steps == [True] * (4 + 3) + [False] * (2 * PART + 1)


def test_texts_that_come_and_go_meanwhile_do_no_harm() -> None:
    texts = registry(most=3)
    first = [shared(texts, query, uses=1) for query in (b"1", b"2", b"3")]
    servers = [server(*first)]
    steps = listed(texts, servers)
    assert next(steps) is None
    for query in (b"4", b"5", b"6"):
        shared(texts, query, uses=5)
    servers[0].clear()
    assert [row.text for row in steps if row is not None] == ["1", "2", "3"]
    assert [row.text for row in rows(texts, servers)] == ["4", "5", "6"]


def test_without_any_statement_there_is_nothing() -> None:
    assert list(listed(registry(), [server()])) == []

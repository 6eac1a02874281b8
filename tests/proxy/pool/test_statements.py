"""Texts that clients share, and what of them is prepared on a server."""

import pytest

from proxy.pool.interfaces import PoolKey
from proxy.pool.parameters import Applied, Values
from proxy.pool.statements import (
    MISSING,
    OVERHEAD,
    PREFIX,
    Preparation,
    Registry,
    ServerStatements,
    Statement,
)

ALICE = PoolKey("app", "alice")

TEXT = b"select 1\0\0\0"
UTC: Values = (b"UTC",)
TOKYO: Values = (b"Asia/Tokyo",)
NONE: Applied = ()
MANY = 1000


def registry(count: int = 0, most: int = 0) -> Registry:
    return Registry(lambda: (count, most))


def found(registry: Registry, text: bytes = TEXT, *, ddl: int = 0, values: Values = UTC) -> Statement:
    statement = registry.find(ALICE, text, values, NONE, ddl)
    assert statement is not None
    return statement


def in_use(registry: Registry, text: bytes = TEXT) -> Statement:
    statement = found(registry, text)
    registry.wanted(statement)
    return statement


# The registry.


def test_no_name_is_given_twice() -> None:
    names = registry()
    given = [names.next_name() for _ in range(MANY)]
    assert len({*given, MISSING}) == MANY + 1
    assert all(name.startswith(PREFIX) for name in given)


def test_a_text_is_one_statement_for_all() -> None:
    texts = registry()
    statement = found(texts)
    assert found(texts) is statement
    assert (statement.text, statement.values, statement.shared) == (TEXT, UTC, True)
    assert texts.size == statement.size == OVERHEAD + len(TEXT)


@pytest.mark.parametrize(
    "other",
    [
        (PoolKey("other", "alice"), TEXT, UTC, NONE),
        (PoolKey("app", "bob"), TEXT, UTC, NONE),
        (ALICE, b"select 1\0\0\1\0\0\0\x17", UTC, NONE),
        (ALICE, TEXT, TOKYO, NONE),
        (ALICE, TEXT, UTC, ((b"search_path", b"s"),)),
    ],
)
def test_what_postgresql_may_read_differently_is_another_statement(
    other: tuple[PoolKey, bytes, Values, Applied],
) -> None:
    texts = registry()
    assert texts.find(*other, 0) is not found(texts)
    assert len(texts.statements) == 2


def test_after_a_schema_change_a_text_is_a_new_statement() -> None:
    texts = registry()
    before = in_use(texts)
    after = found(texts, ddl=1)
    assert after is not before
    assert (before.ddl, after.ddl, after.verified) == (0, 1, 1)
    assert not before.shared
    assert found(texts, ddl=1) is after
    assert texts.size == after.size
    texts.unwanted(before)
    assert list(texts.statements.values()) == [after]


@pytest.mark.parametrize(("count", "most"), [(2, 0), (0, 2 * (OVERHEAD + 2)), (0, 3 * (OVERHEAD + 2) - 1)])
def test_without_room_there_is_no_statement_while_all_are_in_use(count: int, most: int) -> None:
    texts = registry(count, most)
    one = in_use(texts, b"1\0")
    two = in_use(texts, b"2\0")
    assert texts.find(ALICE, b"3\0", UTC, NONE, 0) is None
    assert found(texts, b"1\0") is one
    texts.unwanted(two)
    three = found(texts, b"3\0")
    assert list(texts.statements.values()) == [one, three]
    assert texts.size == one.size + three.size
    assert not two.shared


def test_the_longest_unwanted_statement_makes_room() -> None:
    texts = registry(3)
    one, two, three = (in_use(texts, text) for text in (b"1\0", b"2\0", b"3\0"))
    for statement in (two, one, three):
        texts.unwanted(statement)
    texts.wanted(three)
    found(texts, b"4\0")
    assert two not in texts.statements.values()
    found(texts, b"5\0")
    assert one not in texts.statements.values()
    assert three in texts.statements.values()


def test_a_statement_nobody_has_asked_for_by_name_makes_room_too() -> None:
    texts = registry(1)
    found(texts, b"1\0")
    assert found(texts, b"2\0").text == b"2\0"
    assert len(texts.statements) == 1


def test_a_statement_stays_while_one_of_its_names_is_left() -> None:
    texts = registry(1)
    statement = in_use(texts)
    texts.wanted(statement)
    texts.unwanted(statement)
    assert texts.find(ALICE, b"2\0", UTC, NONE, 0) is None
    assert statement.clients == 1


def test_a_text_makes_room_for_itself_after_a_schema_change() -> None:
    texts = registry(1)
    before = found(texts)
    after = found(texts, ddl=1)
    assert list(texts.statements.values()) == [after]
    assert texts.size == after.size
    assert not before.shared


def test_without_limits_everything_is_kept() -> None:
    texts = registry()
    for number in range(MANY):
        found(texts, b"%d\0" % number)
    assert len(texts.statements) == MANY
    assert texts.size == sum(statement.size for statement in texts.statements.values())


def test_a_limit_holds_at_once_when_it_is_lowered() -> None:
    limits = [0]
    texts = Registry(lambda: (limits[0], 0))
    for number in range(10):
        found(texts, b"%d\0" % number)
    limits[0] = 2
    found(texts, b"new\0")
    assert len(texts.statements) == 2


# One server.


def prepared(
    server: ServerStatements,
    name: bytes = b"howdah_1",
    text: bytes = TEXT,
    *,
    used: int = 0,
    confirmed: bool = True,
    most: int = 9,
    bytes_: int = 0,
) -> Preparation:
    """A statement of which a Parse was sent, and answered."""
    preparation = Preparation(name, Statement((ALICE, text, UTC, NONE), 0, shared=True), 0, used)
    server.add(preparation, most, bytes_)
    if confirmed:
        server.confirm(preparation)
    return preparation


def test_a_preparation_is_confirmed_by_its_reply_only() -> None:
    server = ServerStatements()
    preparation = prepared(server, confirmed=False)
    assert server.prepared == {preparation.statement: preparation}
    assert server.is_pending(preparation)
    assert not preparation.confirmed
    server.confirm(preparation)
    assert preparation.confirmed
    assert not server.is_pending(preparation)
    assert (len(server), server.size) == (1, preparation.statement.size)


def test_a_reply_confirms_nothing_that_was_removed_before() -> None:
    server = ServerStatements()
    preparation = prepared(server, confirmed=False)
    server.remove(preparation)
    server.confirm(preparation)
    assert not preparation.confirmed
    assert (len(server), server.size) == (0, 0)


@pytest.mark.parametrize(("most", "most_bytes"), [(2, 0), (9, 2 * (OVERHEAD + 2))])
def test_a_server_is_crowded_above_its_limits(most: int, most_bytes: int) -> None:
    server = ServerStatements()
    prepared(server, b"1", b"1\0", used=2, most=most, bytes_=most_bytes)
    prepared(server, b"2", b"2\0", used=1, most=most, bytes_=most_bytes)
    assert not server.crowded
    prepared(server, b"3", b"3\0", used=3, most=most, bytes_=most_bytes)
    assert server.crowded
    assert server.overdue(most, most_bytes) == [b"2"]
    assert not server.crowded
    assert [preparation.name for preparation in server.prepared.values()] == [b"1", b"3"]
    assert server.size == 2 * (OVERHEAD + 2)
    assert server.overdue(most, most_bytes) == []


def test_the_least_recently_used_are_closed_first() -> None:
    server = ServerStatements()
    for number, used in enumerate((5, 1, 4, 2, 3)):
        prepared(server, b"%d" % number, b"%d\0" % number, used=used)
    assert server.overdue(2, 0) == [b"1", b"3", b"4"]


def test_what_was_not_closed_after_all_is_closed_later() -> None:
    server = ServerStatements()
    server.put_back(b"howdah_1")
    assert server.crowded
    assert server.overdue(9, 0) == [b"howdah_1"]


def test_another_preparation_of_a_statement_takes_the_place_of_the_first() -> None:
    server = ServerStatements()
    first = prepared(server, b"1")
    second = Preparation(b"2", first.statement, 1, 0)
    server.add(second, 9, 0)
    assert server.prepared == {first.statement: second}
    assert server.size == first.statement.size
    server.remove(first)
    assert server.prepared == {first.statement: second}
    assert server.overdue(9, 0) == [b"1"]


def test_what_is_of_no_use_any_more_is_closed_when_there_is_time() -> None:
    server = ServerStatements()
    preparation = prepared(server)
    server.retire(preparation)
    assert (len(server), server.size, server.crowded) == (0, 0, True)
    assert server.overdue(9, 0) == [b"howdah_1"]


def test_a_preparation_may_turn_out_to_be_of_another_statement() -> None:
    server = ServerStatements()
    preparation = prepared(server, b"1")
    other = Statement((ALICE, b"other\0", UTC, NONE), 0, shared=True)
    server.adopt(preparation, other)
    assert server.prepared == {other: preparation}
    assert preparation.statement is other
    assert server.size == other.size


def test_a_preparation_that_was_there_of_the_other_statement_is_closed() -> None:
    server = ServerStatements()
    preparation = prepared(server, b"1", b"1\0")
    other = prepared(server, b"2", b"2\0")
    server.adopt(preparation, other.statement)
    assert server.prepared == {other.statement: preparation}
    assert server.size == other.statement.size
    assert server.overdue(9, 0) == [b"2"]


def test_what_no_reply_has_come_for_is_not_relied_upon_when_its_session_leaves() -> None:
    server = ServerStatements()
    kept = prepared(server, b"1", b"1\0")
    prepared(server, b"2", b"2\0", confirmed=False)
    server.parted()
    assert list(server.prepared.values()) == [kept]
    assert not server.pending
    assert server.overdue(9, 0) == [b"2"]


def test_discard_all_leaves_what_was_sent_behind_it() -> None:
    server = ServerStatements()
    prepared(server, b"1", b"1\0")
    server.put_back(b"0")
    later = prepared(server, b"2", b"2\0", confirmed=False)
    server.clear()
    assert list(server.prepared.values()) == [later]
    assert server.size == later.statement.size
    assert server.overdue(9, 0) == []


def test_after_a_query_of_ours_nothing_is_relied_upon() -> None:
    server = ServerStatements()
    server.unnamed = object()
    prepared(server, b"1", b"1\0")
    prepared(server, b"2", b"2\0")
    server.retire_all()
    assert (len(server), server.size, server.unnamed) == (0, 0, None)
    assert server.overdue(9, 0) == [b"1", b"2"]


def test_names_of_several_workers_never_coincide() -> None:
    """A server takes its statements along when it goes to another worker."""
    workers = [Registry(lambda: (0, 0), number) for number in (1, 2, 63)]
    names = {worker.next_name() for worker in workers for _ in range(200)}
    assert len(names) == 600
    # The next worker of this number begins anew, until it has seen a name.
    worker = Registry(lambda: (0, 0), 2)
    for name in names:
        worker.seen(name)
    assert worker.next_name() not in names

"""What a group of messages tells about the statements it names."""

import pytest

from protocol import tags
from proxy.pieces import Messages
from proxy.statement_groups import asks_anew, called, is_whole
from tests.support.playbook import from_frontend


def said(*messages: str | bytes) -> tuple[bytes, Messages]:
    """The bytes of a chunk and where its messages are, as the framer tells."""
    parts = [from_frontend(message) for message in messages]
    found, at = [], 0
    for part in parts:
        found.append((part[0], at, at + len(part)))
        at += len(part)
    return b"".join(parts), found


def names(*messages: str) -> list[bytes]:
    buffer, found = said(*messages)
    return list(called(buffer, len(buffer), found))


def asks(*messages: str, start: int = 0) -> bool:
    buffer, found = said(*messages)
    return asks_anew(buffer, len(buffer), found, found[start][1], b"x")


def test_binds_and_describes_call_by_name() -> None:
    assert names("B x", "s y", "D", "B", "C z", "p v select 1", "E", "S") == [b"x", b"y"]


@pytest.mark.parametrize("end", ["S", "Q select 1", "F"])
def test_a_group_ends_where_postgresql_would_go_on_after_an_error(end: str) -> None:
    assert names("B x", end, "B y", "S") == [b"x"]
    assert not asks("B x", end, "s x")


def test_a_name_counts_as_far_as_postgresql_compares_it() -> None:
    assert names("B " + "x" * 70) == [b"x" * 63]


def test_a_name_that_has_not_come_yet_is_none() -> None:
    buffer, found = said("B x", "B yyyy")
    assert list(called(buffer[:-10], len(buffer) - 10, found)) == [b"x"]


def test_a_group_is_whole_with_its_sync_and_nothing_else_that_ends_one() -> None:
    _, found = said("B x", "E", "S")
    assert is_whole(found, 0)
    assert not is_whole(found, found[1][1])
    assert not is_whole(found[:-1], 0)
    assert not is_whole(said("B x", "S", "S")[1], 0)
    assert not is_whole([(tags.BIND, 0, 70_000), (tags.SYNC, 70_000, 70_005)], 0)


@pytest.mark.parametrize(
    "group",
    [
        ("s x",),
        ("B x", "D", "E"),
        ("s x", "B x", "E"),
        ("B x", "D", "E", "B x", "D", "E"),
        ("B x", "s x", "E"),
    ],
)
def test_who_asks_before_each_time_there_are_rows_asks(group: tuple[str, ...]) -> None:
    assert asks(*group, "S")


@pytest.mark.parametrize(
    "group",
    [
        ("B x", "E"),
        ("B x", "B y", "D", "E"),
        ("B x", "s y", "E"),
        ("D", "B x", "E"),
        ("B x", "E", "D"),
        ("B x", "E", "s x"),
        ("B x", "D", "E", "B x", "E"),
        ("B y", "D", "E"),
    ],
)
def test_who_does_not_does_not(group: tuple[str, ...]) -> None:
    assert not asks(*group, "S")


def test_what_came_before_does_not_matter() -> None:
    assert not asks("s x", "B x", "E", "S", start=1)

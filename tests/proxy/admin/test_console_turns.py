"""Rows that take long to find: others get their turn meanwhile, and nobody notices the gaps."""

import asyncio

import pytest

from proxy.admin.commands import Identity
from proxy.snapshot import StatementSnapshot
from tests.proxy.admin.harness import ADMIN, STATS, Admin
from tests.proxy.fakes import FakeSnapshots
from tests.support import messages as m

GAPS = 50


def texts(count: int) -> list[StatementSnapshot | None]:
    return [StatementSnapshot("app", "alice", f"select {n}", 1, count - n, 0, 520, 0) for n in range(count)]


def long_to_find() -> Admin:
    """Long work before the first row, and a gap before each of the others."""
    found: list[StatementSnapshot | None] = [None] * GAPS
    for row in texts(3):
        found += [row, None]
    return Admin(snapshots=FakeSnapshots(statement_list=found))


@pytest.mark.parametrize("identity", [ADMIN, STATS], ids=["admin", "stats"])
async def test_shared_statements_are_shown_to_whoever_may_look(identity: Identity) -> None:
    replies = await Admin(identity).ask(m.query("SHOW PREPARED_STATEMENTS"))
    assert m.tags(replies) == "TDDCZ"
    assert m.column_names(replies[0].body) == [
        *("database", "user", "text", "clients", "uses", "servers", "bytes", "generation")
    ]
    assert m.rows(replies)[0] == ["app", "alice", "select $1", "5", "3000000000", "2", "4000000000", "1"]


async def test_others_get_their_turn_before_the_first_row_is_found() -> None:
    admin = long_to_find()
    admin.console.receive(m.query("SHOW PREPARED_STATEMENTS"))
    turns = 0
    while not admin.written:
        await asyncio.sleep(0)
        turns += 1
    assert turns > GAPS
    assert m.tags(admin.read()) == "TDDDCZ"


async def test_a_row_limit_counts_rows_only() -> None:
    admin = long_to_find()
    asked = m.parse("", "SHOW PREPARED_STATEMENTS") + m.bind() + m.execute(max_rows=2) * 2 + m.sync()
    admin.console.receive(asked)
    await admin.console.settled()
    replies = admin.read()
    assert m.tags(replies) == "12DDsDCZ"
    assert [row[2] for row in m.rows(replies)] == ["select 0", "select 1", "select 2"]

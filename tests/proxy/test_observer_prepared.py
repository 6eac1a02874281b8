"""What is shown of prepared statements against the live objects."""

import pytest

from proxy.pool import states
from proxy.pool.interfaces import PoolKey
from proxy.pool.statements import OVERHEAD, Preparation
from proxy.server import Server
from proxy.snapshot import StatementCounts
from tests.support import messages as m
from tests.support.rig import Rig
from tests.support.script import Conversation

TEXT = b"select 1\0\0\0"


def script(conversation: Conversation) -> None:
    """Completes every Parse and Close; the rest is as simple as can be."""
    conversation.welcome()
    replies = {
        b"P": m.message(b"1"),
        b"C": m.message(b"3"),
        b"D": m.message(b"t", b"\0\0") + m.message(b"n"),
        b"S": m.ready_for_query(),
    }
    while (got := conversation.read()).tag != b"X":
        if got.tag == b"Q":
            conversation.answer("1")
        elif got.tag in replies:
            conversation.send(replies[got.tag])


def only_server(rig: Rig) -> Server:
    """The server, idle."""
    (pool,) = rig.worker.manager.pools.values()
    (server,) = pool.servers[states.IDLE]
    assert isinstance(server, Server)
    return server


async def test_a_client_is_shown_with_the_number_of_its_names() -> None:
    async with Rig(script) as rig:
        peer = await rig.client()
        for name in ("a", "b"):
            peer.send(m.parse(name, "select 1"), m.sync())
            await peer.until()
        observer = rig.worker.observer
        assert [row.prepared_statements for row in observer.clients()] == [2]
        peer.send(m.close(b"S", "a"), m.sync())
        await peer.until()
        assert [row.prepared_statements for row in observer.clients()] == [1]


@pytest.mark.parametrize(("mode", "most"), [("session", 200), ("transaction", 0)])
async def test_where_names_are_passed_through_none_are_shown(mode: str, most: int) -> None:
    async with Rig(script, pool_mode=mode, max_prepared_statements=most) as rig:
        peer = await rig.client()
        peer.send(m.parse("a", "select 1"), m.sync())
        await peer.until()
        observer = rig.worker.observer
        assert [row.prepared_statements for row in (*observer.clients(), *observer.servers())] == [0, 0]
        assert list(observer.prepared_statements()) == []


async def test_a_server_is_shown_with_the_number_of_its_statements() -> None:
    async with Rig(script) as rig:
        peer = await rig.client()
        for name, sql in (("a", "select 1"), ("b", "select 1"), ("c", "select 2")):
            peer.send(m.parse(name, sql), m.sync())
            await peer.until()
        assert [row.prepared_statements for row in rig.worker.observer.servers()] == [2]


async def test_shared_texts_are_counted_and_listed() -> None:
    async with Rig(script) as rig:
        peer = await rig.client()
        await peer.ask("1")
        manager, observer = rig.worker.manager, rig.worker.observer
        statement = manager.statements.find(PoolKey("app", "alice"), TEXT, (), (), 0)
        assert statement is not None
        server = only_server(rig)
        preparation = Preparation(b"howdah_1", statement, 0, 0)
        server.statements.add(preparation, 1, 0)
        server.statements.confirm(preparation)
        (row,) = [row for row in observer.prepared_statements() if row is not None]
        assert (row.database, row.text, row.servers) == ("app", "select 1", 1)
        lists = observer.lists()
        assert (lists.prepared_statements, lists.prepared_statement_bytes) == (1, OVERHEAD + len(TEXT))
        assert row.bytes == lists.prepared_statement_bytes


async def test_what_became_of_the_need_for_statements_is_the_registrys_count() -> None:
    async with Rig(script) as rig:
        registry = rig.worker.manager.statements
        registry.hits, registry.misses, registry.evicted = 5, 4, 3
        assert rig.worker.observer.statement_counts() == StatementCounts(hits=5, misses=4, evictions=3)

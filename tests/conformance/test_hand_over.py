"""What one client leaves on its way: nothing of it reaches whoever has the server next."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.conformance.expect import rival_is_served, rival_waits, sqlstates
from tests.integration.conftest import FAKE, Launch, before_fake
from tests.support import messages as m
from tests.support.fault_proxy import FaultProxy, Faults, Way, wait_until
from tests.support.pooler import Pooler
from tests.support.script import Conversation, FakeServer, default_script
from tests.support.server import Server
from tests.support.standard import ONE, databases, howdah_only
from tests.support.wire import Raw, send_cancel

pytestmark = howdah_only("other poolers do not promise it")

ROW = m.row_description(["stray"]) + m.data_row(["stray"])
GOOD = ROW + m.command_complete("SELECT 1") + m.ready_for_query()
LATE = b"late COPY data"
_PATIENCE = 5.0
_LOCK = 20_240_229
BLOCKED = f"select pg_advisory_xact_lock({_LOCK})"


@pytest.mark.usefixtures("alive")
def test_a_client_keeps_its_server_until_all_it_has_asked_is_answered(pooler: Pooler) -> None:
    with pooler.raw(ONE, timeout=_PATIENCE) as client:
        client.send(m.query("select 'first'"), m.one_shot("select 'second'"), m.query("select 'third'"))
        assert [m.rows(client.until()) for _ in range(3)] == [[["first"]], [["second"]], [["third"]]]


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize("named", [False, True], ids=["", "of one who likes names"])
@pytest.mark.parametrize("at_once", [False, True], ids=["", "and Sync at once"])
def test_a_server_that_is_confused_by_a_query_within_a_group_is_lent_to_nobody(
    pooler: Pooler, named: bool, at_once: bool
) -> None:
    """PostgreSQL 18 says at the Sync that it is idle, and refuses whatever comes next."""
    with pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
        if named:
            client.ask(m.parse("s", "select 1") + m.sync())
        client.send(m.one_shot("select 'in a group'", end=m.flush()))
        client.until(b"C")
        client.send(m.query("select 'within'"), m.sync() if at_once else b"")
        assert m.rows(client.until()) == [["within"]]
        client.send(b"" if at_once else m.sync())
        client.until()
        assert rival.value("select 'rival'") == "rival"


@pytest.mark.usefixtures("alive")
def test_a_client_that_leaves_in_the_middle_of_its_query_leaves_its_server_to_the_next(
    pooler: Pooler, server: Server
) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE, timeout=_PATIENCE) as rival:
        pid = client.value("select pg_backend_pid()")
        client.send(m.query("select pg_sleep(30) /* left */"))
        server.wait_for_query("/* left */")
        client.reset()
        assert rival.value("select pg_backend_pid()") == pid


@pytest.mark.usefixtures("alive")
def test_what_waits_behind_a_message_that_waits_stays_behind_it(pooler: Pooler) -> None:
    with pooler.raw(ONE, timeout=_PATIENCE) as client, pooler.raw(ONE) as rival:
        client.ask(m.parse("s", "select 'before'") + m.sync())
        rival.rows("begin")
        client.send(m.query('deallocate "s"') + m.parse("s", "select 'behind'") + m.sync())
        pooler.wait_for_pool(ONE, cl_waiting=1)
        client.send(m.bind("", "s") + m.execute() + m.sync())
        # Also what was sent last has been read when this is answered.
        pooler.wait_for_pool(ONE, cl_waiting=1)
        rival.rows("commit")
        got = [client.until() for _ in range(3)]
        assert [m.tags(each) for each in got] == ["CZ", "1Z", "2DCZ"]
        assert m.rows(got[2]) == [["behind"]]


@pytest.mark.parametrize("unasked", [ROW, GOOD, m.message(b"1")], ids=["a row", "a reply", "ParseComplete"])
@pytest.mark.parametrize("idle", [False, True], ids=["behind the end", "while idle"])
def test_a_server_that_says_more_than_it_owes_serves_nobody_any_more(
    launch: Launch, fake: FakeServer, unasked: bytes, idle: bool
) -> None:
    heard, ended = threading.Event(), threading.Event()

    def script(conversation: Conversation) -> None:
        fake.script = default_script
        conversation.welcome()
        conversation.expect(b"Q")
        if idle:
            conversation.send(GOOD)
            heard.wait(_PATIENCE)
            conversation.send(unasked)
        else:
            conversation.send(GOOD + unasked)
        try:
            while conversation.read().tag != b"X":
                pass
        finally:
            ended.set()

    fake.script = script
    with before_fake(launch, fake).raw(FAKE) as client:
        assert m.rows(client.query("select 'mine'")) == [["stray"]]
        heard.set()
        assert ended.wait(_PATIENCE), "the server is kept"
        assert client.value("next") == "next"


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    """What stands between the pooler and its servers."""
    with FaultProxy((server.host, server.port)) as proxy:
        yield proxy


@pytest.fixture
def behind(launch: Launch, server: Server, proxy: FaultProxy) -> Pooler:
    """A pooler whose servers are behind the proxy."""
    return launch(databases(server, host=proxy.host, port=proxy.port))


@pytest.fixture
def table(server: Server) -> None:
    server.sql("create table if not exists late(n int)")
    server.sql("grant all on late to public")


def fail_copy(client: Raw, *behind: bytes) -> None:
    """A COPY whose first row is bad, with this behind that row."""
    client.send(m.query("copy late from stdin"))
    client.until(b"G")
    client.send(m.copy_data(b"no number\n"), *behind)
    assert sqlstates(client.until()) == ["22P02"]


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("block", [False, True], ids=["", "in a transaction"])
def test_copy_data_that_comes_too_late_goes_nowhere(behind: Pooler, proxy: FaultProxy, block: bool) -> None:
    with behind.raw(ONE) as client, behind.raw(ONE, timeout=_PATIENCE) as rival:
        if block:
            client.rows("begin")
        fail_copy(client)
        client.send(m.copy_data(LATE), m.copy_done())
        if block:
            client.rows("rollback")
        for _ in range(2):
            # The second time also what was sent just before has been read for sure.
            assert rival.value("select 'rival'") == "rival"
        assert client.value("select 'after'") == "after"
    assert not [link for link in proxy.links if LATE in link.recorded[Way.TO_SERVER]]


@pytest.mark.usefixtures("table")
def test_a_server_that_has_half_a_message_is_lent_to_nobody(behind: Pooler) -> None:
    """It waits for the rest, and would take for that what its next client asks."""
    long = m.copy_data(b"1\n" * 100_000)
    with behind.raw(ONE) as client, behind.raw(ONE, timeout=_PATIENCE) as rival:
        fail_copy(client, long[:50_000])
        assert rival.value("select 'rival'") == "rival"
        client.send(long[50_000:], m.copy_done())
        assert client.value("select 'after'") == "after"


def test_a_cancel_that_is_late_finds_nobody_else(behind: Pooler, server: Server, proxy: FaultProxy) -> None:
    """The query ended while the request was on its way: the server waits for that, and so does a rival."""
    with behind.raw(ONE) as client, behind.raw(ONE) as rival, locked(server) as unlock:
        client.send(m.query(BLOCKED))
        server.wait_for_query(BLOCKED)
        links = len(proxy.links)
        # Of the connections to come only: the request does not get through.
        proxy.faults = late = Faults(blackhole={Way.TO_SERVER})
        cancel = threading.Thread(target=behind.cancel, args=(client,))
        cancel.start()
        wait_until(lambda: len(proxy.links) > links, _PATIENCE, "the request is on its way")
        unlock()
        assert sqlstates(client.until()) == []
        rival_waits(behind, rival)
        late.blackhole.clear()
        rival_is_served(rival)
        cancel.join()


def test_a_key_with_another_secret_cancels_nobody(pooler: Pooler, server: Server) -> None:
    with pooler.raw(ONE) as client, locked(server) as unlock:
        client.send(m.query(BLOCKED))
        server.wait_for_query(BLOCKED)
        pid, secret = client.greeting.pid, client.greeting.secret
        send_cancel((pooler.host, pooler.port), pid, bytes(byte ^ 1 for byte in secret))
        unlock()
        assert sqlstates(client.until()) == []


@contextmanager
def locked(server: Server) -> Iterator[Callable[[], object]]:
    """Nobody gets the lock that BLOCKED wants, until what this returns is called."""
    server.sql(f"select pg_advisory_lock({_LOCK})")
    try:
        yield partial(server.sql, f"select pg_advisory_unlock({_LOCK})")
    finally:
        server.sql("select pg_advisory_unlock_all()")

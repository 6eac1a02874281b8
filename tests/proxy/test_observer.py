"""Snapshots against the live objects they describe."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest

from proxy.audit import Leak
from proxy.pool import states
from proxy.pool.pool import Pool
from proxy.quarantine import Violation
from proxy.server import Server
from proxy.snapshot import ClientSnapshot, PoolSnapshot, ServerSnapshot
from tests.support import messages as m
from tests.support.rig import Peer, Rig, eventually
from tests.support.script import Conversation


def script(conversation: Conversation) -> None:
    """Echoes; `sleep` is answered when a cancel request comes, `begin` opens a transaction."""
    conversation.welcome()
    while True:
        got = conversation.read()
        if got.tag == b"X":
            return
        sql = got.body.rstrip(b"\0")
        if sql.startswith(b"SET application_name="):
            name = sql.decode().split("'")[1]
            status = m.parameter_status("application_name", name)
            conversation.send(status, m.command_complete("SET"), m.ready_for_query())
            continue
        if sql == b"sleep":
            before = len(conversation.server.cancels)
            while len(conversation.server.cancels) == before:
                time.sleep(0.002)
        conversation.answer(sql.decode(), status=b"T" if sql == b"begin" else b"I")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Rig(script, default_pool_size=1) as made:
        yield made


def pool_row(rig: Rig) -> PoolSnapshot:
    return rig.worker.observer.pools()[0]


def client_rows(rig: Rig) -> list[ClientSnapshot]:
    return list(rig.worker.observer.clients())


def server_row(rig: Rig) -> ServerSnapshot:
    (only,) = rig.worker.observer.servers()
    return only


def the_pool(rig: Rig) -> Pool:
    (only,) = rig.worker.manager.pools.values()
    return only


async def busy(rig: Rig, sql: str = "sleep") -> Peer:
    """A client whose query runs on the only server."""
    peer = await rig.client()
    peer.send(m.query(sql))
    await eventually(lambda: the_pool(rig).servers[states.ACTIVE])
    return peer


def counted(row: PoolSnapshot) -> dict[str, int]:
    """The columns that are not zero."""
    names = [name for name in row.__match_args__ if name.startswith(("cl_", "sv_"))]
    return {name: value for name in names if (value := getattr(row, name))}


async def test_pools_count_clients_and_servers_by_state(rig: Rig) -> None:
    assert [row.database for row in rig.worker.observer.pools()] == ["pgbouncer"]
    await busy(rig)
    assert counted(pool_row(rig)) == {"cl_active": 1, "sv_active": 1}
    waiting = await rig.client()
    waiting.send(m.query("2"))
    await eventually(lambda: the_pool(rig).waiting)
    row = pool_row(rig)
    assert counted(row) == {"cl_active": 1, "cl_waiting": 1, "sv_active": 1}
    assert (row.database, row.user, row.pool_mode) == ("app", "alice", "transaction")
    assert row.waited >= 0
    await asyncio.sleep(0.01)
    assert pool_row(rig).waited >= 10_000
    rig.worker.lobby.clients[client_rows(rig)[0].id].cancel_requested()
    assert pool_row(rig).sv_active_cancel == 1
    await waiting.until()
    assert counted(pool_row(rig)) == {"cl_active": 2, "sv_idle": 1}
    assert pool_row(rig).waited == 0


async def test_a_client_that_waits_for_its_first_greeting_is_counted_as_waiting() -> None:
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(conversation: Conversation) -> None:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)
        script(conversation)

    async with Rig(slow) as rig:
        peer = await rig.connect()
        await eventually(lambda: client_rows(rig))
        (row,) = client_rows(rig)
        assert (row.state, row.user, row.database) == ("login", "(nouser)", "(nodb)")
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await eventually(lambda: rig.fake.logins())
        (row,) = client_rows(rig)
        assert (row.state, row.user, row.database) == ("waiting", "alice", "app")
        assert counted(pool_row(rig)) == {"cl_waiting": 1, "sv_login": 1}
        assert server_row(rig).state == "new"
        assert rig.worker.observer.lists().login_clients == 1
        gate.set()
        await peer.welcome()
        assert client_rows(rig)[0].state == "active"


async def test_clients_and_servers_name_each_other(rig: Rig) -> None:
    await busy(rig)
    (client,) = client_rows(rig)
    server = server_row(rig)
    assert (client.link, server.link) == (server.ptr, client.ptr)
    assert client.ptr != server.ptr
    assert (client.shown_state, server.state) == ("active", "active")
    assert client.wait_us >= 0
    rig.worker.lobby.clients[client.id].cancel_requested()
    await eventually(lambda: server_row(rig).state == "idle")
    assert (client_rows(rig)[0].link, server_row(rig).link) == ("", "")
    assert client_rows(rig)[0].shown_state == "idle"


async def test_addresses_times_and_names_are_those_of_the_connections(rig: Rig) -> None:
    before = time.time()
    peer = await rig.connect()
    await peer.login(application_name="shop")
    await peer.ask("1")
    (client,) = client_rows(rig)
    assert client.addr == client.local_addr == "127.0.0.1"
    assert client.port != client.local_port
    assert before - 1 <= client.connect_time <= client.request_time <= time.time() + 1
    assert client.application_name == "shop"
    assert (client.send_avail, client.pkt_avail, client.waited) == (0, 0, 0)
    server = server_row(rig)
    conversation = rig.fake.conversations[0]
    assert (server.addr, server.port) == (rig.fake.host, rig.fake.port)
    assert (server.local_addr, server.local_port) == conversation.socket.getpeername()
    assert server.remote_pid == conversation.pid
    assert before - 1 <= server.connect_time <= time.time() + 1
    assert server.close_needed == 0
    assert server.application_name == "shop"


async def test_a_server_that_logs_in_has_no_times_before_it_was_dialled() -> None:
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(conversation: Conversation) -> None:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)
        script(conversation)

    async with Rig(slow) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await eventually(lambda: rig.fake.logins())
        row = server_row(rig)
        assert time.time() - 60 <= row.connect_time <= time.time() + 1
        assert time.time() - 60 <= row.request_time <= time.time() + 1
        gate.set()
        await peer.welcome()


async def test_a_client_idle_in_its_transaction_waits_for_nothing(rig: Rig) -> None:
    peer = await rig.client()
    await peer.ask("begin")
    (client,) = client_rows(rig)
    assert client.link
    assert client.waited == 0


async def test_what_a_waiting_client_sent_is_shown_as_received(rig: Rig) -> None:
    await busy(rig)
    waiting = await rig.client()
    query = m.query("x" * 1000)
    waiting.send(query)
    await eventually(lambda: the_pool(rig).waiting)
    row = client_rows(rig)[1]
    assert row.state == "waiting"
    assert row.pkt_avail == len(query)


async def test_a_server_to_be_closed_says_so(rig: Rig) -> None:
    await busy(rig)
    rig.worker.manager.reconnect(None)
    assert server_row(rig).close_needed == 1


async def test_databases_show_their_settings_and_counts() -> None:
    databases = {"other": {"host": "a,b", "pool_size": 7, "pool_mode": "session", "max_db_connections": 9}}
    async with Rig(script, databases=databases, default_pool_size=3, max_db_client_connections=50) as rig:
        await (await rig.client()).ask("1")
        rows = {row.name: row for row in rig.worker.observer.databases()}
        assert list(rows) == ["app", "other", "pgbouncer"]
        app = rows["app"]
        assert (app.database, app.host, app.port) == ("app", rig.fake.host, rig.fake.port)
        assert (app.pool_size, app.pool_mode, app.load_balance_hosts) == (3, None, None)
        assert (app.current_connections, app.current_client_connections) == (1, 1)
        assert (app.max_connections, app.max_client_connections) == (0, 50)
        other = rows["other"]
        assert (other.pool_size, other.pool_mode, other.load_balance_hosts) == (7, "session", "round-robin")
        assert (other.max_connections, other.current_connections) == (9, 0)
        assert (app.paused, app.disabled) == (0, 0)
        await rig.worker.pause("app")
        await rig.worker.disable("app")
        app = rig.worker.observer.databases()[0]
        assert (app.paused, app.disabled) == (1, 1)
        await rig.worker.resume("app")


async def test_users_show_their_settings_and_counts() -> None:
    users = {"alice": {"pool_size": 4, "pool_mode": "session", "max_user_connections": 8}}
    async with Rig(script, users=users) as rig:
        await rig.client()
        rows = {row.name: row for row in rig.worker.observer.users()}
        assert {"alice", "bob"} <= set(rows)
        alice = rows["alice"]
        assert (alice.pool_size, alice.pool_mode, alice.max_user_connections) == (4, "session", 8)
        assert (alice.current_client_connections, rows["bob"].current_client_connections) == (1, 0)
        assert rig.worker.observer.lists().users == len(rows)


async def test_statistics_are_per_database_in_microseconds(rig: Rig) -> None:
    peer = await rig.client()
    before = rig.worker.observer.stats()[0].total
    for _ in range(3):
        await peer.ask("1")
    (row, *_) = rig.worker.observer.stats()
    total = row.total
    assert row.database == "app"
    assert (total.query_count - before.query_count, total.xact_count - before.xact_count) == (3, 3)
    assert total.client_login_count == 1
    assert total.client_bytes >= 3 * len(m.query("1"))
    assert total.server_bytes > total.client_bytes
    nanoseconds = rig.worker.manager.stats_of("app").query_time
    assert total.query_time == nanoseconds // 1000


async def test_lists_count_what_there_is(rig: Rig) -> None:
    await rig.client()
    await busy(rig)
    lists = rig.worker.observer.lists()
    assert (lists.databases, lists.pools) == (2, 2)
    assert (lists.used_clients, lists.login_clients) == (2, 0)
    assert (lists.free_servers, lists.used_servers) == (0, 1)


async def test_the_console_is_a_pool_and_a_client_of_its_own() -> None:
    async with Rig(script, admin_users="alice") as rig:
        peer = await rig.client(database="pgbouncer")
        own = rig.worker.observer.pools()[-1]
        assert (own.database, own.user, own.cl_active) == ("pgbouncer", "pgbouncer", 1)
        (row,) = client_rows(rig)
        assert (row.database, row.state) == ("pgbouncer", "active")
        peer.send(m.terminate())
        await eventually(lambda: not client_rows(rig))


async def test_names_that_are_no_text_are_escaped(rig: Rig) -> None:
    peer = await rig.connect()
    peer.send(m.startup({"user": b"\xff", "database": "app"}))
    await peer.rest()
    await eventually(lambda: not client_rows(rig))
    rig.worker.manager.user("\udcff")
    assert r"\xff" in {row.name for row in rig.worker.observer.users()}


async def test_a_single_process_is_the_only_worker(rig: Rig) -> None:
    await busy(rig)
    observer = rig.worker.observer
    (row,) = (await observer.take(("workers",))).workers()
    assert (row.worker, row.pid, row.state) == (0, os.getpid(), "running")
    assert (row.clients, row.servers, row.restarts) == (1, 1, 0)
    assert row.cpu_us > 0
    assert row.memory > 1 << 20
    assert not observer.silent()


async def test_the_crowd_is_clients_and_servers_counted(rig: Rig) -> None:
    await busy(rig)
    crowd = rig.worker.observer.crowd()
    assert crowd.clients == {("app", "alice", "", "active"): 1}
    assert crowd.encryption == {("client", "", ""): 1, ("server", "", ""): 1}


async def test_others_have_their_turn_while_a_crowd_is_counted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.observer._STEP", 1)
    for _ in range(3):
        await rig.client()
    turns: list[int] = []
    counting = asyncio.ensure_future(rig.worker.observer.take(("crowd",)))
    while not counting.done():
        turns.append(len(turns))
        await asyncio.sleep(0)
    assert len(turns) > 3
    taken = counting.result()
    await rig.client()
    assert taken.crowd().clients == {("app", "alice", "", "idle"): 3}


async def test_each_snapshot_has_the_crowd_that_was_counted_for_it(rig: Rig) -> None:
    observer = rig.worker.observer
    await rig.client()
    one = await observer.take(("crowd",))
    await rig.client()
    two = await observer.take(("crowd",))
    await observer.take(("crowd",))
    await rig.client()
    counts = [[*taken.crowd().clients.values()] for taken in (two, one, one, await observer.take(()))]
    assert counts == [[2], [1], [1], [3]]


async def test_who_leaves_while_clients_are_listed_is_left_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.observer._STEP", 1)
    peers = [await rig.client() for _ in range(2)]
    rows = rig.worker.observer.clients()
    assert next(rows).state == "active"
    peers[1].send(m.terminate())
    await eventually(lambda: len(rig.worker.lobby.clients) == 1)
    assert not list(rows)


async def test_state_and_reasons_are_those_of_the_worker(rig: Rig) -> None:
    observer = rig.worker.observer
    assert (observer.state().paused, observer.state().draining) == (False, False)
    await rig.worker.pause(None)
    observer.draining = True
    assert (observer.state().paused, observer.state().draining) == (True, True)
    await rig.worker.resume(None)
    rig.worker.lobby.cancel_requests += 2
    observer.reloads["ok"] += 1
    reasons = observer.reasons()
    assert reasons.cancel_requests == 2
    assert reasons.reloads["ok"] == 1
    assert not reasons.leaks
    rig.worker.dialler.leaks.add([Leak.CURSOR], b"psql")
    assert observer.reasons().leaks == {("cursor", "psql"): 1}
    assert reasons.violations == {kind.name.lower(): 0 for kind in Violation}
    peer = await rig.client()
    peer.send(m.terminate())
    await eventually(lambda: observer.reasons().client_disconnects)
    assert observer.reasons().client_disconnects == {"client_left": 1}


async def test_settings_are_shown_in_alphabetical_order_and_without_secrets() -> None:
    async with Rig(credentials={"alice": "hunter2"}, pool_mode="session") as rig:
        rows = rig.worker.observer.config()
        assert [row.key for row in rows] == sorted(row.key for row in rows)
        assert next(row.value for row in rows if row.key == "pool_mode") == "session"
        assert "hunter2" not in repr(rows)


async def test_names_asked_for_are_shown(rig: Rig) -> None:
    await rig.worker.resolver.resolve("127.0.0.1")
    (row,) = rig.worker.observer.dns_hosts()
    assert (row.hostname, row.addrs) == ("127.0.0.1", "127.0.0.1")
    assert rig.worker.observer.lists().dns_names == 1


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_the_build_names_its_loop(loop: str) -> None:
    async with Rig(event_loop=loop) as rig:
        assert rig.worker.observer.build().event_loop.split()[0] == loop


async def test_the_lag_of_the_loop_is_that_of_the_latest_sweep(rig: Rig) -> None:
    assert rig.worker.observer.loop_lag() is None
    rig.worker.observer.lag = 0.25
    assert rig.worker.observer.loop_lag() == 0.25
    assert not rig.worker.observer.peers()
    assert not rig.worker.observer.peer_pools()


async def test_every_server_in_every_state_can_be_shown(rig: Rig) -> None:
    await (await rig.client()).ask("1")
    pool = the_pool(rig)
    (server,) = pool.servers[states.IDLE]
    assert isinstance(server, Server)
    for state in range(len(states.SERVER_STATES)):
        pool.move(server, state)
        assert server_row(rig).state == states.SERVER_STATES[state]
    pool.move(server, states.IDLE)

"""Servers that are opened, and servers that cannot be."""

import asyncio
import hashlib
import logging
import socket
import time
from pathlib import Path

import pytest

from proxy.pool import states
from proxy.pool.interfaces import Host
from proxy.pool.pool import Pool
from proxy.pool.states import SERVER_STATES
from proxy.reasons import ServerClosed
from proxy.server import Server
from tests.support import messages as m
from tests.support.rig import Rig, eventually
from tests.support.script import Conversation, Script, default_script


def pool_of(rig: Rig, user: str = "alice") -> Pool:
    manager = rig.worker.manager
    return manager.pool(manager.database("app", 0), user)


def dial(rig: Rig, pool: Pool, boot: tuple[tuple[bytes, bytes], ...] = ()) -> Server:
    """As `Pool.demand` does it, for nobody."""
    assert pool.leases.take(pool.key, reserve=False, since=0)
    host = pool.hosts.choose(pool.settings, rig.worker.clock())
    assert host is not None
    pool.hosts.started(host)
    server = rig.worker.dialler.dial(pool, host, boot)
    pool.servers[states.LOGIN][server] = None
    pool.open += 1
    return server


async def opened(rig: Rig, pool: Pool) -> Server:
    server = dial(rig, pool)
    await eventually(lambda: server.state == states.IDLE, SERVER_STATES[server.state])
    return server


async def gone(rig: Rig, pool: Pool) -> None:
    await eventually(lambda: not pool.open)
    assert rig.worker.manager.ledger.of_pool(pool.key) == 0


def refusing(code: str, text: str = "no") -> Script:
    def script(conversation: Conversation) -> None:
        conversation.refuse(code, text)

    return script


@pytest.mark.both_loops
async def test_a_server_is_opened_with_what_it_said() -> None:
    async with Rig(server_lifetime=100) as rig:
        pool = pool_of(rig)
        server = await opened(rig, pool)
        conversation = rig.fake.conversations[0]
        assert (server.pid, server.secret) == (conversation.pid, conversation.secret)
        assert conversation.startup == {"user": "alice", "database": "app"}
        assert conversation.version == m.PROTOCOL_3_0
        assert server.address == (rig.fake.host, rig.fake.port)
        assert pool.greeting is not None
        assert pool.greeting[b"server_version"] == b"16.0"
        assert server.values[pool.tracked.index(b"timezone")] == b"UTC"
        lifetime = server.expires_at - server.connected_at
        assert 95e9 <= lifetime <= 100e9


async def test_the_database_entry_says_what_the_server_is_told() -> None:
    entry = {"dbname": "real", "user": "owner", "timezone": "Asia/Tokyo", "application_name": "pool"}
    async with Rig(database=entry, server_protocol="3.2") as rig:
        await opened(rig, pool_of(rig))
        conversation = rig.fake.conversations[0]
        assert conversation.startup == {
            "user": "owner",
            "database": "real",
            "timezone": "Asia/Tokyo",
            "application_name": "pool",
        }
        assert conversation.version == m.PROTOCOL_3_2


async def test_a_server_for_one_client_is_told_its_parameters_at_login() -> None:
    async with Rig() as rig:
        pool = pool_of(rig)
        server = dial(rig, pool, ((b"timezone", b"Asia/Tokyo"), (b"search_path", b"x")))
        await eventually(lambda: server.state == states.IDLE)
        assert rig.fake.conversations[0].startup["search_path"] == "x"
        assert server.applied == ((b"search_path", b"x"),)
        assert server.values[pool.tracked.index(b"timezone")] == b"Asia/Tokyo"
        assert pool.greeting is None, "nobody else may be greeted with this client's parameters"


async def test_the_connect_query_runs_before_the_server_is_lent() -> None:
    def script(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.expect(b"Q", b"set role x")
        conversation.send(m.command_complete("SET"), m.ready_for_query())
        conversation.serve()

    async with Rig(script, database={"connect_query": "set role x"}) as rig:
        await opened(rig, pool_of(rig))


async def test_a_failed_connect_query_is_logged_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    def script(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.expect(b"Q")
        conversation.send(m.error_response("42601", "syntax"), m.ready_for_query())
        conversation.serve()

    async with Rig(script, database={"connect_query": "bad"}) as rig:
        await opened(rig, pool_of(rig))
    assert "connect_query failed" in caplog.text


async def test_a_server_that_closes_during_the_connect_query_is_a_failed_one() -> None:
    def script(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.expect(b"Q")

    async with Rig(script, database={"connect_query": "q"}) as rig:
        pool = pool_of(rig)
        dial(rig, pool)
        await gone(rig, pool)
        assert pool.hosts.failing(pool.settings)


@pytest.mark.parametrize("code", ["57P03", "57P02", "57P01"])
async def test_a_server_that_is_not_ready_is_tried_again(code: str) -> None:
    async with Rig(refusing(code)) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await eventually(lambda: rig.fake.logins() >= 2)
        rig.fake.script = default_script
        await peer.welcome()


@pytest.mark.parametrize("code", ["53300", "53000", "53200"])
async def test_where_there_is_no_room_clients_stay_and_the_host_is_not_blamed(code: str) -> None:
    async with Rig(refusing(code)) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        pool = pool_of(rig)
        await eventually(lambda: pool.refused_until)
        await eventually(lambda: not pool.open)
        assert not pool.hosts.failing(pool.settings)
        rig.worker.janitor.sweep(rig.worker.clock())
        assert not pool.open, "it is not asked again at once"
        rig.fake.script = default_script
        rig.worker.janitor.sweep(pool.refused_until)
        await peer.welcome()


@pytest.mark.parametrize("code", ["28P01", "28000", "3D000", "42704"])
async def test_a_refusal_on_principle_is_told_and_not_repeated(code: str) -> None:
    async with Rig(refusing(code, "its own words"), server_login_retry=30) as rig:
        for expected in (
            "its own words",
            "server login has been failing, cached error: its own words (server_login_retry)",
        ):
            peer = await rig.connect()
            peer.send(m.startup({"user": "alice", "database": "app"}))
            error = await peer.error()
            assert (error["S"], error["C"], error["M"]) == ("FATAL", code, expected)
        assert rig.fake.logins() == 1
        assert rig.worker.dialler.closed_servers[ServerClosed.LOGIN_FAILED] == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        m.message(b"R", m.int32(99)),
        m.message(b"Z", b"I"),
        b"R\0\0\0\3",
        b"E\x7f\xff\xff\xff",
    ],
)
async def test_nonsense_instead_of_a_greeting_is_a_refusal(nonsense: bytes) -> None:
    def script(conversation: Conversation) -> None:
        conversation.send(nonsense)
        conversation.take(1)

    async with Rig(script) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        assert (await peer.error())["S"] == "FATAL"


async def test_an_error_without_any_field_is_passed_on_as_it_is() -> None:
    def script(conversation: Conversation) -> None:
        conversation.send(m.message(b"E", b"\0"))

    async with Rig(script) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        assert await peer.rest() == m.message(b"E", b"\0")


async def test_a_silent_server_costs_server_connect_timeout(caplog: pytest.LogCaptureFixture) -> None:
    def script(conversation: Conversation) -> None:
        conversation.take(1)

    async with Rig(script, server_connect_timeout=0.1) as rig:
        pool = pool_of(rig)
        dial(rig, pool)
        await eventually(lambda: pool.hosts.failing(pool.settings))
        await gone(rig, pool)
        assert pool.hosts.error(pool.settings) == "connect timeout"


async def test_a_refused_connection_is_the_hosts_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    async with Rig(database={"port": port}) as rig:
        pool = pool_of(rig)
        dial(rig, pool)
        await gone(rig, pool)
        assert pool.hosts.failing(pool.settings)


async def test_a_host_that_cannot_be_a_name_is_the_hosts_failure() -> None:
    async with Rig(database={"host": "bad..name"}) as rig:
        pool = pool_of(rig)
        dial(rig, pool)
        await gone(rig, pool)
        assert pool.hosts.failing(pool.settings)


async def test_every_address_of_a_name_is_tried() -> None:
    async with Rig(database={"host": "two.example"}) as rig:

        async def resolve(name: str) -> list[str]:
            assert name == "two.example"
            return ["127.0.0.99", "127.0.0.1"]

        rig.worker.resolver.resolve = resolve  # type: ignore[method-assign]
        server = await opened(rig, pool_of(rig))
        assert server.address == ("127.0.0.1", rig.fake.port)


async def test_a_directory_means_the_unix_socket_in_it(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(100))
        writer.write(m.authentication(0) + m.ready_for_query())
        await reader.read()
        writer.close()

    async with Rig(database={"host": str(tmp_path), "port": 5555}) as rig:
        listener = await asyncio.start_unix_server(take, str(tmp_path / ".s.PGSQL.5555"))
        pool = pool_of(rig)
        server = await opened(rig, pool)
        assert server.address == ("unix", 5555)
        assert server.secret == b"", "a server may send no key"
        server.close(ServerClosed.LIFETIME)
        await gone(rig, pool)
        listener.close()
    assert seen


async def test_a_password_is_sent_as_the_server_asks_for_it() -> None:
    hashed: list[bytes] = []

    def script(conversation: Conversation) -> None:
        conversation.send(m.authentication(5, b"salt"))
        hashed.append(conversation.expect(b"p").body.rstrip(b"\0"))
        conversation.welcome()
        conversation.serve()

    async with Rig(script, database={"password": "geheim"}) as rig:
        await opened(rig, pool_of(rig))
    inner = hashlib.md5(b"geheimalice").hexdigest()
    assert hashed == [b"md5" + hashlib.md5(inner.encode() + b"salt").hexdigest().encode()]


async def test_a_failed_login_keeps_its_slot_until_postgresql_has_closed() -> None:
    def script(conversation: Conversation) -> None:
        conversation.refuse("28P01", "no")
        time.sleep(0.1)

    async with Rig(script) as rig:
        pool = pool_of(rig)
        dial(rig, pool)
        await eventually(lambda: pool.refusal is not None)
        assert pool.open == 1
        await gone(rig, pool)


async def test_a_failed_login_that_postgresql_never_closes_frees_its_slot_in_the_end() -> None:
    def script(conversation: Conversation) -> None:
        conversation.refuse("28P01", "no")
        time.sleep(1)

    async with Rig(script, server_close_timeout=0.1) as rig:
        pool = pool_of(rig)
        dial(rig, pool)
        await gone(rig, pool)


async def test_a_login_that_is_killed_frees_its_slot_and_is_counted_once() -> None:
    def script(conversation: Conversation) -> None:
        conversation.take(1)

    async with Rig(script) as rig:
        pool = pool_of(rig)
        dial(rig, pool)
        await eventually(lambda: rig.fake.logins())
        rig.worker.manager.kill_servers(None)
        await gone(rig, pool)
        assert sum(rig.worker.dialler.closed_servers.values()) == 1
        assert not pool.hosts.failing(pool.settings), "it says nothing about the host"


async def test_a_failed_login_that_is_killed_while_it_waits_for_the_end_frees_its_slot() -> None:
    def script(conversation: Conversation) -> None:
        conversation.refuse("28P01", "no")
        time.sleep(0.5)

    async with Rig(script) as rig:
        pool = pool_of(rig)
        server = dial(rig, pool)
        await eventually(lambda: pool.refusal is not None)
        await asyncio.sleep(0)
        rig.worker.manager.kill_servers(None)
        server.abort()
        await gone(rig, pool)


class Sleeper:
    """Stands in for a pool that wants to be woken."""

    def __init__(self) -> None:
        self.woken: list[int] = []

    def demand(self, now: int) -> None:
        self.woken.append(now)


@pytest.mark.both_loops
async def test_a_pool_is_not_woken_before_its_time() -> None:
    async with Rig() as rig:
        now = rig.worker.clock()
        sleepers = [(now + 1_000_000 * step + 300_000, Sleeper()) for step in range(1, 40)]
        for at, sleeper in sleepers:
            rig.worker.dialler.wake(sleeper, at)  # type: ignore[arg-type]
        await eventually(lambda: all(sleeper.woken for _, sleeper in sleepers))
        assert all(sleeper.woken[0] >= at for at, sleeper in sleepers)


async def test_no_log_line_shows_a_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def script(conversation: Conversation) -> None:
        conversation.send(m.authentication(3))
        conversation.expect(b"p", b"geheim")
        conversation.refuse("28P01", "no")

    async with Rig(script, database={"password": "geheim"}) as rig:
        pool = pool_of(rig)
        dial(rig, pool)
        await gone(rig, pool)
        assert "geheim" not in repr(pool) + repr(rig.settings)
    assert "geheim" not in caplog.text
    assert "server login failed" in caplog.text


async def test_a_list_of_hosts_is_dialled_one_by_one() -> None:
    async with Rig(database={"host": "127.0.0.1,127.0.0.2"}) as rig:
        pool = pool_of(rig)
        hosts = pool.hosts.of(pool.settings)
        assert hosts == (Host("127.0.0.1", rig.fake.port), Host("127.0.0.2", rig.fake.port))
        assert (await opened(rig, pool)).host == hosts[0]

"""Servers that are opened, how, and with what."""

import asyncio
import hashlib
import logging
from pathlib import Path

import pytest

from proxy.pool import states
from proxy.pool.interfaces import Host
from proxy.reasons import ServerClosed
from tests.proxy.dialling import dial, gone, opened, pool_of
from tests.support import messages as m
from tests.support.rig import Rig, eventually
from tests.support.script import Conversation


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
        conversation.send(m.authentication(5, b"salt"))
        conversation.expect(b"p")
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

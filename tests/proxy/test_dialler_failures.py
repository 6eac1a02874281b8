"""Servers that cannot be opened: whose fault it is, who is told, and when the slot is free."""

import asyncio
import socket
import time

import pytest

from proxy.quarantine import Violation
from proxy.reasons import ServerClosed
from tests.proxy.dialling import dial, gone, pool_of, refusing
from tests.support import messages as m
from tests.support.rig import Rig, eventually
from tests.support.script import Conversation, default_script


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


@pytest.mark.parametrize("reply", [m.command_complete("BEGIN") + m.ready_for_query(b"T"), b"?"])
async def test_a_wrong_reply_to_the_connect_query_is_counted_and_the_server_tried_again(reply: bytes) -> None:
    def script(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.expect(b"Q", b"set role x")
        conversation.send(reply if conversation.number == 1 else m.command_complete("SET"))
        conversation.send(m.ready_for_query() if conversation.number > 1 else b"")
        conversation.serve()

    async with Rig(script, database={"connect_query": "set role x"}) as rig:
        peer = await rig.client()
        assert m.rows(await peer.ask("1")) == [["1"]]
        assert rig.worker.dialler.violations == {Violation.OWN_QUERY: 1}
        assert rig.fake.logins() == 2


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


async def test_a_server_closed_before_its_dialling_began_frees_its_slot() -> None:
    async with Rig() as rig:
        pool = pool_of(rig)
        dial(rig, pool).close(ServerClosed.KILLED)
        await gone(rig, pool)
        assert rig.fake.logins() == 0


async def test_parameters_that_postgresql_refuses_at_login_concern_their_client_alone() -> None:
    async with Rig(refusing("22023", "invalid value"), pool_mode="session") as rig:
        pool = pool_of(rig)
        dial(rig, pool, ((b"timezone", b"Mars"),))
        await gone(rig, pool)
        assert pool.refusal is None
        assert not pool.hosts.failing(pool.settings)


async def test_a_fault_of_ours_while_connecting_is_logged_and_frees_the_slot() -> None:
    async with Rig() as rig:
        pool = pool_of(rig)

        async def broken(name: str) -> list[str]:
            raise ZeroDivisionError

        rig.worker.resolver.resolve = broken  # type: ignore[method-assign]
        dial(rig, pool)
        await gone(rig, pool)
        assert "internal error while connecting" in rig.errors.pop()

"""From the first byte to the welcome, and the ways out."""

import asyncio
import hashlib
import logging
from typing import Any

import pytest

from proxy.reasons import ClientClosed
from tests.support import messages as m
from tests.support.rig import Rig, eventually
from tests.support.script import STARTUP_PARAMETERS, Conversation, default_script


@pytest.mark.both_loops
async def test_a_client_is_welcomed_with_what_the_server_says() -> None:
    async with Rig() as rig:
        peer = await rig.connect()
        got = await peer.login()
        assert m.tags(got)[0] == "R"
        assert m.tags(got)[-2:] == "KZ"
        assert peer.parameters == dict(STARTUP_PARAMETERS)
        assert len(peer.key[1]) == 4
        assert m.rows(await peer.ask("select 1")) == [["select 1"]]


async def test_version_3_2_gets_a_long_key_and_a_newer_one_is_told_so() -> None:
    async with Rig() as rig:
        peer = await rig.connect()
        got = await peer.login(version=m.PROTOCOL_3_2)
        assert len(peer.key[1]) == 32
        assert "v" not in m.tags(got)
        peer = await rig.connect()
        got = await peer.login(version=0x3270F, **{"_pq_.x": "1"})
        assert m.tags(got).count("v") == 1
        body = next(one.body for one in got if one.tag == b"v")
        assert body == m.int32(m.PROTOCOL_3_2) + m.int32(1) + b"_pq_.x\0"


async def test_version_2_is_refused() -> None:
    async with Rig() as rig:
        peer = await rig.connect()
        peer.send(m.packet(m.int32(m.PROTOCOL_2_0) + b"\0" * 50))
        assert (await peer.error())["C"] == "0A000"


@pytest.mark.parametrize("request_", [m.ssl_request(), m.gssenc_request()])
async def test_encryption_is_declined_and_the_login_goes_on(request_: bytes) -> None:
    async with Rig() as rig:
        peer = await rig.connect()
        peer.send(request_)
        assert await peer.byte() == b"N"
        await peer.login()


@pytest.mark.parametrize(
    ("request_", "what"),
    [(m.ssl_request(), "SSL"), (m.gssenc_request(), "GSSAPI encryption")],
)
async def test_bytes_behind_a_request_for_encryption_are_refused(request_: bytes, what: str) -> None:
    async with Rig() as rig:
        peer = await rig.connect()
        peer.send(request_, m.startup({"user": "alice", "database": "app"}), m.query("insert"))
        error = await peer.error()
        assert (error["C"], error["M"]) == ("08P01", f"received unencrypted data after {what} request")
        assert rig.fake.logins() == 0


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        m.packet(b"abc"),
        b"\0\0\0\4",
        b"\0\0\0\0",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"p\0\0\0\x0asecret",
        m.ssl_request() + b"",
    ],
)
async def test_nonsense_before_the_startup_packet_is_answered_with_nothing(nonsense: bytes) -> None:
    async with Rig() as rig:
        peer = await rig.connect()
        peer.send(nonsense)
        if nonsense == m.ssl_request():
            assert await peer.byte() == b"N"
            peer.send(nonsense)
        assert await peer.rest() == b""
        await eventually(lambda: not rig.worker.lobby.clients)


async def test_a_broken_startup_packet_gets_one_fatal_error() -> None:
    async with Rig() as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice"}, terminator=b""))
        assert (await peer.error())["C"] == "08P01"


async def test_an_unknown_database_is_named_only_after_the_login() -> None:
    async with Rig(auth_type="plain", credentials={"alice": "secret"}) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "nowhere"}))
        await peer.password()
        peer.send(m.password("wrong"))
        assert (await peer.error())["C"] == "28P01"
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "nowhere"}))
        await peer.password()
        peer.send(m.password("secret"))
        error = await peer.error()
        assert (error["C"], error["M"]) == ("3D000", "no such database: nowhere")


async def test_an_md5_password_is_checked() -> None:
    async with Rig(auth_type="md5", credentials={"alice": "secret"}) as rig:
        for secret, tag in (("secret", b"Z"), ("wrong", b"E")):
            peer = await rig.connect()
            peer.send(m.startup({"user": "alice", "database": "app"}))
            salt = (await peer.password()).body[4:]
            inner = hashlib.md5((secret + "alice").encode()).hexdigest()
            peer.send(m.password("md5" + hashlib.md5(inner.encode() + salt).hexdigest()))
            await peer.until(tag)
        assert rig.worker.lobby.login_failures == {"md5": 1}
        assert rig.worker.lobby.closed_clients[ClientClosed.LOGIN_FAILED] == 1


async def test_a_login_that_takes_too_long_is_ended_absolutely() -> None:
    async with Rig(client_login_timeout=0.2) as rig:
        peer = await rig.connect()
        packet = m.startup({"user": "alice", "database": "app"})
        for at in range(len(packet)):
            peer.send(packet[at : at + 1])
            await asyncio.sleep(0.02)
            if not rig.worker.lobby.clients:
                break
        assert (await peer.error())["M"] == "client_login_timeout"


async def test_a_client_that_leaves_during_its_login_is_forgotten() -> None:
    async with Rig(auth_type="plain", credentials={"alice": "x"}) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await peer.password()
        peer.reset()
        await eventually(lambda: not rig.worker.lobby.clients)
        assert rig.worker.manager.user("alice").clients == 0


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("max_client_conn", "no more connections allowed (max_client_conn)"),
        ("max_db_client_connections", "client connections exceeded (max_db_client_connections)"),
        ("max_user_client_connections", "client connections exceeded (max_user_client_connections)"),
    ],
)
async def test_limits_on_clients_refuse_newcomers_with_pgbouncers_texts(key: str, text: str) -> None:
    limit: dict[str, Any] = {key: 1}
    async with Rig(**limit) as rig:
        first = await rig.client()
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        error = await peer.error()
        assert (error["C"], error["M"]) == ("53300", text)
        first.send(m.terminate())
        await eventually(lambda: not rig.worker.lobby.clients)
        await rig.client()


async def test_the_first_client_waits_for_the_servers_greeting_and_hears_its_refusal() -> None:
    def refuse(conversation: Conversation) -> None:
        conversation.refuse("3D000", 'database "app" does not exist')

    async with Rig(refuse) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        error = await peer.error()
        assert (error["S"], error["C"]) == ("FATAL", "3D000")
        assert error["M"] == 'database "app" does not exist'


@pytest.mark.parametrize("size", [100, 70_000, 300_000])
async def test_what_a_client_sends_behind_its_startup_packet_is_not_lost(size: int) -> None:
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(conversation: Conversation) -> None:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10)
        default_script(conversation)

    async with Rig(slow) as rig:
        peer = await rig.connect()
        text = "x" * size
        peer.send(m.startup({"user": "alice", "database": "app"}), m.query(text))
        await eventually(lambda: rig.fake.logins())
        await asyncio.sleep(0.05)
        gate.set()
        await peer.welcome()
        assert m.rows(await peer.until()) == [[text]]
        peer.send(m.query("2"))
        assert m.rows(await peer.until()) == [["2"]]


async def test_every_limit_counts_again_when_clients_have_gone() -> None:
    async with Rig() as rig:
        manager = rig.worker.manager
        peers = [await rig.client() for _ in range(3)]
        assert manager.databases["app"].clients == 3
        assert manager.user("alice").clients == 3
        assert len(rig.worker.lobby.clients) == 3
        peers[0].send(m.terminate())
        peers[1].reset()
        peers[2].send(b"\0\0\0\0\0")
        await eventually(lambda: not rig.worker.lobby.clients)
        assert manager.databases["app"].clients == 0
        assert manager.user("alice").clients == 0
        assert not any(pool.sessions for pool in manager.pools.values())
        assert rig.worker.lobby.closed_clients == {
            ClientClosed.CLIENT_LEFT: 1,
            ClientClosed.CLIENT_LOST: 1,
            ClientClosed.PROTOCOL: 1,
        }


async def test_parameters_are_shown_in_the_servers_spelling() -> None:
    def script(conversation: Conversation) -> None:
        conversation.welcome({"client_encoding": "UTF8"})
        got = conversation.expect(b"Q", b"SET client_encoding='utf-8'")
        assert got
        conversation.send(m.command_complete("SET"), m.ready_for_query())
        conversation.serve()

    async with Rig(script) as rig:
        peer = await rig.connect()
        await peer.login(client_encoding="utf-8", application_name="shop")
        assert peer.parameters["client_encoding"] == "UTF8"
        assert peer.parameters["application_name"] == "shop"
        second = await rig.connect()
        await second.login(client_encoding="utf-8")
        assert second.parameters["client_encoding"] == "UTF8"


async def test_a_parameter_postgresql_refuses_fails_the_login_with_its_words() -> None:
    def script(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.expect(b"Q", b"timezone")
        conversation.send(m.error_response("22023", "invalid value"), m.ready_for_query())
        conversation.serve()

    async with Rig(script) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app", "TimeZone": "Mars"}))
        error = await peer.error()
        assert (error["S"], error["C"], error["M"]) == ("FATAL", "22023", "invalid value")
        good = await rig.client()
        assert m.rows(await good.ask("1")) == [["1"]]


async def test_an_unknown_parameter_is_refused() -> None:
    async with Rig() as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app", "geqo": "off"}))
        assert (await peer.error())["M"] == "unsupported startup parameter: geqo"


async def test_the_host_may_be_added_to_the_application_name() -> None:
    async with Rig(application_name_add_host=True) as rig:
        peer = await rig.connect()
        await peer.login(application_name="shop")
        assert peer.parameters["application_name"].startswith("shop - 127.0.0.1:")


@pytest.mark.both_loops
async def test_a_cancel_request_reaches_the_server_with_its_own_key_and_says_nothing() -> None:
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.expect(b"Q", b"sleep")
        loop.call_soon_threadsafe(ready.set)
        while not conversation.server.cancels:
            pass
        conversation.send(m.error_response("57014", "canceling"), m.ready_for_query())
        conversation.serve()

    async with Rig(script) as rig:
        peer = await rig.client()
        peer.send(m.query("sleep"))
        await ready.wait()
        canceller = await rig.connect()
        canceller.send(m.cancel_request(*peer.key))
        assert await canceller.rest() == b""
        assert m.errors(await peer.until())[0]["C"] == "57014"
        (cancel,) = rig.fake.cancels
        conversation = rig.fake.conversations[0]
        assert (cancel.pid, cancel.secret) == (conversation.pid, conversation.secret)
        assert m.rows(await peer.ask("2")) == [["2"]]


@pytest.mark.parametrize("secret", [b"\0\0\0\0", b"x" * 32])
async def test_a_cancel_request_with_a_wrong_key_does_nothing(secret: bytes) -> None:
    async with Rig() as rig:
        peer = await rig.client()
        for pid in (peer.key[0], 4711):
            canceller = await rig.connect()
            canceller.send(m.cancel_request(pid, secret))
            assert await canceller.rest() == b""
        assert not rig.fake.cancels
        assert rig.worker.lobby.cancel_requests == 2


async def test_a_key_dies_with_its_client() -> None:
    async with Rig() as rig:
        peer = await rig.client()
        peer.send(m.terminate())
        await eventually(lambda: not rig.worker.lobby.clients)
        assert rig.worker.lobby.cancel_keys.find(*peer.key) is None


async def test_during_a_shutdown_nobody_logs_in() -> None:
    async with Rig() as rig:
        rig.worker.lobby.shutting_down = True
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        error = await peer.error()
        assert (error["C"], error["M"]) == ("57P01", "pooler is shutting down")


async def test_a_client_that_takes_nothing_is_let_go_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "howdah")

    def flood(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.read()
        row = m.data_row(["x" * 100_000])
        while not conversation.server.cancels:
            conversation.send(row)

    async with Rig(flood) as rig:
        peer = await rig.client()
        peer.send(m.query("all"))
        (client,) = rig.worker.lobby.clients.values()
        await eventually(lambda: client.connection.paused_since)
        client.finish(None, ClientClosed.WRITE_TIMEOUT)
        await eventually(lambda: not rig.worker.lobby.clients)
        peer.reset()
        await eventually(lambda: client.connection.closed)


async def test_a_client_killed_while_its_password_arrives_leaves_nothing_behind() -> None:
    async with Rig(auth_type="plain", credentials={"alice": "secret"}) as rig:
        first = await rig.connect()
        first.send(m.startup({"user": "alice", "database": "app"}))
        await first.password()
        first.send(m.password("secret"))
        await first.until()
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await peer.password()
        client = next(one for one in rig.worker.lobby.clients.values() if one.in_login)
        client.connection.data_received(m.password("secret"))
        assert await rig.worker.kill_client(client.id)
        await eventually(lambda: client.connection.closed)
        (pool,) = rig.worker.manager.pools.values()
        assert len(pool.sessions) == 1
        assert rig.worker.manager.databases["app"].clients == 1
        assert len(rig.worker.lobby.clients) == 1

"""The demo's client against a server that is no more than its wire."""

import asyncio
import socket

import pytest

from protocol.authentication import AuthenticationMD5Password
from protocol.login import Derive
from proxy.demo.client import Address, Client, Refused, salted
from tests.proxy.demo.fake_server import GREETING, HOST, error, fake_server, rows


async def test_a_login_names_user_and_database() -> None:
    async with fake_server() as server:
        client = await Client.open(server.address(user="bob", database="shop"))
        await client.close()
    (startup,) = server.startups
    assert startup.parameters == {b"user": b"bob", b"database": b"shop", b"application_name": b"howdah demo"}
    assert server.farewells == 1


async def test_rows_come_back_under_their_names_with_none_for_null() -> None:
    async with fake_server() as server:
        server.answer = lambda query: rows(["id", "name"], ["1", "ä"], ["2", None])
        client = await Client.open(server.address())
        assert await client.query("SELECT x") == [{"id": "1", "name": "ä"}, {"id": "2", "name": None}]
        assert server.queries == ["SELECT x"]
        await client.close()


async def test_an_error_is_raised_and_the_next_query_works() -> None:
    async with fake_server() as server:
        client = await Client.open(server.address())
        server.answer = lambda query: [error("ERROR", "42P01", "no such table"), GREETING[1]]
        with pytest.raises(Refused, match="ERROR: no such table") as refused:
            await client.query("SELECT x")
        assert refused.value.sqlstate == "42P01"
        server.answer = lambda query: rows(["a"], ["1"])
        assert await client.query("SELECT 1") == [{"a": "1"}]
        await client.close()


async def test_a_refused_login_carries_the_servers_own_words() -> None:
    async with fake_server() as server:
        server.greet = lambda number: [error("FATAL", "53300", "sorry, too many clients already")]
        with pytest.raises(Refused, match="FATAL: sorry, too many clients already") as refused:
            await Client.open(server.address())
        assert refused.value.sqlstate == "53300"


async def test_a_login_that_asks_for_what_is_unknown_is_refused() -> None:
    async with fake_server() as server:
        server.greet = lambda number: [AuthenticationMD5Password(b"salt")]
        with pytest.raises(Refused, match="asks for a password, and none is known"):
            await Client.open(server.address(password=""))


async def test_a_server_that_hangs_up_in_the_middle_is_reported_at_once() -> None:
    async with fake_server() as server:
        client = await Client.open(server.address())
        server.answer = lambda query: []
        with pytest.raises(Refused, match="closed the connection unexpectedly"):
            await client.query("SELECT 1")
        with pytest.raises(Refused, match="the connection is closed"):
            await client.query("SELECT 1")
        await client.close()


async def test_the_last_words_of_a_server_that_hangs_up_are_kept() -> None:
    async with fake_server() as server:
        client = await Client.open(server.address())
        server.answer = lambda query: [error("FATAL", "57P01", "terminating connection")]
        with pytest.raises(Refused, match="FATAL: terminating connection"):
            await client.query("SELECT 1")


async def test_nonsense_from_a_server_is_an_error_not_a_hang() -> None:
    async with fake_server() as server:
        server.greet = lambda number: [GREETING[1], GREETING[1]]
        with pytest.raises(Refused):
            await Client.open(server.address())


async def test_nobody_listening_is_an_os_error() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(OSError, match=r"(?i)connect"):
        await Client.open(Address(HOST, port, "app", "alice", "secret"))


async def test_a_server_that_does_not_hang_up_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.demo.client.CLOSE_SECONDS", 0.01)
    gate = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        for message in GREETING:
            writer.write(message.encode())
        await gate.wait()
        writer.close()

    server = await asyncio.start_server(mute, HOST, 0)
    client = await Client.open(Address(HOST, server.sockets[0].getsockname()[1], "app", "alice", "secret"))
    await client.close()
    with pytest.raises(Refused):
        await client.query("SELECT 1")
    gate.set()
    server.close()
    await server.wait_closed()


def test_deriving_the_same_key_again_costs_nothing() -> None:
    salted.cache_clear()
    order = Derive(b"secret", b"salt", 4096)
    assert salted(order) == order.run() == salted(Derive(b"secret", b"salt", 4096))
    assert salted.cache_info().hits == 1


def test_an_address_shows_its_password_only_as_a_uri() -> None:
    address = Address(HOST, 6432, "app", "alice", "pass")
    assert "pass" not in repr(address)
    assert address.uri() == "postgresql://alice:pass@127.0.0.1:6432/app"

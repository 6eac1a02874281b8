"""How the login of a client begins: with its first bytes, in one task, against the clock."""

import asyncio
import gc
import tracemalloc
from collections import Counter
from typing import cast

import pytest

from config.types import SslMode
from proxy.client import Client
from proxy.connection import Connection
from proxy.session import Session
from proxy.turnstile import Gate
from tests.proxy.asking import ASKER, table
from tests.support import messages as m
from tests.support.rig import Rig, eventually
from tests.support.transport import ListTransport

STARTUP = m.startup({"user": "alice", "database": "app"})


def logins(before: set[asyncio.Task[object]]) -> int:
    """How many tasks there are that were not there before."""
    return len(cast("set[asyncio.Task[object]]", asyncio.all_tasks()) - before)


async def test_a_client_that_has_said_nothing_has_no_task() -> None:
    async with Rig() as rig:
        before = cast("set[asyncio.Task[object]]", asyncio.all_tasks())
        await rig.connect()
        await eventually(lambda: rig.worker.lobby.clients)
        assert logins(before) == 0


@pytest.mark.parametrize("at", [1, 4, 8, len(STARTUP) - 1])
async def test_a_startup_packet_in_two_pieces_begins_one_login(at: int) -> None:
    async with Rig() as rig:
        client, transport = Client(rig.worker.lobby), ListTransport()
        before = cast("set[asyncio.Task[object]]", asyncio.all_tasks())
        client.connection.connection_made(transport)
        client.connection.data_received(STARTUP[:at])
        client.connection.data_received(STARTUP[at:])
        assert logins(before) == 1
        await eventually(lambda: client.session)
        client.connection.connection_lost(None)


async def test_a_client_with_port_0_needs_tls_like_any_other() -> None:
    """Who writes his own packets may send them from there."""
    async with Rig() as rig:
        manager = rig.worker.manager
        manager.settings = manager.settings.model_copy(update={"client_tls_sslmode": SslMode.VERIFY_FULL})
        client, transport = Client(rig.worker.lobby), ListTransport({"peername": ("10.0.0.1", 0)})
        client.connection.connection_made(transport)
        client.connection.data_received(STARTUP)
        await eventually(lambda: client.finished)
        assert b"SSL required" in transport.take()


async def test_what_comes_behind_a_cancel_request_is_not_kept() -> None:
    """It takes as long as PostgreSQL, and the client may send as much as it likes meanwhile."""

    class Target:
        asked = 0

        def cancel_requested(self) -> "asyncio.Future[None]":
            self.asked += 1
            return asyncio.get_running_loop().create_future()

    async with Rig() as rig:
        target = Target()
        client, transport = Client(rig.worker.lobby), ListTransport()
        client.connection.connection_made(transport)
        key = rig.worker.lobby.cancel_keys.add(target, 4)
        client.connection.data_received(m.cancel_request(*key))
        await eventually(lambda: target.asked)
        tracemalloc.start()
        try:
            for _ in range(100):
                client.connection.data_received(bytes(100_000))
            assert tracemalloc.get_traced_memory()[0] < 1_000_000
        finally:
            tracemalloc.stop()
        client.connection.connection_lost(None)


async def test_a_client_that_says_nothing_is_ended_in_time() -> None:
    async with Rig(client_login_timeout=0.05) as rig:
        peer = await rig.connect()
        assert (await peer.error())["M"] == "client_login_timeout"


async def test_the_time_for_a_login_is_over_when_it_is() -> None:
    async with Rig(client_login_timeout=0.2) as rig:
        peer = await rig.client()
        await asyncio.sleep(0.3)  # the limit is on the clock of the loop
        assert (await peer.ask("select 1"))[-1].tag == b"Z"


def alive() -> dict[int, object]:
    """What clients consist of, all of it that there is; tests before this one may have left some."""
    kinds = (Client, Gate, Connection, Session)
    return {id(one): one for one in gc.get_objects() if isinstance(one, kinds)}


async def test_a_client_that_has_gone_is_freed_without_the_collector() -> None:
    """A collector that looks at thousands of clients stands still for longer than a turn may take."""
    async with Rig() as rig:
        refused = await rig.connect()
        refused.send(m.startup({"user": "stranger", "database": "app"}))
        await refused.rest()
        await refused.gone()
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for _ in range(5):
                peer = await rig.client()
                await peer.ask("select 1")
                await peer.gone()
            await eventually(lambda: not rig.worker.lobby.clients)
            # The server has a connection, too.
            left = Counter(type(one) for key, one in alive().items() if key not in before)
            assert left == {Connection: 1}
        finally:
            gc.enable()


@pytest.mark.parametrize("cache", [0, 60])
async def test_a_client_whose_login_has_failed_is_freed_without_the_collector(
    cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.auth_query.FRESH_FOR", 0)
    async with Rig(
        table(alice="hers"),
        auth_type="plain",
        auth_user=ASKER,
        auth_query="lookup $1",
        auth_query_cache=cache,
    ) as rig:

        async def fail() -> None:
            peer = await rig.connect()
            peer.send(STARTUP)
            await peer.password()
            peer.send(m.password("wrong"))
            await peer.error()
            await eventually(lambda: not rig.worker.lobby.clients)

        await fail()
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for _ in range(5):
                await fail()
            assert not [type(one) for key, one in alive().items() if key not in before]
        finally:
            gc.enable()


@pytest.mark.parametrize("method", ["trust", "any", "plain"])
async def test_logins_are_counted_by_method(method: str) -> None:
    async with Rig(auth_type=method, database={"user": "alice"}) as rig:
        peer = await rig.connect()
        peer.send(STARTUP)
        if method == "plain":
            await peer.password()
            peer.send(m.password("secret"))
        await peer.welcome()
        assert rig.worker.lobby.logins == {method: 1}

import asyncio
import logging
import time

import pytest

from proxy.cancel import LONG, SHORT, CancelKeys
from proxy.pool import states
from proxy.server import Server
from tests.support import messages as m
from tests.support.rig import Rig, eventually
from tests.support.script import Cancel, Conversation


class Somebody:
    def cancel_requested(self) -> None:
        return None


@pytest.mark.parametrize("length", [SHORT, LONG])
def test_a_key_finds_its_owner_and_only_with_its_secret(length: int) -> None:
    keys = CancelKeys()
    one, two = Somebody(), Somebody()
    pid, secret = keys.add(one, length)
    other, another = keys.add(two, length)
    assert len(secret) == length
    assert keys.find(pid, secret) is one
    assert keys.find(other, another) is two
    assert keys.find(pid, another) is None
    assert keys.find(other, secret) is None
    assert keys.find(pid, b"") is None
    assert keys.find(pid, secret + b"\0") is None
    assert keys.find(pid, secret[:-1]) is None


def test_an_unknown_process_id_finds_nobody() -> None:
    assert CancelKeys().find(4711, b"") is None
    assert CancelKeys().find(4711, b"abcd") is None


def test_a_removed_key_is_unknown() -> None:
    keys = CancelKeys()
    pid, secret = keys.add(Somebody(), SHORT)
    keys.remove(pid)
    keys.remove(pid)
    assert keys.find(pid, secret) is None


def test_process_ids_differ_are_positive_and_name_the_worker() -> None:
    keys = CancelKeys(worker=7)
    pids = [keys.add(Somebody(), SHORT)[0] for _ in range(2000)]
    assert len(set(pids)) == 2000
    assert all(0 < pid < 2**31 and pid & 0xFF == 7 for pid in pids)


def test_secrets_are_not_repeated() -> None:
    keys = CancelKeys()
    assert len({keys.add(Somebody(), LONG)[1] for _ in range(1000)}) == 1000


# On their way to PostgreSQL.


def patient(conversation: Conversation) -> None:
    """Answers queries; one that says `sleep` only when a cancel request has come."""
    conversation.welcome()
    while True:
        got = conversation.read()
        if got.tag == b"X":
            return
        if b"sleep" in got.body:
            before = len(conversation.server.cancels)
            while len(conversation.server.cancels) == before:
                time.sleep(0.002)
            conversation.send(m.error_response("57014", "canceling"), m.ready_for_query())
        else:
            conversation.answer(got.body.rstrip(b"\0").decode())


async def asleep(rig: Rig) -> Server:
    """A client sleeps on the only server, which is returned."""
    peer = await rig.client()
    peer.send(m.query("sleep"))
    await eventually(lambda: any(one.tag == b"Q" for one in rig.fake.conversations[0].seen))
    (pool,) = rig.worker.manager.pools.values()
    (server,) = pool.servers[states.ACTIVE]
    assert isinstance(server, Server)
    return server


class Silent:
    """Takes connections and what is sent on them, and neither answers nor closes."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.writers: list[asyncio.StreamWriter] = []

    async def listen(self) -> tuple[str, int]:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return host, port

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while data := await reader.read(100):
            self.got += data

    def close(self) -> None:
        self._server.close()
        for writer in self.writers:
            writer.close()


@pytest.mark.both_loops
async def test_a_request_carries_the_servers_own_key_and_is_over_when_postgresql_closes() -> None:
    async with Rig(patient) as rig:
        server = await asleep(rig)
        now = rig.worker.clock()
        server.cancel(now)
        assert server.cancels == 1
        await asyncio.wait_for(server.cancel_done(), 5)
        assert server.cancels == 0
        (request,) = rig.fake.cancels
        assert (request.pid, request.secret) == (server.pid, server.secret)
        await eventually(lambda: server.state == states.IDLE)
        assert rig.worker.canceller.sent == 1


async def test_who_asks_when_nothing_is_under_way_need_not_wait() -> None:
    async with Rig(patient) as rig:
        server = await asleep(rig)
        assert server.cancel_done().done()
        server.cancel(rig.worker.clock())
        await server.cancel_done()


async def test_many_requests_at_once_are_at_most_two_connections() -> None:
    async with Rig(patient) as rig:
        server = await asleep(rig)
        for _ in range(50):
            server.cancel(rig.worker.clock())
        await eventually(lambda: server.state == states.IDLE and not server.cancels)
        assert 1 <= len(rig.fake.cancels) <= 2


async def test_the_next_owner_waits_until_the_cancel_is_over() -> None:
    async with Rig(patient, default_pool_size=1, cancel_wait_timeout=30) as rig:
        server = await asleep(rig)
        silent = Silent()
        server.address = await silent.listen()
        server.cancel(rig.worker.clock())
        await eventually(lambda: len(silent.got) == 16)
        rig.fake.cancels.append(Cancel(0, b""))
        await eventually(lambda: server.state == states.BEING_CANCELED)
        rival = await rig.client()
        rival.send(m.query("mine"))
        await asyncio.sleep(0.05)
        assert server.state == states.BEING_CANCELED
        silent.close()
        assert m.rows(await rival.until()) == [["mine"]]


async def test_a_cancel_connection_that_never_closes_costs_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "howdah")
    async with Rig(patient, default_pool_size=1, cancel_wait_timeout=0.2) as rig:
        server = await asleep(rig)
        silent = Silent()
        server.address = await silent.listen()
        server.cancel(rig.worker.clock())
        await asyncio.wait_for(server.cancel_done(), 5)
        assert "cancel_wait_timeout" in caplog.text
        rig.fake.cancels.append(Cancel(0, b""))
        await eventually(lambda: server.closing)
        silent.close()


async def test_a_cancel_that_cannot_be_delivered_leaves_the_server_usable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "howdah")
    async with Rig(patient, default_pool_size=1) as rig:
        server = await asleep(rig)
        where = server.address
        server.address = ("127.0.0.1", 1)
        server.cancel(rig.worker.clock())
        await asyncio.wait_for(server.cancel_done(), 5)
        assert "failed to send a cancel request" in caplog.text
        assert server.close_needed is None
        server.address = where
        server.cancel(rig.worker.clock())
        await eventually(lambda: server.state == states.IDLE)


async def test_a_server_without_a_key_is_not_cancelled() -> None:
    async with Rig(patient) as rig:
        server = await asleep(rig)
        secret, server.secret = server.secret, b""
        server.cancel(rig.worker.clock())
        await asyncio.wait_for(server.cancel_done(), 5)
        assert not rig.fake.cancels
        server.secret = secret
        server.cancel(rig.worker.clock())
        await eventually(lambda: server.state == states.IDLE)


async def test_a_request_for_an_earlier_owner_is_not_sent() -> None:
    async with Rig(patient) as rig:
        server = await asleep(rig)
        server.cancels = 1
        rig.worker.canceller.send(server, server.generation - 1)
        await asyncio.wait_for(server.cancel_done(), 5)
        assert not rig.fake.cancels
        server.cancel(rig.worker.clock())
        await eventually(lambda: server.state == states.IDLE)

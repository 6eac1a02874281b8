"""Peers that say or take a byte at a time, and crowds that come and go: nothing spins, nothing is left.

Law: only processor time is compared with a bound, one far above what was measured and far below a busy loop.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.conformance.expect import MIB
from tests.integration.conftest import FAKE, Launch
from tests.support import messages as m
from tests.support.alive import BYSTANDER, echo, unexplained_fds
from tests.support.fault_proxy import FaultProxy, wait_until
from tests.support.pooler import Pooler
from tests.support.script import Conversation, FakeServer
from tests.support.server import Server
from tests.support.standard import APP, ONE, databases, entry
from tests.support.wire import Raw

pytestmark = pytest.mark.usefixtures("alive")

PAUSE = 0.02
CROWD, CROWDS = 500, 20
STATEMENT = "select 'a byte at a time'"
SLOW = "slow"
"""The database whose servers are behind a network that may be slow."""
MANY = 100
"""Clients that trickle at the same time."""


@pytest.fixture(scope="module")
def network(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy((server.host, server.port)) as network:
        yield network


@pytest.fixture(scope="module")
def host() -> Iterator[FakeServer]:
    with FakeServer() as host:
        yield host


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server, network: FaultProxy, host: FakeServer) -> Pooler:
    entries = {
        **databases(server),
        SLOW: entry(server, host=network.host, port=network.port),
        FAKE: {"host": host.host, "port": host.port, "pool_size": 1},
    }
    return module_launch(entries, {"max_client_conn": CROWD + 100, "listen_backlog": CROWD})


@pytest.fixture
def bystander(pooler: Pooler) -> Iterator[Raw]:
    """Somebody else, who is answered all the while."""
    with pooler.raw(BYSTANDER) as bystander:
        yield bystander


@contextmanager
def at_rest(pooler: Pooler) -> Iterator[None]:
    """What is done meanwhile takes a while, and the pooler a small part of that on a processor."""
    began, before = time.monotonic(), pooler.cpu_seconds()
    yield
    elapsed, used = time.monotonic() - began, pooler.cpu_seconds() - before
    assert used < elapsed / 4, f"{used:.2f} of {elapsed:.2f} s on a processor"


def slowly(say: Callable[[bytes], object], data: bytes) -> None:
    """One byte after the other."""
    for at in range(len(data)):
        say(data[at : at + 1])
        time.sleep(PAUSE)


def test_a_login_and_a_query_may_come_a_byte_at_a_time(pooler: Pooler) -> None:
    with pooler.socket() as client, at_rest(pooler):
        slowly(client.send, m.startup({"user": pooler.user, "database": ONE}))
        client.finish_login()
        slowly(client.send, m.query(STATEMENT))
        assert m.rows(client.until()) == [["a byte at a time"]]


def test_a_client_may_take_its_result_a_byte_at_a_time(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client:
        client.shrink_receive_buffer()
        before = pooler.rss()
        client.send(m.query("select repeat('x', 1000) from generate_series(1, 20000)"))
        client.take(1)
        with at_rest(pooler):
            for _ in range(60):
                client.take(1)
                time.sleep(PAUSE)
        assert pooler.rss() - before < 4 * MIB
        client.reset()


def test_a_hundred_clients_may_trickle_at_once_and_others_are_served(pooler: Pooler, bystander: Raw) -> None:
    said = m.startup({"user": pooler.user, "database": APP}) + m.query(STATEMENT)
    with ExitStack() as stack, at_rest(pooler):
        clients = [stack.enter_context(pooler.socket()) for _ in range(MANY)]
        for at in range(len(said)):
            for client in clients:
                client.send(said[at : at + 1])
            echo(bystander)
            time.sleep(PAUSE)
        for client in clients:
            client.finish_login()
            assert m.rows(client.until()) == [["a byte at a time"]]


def test_a_server_may_reply_and_be_asked_a_byte_at_a_time(
    pooler: Pooler, network: FaultProxy, bystander: Raw
) -> None:
    with pooler.raw(SLOW) as client:
        client.value("select 1")
        network.slice(1)
        network.delay(PAUSE)
        with at_rest(pooler):
            client.send(m.query(STATEMENT))
            while client.silent_for(PAUSE):
                echo(bystander)
            assert m.rows(client.until()) == [["a byte at a time"]]
        network.heal()


def test_a_server_may_take_a_huge_query_a_byte_at_a_time(
    pooler: Pooler, host: FakeServer, bystander: Raw
) -> None:
    """Its client is read no further, so that neither memory nor time is spent on what cannot be passed on."""
    taken, over = 0, threading.Event()

    def take_slowly(conversation: Conversation) -> None:
        nonlocal taken
        conversation.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        conversation.welcome()
        while not over.wait(PAUSE) and conversation.socket.recv(1):
            taken += 1

    host.script = take_slowly
    with pooler.raw(FAKE, timeout=60 * PAUSE) as client:
        before = pooler.rss()
        huge = m.query("x" * (64 * MIB))
        with at_rest(pooler), pytest.raises(TimeoutError):
            client.send(huge)
        echo(bystander)
        assert pooler.rss() - before < 4 * MIB
        wait_until(lambda: taken >= 10, 10, "some of it was taken")
        over.set()


def test_ten_thousand_connections_that_come_and_go_leave_nothing_behind(pooler: Pooler) -> None:
    """By turns they say nothing, half of a login, a login, a login and a query; and close, or reset."""
    login = m.startup({"user": pooler.user, "database": APP})
    said = (b"", login[: len(login) // 2], login, login + m.query(STATEMENT))

    def come_and_go(crowds: int) -> None:
        for _ in range(crowds):
            crowd = [pooler.socket() for _ in range(CROWD)]
            for number, one in enumerate(crowd):
                one.send_quietly(said[number % 4])
            for number, one in enumerate(crowd):
                (one.reset if number // 4 % 2 else one.close)()
        wait_until(lambda: not pooler.show("CLIENTS", database=APP), 30, "all gone")

    with pooler.raw(APP) as client:
        client.value("select 1")
    descriptors = unexplained_fds(pooler)
    come_and_go(2)
    memory = pooler.rss()
    come_and_go(CROWDS - 2)
    wait_until(lambda: unexplained_fds(pooler) == descriptors, 30, "no descriptor left")
    # asyncio leaves some to the collector; an object for each connection would be more.
    assert pooler.rss() - memory < 12 * MIB
    with at_rest(pooler):
        time.sleep(0.5)

"""Peers that say or take a byte at a time, and crowds that come and go: nothing spins, nothing is left.

Law: only processor time is compared with a bound, one far above what was measured and far below a busy loop.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.conformance.expect import MIB
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.alive import unexplained_fds
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, databases

pytestmark = pytest.mark.usefixtures("alive")

PAUSE = 0.02
CROWD, CROWDS = 500, 20
STATEMENT = "select 'a byte at a time'"


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server) -> Pooler:
    return module_launch(databases(server), {"max_client_conn": CROWD + 100, "listen_backlog": CROWD})


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


def test_ten_thousand_connections_that_come_and_go_leave_nothing_behind(pooler: Pooler) -> None:
    """By turns they say nothing, half of a login, a login, a login and a query; and close, or reset."""
    login = m.startup({"user": pooler.user, "database": APP})
    said = (b"", login[: len(login) // 2], login, login + m.query(STATEMENT))
    with pooler.raw(APP) as client:
        client.value("select 1")
    before = unexplained_fds(pooler)
    for _ in range(CROWDS):
        crowd = [pooler.socket() for _ in range(CROWD)]
        for number, one in enumerate(crowd):
            one.send_quietly(said[number % 4])
        for number, one in enumerate(crowd):
            (one.reset if number // 4 % 2 else one.close)()
    wait_until(lambda: not pooler.show("CLIENTS", database=APP), 30, "all gone")
    wait_until(lambda: unexplained_fds(pooler) == before, 30, "no descriptor left")
    with at_rest(pooler):
        time.sleep(0.5)

"""Clients that read slowly or not at all: they cost little memory, and nobody else notices."""

import threading
import time

import pytest

from tests.conformance.expect import MIB, grown
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, databases, howdah_only

pytestmark = pytest.mark.usefixtures("alive")

HUGE = "select repeat('x', 1000) from generate_series(1, 200000)"
"""A result of 200 MB."""


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server) -> Pooler:
    return module_launch(databases(server))


def test_a_client_that_reads_late_gets_everything(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client:
        client.send(m.query("select n from generate_series(1, 300000) n"))
        time.sleep(0.3)
        got = client.until(within=30)
    assert [int(str(row[0])) for row in m.rows(got)] == list(range(1, 300_001))


@howdah_only("our own setting")
def test_client_write_timeout_spares_a_client_that_reads_slowly(pooler: Pooler) -> None:
    with pooler.with_settings(client_write_timeout=1), pooler.raw(ONE) as client:
        client.shrink_receive_buffer(65536)
        client.send(m.query("select repeat('x', 1000) from generate_series(1, 40000)"))
        left, deadline = 40_000_000, time.monotonic() + 30
        pause_until = time.monotonic() + 2.5
        while left > 0:
            left -= len(client.take(min(left, 400_000), deadline))
            if time.monotonic() < pause_until:
                time.sleep(0.1)


def test_fifty_slow_readers_cost_a_bounded_amount_each(pooler: Pooler, server: Server) -> None:
    """Eight of them have a server each, the others wait."""
    clients = [pooler.raw(APP) for _ in range(50)]
    before = pooler.rss()
    for client in clients:
        client.send(m.query(HUGE))
    assert grown(pooler, before, 1.5) < 50 * 256 * 1024
    for client in clients:
        client.reset()
    server.wait_until_quiet()
    wait_until(lambda: not pooler.show("CLIENTS", database=APP), 10, "all gone")


def test_a_server_that_reads_nothing_stops_its_client(pooler: Pooler) -> None:
    """A second, large query behind one that sleeps: the pooler takes what its buffers hold, and no more."""
    with pooler.raw(ONE, timeout=60) as client:
        client.value("select 1")
        before = pooler.rss()
        client.send(m.query("select pg_sleep(1.5)"))
        late = m.query("select 1 /* " + "y" * 30_000_000 + " */")
        sender = threading.Thread(target=client.send, args=(late,))
        sender.start()
        assert grown(pooler, before, 1.0) < 4 * MIB
        client.until(within=10)
        assert m.rows(client.until(within=30)) == [["1"]]
        sender.join()


def test_both_directions_full_at_once_do_not_lock_each_other(pooler: Pooler, server: Server) -> None:
    """A pipeline whose requests and replies are both larger than every buffer on the way."""
    one = m.parse("", "select repeat($1, 10)") + m.bind(values=["z" * 10_000]) + m.execute() + m.sync()
    with pooler.raw(ONE, timeout=60) as client:
        sender = threading.Thread(target=client.send, args=(one * 500,))
        sender.start()
        time.sleep(0.3)
        for _ in range(500):
            got = client.until(within=30)
            assert len(m.rows(got)[0][0] or "") == 100_000
        sender.join()


def test_a_large_message_passes_without_being_collected(pooler: Pooler) -> None:
    with pooler.raw(ONE, timeout=60) as client:
        client.value("select 1")
        before = pooler.rss()
        got: list[m.Message] = []
        reader = threading.Thread(target=lambda: got.extend(client.until(within=60)))
        reader.start()
        client.send(m.query("select length('" + "w" * 60_000_000 + "')"))
        most = grown(pooler, before, 0.5)
        reader.join()
    assert m.rows(got) == [["60000000"]]
    assert most < 4 * MIB


def test_large_values_and_small_ones_alternate_unharmed(pooler: Pooler) -> None:
    with pooler.raw(ONE, timeout=60) as client:
        for size in (1, 8191, 8192, 8193, 65535, 65536, 65537, 1_000_000, 1):
            assert client.value(f"select repeat('v', {size})") == "v" * size
            got = client.ask(m.one_shot("select length($1::text)", ["u" * size]))
            assert m.rows(got) == [[str(size)]]

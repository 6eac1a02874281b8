"""One client that reads nothing, and one that is cancelled a hundred times: nobody else may notice."""

import threading
import time

import pytest

from tests.conformance.expect import BUSY, MIB, grown, sqlstates
from tests.conformance.marks import pgbouncer_fails, pooler_only
from tests.support import messages as m
from tests.support.alive import BYSTANDER
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import ONE
from tests.support.wire import Raw

HUGE = "select repeat('x', 1000) from generate_series(1, 200000)"
"""A result of 200 MB."""


def latencies(client: Raw, count: int) -> list[float]:
    times = []
    for number in range(count):
        started = time.perf_counter()
        assert client.value(f"select {number}") == str(number)
        times.append(time.perf_counter() - started)
    return sorted(times)


@pytest.mark.case("O58")
@pooler_only("there is nobody between client and server")
def test_a_client_that_reads_nothing_costs_little_and_disturbs_nobody(pooler: Pooler, server: Server) -> None:
    with pooler.raw(BYSTANDER) as bystander, pooler.raw(ONE) as client:
        alone = latencies(bystander, 200)
        before = pooler.rss()
        client.send(m.query(HUGE))
        assert grown(pooler, before, 1.0) < 4 * MIB
        crowded = latencies(bystander, 200)
        assert crowded[150] < alone[150] + 0.05
        assert crowded[-1] < BUSY
        assert pooler.rss() - before < 4 * MIB
        assert server.busy_backends()
        client.reset()
    server.wait_until_quiet()


@pytest.mark.case("O58")
@pgbouncer_fails("has no such limit")
@pooler_only("there is nobody between client and server")
def test_client_write_timeout_frees_the_server(pooler: Pooler, server: Server) -> None:
    with pooler.with_settings(client_write_timeout=1), pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
        client.send(m.query(HUGE))
        server.wait_for_query("200000")
        started = time.monotonic()
        rival.send(m.query("select 'served'"))
        assert m.rows(rival.until()) == [["served"]]
        assert time.monotonic() - started >= 0.8
        with pytest.raises((EOFError, ConnectionError)):
            client.take(200 * MIB)


@pytest.mark.case("O59")
def test_a_hundred_cancels_for_one_client_spare_the_next(pooler: Pooler, server: Server) -> None:
    """One server; A sleeps, B waits behind it, a hundred cancels for A arrive at once."""
    with pooler.raw(ONE) as first, pooler.raw(ONE) as second:
        first.send(m.query("select pg_sleep(10) /* first */"))
        server.wait_for_query("/* first */")
        second.send(m.query("select pg_sleep(0.5), 'second'"))
        pooler.wait_for_pool(ONE, cl_waiting=1)
        threads = [threading.Thread(target=pooler.cancel, args=(first,)) for _ in range(100)]
        for thread in threads:
            thread.start()
        assert sqlstates(first.until()) == ["57014"]
        assert m.rows(second.until(within=10)) == [["", "second"]]
        for thread in threads:
            thread.join()
        assert first.value("select 'first again'") == "first again"

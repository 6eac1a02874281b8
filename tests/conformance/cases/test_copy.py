"""COPY broken off by an error, by its client, and by neither in time."""

import threading

import pytest

from tests.conformance.expect import BUSY, sqlstates
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import ONE
from tests.support.wire import Raw

COPY_IN = "copy o41(n) from stdin"
HUGE = "copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout"
"""One gigabyte."""
TAKEN = 10_000_000

WAYS = pytest.mark.parametrize(
    ("start", "end"),
    [
        (m.query(COPY_IN), b""),
        (m.parse("", COPY_IN) + m.bind() + m.execute() + m.sync(), m.sync()),
    ],
    ids=["simple", "extended"],
)


@pytest.fixture(autouse=True)
def table(server: Server) -> None:
    """An empty table o41(n int primary key, filler text) that everybody may fill."""
    server.sql("create table if not exists o41(n int primary key, filler text)")
    server.sql("grant all on o41 to public")
    server.sql("truncate o41")


@pytest.mark.case("O41")
@WAYS
def test_fifty_megabytes_after_an_error_go_nowhere(
    pooler: Pooler, server: Server, start: bytes, end: bytes
) -> None:
    """A duplicate at row 10; then 50 MB, CopyDone and the next query."""
    with pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
        client.send(start)
        client.until(b"G")
        rows = b"".join(b"%d\n" % n for n in [*range(9), 0])
        client.send(m.copy_data(rows))
        late = m.copy_data(b"9\n" * 32_000) * 800 + m.copy_done() + end
        sender = threading.Thread(target=client.send, args=(late + m.query("select 'next'"),))
        sender.start()
        got = client.until(within=30)
        assert sqlstates(got) == ["23505"]
        assert m.rows(client.until(within=30)) == [["next"]]
        sender.join()
        assert rival.value("select 'rival'") == "rival"
    assert server.value("select count(*) from o41") == 0


@pytest.mark.case("O40")
def test_a_copy_in_that_is_reset_leaves_no_row_and_no_server(pooler: Pooler, server: Server) -> None:
    with pooler.raw(ONE) as client:
        client.send(m.query("copy o41(n, filler) from stdin"))
        client.until(b"G")
        for n in range(64):
            client.send(m.copy_data(b"%d\t%s\n" % (n, b"x" * 16_384)))
        client.reset()
    with pooler.raw(ONE) as rival:
        assert rival.value("select count(*) from o41") == "0"
    assert server.wait_until_quiet() <= 1.0 + BUSY


def drain(client: Raw, count: int) -> None:
    """Reads so many bytes of whatever comes."""
    while count > 0:
        count -= len(client.message().body) + 5


@pytest.mark.case("O42")
def test_a_copy_out_whose_client_vanishes_ends_on_the_server(pooler: Pooler, server: Server) -> None:
    with pooler.raw(ONE) as client:
        client.send(m.query(HUGE))
        drain(client, TAKEN)
        client.reset()
    assert server.wait_until_quiet() <= 2.0 + BUSY
    with pooler.raw(ONE) as rival:
        assert rival.value("select 'clean'") == "clean"

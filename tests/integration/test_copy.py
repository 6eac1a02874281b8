"""COPY in and out, whole and broken off, by the simple and the extended protocol.

The law PostgreSQL sets: in copy-in a Sync is ignored; after an error everything
up to the end of the copy is thrown away; what comes too late is nobody else's
business.
"""

import contextlib
import time
from collections.abc import Callable

import pytest

from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION_ONE, howdah_only
from tests.support.target import Target
from tests.support.wire import Raw

pytestmark = pytest.mark.usefixtures("alive")

COPY_IN = "copy copied(n) from stdin"
COPY_OUT = "copy (select generate_series(1, 3)) to stdout"


@pytest.fixture(autouse=True)
def table(server: Server) -> None:
    """An empty table copied(n int primary key) that everybody may fill."""
    server.sql("create table if not exists copied(n int primary key, filler text)")
    server.sql("grant all on copied to public")
    server.sql("truncate copied")


def simple(sql: str) -> bytes:
    return m.query(sql)


def extended(sql: str) -> bytes:
    return m.parse("", sql) + m.bind() + m.execute() + m.sync()


def extended_in_transaction(sql: str) -> bytes:
    return m.query("begin") + extended(sql)


Start = Callable[[str], bytes]
STARTS = pytest.mark.parametrize("start", [simple, extended], ids=["simple", "extended"])
DATABASES = pytest.mark.parametrize("database", [ONE, SESSION_ONE])


def end_of(start: Start) -> bytes:
    """A Sync after the copy, which only the extended protocol needs."""
    return m.sync() if start is extended else b""


def outcome(target: Target, database: str, start: Start, *tail: bytes) -> tuple[str, list[str], str | None]:
    """Tags from the start of a COPY FROM on, SQLSTATEs, and what the next query says."""
    with target.raw(database) as client:
        client.send(start(COPY_IN))
        opening = client.until(b"G")
        client.send(*tail)
        got = client.until()
        assert client.silent_for(0.05)
        after = client.value("select 'after'")
    return m.tags(opening + got), [fields["C"] for fields in m.errors(got)], after


SHAPES = {
    "done": [m.copy_data(b"1\n"), m.copy_done()],
    "no data": [m.copy_done()],
    "failed by the client": [m.copy_data(b"1\n"), m.copy_fail("changed my mind")],
    "bad row, then done": [m.copy_data(b"x\n"), m.copy_done()],
    "bad row, then fail": [m.copy_data(b"x\n"), m.copy_fail("too late")],
    "bad row, then a lot": [m.copy_data(b"x\n"), m.copy_data(b"7\n") * 1000, m.copy_done()],
    "duplicate": [m.copy_data(b"1\n1\n"), m.copy_done()],
    "syncs and flushes in between": [
        m.copy_data(b"1\n"),
        m.sync(),
        m.flush(),
        m.copy_data(b"2\n"),
        m.sync(),
        m.copy_done(),
    ],
}


@DATABASES
@STARTS
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_copy_in_ends_as_with_postgresql(
    pooler: Pooler, server: Server, database: str, start: Start, shape: str
) -> None:
    tail = [*SHAPES[shape], end_of(start)]
    through = outcome(pooler, database, start, *tail)
    rows = server.value("select count(*) from copied")
    server.sql("truncate copied")
    assert through == outcome(server, server.database, start, *tail)
    assert rows == server.value("select count(*) from copied")


@DATABASES
@STARTS
def test_an_error_that_comes_before_the_end_of_the_copy_is_told_once(
    pooler: Pooler, database: str, start: Start
) -> None:
    with pooler.raw(database) as client:
        client.send(start(COPY_IN))
        client.until(b"G")
        client.send(m.copy_data(b"x\n"))
        assert m.errors(client.until(b"E"))[0]["C"] == "22P02"
        client.send(m.copy_data(b"2\n"), m.copy_done(), end_of(start))
        assert m.tags(client.until()) == "Z"
        assert client.silent_for(0.05)
        assert client.value("select 1") == "1"


@STARTS
def test_a_query_in_the_middle_of_a_copy_ends_the_connection(
    pooler: Pooler, server: Server, start: Start
) -> None:
    """PostgreSQL has lost its place in the stream then and says so; the client hears just that."""

    def heard(target: Target, database: str) -> list[tuple[str, str]]:
        with target.raw(database) as client:
            client.send(start(COPY_IN))
            client.until(b"G")
            client.send(m.copy_data(b"1\n"), m.query("select 1"))
            return [(fields["S"], fields["C"]) for fields in m.errors(client.until_closed())]

    assert heard(server, server.database) == [("ERROR", "08P01"), ("FATAL", "08P01")]
    said = heard(pooler, ONE)
    assert said[0] == ("ERROR", "08P01")
    assert said[-1][0] == "FATAL"


@howdah_only("before 1.26 late COPY data blocks PgBouncer's pool")
def test_late_copy_data_never_reaches_the_next_client(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
        client.send(m.query(COPY_IN))
        client.until(b"G")
        client.send(m.copy_data(b"x\n"))
        assert m.tags(client.until()) == "EZ"
        rival.send(m.query("begin; select 1"))
        rival.until()
        client.send(m.copy_data(b"1\n") * 100, m.copy_done(), m.query("select 'mine'"))
        pooler.wait_for_pool(ONE, cl_waiting=1)
        assert rival.value("select 'rival'") == "rival"
        rival.rows("commit")
        assert m.rows(client.until()) == [["mine"]]


@howdah_only("not looked into for PgBouncer")
@STARTS
def test_a_sync_between_copy_data_never_mixes_replies(pooler: Pooler, start: Start) -> None:
    """After an error nobody but the server knows whether that Sync counts: nobody may be misled by it."""
    for _ in range(10):
        with pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
            client.send(start(COPY_IN), m.copy_data(b"x\n"), m.sync(), m.query("select 'mine'"))
            for number in range(5):
                assert rival.value(f"select 'rival {number}'") == f"rival {number}"
            assert m.rows(until_row_or_end(client)) in ([], [["mine"]])


@DATABASES
@STARTS
@pytest.mark.parametrize("end", [m.copy_done(), m.copy_fail("no")], ids=["done", "fail"])
@pytest.mark.parametrize("data", [b"", m.copy_data(b"x\n")], ids=["no data", "bad row"])
def test_a_sync_behind_the_end_of_a_copy_is_answered_though_all_was_sent_at_once(
    pooler: Pooler, server: Server, database: str, start: Start, end: bytes, data: bytes
) -> None:
    def heard(target: Target, name: str) -> list[m.Message]:
        with target.raw(name) as client:
            client.send(start(COPY_IN), data, end, m.sync(), m.query("select 'after'"))
            return until_row_or_end(client)

    through = heard(pooler, database)
    server.sql("truncate copied")
    assert m.tags(through) == m.tags(heard(server, server.database))


def until_row_or_end(client: Raw) -> list[m.Message]:
    """Messages up to the first DataRow or to the end of the connection; waiting is not among the choices."""
    got: list[m.Message] = []
    deadline = time.monotonic() + 10
    with contextlib.suppress(EOFError, ConnectionError):
        while not got or got[-1].tag != b"D":
            got.append(client.message(deadline))
    return got


# --- out -------------------------------------------------------------------------------------------


@DATABASES
@STARTS
def test_copy_out_ends_as_with_postgresql(
    pooler: Pooler, server: Server, database: str, start: Start
) -> None:
    def played(target: Target, name: str) -> list[m.Message]:
        with target.raw(name) as client:
            got = client.ask(start(COPY_OUT))
            assert client.value("select 1") == "1"
            return got

    assert played(pooler, database) == played(server, server.database)


@STARTS
def test_an_error_in_the_middle_of_copy_out_ends_it(pooler: Pooler, start: Start) -> None:
    failing = "copy (select 1 / (3 - n) from generate_series(1, 5) n) to stdout"
    with pooler.raw(ONE) as client:
        got = client.ask(start(failing))
        assert m.errors(got)[0]["C"] == "22012"
        assert client.value("select 1") == "1"


def test_a_large_copy_out_arrives_whole(pooler: Pooler) -> None:
    with pooler.raw(APP) as client:
        client.send(m.query("copy (select n from generate_series(1, 300000) n) to stdout"))
        got = client.until(within=30)
    data = b"".join(message.body for message in got if message.tag == b"d")
    assert data == b"".join(b"%d\n" % n for n in range(1, 300_001))


def test_a_large_copy_in_arrives_whole(pooler: Pooler, server: Server) -> None:
    with pooler.raw(ONE) as client:
        client.send(m.query(COPY_IN))
        client.until(b"G")
        for start in range(0, 200_000, 5_000):
            client.send(m.copy_data(b"".join(b"%d\n" % n for n in range(start, start + 5_000))))
        client.send(m.copy_done())
        assert m.command_tags(client.until(within=30)) == ["COPY 200000"]
    assert server.value("select sum(n) from copied") == 199_999 * 200_000 // 2


def test_two_copies_in_one_query_string(pooler: Pooler, server: Server) -> None:
    with pooler.raw(ONE) as client:
        client.send(m.query(f"{COPY_IN}; {COPY_IN}; select 'end'"))
        client.until(b"G")
        client.send(m.copy_data(b"1\n"), m.copy_done())
        client.until(b"G")
        client.send(m.copy_data(b"2\n"), m.copy_done())
        assert m.rows(client.until()) == [["end"]]
    assert server.value("select count(*) from copied") == 2


def test_a_copy_that_waits_for_a_server_is_served_like_any_query(pooler: Pooler, server: Server) -> None:
    with pooler.raw(ONE) as holder, pooler.raw(ONE) as client:
        holder.rows("begin")
        client.send(m.query(COPY_IN), m.copy_data(b"5\n"), m.copy_done())
        pooler.wait_for_pool(ONE, cl_waiting=1)
        holder.rows("commit")
        assert m.tags(client.until()) == "GCZ"
    assert server.value("select n from copied") == 5

"""Many requests in flight at once: each gets its own reply, in order, before the server is let go."""

import itertools
import random
import threading

import pytest

from tests.conformance.expect import normal, replies, rival_is_served, rival_waits
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import ONE, SESSION_ONE, howdah_only

pytestmark = pytest.mark.usefixtures("alive")


def test_a_simple_query_inside_a_failed_batch_is_skipped_with_it(pooler: Pooler, server: Server) -> None:
    data = m.parse("", "selekt") + m.query("select 1") + m.one_shot("select 2") + m.one_shot("select 3")
    assert replies(pooler, ONE, 2, data) == replies(server, server.database, 2, data)


def random_batch(random_: random.Random) -> tuple[bytes, int]:
    """A random pipeline of the unnamed statement, and how many ReadyForQuery it earns."""
    data, syncs, failed = b"", 0, False
    for _ in range(random_.randrange(1, 40)):
        match random_.choice("PBDEHSQpX"):
            case "P":
                bad = random_.random() < 0.1
                data += m.parse("", "selekt" if bad else "select $1::text")
                failed |= bad
            case "B":
                data += m.bind(values=["x"] if random_.random() < 0.9 else ["x", "y"])
            case "D":
                data += m.describe(random_.choice([b"S", b"P"]))
            case "E":
                data += m.execute(max_rows=random_.choice([0, 0, 1]))
            case "H":
                data += m.flush()
            case "S":
                data, syncs, failed = data + m.sync(), syncs + 1, False
            case "p":
                data += m.close(b"P", "")
            case _:
                # A simple query counts only outside a failed batch, which no one can know here: it gets its
                # own Sync before it, so that it always counts.
                data, syncs, failed = data + m.sync() + m.query("select 1; select 2"), syncs + 2, False
    return data + m.sync(), syncs + 1


@pytest.mark.parametrize("seed", range(60))
def test_random_pipelines_get_what_postgresql_would_say(pooler: Pooler, server: Server, seed: int) -> None:
    data, syncs = random_batch(random.Random(seed))
    assert replies(pooler, ONE, syncs, data) == replies(server, server.database, syncs, data)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 4095, 4096, 4097], ids=str)
def test_how_the_bytes_are_cut_makes_no_difference(pooler: Pooler, server: Server, chunk: int) -> None:
    data = m.query("select 1") + m.one_shot("select repeat('x', 5000)") + m.one_shot("select 1/0") + m.sync()
    with pooler.raw(ONE) as client:
        for at in range(0, len(data), chunk):
            client.send(data[at : at + chunk])
        got = [message for _ in range(4) for message in client.until()]
    assert normal(got) == replies(server, server.database, 4, data)


# --- a server is not let go while anything is open ----------------------------------------------


@howdah_only("PgBouncer 1.18 gives the server away at the error")
def test_a_batch_after_an_error_keeps_its_server_until_sync(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
        client.send(m.parse("", "selekt") + m.flush())
        assert m.tags(client.until(b"E")) == "E"
        rival_waits(pooler, rival)
        client.send(m.query("select 'skipped'"))
        assert client.silent_for(0.2)
        assert m.tags(client.ask(m.sync())) == "Z"
        rival_is_served(rival)


def test_a_portal_read_in_parts_keeps_its_server(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
        opening = m.parse("", "select generate_series(1, 3)") + m.bind()
        client.send(opening + m.execute(max_rows=1) + m.flush())
        assert m.rows(client.until(b"s")) == [["1"]]
        rival_waits(pooler, rival)
        for expected in ("2", "3"):
            client.send(m.execute(max_rows=1) + m.flush())
            assert m.rows(client.until(b"s")) == [[expected]]
        assert m.tags(client.ask(m.execute(max_rows=1) + m.sync())) == "CZ"
        rival_is_served(rival)


def test_a_transaction_keeps_its_server_between_syncs(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
        assert client.ask(m.one_shot("begin"))[-1].body == b"T"
        rival_waits(pooler, rival)
        assert client.ask(m.one_shot("select 1/0"))[-1].body == b"E"
        assert rival.silent_for(0.1)
        assert client.ask(m.one_shot("rollback"))[-1].body == b"I"
        rival_is_served(rival)


def test_between_two_pipelined_syncs_the_server_may_not_change_hands_midway(pooler: Pooler) -> None:
    """Two clients on one server, each pipelining transactions made of several batches."""
    with pooler.raw(ONE) as one, pooler.raw(ONE) as two:
        for client, word in ((one, "one"), (two, "two")):
            batch = m.one_shot("begin") + m.one_shot(f"select '{word}'") + m.one_shot("commit")
            client.send(batch * 50)
        for client, word in ((one, "one"), (two, "two")):
            got = list(itertools.chain.from_iterable(client.until(within=10) for _ in range(150)))
            assert m.rows(got) == [[word]] * 50


def test_a_named_statement_lives_within_one_transaction(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client:
        client.rows("begin")
        assert m.tags(client.ask(m.parse("mine", "select $1::int * 2") + m.sync())) == "1Z"
        for n in range(3):
            got = client.ask(m.bind("", "mine", [str(n)]) + m.execute() + m.sync())
            assert m.rows(got) == [[str(2 * n)]]
        assert m.tags(client.ask(m.close(b"S", "mine") + m.sync())) == "3Z"
        client.rows("commit")


def test_a_named_statement_lives_as_long_as_the_session_in_session_mode(pooler: Pooler) -> None:
    with pooler.raw(SESSION_ONE) as client:
        client.ask(m.parse("mine", "select $1::int * 2") + m.sync())
        for n in range(3):
            got = client.ask(m.bind("", "mine", [str(n)]) + m.execute() + m.sync())
            assert m.rows(got) == [[str(2 * n)]]
    with pooler.raw(SESSION_ONE) as client:
        got = client.ask(m.bind("", "mine", ["1"]) + m.execute() + m.sync())
        assert m.errors(got)[0]["C"] == "26000"


def test_ten_thousand_requests_without_a_sync_are_all_answered(pooler: Pooler) -> None:
    one = m.parse("", "select 1") + m.bind() + m.execute()
    with pooler.raw(ONE) as client:
        sender = threading.Thread(target=client.send, args=(one * 12_000 + m.sync(),))
        sender.start()
        got = client.until(within=30)
        sender.join()
    assert len(m.rows(got)) == 12_000


def test_a_function_call_is_answered(pooler: Pooler, server: Server) -> None:
    """int4pl by its object id, arguments and result in binary format."""
    with pooler.raw(ONE) as client:
        got = client.ask(m.function_call(177, [m.int32(20), m.int32(22)]))
        assert m.tags(got) == "VZ"
        assert got[0].body == m.int32(4) + m.int32(42)
        failed = client.ask(m.function_call(0, []))
        assert m.tags(failed) == "EZ"
        assert client.value("select 1") == "1"

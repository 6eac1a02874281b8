"""A CancelRequest ends exactly the query it was meant for, never that of the server's next owner."""

import contextlib
import random
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from tests.conformance.expect import sqlstates
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.fault_proxy import FaultProxy, wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION_ONE, databases, howdah_only
from tests.support.wire import Raw, send_cancel

CANCELED = "57014"


# --- plainly -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize("database", [ONE, SESSION_ONE])
def test_a_running_query_is_cancelled(pooler: Pooler, server: Server, database: str) -> None:
    with pooler.raw(database) as client:
        client.send(m.query("select pg_sleep(30) /* cancel me */"))
        server.wait_for_query("/* cancel me */")
        pooler.cancel(client)
        assert sqlstates(client.until()) == [CANCELED]
        assert client.value("select 1") == "1"


@pytest.mark.usefixtures("alive")
def test_a_query_of_the_extended_protocol_is_cancelled(pooler: Pooler, server: Server) -> None:
    with pooler.raw(ONE) as client:
        client.send(m.one_shot("select pg_sleep(30) /* cancel me too */"))
        server.wait_for_query("/* cancel me too */")
        pooler.cancel(client)
        assert sqlstates(client.until()) == [CANCELED]


@pytest.mark.usefixtures("alive")
@howdah_only("PgBouncer drops the client without an answer")
def test_a_waiting_client_is_answered_although_its_pool_stays_busy(pooler: Pooler) -> None:
    with pooler.raw(ONE) as holder, pooler.raw(ONE) as client:
        holder.rows("begin")
        client.send(m.query("select 'never sent'"))
        pooler.wait_for_pool(ONE, cl_waiting=1)
        pooler.cancel(client)
        got = client.until()
        assert sqlstates(got) == [CANCELED]
        assert got[-1] == m.Message(b"Z", b"I")
        assert holder.value("select 'unhurt'") == "unhurt"
        holder.rows("commit")
        assert client.value("select 'later'") == "later"


@pytest.mark.usefixtures("alive")
@howdah_only("PgBouncer drops the client without an answer")
def test_a_waiting_client_of_the_extended_protocol_is_answered_up_to_its_sync(pooler: Pooler) -> None:
    with pooler.raw(ONE) as holder, pooler.raw(ONE) as client:
        holder.rows("begin")
        client.send(m.one_shot("select 'never sent'"))
        pooler.wait_for_pool(ONE, cl_waiting=1)
        pooler.cancel(client)
        got = client.until()
        assert m.tags(got) == "EZ"
        assert sqlstates(got) == [CANCELED]
        holder.rows("commit")
        assert client.value("select 'later'") == "later"


@pytest.mark.usefixtures("alive")
def test_an_idle_client_is_not_disturbed(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE) as other:
        client.value("select 1")
        other.send(m.query("select pg_sleep(0.3), 'other'"))
        for _ in range(20):
            pooler.cancel(client)
        assert sqlstates(other.until()) == []
        assert client.value("select 2") == "2"


@pytest.mark.usefixtures("alive")
def test_a_client_idle_in_its_transaction_is_not_disturbed(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client:
        client.rows("begin")
        pooler.cancel(client)
        assert client.query("select 1")[-1].body == b"T"
        client.rows("commit")


@pytest.mark.usefixtures("alive")
def test_a_key_with_one_bit_wrong_does_nothing(pooler: Pooler, server: Server) -> None:
    with pooler.raw(ONE) as client:
        client.send(m.query("select pg_sleep(0.5)"))
        pid, secret = client.greeting.pid, client.greeting.secret
        for bit in range(8 * len(secret)):
            wrong = bytearray(secret)
            wrong[bit // 8] ^= 1 << bit % 8
            send_cancel((pooler.host, pooler.port), pid, bytes(wrong))
        assert sqlstates(client.until()) == []


@pytest.mark.usefixtures("alive")
def test_the_key_of_a_client_that_has_left_does_nothing(pooler: Pooler) -> None:
    with pooler.raw(ONE) as gone:
        key = gone.greeting
    with pooler.raw(ONE) as client:
        client.send(m.query("select pg_sleep(0.3)"))
        send_cancel((pooler.host, pooler.port), key.pid, key.secret)
        assert sqlstates(client.until()) == []


@pytest.mark.usefixtures("alive")
@howdah_only("PgBouncer speaks 3.0 only")
def test_the_long_key_of_protocol_three_point_two_works(pooler: Pooler, server: Server) -> None:
    with pooler.raw(ONE, version=m.PROTOCOL_3_2) as client:
        client.send(m.query("select pg_sleep(30) /* long key */"))
        server.wait_for_query("/* long key */")
        pooler.cancel(client)
        assert sqlstates(client.until()) == [CANCELED]


def test_the_drivers_cancel_works(pooler: Pooler, server: Server) -> None:
    with pooler.connect(ONE) as connection:
        failures: list[Exception] = []

        def run() -> None:
            try:
                connection.execute("select pg_sleep(30) /* driver */")
            except psycopg.Error as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        server.wait_for_query("/* driver */")
        connection.cancel_safe()
        thread.join(5)
        assert [type(failure) for failure in failures] == [psycopg.errors.QueryCanceled]


# --- races -----------------------------------------------------------------------------------------


def cancel_often(pooler: Pooler, client: Raw, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(OSError):
            pooler.cancel(client)


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize("database", [ONE, APP])
def test_cancels_under_way_never_reach_another_clients_query(pooler: Pooler, database: str) -> None:
    """Two clients share servers with short queries; one of them is cancelled without pause."""
    stop = threading.Event()
    with pooler.raw(database) as target, pooler.raw(database) as innocent:
        storm = [threading.Thread(target=cancel_often, args=(pooler, target, stop)) for _ in range(4)]
        for thread in storm:
            thread.start()
        try:
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline:
                target.send(m.query("select pg_sleep(0.01)"))
                innocent.send(m.query("select pg_sleep(0.01), 'innocent'"))
                assert m.rows(innocent.until()) == [["", "innocent"]]
                assert set(sqlstates(target.until())) <= {CANCELED}
        finally:
            stop.set()
            for thread in storm:
                thread.join()


@pytest.fixture
def slow_cancels(launch: Launch, server: Server) -> Iterator[tuple[Pooler, FaultProxy]]:
    """A pooler whose way to the server goes through a proxy that can hold new connections back."""
    with FaultProxy((server.host, server.port)) as proxy:
        entries = databases(server, host=proxy.host, port=proxy.port)
        yield launch(entries, {"cancel_wait_timeout": 2}), proxy


@howdah_only("PgBouncer 1.18 has this race")
def test_a_cancel_that_arrives_late_finds_nobody_else(
    slow_cancels: tuple[Pooler, FaultProxy], server: Server
) -> None:
    """The query ends by itself while its cancel is still on the way; the server waits for the cancel."""
    pooler, proxy = slow_cancels
    with pooler.raw(ONE) as first, pooler.raw(ONE) as second:
        first.send(m.query("select pg_sleep(0.6) /* short */"))
        server.wait_for_query("/* short */")
        proxy.hold_new(1.0)
        cancel = threading.Thread(target=pooler.cancel, args=(first,))
        cancel.start()
        assert sqlstates(first.until()) == []
        second.send(m.query("select pg_sleep(1.0), 'second'"))
        assert m.rows(second.until()) == [["", "second"]]
        cancel.join()
        proxy.heal()


@howdah_only("PgBouncer 1.18 pools the server again")
def test_a_cancel_that_never_ends_gives_up_its_server(
    slow_cancels: tuple[Pooler, FaultProxy], server: Server
) -> None:
    """Its connection is never closed; after cancel_wait_timeout the server is replaced, not reused."""
    pooler, proxy = slow_cancels
    with pooler.raw(ONE) as first, pooler.raw(ONE) as second:
        pid = first.value("select pg_backend_pid()")
        first.send(m.query("select pg_sleep(0.5) /* brief */"))
        server.wait_for_query("/* brief */")
        held = len(proxy.links)
        proxy.swallow_new(True)
        cancel = threading.Thread(target=pooler.cancel, args=(first,))
        cancel.start()
        wait_until(lambda: len(proxy.links) > held, 10, "the cancel is under way")
        assert sqlstates(first.until()) == []
        proxy.swallow_new(False)
        second.send(m.query("select pg_backend_pid()"))
        rows = m.rows(second.until())
        assert rows[0][0] != pid
        cancel.join()


def test_cancels_do_not_need_a_free_place_in_the_pool(pooler: Pooler, server: Server) -> None:
    clients = [pooler.raw(APP) for _ in range(8)]
    for client in clients:
        client.send(m.query("select pg_sleep(30) /* all */"))
    wait_until(lambda: len(server.busy_backends()) >= 8, 10, "all eight run")
    threads = [threading.Thread(target=pooler.cancel, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for client in clients:
        assert sqlstates(client.until()) == [CANCELED]
        client.close()
    for thread in threads:
        thread.join()


@howdah_only("not looked into for PgBouncer")
def test_a_flood_of_cancels_opens_a_bounded_number_of_connections(
    slow_cancels: tuple[Pooler, FaultProxy], server: Server
) -> None:
    """Eight running clients, each cancelled twelve times, while no connection for a cancel gets anywhere."""
    pooler, proxy = slow_cancels
    clients = [pooler.raw(APP) for _ in range(8)]
    for client in clients:
        client.send(m.query("select pg_sleep(3) /* flood */"))
    wait_until(lambda: len(server.busy_backends()) >= 8, 10, "all eight run")
    proxy.swallow_new(True)
    held = len(proxy.links)
    threads = [threading.Thread(target=pooler.cancel, args=(client,)) for client in clients * 12]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(proxy.links) > held, 10, "the first cancel is under way")
    for thread in threads:
        thread.join(15)
    assert not any(thread.is_alive() for thread in threads), "cancel_wait_timeout ends them all"
    assert len(proxy.links) - held <= 4 * len(clients)
    proxy.heal()
    for client in clients:
        client.until()
        client.close()


@pytest.mark.usefixtures("alive")
def test_random_cancels_hit_only_their_own_targets(pooler: Pooler, server: Server) -> None:
    """Thirty clients on eight servers; the ones cancelled while they run fail, no other does."""
    random_ = random.Random(7)
    clients = [pooler.raw(APP) for _ in range(30)]
    for number, client in enumerate(clients):
        client.send(m.query(f"select pg_sleep(0.4), '{number}'"))
    doomed = set(random_.sample(range(30), 10))
    threads = [threading.Thread(target=pooler.cancel, args=(clients[number],)) for number in doomed]
    for thread in threads:
        thread.start()
    for number, client in enumerate(clients):
        got = client.until(within=20)
        if number not in doomed:
            assert m.rows(got) == [["", str(number)]]
        client.close()
    for thread in threads:
        thread.join()

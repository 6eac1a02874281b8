"""PostgreSQL is away, starting, refusing, crashing or hostile.

Clients wait where that helps, and hear the truth where it does not.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conformance.expect import BUSY, refusing
from tests.integration.conftest import FAKE, Launch, before_fake
from tests.support import messages as m
from tests.support.fault_proxy import FaultProxy, Way, wait_until
from tests.support.pooler import Pooler
from tests.support.postgres import PostgresServer
from tests.support.script import Conversation, FakeServer, default_script
from tests.support.server import Server
from tests.support.standard import APP, KIND, ONE, SESSION_ONE, databases, entry, howdah_only
from tests.support.wire import LoginRefused, Raw


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy((server.host, server.port)) as proxy:
        yield proxy


@pytest.fixture
def behind_proxy(proxy: FaultProxy, launch: Launch, server: Server) -> Pooler:
    entries = databases(server, host=proxy.host, port=proxy.port)
    ours = {"server_close_timeout": 1} if KIND == "howdah" else {}
    return launch(entries, {"query_wait_timeout": 30, "server_connect_timeout": 2, **ours})


def logged_in(pooler: Pooler, database: str, count: int) -> list[Raw]:
    return [pooler.raw(database, timeout=30) for _ in range(count)]


def close_all(clients: list[Raw]) -> None:
    for client in clients:
        client.close()


def cut_off(pooler: Pooler, proxy: FaultProxy) -> None:
    """Takes the server away and waits until the pooler has noticed."""
    proxy.down()
    wait_until(lambda: not pooler.show("SERVERS"), 10, "the pooler has lost its servers")


# --- unreachable -----------------------------------------------------------------------------------------


@howdah_only("PgBouncer waits for server_login_retry, 15 s")
@pytest.mark.parametrize("known", [True, False], ids=["seen before", "never seen"])
def test_clients_wait_for_a_server_that_is_down_and_are_served_when_it_is_back(
    behind_proxy: Pooler, proxy: FaultProxy, known: bool
) -> None:
    if known:
        close_all([behind_proxy.raw(ONE)])
    cut_off(behind_proxy, proxy)
    with ExitStack() as stack:
        clients = [stack.enter_context(behind_proxy.socket(30)) for _ in range(10)]
        for client in clients:
            client.send(m.startup({"user": behind_proxy.user, "database": ONE}) + m.query("select 'served'"))
        time.sleep(1.0)
        proxy.up()
        started = time.monotonic()
        for client in clients:
            client.finish_login()
            assert m.rows(client.until()) == [["served"]]
        assert time.monotonic() - started < 3.0 + BUSY


@howdah_only("PgBouncer opens one login after another")
def test_many_waiting_clients_do_not_open_many_logins_at_once(
    behind_proxy: Pooler, proxy: FaultProxy
) -> None:
    clients = logged_in(behind_proxy, APP, 50)
    cut_off(behind_proxy, proxy)
    for client in clients:
        client.send(m.query("select 1"))
    before = len(proxy.links)
    time.sleep(1.0)
    proxy.up()
    for client in clients:
        assert m.rows(client.until(within=10)) == [["1"]]
    assert len(proxy.links) - before <= 8
    close_all(clients)


def test_a_client_that_waits_for_an_absent_server_is_told_when_its_time_is_up(
    behind_proxy: Pooler, proxy: FaultProxy
) -> None:
    close_all([behind_proxy.raw(ONE)])
    cut_off(behind_proxy, proxy)
    behind_proxy.admin("SET query_wait_timeout = 1")
    with behind_proxy.raw(ONE) as client:
        started = time.monotonic()
        client.send(m.query("select 1"))
        errors = m.errors(client.until_closed())
        assert len(errors) == 1
        assert errors[0]["S"] == "FATAL"
        assert 0.5 <= time.monotonic() - started < 2.5 + BUSY


@howdah_only("PgBouncer needs tcp_user_timeout for this")
def test_a_connection_attempt_that_is_swallowed_ends_at_its_timeout(
    behind_proxy: Pooler, proxy: FaultProxy
) -> None:
    proxy.swallow_new(True)
    with behind_proxy.socket(30) as client:
        client.send(m.startup({"user": behind_proxy.user, "database": ONE}) + m.query("select 'served'"))
        wait_until(lambda: len(proxy.links) == 1, 10, "a first attempt")
        proxy.swallow_new(False)
        client.finish_login()
        assert m.rows(client.until()) == [["served"]]


@pytest.mark.parametrize("database", [ONE, SESSION_ONE])
def test_a_server_connection_that_is_reset_costs_its_client_one_error(
    behind_proxy: Pooler, proxy: FaultProxy, database: str
) -> None:
    with behind_proxy.raw(database) as client, behind_proxy.raw(database) as rival:
        client.rows("begin")
        proxy.reset()
        client.send_quietly(m.query("select 1"))
        (fields,) = m.errors(client.until_closed())
        assert fields["S"] == "FATAL"
        assert fields["M"] == "server conn crashed?"
        assert fields["C"] in ("08006", "08P01")
        assert rival.value("select 'new server'") == "new server"


def test_half_an_answer_is_not_taken_for_a_whole_one(behind_proxy: Pooler, proxy: FaultProxy) -> None:
    with behind_proxy.raw(ONE) as client, behind_proxy.raw(ONE) as rival:
        client.value("select 1")
        passed = proxy.alive()[0].passed[Way.TO_CLIENT]
        proxy.stop_at(Way.TO_CLIENT, passed + 20_000)
        client.send(m.query("select repeat('x', 100000)"))
        wait_until(lambda: proxy.alive()[0].passed[Way.TO_CLIENT] == passed + 20_000, 10, "half is there")
        proxy.reset()
        proxy.heal()
        with pytest.raises((AssertionError, EOFError, ConnectionError)):
            client.until()
        assert rival.value("select 'whole'") == "whole"


@pytest.mark.parametrize("size", [1, 7])
def test_replies_in_tiny_pieces_are_put_together(behind_proxy: Pooler, proxy: FaultProxy, size: int) -> None:
    proxy.slice(size)
    with behind_proxy.raw(ONE, timeout=30) as client:
        assert m.rows(client.query("select 'a', null, repeat('b', 300)")) == [["a", None, "b" * 300]]
        got = client.ask(m.one_shot("select 1") * 3)
        assert m.rows(got + client.until() + client.until()) == [["1"]] * 3
        assert m.errors(client.query("select 1/0"))[0]["C"] == "22012"


# --- starting --------------------------------------------------------------------------------------------


@howdah_only("PgBouncer waits for server_login_retry after each")
def test_the_probes_of_a_starting_server_become_rarer(launch: Launch, fake: FakeServer) -> None:
    times: list[float] = []

    def starting(conversation: Conversation) -> None:
        times.append(time.monotonic())
        conversation.refuse("57P03", "the database system is starting up")

    fake.script = starting
    pooler = before_fake(launch, fake)
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(pooler.socket())
            client.send(m.startup({"user": "u", "database": FAKE}))
        wait_until(lambda: len(times) >= 7, 10, "seven probes")
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert gaps[5] > gaps[0]
        assert max(gaps) <= 2.0 + BUSY
        assert len(times) <= 12
    fake.script = default_script


# --- refused on principle ----------------------------------------------------------------------------


@howdah_only("PgBouncer 1.18 keeps the first client waiting")
def test_after_server_login_retry_the_server_is_asked_again(launch: Launch, fake: FakeServer) -> None:
    fake.script = refusing("28P01", "password authentication failed")
    pooler = before_fake(launch, fake, server_login_retry=1)
    with pytest.raises(LoginRefused):
        pooler.raw(FAKE)
    fake.script = default_script
    deadline = time.monotonic() + 10
    while True:
        try:
            with pooler.raw(FAKE) as client:
                assert client.value("select 'in'") == "select 'in'"
                return
        except (LoginRefused, EOFError, AssertionError):
            assert time.monotonic() < deadline
            time.sleep(0.1)


# --- a crash and a restart, for real -----------------------------------------------------------------


@pytest.fixture
def fragile(new_postgres: Callable[..., PostgresServer]) -> Iterator[Server]:
    """A cluster that may be crashed."""
    postgres = new_postgres()
    server = Server(postgres, postgres.new_database())
    yield server
    server.close()


@howdah_only("PgBouncer waits for server_login_retry")
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_under_load_costs_only_what_was_under_way(
    launch: Launch, fragile: Server, mode: str
) -> None:
    """Forty clients do short queries over a restart: at most one error each, and all work afterwards."""
    pooler = launch({APP: entry(fragile, pool_size=8)}, user=fragile.user)
    stop, errors, problems = threading.Event(), [0] * 40, list[str]()

    def work(number: int) -> None:
        while not stop.is_set():
            try:
                with pooler.raw(APP, timeout=20) as client:
                    while not stop.is_set():
                        client.value("select pg_sleep(0.01)")
            except (EOFError, AssertionError, ConnectionError):
                errors[number] += 1
            except Exception as problem:
                problems.append(repr(problem))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    before = len(fragile.postgres.log())
    fragile.postgres.own.restart(mode)  # type: ignore[arg-type]
    with pooler.raw(APP, timeout=20) as client:
        assert client.value("select 'back'") == "back"
    stop.set()
    for thread in threads:
        thread.join(20)
    assert problems == []
    assert max(errors) <= 2
    assert sum(errors) <= 16
    log = fragile.postgres.log()[before:]
    assert log.count("connection authorized") <= 8 + 8 + 3
    assert "too many" not in log

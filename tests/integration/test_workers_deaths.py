"""Any process of the pooler killed or stopped: what its clients see, and that it is made good."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.crowd import Crowd, alive, until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, SESSION, databases, howdah_only

pytestmark = howdah_only("only Howdah has workers")

Client = psycopg.Connection[tuple[object, ...]]


def start(launch: Launch, count: int, **settings: str | float) -> Crowd:
    crowd = Crowd(launch(settings={"workers": count, **settings}))
    crowd.wait_for_workers(count)
    return crowd


def connect(pooler: Pooler, database: str = APP) -> Client:
    return psycopg.connect(pooler.conninfo(database), autocommit=True, connect_timeout=20)


def value(client: Client, sql: str = "select 1") -> object:
    row = client.execute(sql.encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def clients(request: pytest.FixtureRequest) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def crowd_of_clients(crowd: Crowd, count: int, stack: ExitStack) -> dict[int, list[Client]]:
    """Clients, by the worker that has them."""
    found: dict[int, list[Client]] = {pid: [] for pid in crowd.workers()}
    for _ in range(count):
        client = stack.enter_context(closing(connect(crowd.pooler)))
        found[crowd.worker_of(client)].append(client)
    return found


class Newcomers:
    """Clients that come one after the other, each with a query; how long each `took`. None may fail."""

    def __init__(self, pooler: Pooler) -> None:
        self.took: list[float] = []
        self._pooler = pooler
        self._failed: list[Exception] = []
        self._over = threading.Event()
        self._one_is_here = threading.Lock()
        self._thread = threading.Thread(target=self._come_and_go)

    def _come_and_go(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                with self._one_is_here, connect(self._pooler) as client:
                    value(client)
            except psycopg.Error as error:
                self._failed.append(error)
                return
            self.took.append(time.monotonic() - began)

    def strike(self, pid: int) -> None:
        """Kill a process while none of them is here: whoever comes later must not notice."""
        with self._one_is_here:
            os.kill(pid, signal.SIGKILL)

    def wait_for(self, more: int) -> None:
        enough = len(self.took) + more
        until(lambda: len(self.took) >= enough or self._failed, "nobody comes any more")

    def __enter__(self) -> "Newcomers":
        self._thread.start()
        self.wait_for(1)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait_for(3)
        finally:
            self._over.set()
            self._thread.join()
        assert self._failed == []


# --- a worker ---------------------------------------------------------------------------------------------


def test_a_worker_killed_is_noticed_by_its_own_clients_only_and_replaced(
    launch: Launch, clients: ExitStack
) -> None:
    crowd = start(launch, 3)
    found = crowd_of_clients(crowd, 9, clients)
    victim, *others = found
    for pid in others:
        for client in found[pid]:
            client.execute("begin")
    with Newcomers(crowd.pooler) as newcomers:
        newcomers.strike(victim)
        for client in found[victim]:
            with pytest.raises(psycopg.OperationalError):
                value(client)
        crowd.wait_for_workers(1, without=tuple(found))
    for pid in others:
        for client in found[pid]:
            assert value(client, "select 7") == 7
            client.execute("commit")
    assert "was killed by SIGKILL" in crowd.pooler.log()
    crowd.pooler.wait_for_log(rf"\(process {victim}\) is lost, and \d+ clients with it")


def test_a_worker_that_dies_young_is_replaced_with_a_delay_and_the_others_serve(launch: Launch) -> None:
    crowd = start(launch, 2)
    seen = set(crowd.workers())
    steady = crowd.places()[1]
    with Newcomers(crowd.pooler) as newcomers:
        for _ in range(3):
            newcomers.strike(crowd.places()[2])
            (fresh,) = set(crowd.wait_for_workers(1, without=tuple(seen))) - seen
            seen.add(fresh)
    assert crowd.places() == {1: steady, 2: fresh}


def test_all_workers_killed_at_once_are_all_replaced_and_newcomers_wait_for_them(launch: Launch) -> None:
    crowd = start(launch, 2)
    old = crowd.workers()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    with closing(connect(crowd.pooler)) as client:
        assert value(client) == 1
    crowd.wait_for_workers(2, without=tuple(old))


def test_a_worker_that_stands_still_is_killed_and_replaced(launch: Launch, clients: ExitStack) -> None:
    crowd = start(launch, 2, worker_timeout=1)
    found = crowd_of_clients(crowd, 4, clients)
    victim, other = found
    with crowd.stopped(victim):
        crowd.pooler.wait_for_log("has given no sign of life for 1 s, killing it")
        until(lambda: not alive(victim), "it lives on")
        for client in found[victim]:
            with pytest.raises(psycopg.OperationalError):
                value(client)
    crowd.wait_for_workers(1, without=(victim, other))
    for client in found[other]:
        assert value(client) == 1


def test_clients_on_their_way_to_a_worker_that_stands_still_are_served_by_others(launch: Launch) -> None:
    crowd = start(launch, 2, worker_timeout=2)
    with crowd.stopped(crowd.places()[1]), Newcomers(crowd.pooler) as newcomers:
        crowd.pooler.wait_for_log("killing it")
    # Who was given to it had to wait until it was killed; soon enough nobody was given to it any more.
    assert 1 <= len([seconds for seconds in newcomers.took if seconds > 1.0]) <= 2


def test_who_has_worker_timeout_0_waits_for_a_worker_that_stands_still(
    launch: Launch, clients: ExitStack
) -> None:
    crowd = start(launch, 2, worker_timeout=0)
    found = crowd_of_clients(crowd, 2, clients)
    victim = next(iter(found))
    with crowd.stopped(victim):
        time.sleep(1.0)
    assert value(found[victim][0]) == 1
    assert set(crowd.workers()) == set(found)


def test_a_socket_pair_that_is_full_keeps_nobody_from_being_served_later(launch: Launch) -> None:
    crowd = start(launch, 2, worker_timeout=0, max_client_conn=2000, listen_backlog=2000)
    with ExitStack() as stack:
        for pid in crowd.workers():
            stack.enter_context(crowd.stopped(pid))
        # More than the kernel takes for two workers that do not read.
        waiting = [
            stack.enter_context(socket.create_connection(("127.0.0.1", crowd.pooler.port), 10))
            for _ in range(1200)
        ]
        for sock in waiting:
            sock.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
        assert alive(crowd.supervisor)
        before = set(crowd.workers())
    for sock in waiting:
        sock.close()
    with closing(connect(crowd.pooler)) as client:
        assert value(client) == 1
    assert set(crowd.workers()) == before


# --- the supervisor ---------------------------------------------------------------------------------------


def test_the_supervisor_killed_lets_transactions_end_and_nothing_stays(
    launch: Launch, clients: ExitStack
) -> None:
    crowd = start(launch, 2)
    workers, template = crowd.workers(), crowd.template
    found = crowd_of_clients(crowd, 4, clients)
    busy = [mine[0] for mine in found.values()]
    in_session = clients.enter_context(closing(connect(crowd.pooler, SESSION)))
    assert value(in_session) == 1
    for client in busy:
        client.execute("begin")
    crowd.pooler.process.kill()
    crowd.pooler.process.wait()
    until(lambda: not alive(template), "the template lives on")
    with pytest.raises(psycopg.OperationalError):
        connect(crowd.pooler)
    for client in busy:
        assert value(client, "select 5") == 5
        client.execute("commit")
    until(lambda: not any(map(alive, workers)), "a worker lives on")


def test_a_supervisor_that_stood_still_blames_no_worker(launch: Launch) -> None:
    crowd = start(launch, 2, worker_timeout=1)
    before = crowd.workers()
    with crowd.stopped(crowd.supervisor):
        time.sleep(1.5)
    with closing(connect(crowd.pooler)) as client:
        assert value(client) == 1
    time.sleep(1.1)
    assert crowd.workers() == before


# --- the template -----------------------------------------------------------------------------------------


def test_a_template_killed_is_replaced_and_workers_do_not_notice(launch: Launch, clients: ExitStack) -> None:
    crowd = start(launch, 2)
    found = crowd_of_clients(crowd, 2, clients)
    template = crowd.template
    os.kill(template, signal.SIGKILL)
    crowd.pooler.wait_for_log("making another")
    until(lambda: crowd.template not in (0, template), "no new template")
    for mine in found.values():
        assert value(mine[0]) == 1
    victim = next(iter(found))
    os.kill(victim, signal.SIGKILL)
    crowd.wait_for_workers(1, without=tuple(found))
    # Also the worker of the old template, which is nobody's child, is heard of and replaced.
    assert victim not in crowd.workers()


def test_template_and_workers_killed_at_once_are_all_replaced(launch: Launch) -> None:
    crowd = start(launch, 2)
    old = crowd.workers()
    for pid in (crowd.template, *old):
        os.kill(pid, signal.SIGKILL)
    with closing(connect(crowd.pooler)) as client:
        assert value(client) == 1
    crowd.wait_for_workers(2, without=tuple(old))


def test_a_template_that_stands_still_is_replaced_when_a_worker_is_wanted(launch: Launch) -> None:
    crowd = start(launch, 2, worker_timeout=1)
    old = tuple(crowd.workers())
    with crowd.stopped(crowd.template), Newcomers(crowd.pooler) as newcomers:
        newcomers.strike(old[0])
        crowd.pooler.wait_for_log("has given no sign of life for 1 s, making another template")
        crowd.wait_for_workers(1, without=old)


# --- the end ----------------------------------------------------------------------------------------------


def test_a_worker_that_stands_still_does_not_keep_the_pooler_from_ending(launch: Launch) -> None:
    crowd = start(launch, 2, worker_timeout=1)
    with crowd.stopped(crowd.workers()[0]):
        crowd.pooler.signal(signal.SIGTERM)
        assert crowd.pooler.wait() == 0


def test_a_worker_killed_during_a_shutdown_is_not_replaced(launch: Launch, clients: ExitStack) -> None:
    crowd = start(launch, 2)
    found = crowd_of_clients(crowd, 2, clients)
    (victim, _), (other, (client,)) = found.items()
    crowd.pooler.signal(signal.SIGTERM)
    crowd.pooler.wait_for_log("got SIGTERM")
    os.kill(victim, signal.SIGKILL)
    until(lambda: crowd.workers() == [other], "somebody else")
    assert value(client) == 1
    client.close()
    assert crowd.pooler.wait() == 0


def test_the_end_does_not_wait_for_servers_of_a_lost_worker_and_leaves_nothing_open(
    server: Server, clients: ExitStack
) -> None:
    with Watchful(databases(server), {"workers": 2}, user=server.user) as pooler:
        crowd = Crowd(pooler)
        crowd.wait_for_workers(2)
        client = clients.enter_context(pooler.raw(APP))
        client.send(m.query("select pg_sleep(3)"))
        server.wait_for_query("pg_sleep(3)")
        os.kill(crowd.worker_at(client.fileno()), signal.SIGKILL)
        pooler.wait_for_log("PostgreSQL is busy with 1 servers of lost workers")
        pooler.signal(signal.SIGTERM)
        assert pooler.wait() == 0
        assert "ResourceWarning" not in pooler.log()


class Watchful(Pooler):
    """Says what it has not closed at its end."""

    def command(self) -> list[str]:
        return ["env", "PYTHONWARNINGS=default", *super().command()]

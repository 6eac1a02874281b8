"""The places at which every driver plays: PostgreSQL itself, and Howdah with fewer servers than clients.

Law: where servers are replaced no client notices; where they are killed only those whose server it was.
"""

import gc
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.integration.conftest import Launch
from tests.integration.drivers.crowd import SERVERS, Disturbance, Place
from tests.support.alive import BYSTANDER
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import entry

CALM, FORGETFUL, RECYCLED, KILLED = "calm", "forgetful", "recycled", "killed"
ONE, PAIR = "one", "pair"
"""Pools of one and of two servers, in peace."""
PLACES = ["postgresql", CALM, FORGETFUL, RECYCLED, KILLED]

RECONNECTS, KILLS = 10, 15
SEED = 20240301

TABLE = """
create table if not exists deeds(client int, n int, word text not null, primary key (client, n));
grant all on deeds to public
"""


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server) -> Pooler:
    """Transaction mode; in one of its databases servers live for a second."""
    entries = {
        CALM: entry(server, pool_size=SERVERS),
        FORGETFUL: entry(server, pool_size=SERVERS),
        RECYCLED: entry(server, pool_size=SERVERS, server_lifetime=1),
        KILLED: entry(server, pool_size=SERVERS),
        ONE: entry(server, pool_size=1),
        PAIR: entry(server, pool_size=2),
        BYSTANDER: entry(server, pool_size=2),
    }
    return module_launch(entries)


@pytest.fixture(scope="module", autouse=True)
def deeds(server: Server) -> None:
    """The table that clients work on, each with rows of its own."""
    server.sql(TABLE)
    server.sql("truncate deeds")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, pooler: Pooler, server: Server) -> Iterator[Place]:
    """PostgreSQL; then a pool in peace, one that keeps few statements, one recycled, one under attack."""
    name: str = request.param
    disturbances = {
        FORGETFUL: forgetting(pooler),
        RECYCLED: in_background(pooler, reconnect),
        KILLED: in_background(pooler, kill(server)),
    }
    target, database = (server, server.database) if name == "postgresql" else (pooler, name)
    place = Place(name, target, database, disturbances.get(name, in_peace))
    yield place
    if place.kills:
        # Drivers may complain of what they left open, which the errors hold: here the test's filters hold.
        place.losses.clear()
        gc.collect()


@contextmanager
def in_peace(place: Place) -> Iterator[None]:
    place.over.set()
    yield


def forgetting(pooler: Pooler) -> Disturbance:
    """Servers keep two statements at most, so that what a client needs has most often been evicted."""

    @contextmanager
    def few_statements(place: Place) -> Iterator[None]:
        with pooler.with_settings(max_prepared_statements=2):
            place.over.set()
            yield

    return few_statements


def in_background(pooler: Pooler, disturb: Callable[[Pooler, Place], None]) -> Disturbance:
    """Disturbs the place from a thread of its own while the body of the `with` plays."""

    @contextmanager
    def disturbed(place: Place) -> Iterator[None]:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                disturb(pooler, place)
            except BaseException as failure:
                failures.append(failure)
            finally:
                place.over.set()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            place.left.set()
            thread.join()
        if failures:
            raise failures[0]

    return disturbed


def servers_of(pooler: Pooler, place: Place) -> set[int]:
    """Process ids of the pool's servers."""
    rows = pooler.show("SERVERS", database=place.database)
    return {int(str(row["remote_pid"])) for row in rows if row["remote_pid"]}


def gone(pids: set[int], pooler: Pooler, place: Place) -> Callable[[], bool]:
    """Asks whether none of these is a server of the pool any more."""
    return lambda: not pids & servers_of(pooler, place)


def reconnect(pooler: Pooler, place: Place) -> None:
    """All servers are replaced at their release, again and again; meanwhile some live out their second."""
    for _ in range(RECONNECTS):
        before = wait_for_servers(pooler, place)
        pooler.admin(f"RECONNECT {place.database}")
        wait_for(place, gone(before, pooler, place), "the servers are replaced")
    mark = pooler.log_mark()
    wait_for(place, lambda: "server lifetime over" in pooler.log(mark), "a server is too old")


def kill(server: Server) -> Callable[[Pooler, Place], None]:
    """Kills one server of the pool after the other, whatever it is doing."""

    def work(pooler: Pooler, place: Place) -> None:
        chance = random.Random(SEED)
        for _ in range(KILLS):
            servers = wait_for_servers(pooler, place)
            if place.left.is_set():
                break
            victim = chance.choice(sorted(servers))
            place.kills += 1
            server.sql("select pg_terminate_backend(%s)", [victim])
            wait_for(place, gone({victim}, pooler, place), "the server is gone")

    return work


def wait_for_servers(pooler: Pooler, place: Place) -> set[int]:
    """The pool's servers, as soon as it has some."""
    found: set[int] = set()

    def some() -> bool:
        found.update(servers_of(pooler, place))
        return bool(found)

    wait_for(place, some, "the pool has servers")
    return found


def wait_for(place: Place, condition: Callable[[], bool], what: str) -> None:
    """Waits until it holds, or everybody has left."""
    wait_until(lambda: place.left.is_set() or condition(), 10, what)

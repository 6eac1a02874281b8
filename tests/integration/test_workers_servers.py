"""Servers of a pool whose clients are spread over workers: one limit, nobody waits beside an idle one."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import psycopg
import pytest

from tests.integration.conftest import Launch
from tests.support.crowd import Crowd, until
from tests.support.pooler import Pooler
from tests.support.rush import Caller, callers, callers_by_worker, outlive_a_worker, percentile
from tests.support.server import Server
from tests.support.standard import entry, howdah_only

pytestmark = howdah_only("only Howdah has workers")

POOL = 8
CLIENTS = 64
SECONDS = 3.0
WORK = b"SELECT pg_sleep(0.002)"
LIMITED = "limited_over_workers"
PASSWORD = "a secret"


@pytest.fixture(scope="module")
def role(server: Server) -> Iterator[str]:
    """A role that PostgreSQL lets in as often as the pool is large."""
    server.sql(f"CREATE ROLE {LIMITED} LOGIN CONNECTION LIMIT {POOL} PASSWORD '{PASSWORD}'")
    yield LIMITED
    server.sql(f"DROP ROLE {LIMITED}")


def launch_with(launch: Launch, server: Server, role: str, workers: int) -> Pooler:
    pooler = launch(
        databases={"app": entry(server, user=role, password=PASSWORD, pool_size=POOL)},
        settings={"workers": workers, "query_wait_timeout": 30},
    )
    if workers > 1:
        Crowd(pooler).wait_for_workers(workers)
    return pooler


def opened(pooler: Pooler) -> int:
    return len(re.findall("new connection to server", pooler.log()))


async def rush(pooler: Pooler, seconds: float) -> list[Caller]:
    clients = await callers(pooler, CLIENTS, "app")
    end = time.monotonic() + 1
    await asyncio.gather(*(client.ask_until(end, WORK) for client in clients))
    for client in clients:
        client.waits.clear()
    before = opened(pooler)
    end = time.monotonic() + seconds
    await asyncio.gather(*(client.ask_until(end, WORK) for client in clients))
    assert opened(pooler) - before < max(seconds, 1), "servers are closed and opened all the time"
    for client in clients:
        assert not client.error
        client.close()
    return clients


def p99(clients: list[Caller]) -> float:
    return percentile([wait for client in clients for wait in client.waits], 0.99)


def test_two_workers_share_the_servers_of_one_pool(launch: Launch, server: Server, role: str) -> None:
    pooler = launch_with(launch, server, role, 2)
    shared = asyncio.run(rush(pooler, SECONDS))
    # How long they wait, beside the clients of one worker, is for the long form: tests.conformance.sharing.
    print(f"p99 {p99(shared) * 1000:.1f} ms; opened {opened(pooler)}")
    assert "server login failed" not in pooler.log()


def test_clients_of_one_worker_get_what_those_of_another_leave_idle(
    launch: Launch, server: Server, role: str
) -> None:
    pooler = launch_with(launch, server, role, 2)

    async def play() -> float:
        first, second = await callers_by_worker(pooler, POOL, "app")
        longest = 0.0
        for _ in range(3):
            for side in (first, second):
                end = time.monotonic() + 0.5
                await asyncio.gather(*(client.ask_until(end, WORK) for client in side))
                for client in side:
                    longest = max(longest, *client.waits[1:])
                    client.waits.clear()
        for client in (*first, *second):
            client.close()
        return longest

    longest = asyncio.run(play())
    assert opened(pooler) == POOL, pooler.log_tail()
    assert "server login failed" not in pooler.log()
    # Without the servers of the other worker they would wait for query_wait_timeout.
    assert longest < 5


@pytest.mark.parametrize("sleep", [0.0, 2.0])
def test_servers_of_a_worker_that_was_killed_count_until_postgresql_has_closed_them(
    launch: Launch, server: Server, role: str, sleep: float
) -> None:
    pooler = launch_with(launch, server, role, 2)
    asyncio.run(outlive_a_worker(pooler, "app", POOL, sleep, lambda: active(server, role)))


def test_servers_of_a_worker_that_stands_still_go_to_others_when_it_is_ended(
    launch: Launch, server: Server
) -> None:
    pooler = launch(
        databases={"app": entry(server, pool_size=2)}, settings={"workers": 2, "worker_timeout": 1}
    )
    crowd = Crowd(pooler)
    crowd.wait_for_workers(2)

    async def play() -> None:
        mine, others = await callers_by_worker(pooler, 2, "app")
        await asyncio.gather(*(client.ask(b"SELECT pg_sleep(0.2)") for client in mine))
        with crowd.stopped(crowd.worker_at(mine[0].descriptor)):
            # It cannot be asked for what it has idle, and nobody opens more than the limit.
            waits = await asyncio.gather(*(client.ask(b"SELECT 1") for client in others))
        assert min(waits) > 0.5
        assert max(waits) < 5
        assert len(server.backends(server.user)) <= 2
        for client in (*mine, *others):
            assert not client.error
            client.close()

    asyncio.run(play())


def active(server: Server, role: str) -> int:
    rows = server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND state = 'active'")
    return int(str(rows[0][0]))


def test_limits_on_clients_hold_over_all_workers(launch: Launch, server: Server) -> None:
    pooler = launch(
        databases={"app": entry(server, max_db_client_connections=5), "other": entry(server)},
        settings={"workers": 2, "max_user_client_connections": 7},
    )
    Crowd(pooler).wait_for_workers(2)
    with ExitStack() as stack:

        def connect(database: str) -> "psycopg.Connection[tuple[object, ...]]":
            return stack.enter_context(psycopg.connect(pooler.conninfo(database)))

        clients = [connect("app") for _ in range(5)]
        with pytest.raises(psycopg.OperationalError, match="max_db_client_connections"):
            connect("app")
        clients += [connect("other") for _ in range(2)]
        with pytest.raises(psycopg.OperationalError, match="max_user_client_connections"):
            connect("other")
        clients[0].close()

        def has_room() -> bool:
            with suppress(psycopg.OperationalError):
                connect("app")
                return True
            return False

        until(has_room, "who has left makes room")


def test_a_reload_that_makes_a_pool_smaller_closes_servers_in_all_workers(
    launch: Launch, server: Server
) -> None:
    pooler = launch(databases={"app": entry(server)}, settings={"workers": 2, "default_pool_size": 6})
    Crowd(pooler).wait_for_workers(2)

    async def all_at_once() -> None:
        clients = await callers(pooler, 12, "app")
        await asyncio.gather(*(client.ask(b"SELECT pg_sleep(0.3)") for client in clients))
        for client in clients:
            client.close()

    def backends() -> int:
        return len(server.backends(server.user))

    asyncio.run(all_at_once())
    assert backends() == 6
    with pooler.with_settings(default_pool_size=2):
        until(lambda: backends() == 2, "servers above the limit close")
        asyncio.run(all_at_once())
        assert backends() <= 2

"""Every limit on the number of clients and servers, at its exact value.

Times are chosen short; what is allowed beside them covers a busy machine.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conformance.expect import login_refused
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support import postgres
from tests.support.alive import BYSTANDER
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION, SESSION_ONE, entry, howdah_only
from tests.support.wire import Raw

OTHER = "postgres"
"""A second role that PostgreSQL trusts."""
MINIMAL = postgres.APP
"""The forced user of an entry with a minimum, whose servers no other test counts."""


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server) -> Pooler:
    entries = {
        APP: entry(server, pool_size=8),
        ONE: entry(server, pool_size=1),
        SESSION: entry(server, pool_size=8, pool_mode="session"),
        SESSION_ONE: entry(server, pool_size=1, pool_mode="session"),
        BYSTANDER: entry(server, pool_size=2),
        "four": entry(server, pool_size=4),
        "default": entry(server),
        "capped": entry(server, max_db_connections=4),
        "minimal": entry(
            server, min_pool_size=3, pool_size=5, user=MINIMAL.name, password=MINIMAL.password or ""
        ),
        "short_lived": entry(server, pool_size=1),
    }
    settings = {"default_pool_size": 3}
    return module_launch(entries, settings, secrets={OTHER: ""})


def sleepers(pooler: Pooler, database: str, count: int, seconds: float, user: str | None = None) -> list[Raw]:
    """So many clients, each with a pg_sleep under way or waiting."""
    clients = [pooler.raw(database, user) for _ in range(count)]
    for client in clients:
        client.send(m.query(f"select pg_sleep({seconds})"))
    return clients


@contextmanager
def sleeping(
    pooler: Pooler, database: str, count: int, seconds: float = 0.5, user: str | None = None
) -> Iterator[list[Raw]]:
    """As `sleepers`; waits for all at the end, none of which may fail."""
    clients = sleepers(pooler, database, count, seconds, user)
    try:
        yield clients
        for client in clients:
            assert m.errors(client.until(within=20)) == []
    finally:
        for client in clients:
            client.close()


class Watch:
    """Counts the servers of a pool over time by asking PostgreSQL."""

    def __init__(self, server: Server, user: str) -> None:
        self.server, self.user, self.most = server, user, 0

    def look_until(self, clients: list[Raw], within: float = 20.0) -> None:
        """Looks again and again until every client has its ReadyForQuery."""
        deadline = time.monotonic() + within
        for client in clients:
            while client.silent_for(0.01):
                self.most = max(self.most, len(self.server.backends(self.user)))
                assert time.monotonic() < deadline
            client.until()


# --- clients ---------------------------------------------------------------------------------------


@howdah_only("not in PgBouncer 1.18")
def test_max_db_client_connections_counts_the_clients_of_one_database(pooler: Pooler) -> None:
    with pooler.with_settings(max_db_client_connections=2), pooler.raw(APP), pooler.raw(APP):
        fields = login_refused(pooler)
        assert fields["M"] == "client connections exceeded (max_db_client_connections)"
        assert fields["C"] == "53300"
        with pooler.raw(ONE) as client:
            assert client.value("select 1") == "1"


@howdah_only("not in PgBouncer 1.18")
def test_max_user_client_connections_counts_the_clients_of_one_user(pooler: Pooler) -> None:
    with pooler.with_settings(max_user_client_connections=2), pooler.raw(APP), pooler.raw(ONE):
        fields = login_refused(pooler, BYSTANDER)
        assert fields["M"] == "client connections exceeded (max_user_client_connections)"
        assert fields["C"] == "53300"
        with pooler.raw(APP, OTHER) as client:
            assert client.value("select 1") == "1"


# --- servers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("database", "size"), [(ONE, 1), ("four", 4), ("default", 3)])
def test_a_pool_never_has_more_servers_than_its_size(
    pooler: Pooler, server: Server, database: str, size: int
) -> None:
    pooler.admin("RECONNECT")
    wait_until(lambda: not server.backends(pooler.user), 5, "no servers left")
    watch = Watch(server, pooler.user)
    clients = sleepers(pooler, database, size * 3, 0.1)
    watch.look_until(clients)
    for client in clients:
        client.close()
    assert watch.most == size


def test_set_default_pool_size_acts_at_once(pooler: Pooler, server: Server) -> None:
    pooler.admin("RECONNECT")
    wait_until(lambda: not server.backends(pooler.user), 5, "no servers left")
    with sleeping(pooler, "default", 10, 0.5):
        wait_until(lambda: len(server.backends(pooler.user)) == 3, 3, "three servers")
        pooler.admin("SET default_pool_size = 6")
        try:
            wait_until(lambda: len(server.backends(pooler.user)) == 6, 3, "six servers")
        finally:
            pooler.admin("SET default_pool_size = 3")


def test_the_reserve_is_used_only_after_its_time(pooler: Pooler, server: Server) -> None:
    pooler.admin("RECONNECT")
    wait_until(lambda: not server.backends(pooler.user), 5, "no servers left")
    with pooler.with_settings(reserve_pool_size=2, reserve_pool_timeout=1):
        started = time.monotonic()
        with sleeping(pooler, "default", 8, 2.5):
            wait_until(lambda: len(server.backends(pooler.user)) == 3, 3, "three servers")
            wait_until(lambda: len(server.backends(pooler.user)) == 5, 4, "five servers")
            assert time.monotonic() - started >= 0.9
            assert pooler.pool("default")["cl_waiting"] == 3


def test_max_db_connections_is_shared_by_the_pools_of_a_database(pooler: Pooler, server: Server) -> None:
    pooler.admin("RECONNECT")
    wait_until(lambda: not server.backends(pooler.user), 5, "no servers left")
    clients = sleepers(pooler, "capped", 6, 0.2) + sleepers(pooler, "capped", 6, 0.2, OTHER)
    most = 0
    for client in clients:
        while client.silent_for(0.01):
            count = server.value(
                "select count(*) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
                " and usename in (%s, %s)",
                [server.database, pooler.user, OTHER],
            )
            most = max(most, int(str(count)))
        assert m.errors(client.until()) == []
        client.close()
    assert most == 4


@howdah_only("PgBouncer takes the cap first come, first served")
def test_a_pool_without_servers_gets_its_turn_under_a_shared_cap(pooler: Pooler) -> None:
    """One user keeps all four servers busy for ever; another one waits, and is served before too long."""
    hogs = sleepers(pooler, "capped", 12, 0.05)
    try:
        with pooler.raw("capped", OTHER) as late:
            late.send(m.query("select 'late'"))
            deadline = time.monotonic() + 5
            while late.silent_for(0):
                assert time.monotonic() < deadline, "starved"
                for hog in hogs:
                    if not hog.silent_for(0.001):
                        hog.until()
                        hog.send(m.query("select pg_sleep(0.05)"))
            assert m.rows(late.until()) == [["late"]]
    finally:
        for hog in hogs:
            hog.close()


def test_max_user_connections_counts_over_all_databases(pooler: Pooler, server: Server) -> None:
    pooler.admin("RECONNECT")
    wait_until(lambda: not server.backends(pooler.user), 5, "no servers left")
    with pooler.with_settings(max_user_connections=3):
        clients = sleepers(pooler, APP, 4, 0.2) + sleepers(pooler, "four", 4, 0.2)
        watch = Watch(server, pooler.user)
        watch.look_until(clients)
        for client in clients:
            client.close()
    assert watch.most == 3


@howdah_only("PgBouncer 1.18 needs a first client")
def test_min_pool_size_of_a_forced_user_is_kept_without_clients(pooler: Pooler, server: Server) -> None:
    wait_until(lambda: len(server.backends(MINIMAL.name)) == 3, 5, "three servers")
    before = server.backends(MINIMAL.name)
    pooler.admin("RECONNECT minimal")
    wait_until(
        lambda: len(now := server.backends(MINIMAL.name)) == 3 and not {*now} & {*before},
        5,
        "three new servers",
    )


def test_server_idle_timeout_closes_idle_servers(pooler: Pooler) -> None:
    with pooler.with_settings(server_idle_timeout=1):
        with pooler.raw(ONE) as client:
            client.value("select 1")
            assert len(pooler.show("SERVERS", database=ONE)) == 1
        wait_until(lambda: not pooler.show("SERVERS", database=ONE), 4, "closed")


def test_server_lifetime_closes_old_servers_when_they_are_released(pooler: Pooler) -> None:
    with pooler.with_settings(server_lifetime=1), pooler.raw("short_lived") as client:
        first = client.value("select pg_backend_pid()")
        wait_until(lambda: not pooler.show("SERVERS", database="short_lived"), 5, "closed")
        client.rows("begin")
        second = client.value("select pg_backend_pid()")
        time.sleep(1.5)
        assert client.value("select pg_backend_pid()") == second
        client.rows("commit")
        assert client.value("select pg_backend_pid()") != second != first


def test_servers_are_used_last_in_first_out_unless_round_robin(pooler: Pooler) -> None:
    def pids(count: int) -> list[str | None]:
        with pooler.raw("four") as client:
            return [client.value("select pg_backend_pid()") for _ in range(count)]

    with sleeping(pooler, "four", 4, 0.1):
        pass
    assert len(set(pids(8))) == 1
    with pooler.with_settings(server_round_robin=1):
        rotated = pids(8)
        assert len(set(rotated)) == 4
        assert rotated[:4] == rotated[4:]

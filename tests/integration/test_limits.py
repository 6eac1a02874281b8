"""Every limit on the number of clients and servers, at its exact value.

Times are chosen short; what is allowed beside them covers a busy machine.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.conformance.expect import login_refused
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support import postgres
from tests.support.alive import BYSTANDER
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION, SESSION_ONE, entry, howdah_only, one_process
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


class Holders:
    """Clients that have each asked for a server; who gets one keeps it until all take their turns."""

    def __init__(self, clients: list[Raw]) -> None:
        self.clients = clients
        for client in clients:
            client.send(m.query("begin"))

    def take_turns(self, servers: Callable[[], int]) -> int:
        """All are served, one after the other; the most `servers` there were meanwhile."""
        most, waiting, deadline = 0, self.clients[:], time.monotonic() + 20
        while waiting:
            most = max(most, servers())
            assert time.monotonic() < deadline, "not all are served"
            for client in [each for each in waiting if not each.silent_for(0.01)]:
                assert m.errors(client.until()) == []
                client.rows("rollback")
                waiting.remove(client)
        return max(most, servers())


@contextmanager
def holding(pooler: Pooler, *crowds: tuple[str, int, str | None]) -> Iterator[Holders]:
    """`Holders` of these databases, so many of each, of these users."""
    with ExitStack() as stack:
        yield Holders(
            [
                stack.enter_context(pooler.raw(database, user))
                for database, count, user in crowds
                for _ in range(count)
            ]
        )


def wait_for_waiting(pooler: Pooler, count: int) -> None:
    """Waits until so many clients have asked for a server in vain."""
    wait_until(lambda: len(pooler.show("CLIENTS", state="waiting")) == count, 10, f"{count} wait")


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
    def servers() -> int:
        return len(server.backends(pooler.user))

    pooler.admin("RECONNECT")
    wait_until(lambda: not servers(), 10, "no servers left")
    with holding(pooler, (database, 3 * size, None)) as holders:
        wait_until(lambda: servers() == size, 10, "as many as there may be")
        wait_for_waiting(pooler, 2 * size)
        assert holders.take_turns(servers) == size


def test_set_default_pool_size_acts_at_once(pooler: Pooler, server: Server) -> None:
    def servers() -> int:
        return len(server.backends(pooler.user))

    pooler.admin("RECONNECT")
    wait_until(lambda: not servers(), 10, "no servers left")
    with holding(pooler, ("default", 10, None)) as holders:
        wait_until(lambda: servers() == 3, 10, "three servers")
        wait_for_waiting(pooler, 7)
        pooler.admin("SET default_pool_size = 6")
        try:
            wait_until(lambda: servers() == 6, 10, "six servers")
        finally:
            pooler.admin("SET default_pool_size = 3")
        assert holders.take_turns(servers) == 6


def test_the_reserve_is_used_only_after_its_time(pooler: Pooler, server: Server) -> None:
    def servers() -> int:
        return len(server.backends(pooler.user))

    pooler.admin("RECONNECT")
    wait_until(lambda: not servers(), 10, "no servers left")
    with pooler.with_settings(reserve_pool_size=2, reserve_pool_timeout=1):
        started = time.monotonic()
        with holding(pooler, ("default", 8, None)) as holders:
            wait_until(lambda: servers() == 5, 10, "five servers")
            assert time.monotonic() - started >= 0.9
            wait_for_waiting(pooler, 3)
            assert holders.take_turns(servers) == 5


def test_max_db_connections_is_shared_by_the_pools_of_a_database(pooler: Pooler, server: Server) -> None:
    def servers() -> int:
        count = server.value(
            "select count(*) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
            " and usename in (%s, %s)",
            [server.database, pooler.user, OTHER],
        )
        return int(str(count))

    pooler.admin("RECONNECT")
    wait_until(lambda: not servers(), 10, "no servers left")
    with holding(pooler, ("capped", 6, None), ("capped", 6, OTHER)) as holders:
        wait_until(lambda: servers() == 4, 10, "four servers")
        wait_for_waiting(pooler, 8)
        assert holders.take_turns(servers) == 4


@howdah_only("PgBouncer takes the cap first come, first served")
def test_a_pool_without_servers_gets_its_turn_under_a_shared_cap(pooler: Pooler) -> None:
    """One user keeps all four servers busy for ever; another one waits, and is served before too long."""
    hogs = [pooler.raw("capped") for _ in range(12)]
    try:
        for hog in hogs:
            hog.send(m.query("select pg_sleep(0.05)"))
        with pooler.raw("capped", OTHER) as late:
            late.send(m.query("select 'late'"))
            deadline = time.monotonic() + 10
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
    def servers() -> int:
        return len(server.backends(pooler.user))

    pooler.admin("RECONNECT")
    wait_until(lambda: not servers(), 10, "no servers left")
    crowds = (APP, 4, None), ("four", 4, None)
    with pooler.with_settings(max_user_connections=3), holding(pooler, *crowds) as holders:
        wait_until(lambda: servers() == 3, 10, "three servers")
        wait_for_waiting(pooler, 5)
        assert holders.take_turns(servers) == 3


@howdah_only("PgBouncer 1.18 needs a first client")
def test_min_pool_size_of_a_forced_user_is_kept_without_clients(pooler: Pooler, server: Server) -> None:
    wait_until(lambda: len(server.backends(MINIMAL.name)) == 3, 10, "three servers")
    before = server.backends(MINIMAL.name)
    pooler.admin("RECONNECT minimal")
    wait_until(
        lambda: len(now := server.backends(MINIMAL.name)) == 3 and not {*now} & {*before},
        10,
        "three new servers",
    )


def test_server_idle_timeout_closes_idle_servers(pooler: Pooler) -> None:
    with pooler.with_settings(server_idle_timeout=1):
        with pooler.raw(ONE) as client:
            client.rows("begin")
            assert len(pooler.show("SERVERS", database=ONE)) == 1
            client.rows("commit")
        wait_until(lambda: not pooler.show("SERVERS", database=ONE), 10, "closed")


def test_server_lifetime_closes_old_servers_when_they_are_released(pooler: Pooler) -> None:
    with pooler.with_settings(server_lifetime=1), pooler.raw("short_lived") as client:
        first = client.value("select pg_backend_pid()")
        wait_until(lambda: not pooler.show("SERVERS", database="short_lived"), 10, "closed")
        client.rows("begin")
        second = client.value("select pg_backend_pid()")
        time.sleep(1.5)
        assert client.value("select pg_backend_pid()") == second
        client.rows("commit")
        assert client.value("select pg_backend_pid()") != second != first


@one_process("each worker has its own order of servers")
def test_servers_are_used_last_in_first_out_unless_round_robin(pooler: Pooler) -> None:
    def pids(count: int) -> list[str | None]:
        with pooler.raw("four") as client:
            return [client.value("select pg_backend_pid()") for _ in range(count)]

    with holding(pooler, ("four", 4, None)) as holders:
        pooler.wait_for_pool("four", sv_active=4)
        holders.take_turns(lambda: 4)
    assert len(set(pids(8))) == 1
    with pooler.with_settings(server_round_robin=1):
        rotated = pids(8)
        assert len(set(rotated)) == 4
        assert rotated[:4] == rotated[4:]

"""What an operator sees of prepared statements after known actions of a driver: console and metrics."""

import time
from collections.abc import Callable

import psycopg
import pytest

from tests.integration.conftest import Launch
from tests.support.fault_proxy import wait_until
from tests.support.page import Page
from tests.support.pooler import ADMIN, CONSOLE, STATS, Pooler
from tests.support.pooler import Row as Shown
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.standard import entry, howdah_only, one_process
from tests.support.target import Connection

pytestmark = howdah_only("PgBouncer shows less")

ONE, TWO, SESSION = "one", "two", "session"

COUNTS = ("total_client_parse_count", "total_server_parse_count", "total_bind_count")
NEEDS = ("hit", "miss", "eviction")
OVERHEAD = 512
"""Bytes that are counted for a text beside its own."""

QUERY = "select %s::text"
TEXT = "select $1::text"


@pytest.fixture
def page() -> Page:
    return Page(free_port())


@pytest.fixture
def start(launch: Launch, server: Server, page: Page) -> Callable[..., Pooler]:
    """Starts a pooler that has counted nothing yet."""

    def start(**settings: str | int) -> Pooler:
        entries = {
            ONE: entry(server, pool_size=1),
            TWO: entry(server, pool_size=2),
            SESSION: entry(server, pool_size=1, pool_mode="session"),
        }
        return page.of(launch(entries, {**page.settings(), **settings}))

    return start


@pytest.fixture
def pooler(start: Callable[..., Pooler]) -> Pooler:
    return start()


def driver(pooler: Pooler, database: str = ONE) -> Connection:
    """Prepares everything at its first use."""
    return psycopg.connect(pooler.conninfo(database), autocommit=True, prepare_threshold=0)


def run(connection: Connection, *queries: str) -> None:
    """Each query has one text parameter and returns it."""
    for number, query in enumerate(queries):
        assert connection.execute(query, (f"word {number}",)).fetchone() == (f"word {number}",)


def texts(pooler: Pooler, *columns: str) -> dict[object, tuple[object, ...]]:
    """These columns of SHOW PREPARED_STATEMENTS, by text."""
    return {row["text"]: tuple(row[name] for name in columns) for row in pooler.show("PREPARED_STATEMENTS")}


def counts(pooler: Pooler, database: str) -> tuple[int, ...]:
    """Parses of clients, Parses to servers, and Binds."""
    (row,) = pooler.show("STATS", database=database)
    return tuple(int(str(row[name])) for name in COUNTS)


def needs(pooler: Pooler) -> tuple[int, ...]:
    """Hits, misses, evictions."""
    totals = {row["name"]: int(str(row["value"])) for row in pooler.show("TOTALS")}
    return tuple(totals[f"total_ps_{name}_count"] for name in NEEDS)


def of_clients(pooler: Pooler, database: str) -> list[object]:
    return [row["prepared_statements"] for row in pooler.show("CLIENTS", database=database)]


def of_servers(pooler: Pooler, database: str) -> list[object]:
    return [row["prepared_statements"] for row in pooler.show("SERVERS", database=database)]


def test_a_prepared_statement_is_shown_with_its_uses(pooler: Pooler) -> None:
    with driver(pooler) as client:
        run(client, QUERY, QUERY, QUERY)
        (row,) = pooler.show("PREPARED_STATEMENTS")
        size = OVERHEAD + len(TEXT) + len(b"\0") + 2 + 4
        assert row == {
            **{"database": ONE, "user": pooler.user, "text": TEXT, "clients": 1, "uses": 4, "servers": 1},
            **{"bytes": size, "generation": 0},
        }
        assert (of_clients(pooler, ONE), of_servers(pooler, ONE)) == ([1], [1])
        assert counts(pooler, ONE) == (1, 1, 3)
        assert needs(pooler) == (3, 1, 0)


def test_a_second_client_shares_what_the_first_has_prepared(pooler: Pooler) -> None:
    with driver(pooler) as one, driver(pooler) as two:
        run(one, QUERY)
        run(two, QUERY)
        assert texts(pooler, "clients", "uses", "servers") == {TEXT: (2, 4, 1)}
        assert (of_clients(pooler, ONE), of_servers(pooler, ONE)) == ([1, 1], [1])
        assert counts(pooler, ONE) == (2, 1, 2)
        assert needs(pooler) == (3, 1, 0)


@one_process("another worker takes another server")
def test_another_server_prepares_the_text_anew(pooler: Pooler) -> None:
    with driver(pooler, TWO) as client, pooler.connect(TWO) as other:
        run(client, QUERY)
        with other.transaction():
            other.execute("select 1")
            run(client, QUERY)
        assert texts(pooler, "clients", "uses", "servers") == {TEXT: (1, 3, 2)}
        assert (of_clients(pooler, TWO), of_servers(pooler, TWO)) == ([1, 0], [1, 1])
        assert counts(pooler, TWO) == (1, 2, 2)
        assert needs(pooler) == (1, 2, 0)


def test_the_most_used_text_comes_first_and_each_database_has_its_own(pooler: Pooler) -> None:
    with driver(pooler) as one, driver(pooler, TWO) as two:
        run(one, QUERY)
        run(two, QUERY, QUERY, QUERY)
        rows = [(row["database"], row["uses"]) for row in pooler.show("PREPARED_STATEMENTS")]
        assert rows == [(TWO, 4), (ONE, 2)]


def test_a_closed_name_stands_for_nothing_and_the_text_stays(pooler: Pooler) -> None:
    with driver(pooler) as client:
        client.prepared_max = 1
        run(client, QUERY, f"{QUERY} as other")
        assert of_clients(pooler, ONE) == [1]
        assert texts(pooler, "clients", "servers") == {TEXT: (0, 1), f"{TEXT} as other": (1, 1)}
        client.execute("deallocate all", prepare=False)
        assert of_clients(pooler, ONE) == [0]
        assert texts(pooler, "clients", "servers") == {TEXT: (0, 0), f"{TEXT} as other": (0, 0)}
        assert of_servers(pooler, ONE) == [0]


def test_the_names_of_a_client_go_with_it(pooler: Pooler) -> None:
    with driver(pooler) as client:
        run(client, QUERY)
    wait_until(lambda: not of_clients(pooler, ONE), 10, "the client is gone")
    assert texts(pooler, "clients", "uses", "servers") == {TEXT: (0, 2, 1)}
    with driver(pooler) as client:
        run(client, QUERY)
        assert texts(pooler, "clients", "uses", "servers") == {TEXT: (1, 4, 1)}
        assert counts(pooler, ONE) == (2, 1, 2)


def test_a_server_that_goes_takes_its_statements_along(pooler: Pooler) -> None:
    with driver(pooler) as client:
        run(client, QUERY)
        pooler.admin(f"RECONNECT {ONE}")
        wait_until(lambda: not pooler.show("SERVERS", database=ONE), 10, "the server is gone")
        assert texts(pooler, "clients", "servers") == {TEXT: (1, 0)}
        run(client, QUERY)
        assert texts(pooler, "clients", "servers") == {TEXT: (1, 1)}
        assert needs(pooler) == (1, 2, 0)


def test_what_a_server_has_too_much_of_is_evicted(start: Callable[..., Pooler]) -> None:
    pooler = start(max_prepared_statements=2)
    queries = [f"{QUERY} as c{number}" for number in range(4)]
    with driver(pooler) as client:
        run(client, *queries)
        assert of_clients(pooler, ONE) == [4]
        shown = [texts(pooler, "servers")[f"{TEXT} as c{number}"] for number in range(4)]
        assert shown == [(0,), (0,), (1,), (1,)]
        assert of_servers(pooler, ONE) == [2]
        assert needs(pooler) == (4, 4, 2)
        run(client, queries[0])
        assert counts(pooler, ONE) == (4, 5, 5)
        assert needs(pooler)[1] == 5
        run(client, queries[0])
        assert texts(pooler, "servers")[f"{TEXT} as c0"] == (1,)
        assert needs(pooler) == (5, 5, 3)


@one_process("a text stays listed in a worker that did not need it since")
def test_a_change_of_the_schema_makes_a_new_generation(pooler: Pooler) -> None:
    with driver(pooler) as client:
        run(client, QUERY)
        with pooler.connect(ONE) as other:
            other.execute("create table prepared_console_generation()")
            other.execute("drop table prepared_console_generation")
        with driver(pooler) as late:
            run(late, QUERY)
            ((clients, generation),) = texts(pooler, "clients", "generation").values()
            assert clients == 1
            assert int(str(generation)) > 0
            assert of_clients(pooler, ONE) == [1, 1]


def test_what_is_passed_through_is_counted_nowhere(pooler: Pooler) -> None:
    with driver(pooler, SESSION) as client:
        run(client, QUERY, QUERY)
        assert texts(pooler) == {}
        assert (of_clients(pooler, SESSION), of_servers(pooler, SESSION)) == ([0], [0])
        assert counts(pooler, SESSION) == (0, 0, 0)


def test_averages_are_of_the_last_period(start: Callable[..., Pooler]) -> None:
    """Each query of this client is prepared and bound once: the three averages are nearly the same."""
    pooler = start(stats_period=1)
    deadline = time.monotonic() + 20
    averages: Shown = {}
    with driver(pooler) as client:
        for number in range(100_000):
            run(client, f"{QUERY} as c{number}")
            if number % 50 == 0:
                (averages,) = pooler.show("STATS", database=ONE)
                if int(str(averages["avg_bind_count"])) > 10:
                    break
            assert time.monotonic() < deadline
    found = [int(str(averages[name.replace("total", "avg")])) for name in COUNTS]
    assert max(found) - min(found) <= 2


@pytest.mark.parametrize("user", [ADMIN, STATS])
def test_drivers_read_the_list_in_both_formats(pooler: Pooler, user: str) -> None:
    with driver(pooler) as client:
        run(client, QUERY)
        info = pooler.conninfo(CONSOLE, user, password=user)
        with psycopg.connect(info, autocommit=True, prepare_threshold=0) as console:
            plain, binary = (
                console.execute("SHOW PREPARED_STATEMENTS", binary=binary).fetchall()
                for binary in (False, True)
            )
        assert plain == binary
        assert [row[:6] for row in plain] == [(ONE, pooler.user, TEXT, 1, 2, 1)]


def test_a_long_text_is_cut(pooler: Pooler) -> None:
    with driver(pooler) as client:
        run(client, f"{QUERY} as c /* {'x' * 5000} */")
        (row,) = pooler.show("PREPARED_STATEMENTS")
        assert len(str(row["text"])) == 1003
        assert str(row["text"]).endswith("xxx...")
        assert int(str(row["bytes"])) > 5000


def test_the_metrics_are_the_consoles_numbers(start: Callable[..., Pooler], page: Page) -> None:
    pooler = start(max_prepared_statements=2)
    with driver(pooler) as client:
        for _ in range(2):
            run(client, *(f"{QUERY} as c{number}" for number in range(4)))
        lists = {row["list"]: row["items"] for row in pooler.show("LISTS")}
        rows = pooler.show("PREPARED_STATEMENTS")
        size = sum(int(str(row["bytes"])) for row in rows)
        assert page.value("howdah_prepared_statements") == lists["prepared_statements"] == len(rows) == 4
        found = page.value("howdah_prepared_statement_bytes")
        assert found == lists["prepared_statement_bytes"] == size
        metrics = [
            page.value(f"howdah_prepared_statement_{name}_total") for name in ("hits", "misses", "evictions")
        ]
        assert tuple(metrics) == needs(pooler)
        assert all(metrics)
        for prefix in ("pgbouncer_stats", "pgbouncer_stats_totals"):
            names = ("client_parses", "server_parses", "binds")
            values = tuple(page.value(f"{prefix}_{name}_total", database=ONE) for name in names)
            assert values == counts(pooler, ONE)

"""audit_release against real servers: what was left behind is found, by whom, and nothing else changes."""

from collections.abc import Iterator

import pytest

from tests.support import messages as m
from tests.support.fault_proxy import wait_until
from tests.support.page import Page
from tests.support.pooler import Pooler
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.server import Server
from tests.support.standard import ONE, SESSION_ONE, STATEMENT, build, databases, howdah_only, one_process

pytestmark = [howdah_only("PgBouncer does not look"), one_process("they look at the one server of a pool")]

BOSS = "audit_boss"
LEAKS = {
    "role": f"set role {BOSS}",
    "search_path": "select set_config('search_path', 'nowhere', false)",
    "temp_schema": "create temp table left_behind (n int)",
    "advisory_lock": "select pg_advisory_lock(4711)",
    "listen": "do $$ begin execute 'listen somewhere'; end $$",
    "prepared_statement": "prepare mine as select 1",
    "cursor": "declare mine cursor with hold for select 1",
}
CLEAN = (
    "begin; set local search_path = nowhere; create temp table for_now (n int) on commit drop; "
    f"select pg_advisory_xact_lock(4711); declare mine cursor for select 1; set local role {BOSS}; commit"
)


@pytest.fixture(scope="module", params=["postgres", "postgres16", "postgres15"])
def versioned(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each version; its clients are of an ordinary role that may become another."""
    postgres = request.getfixturevalue(request.param)
    assert isinstance(postgres, PostgresServer)
    server = Server(postgres, postgres.new_database())
    server.sql(f"create role {BOSS}")
    server.sql(f"grant {BOSS} to {server.user}")
    yield server
    server.sql(f"drop role {BOSS}")
    server.close()


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(free_port())


@pytest.fixture(scope="module")
def pooler(versioned: Server, page: Page) -> Iterator[Pooler]:
    settings = {**page.settings(), "audit_release": 1}
    with build(databases(versioned), settings, user=versioned.user) as pooler:
        yield page.of(pooler)


def leaks(pooler: Pooler, application: str) -> dict[str, object]:
    return {str(row["kind"]): row["count"] for row in pooler.show("LEAKS", application=application)}


def run(pooler: Pooler, database: str, application: str, *queries: str) -> None:
    """A client runs these and leaves; returns when its server is idle again."""
    with pooler.raw(database, parameters={"application_name": application}) as client:
        for query in queries:
            assert not m.errors(client.query(query))
        client.quit()
    pooler.wait_for_pool(database, sv_idle=1, sv_tested=0, sv_active=0)


def renew(pooler: Pooler, database: str) -> None:
    """What was left behind does not stay for the next test."""
    pooler.admin(f"RECONNECT {database}")
    pooler.wait_for_pool(database, sv_idle=0)


@pytest.mark.parametrize("kind", LEAKS)
@pytest.mark.parametrize("database", [ONE, STATEMENT])
def test_what_is_left_behind_is_found_and_blamed_on_who_left_it(
    pooler: Pooler, page: Page, database: str, kind: str
) -> None:
    guilty, innocent = f"{database}_{kind}", f"innocent_{database}_{kind}"
    mark = pooler.log_mark()
    run(pooler, database, guilty, LEAKS[kind])
    run(pooler, database, innocent, "select 1")
    run(pooler, database, guilty, "select 1")
    assert leaks(pooler, guilty) == {kind: 1}
    assert leaks(pooler, innocent) == {}
    line = pooler.wait_for_log(f"S-.*C-0x.*application {guilty}.*: {kind}", since=mark)
    assert f"(user {pooler.user}, application {guilty}) left behind session state: {kind}" in line
    assert page.value("howdah_leaked_state_total", kind=kind, application=guilty) == 1
    renew(pooler, database)


def test_what_ends_with_its_transaction_is_no_leak(pooler: Pooler) -> None:
    run(pooler, ONE, "clean", CLEAN, "listen somewhere", "set timezone = 'Asia/Tokyo'")
    assert leaks(pooler, "clean") == {}


def test_named_statements_of_drivers_are_no_leak(pooler: Pooler) -> None:
    parameters = {"application_name": "driver"}
    with pooler.raw(ONE, parameters=parameters) as client, pooler.raw(ONE, parameters=parameters) as other:
        for one in (client, other):
            got = one.ask(m.parse("mine", "select 42"), m.sync())
            assert not m.errors(got)
        for one in (client, other, client):
            got = one.ask(m.bind("", "mine"), m.execute(), m.sync())
            assert m.rows(got) == [["42"]]
            got = one.ask(m.parse("", "select 43"), m.sync())
            got = one.ask(m.bind("", ""), m.execute(), m.sync())
            assert m.rows(got) == [["43"]]
    pooler.wait_for_pool(ONE, sv_idle=1, sv_tested=0)
    assert leaks(pooler, "driver") == {}


def test_what_a_client_asked_for_at_login_is_no_leak(pooler: Pooler) -> None:
    with pooler.with_settings(unknown_startup_parameters="apply"):
        parameters = {"search_path": "pg_catalog", "role": BOSS, "application_name": "asker"}
        with pooler.raw(ONE, parameters=parameters) as client:
            assert client.value("show search_path") == "pg_catalog"
        run(pooler, ONE, "asker", "select 1")
        assert leaks(pooler, "asker") == {}


def test_the_reset_of_session_mode_leaves_nothing(pooler: Pooler) -> None:
    run(pooler, SESSION_ONE, "resetter", *LEAKS.values())
    assert leaks(pooler, "resetter") == {}


def test_session_mode_without_a_reset_leaves_everything(pooler: Pooler) -> None:
    with pooler.with_settings(server_reset_query=""):
        run(pooler, SESSION_ONE, "slob", *LEAKS.values())
        assert leaks(pooler, "slob") == dict.fromkeys(LEAKS, 1)
        renew(pooler, SESSION_ONE)


def test_its_queries_are_nobodys(pooler: Pooler) -> None:
    def counted() -> tuple[object, object]:
        (stats,) = pooler.show("STATS", database=ONE)
        return stats["total_query_count"], stats["total_xact_count"]

    run(pooler, ONE, "counter", "select 1")
    queries, transactions = counted()
    with pooler.raw(ONE) as client:
        for number in range(5):
            assert client.value(f"select {number}") == str(number)
    assert counted() == (int(str(queries)) + 5, int(str(transactions)) + 5)


def test_it_is_switched_on_the_console(pooler: Pooler) -> None:
    pooler.admin("SET audit_release = 0")
    run(pooler, ONE, "unseen", LEAKS["cursor"])
    assert leaks(pooler, "unseen") == {}
    pooler.admin("SET audit_release = 1")
    run(pooler, ONE, "seen", LEAKS["advisory_lock"])
    assert leaks(pooler, "seen").keys() >= {"advisory_lock"}
    renew(pooler, ONE)


def test_a_crowd_is_served_as_ever(pooler: Pooler) -> None:
    """Every release takes a detour, so whoever waits must still get its turn and its own reply."""
    clients = [pooler.raw(ONE) for _ in range(20)]
    for number, client in enumerate(clients):
        client.send(m.query(f"select {number}") * 5)
    for number, client in enumerate(clients):
        for _ in range(5):
            assert m.rows(client.until()) == [[str(number)]]
        client.close()
    wait_until(lambda: pooler.pool(ONE)["cl_active"] == 0, 10, "everybody has left")

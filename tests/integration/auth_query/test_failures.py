"""The connection that asks: what it costs, what happens when it breaks, when PostgreSQL is away or full."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.conformance.logins import fails
from tests.integration.auth_query.conftest import (
    ASKER,
    COUNTED,
    PASSWORD,
    WRONG,
    Start,
    make_role,
    times_asked,
    who,
)
from tests.support import messages as m
from tests.support.fault_proxy import FaultProxy, wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, entry, howdah_only, one_process

pytestmark = howdah_only("PgBouncer says which names are unknown")

GATED = """
    CREATE OR REPLACE FUNCTION gated(username text) RETURNS TABLE (usename name, passwd text)
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(4711);
        PERFORM nextval('public.times_asked');
        RETURN QUERY SELECT rolname, rolpassword FROM pg_authid WHERE rolname = username;
    END $$
"""
ASKS_GATED = "SELECT * FROM public.gated($1)"
WAITING = "select pid from pg_locks where locktype = 'advisory' and objid = 4711 and not granted"


class Gate:
    """While it is shut nobody gets an answer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        server.sql(GATED)

    def shut(self) -> None:
        self._server.sql("select pg_advisory_lock(4711)")

    def open(self) -> None:
        self._server.sql("select pg_advisory_unlock_all()")

    def wait_for_question(self) -> int:
        """The process that is asked."""
        wait_until(lambda: bool(self._server.sql(WAITING)), 10, "a question is under way")
        return int(str(self._server.value(WAITING)))


@pytest.fixture
def gate(place: Server) -> Iterator[Gate]:
    gate = Gate(place)
    yield gate
    gate.open()


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(200) as clients:
        yield clients


def connections(pooler: Pooler) -> list[dict[str, object]]:
    """Those that ask."""
    return pooler.show("SERVERS", user=ASKER)


def waiting(pooler: Pooler) -> int:
    return len(pooler.show("CLIENTS", state="waiting"))


def test_a_connection_killed_in_the_middle_costs_nobody_a_login(
    place: Server, start: Start, gate: Gate, clients: ThreadPoolExecutor
) -> None:
    pooler = start(auth_query=ASKS_GATED)
    gate.shut()
    logins = [clients.submit(who, pooler, name) for name in ("alice", "alice", "bob")]
    place.sql("select pg_terminate_backend(%s)", (gate.wait_for_question(),))
    gate.open()
    assert [login.result(30) for login in logins] == ["alice", "alice", "bob"]


def test_a_question_that_kills_its_connection_each_time_fails(place: Server, start: Start) -> None:
    place.sql(
        "CREATE OR REPLACE FUNCTION deadly(username text) RETURNS TABLE (usename name, passwd text)"
        " LANGUAGE sql SECURITY DEFINER AS"
        " $$ SELECT 'x'::name, pg_terminate_backend(pg_backend_pid())::text $$"
    )
    pooler = start(auth_query="SELECT * FROM public.deadly($1)")
    assert "server conn crashed?" in fails(pooler, "alice", PASSWORD)


def test_postgresql_may_be_restarted(place: Server, start: Start) -> None:
    pooler = start()
    assert who(pooler, "alice") == "alice"
    place.postgres.own.restart("immediate")
    place.close()
    assert who(pooler, "alice") == "alice"
    assert who(pooler, "bob") == "bob"


def test_while_postgresql_is_away_logins_wait_and_are_served_when_it_is_back(
    place: Server, start: Start, clients: ThreadPoolExecutor
) -> None:
    with FaultProxy((place.host, place.port)) as proxy:
        pooler = start({APP: entry(place, host=proxy.host, port=proxy.port)}, client_login_timeout=20)
        proxy.down()
        logins = [clients.submit(who, pooler, name) for name in ("alice", "bob")]
        wait_until(lambda: waiting(pooler) == 2, 10, "both wait")
        proxy.up()
        assert [login.result(30) for login in logins] == ["alice", "bob"]


def test_a_login_that_waits_too_long_is_told_that_the_server_is_down(place: Server, start: Start) -> None:
    with FaultProxy((place.host, place.port)) as proxy:
        pooler = start({APP: entry(place, host=proxy.host, port=proxy.port)}, client_login_timeout=1)
        proxy.down()
        assert fails(pooler, "alice", PASSWORD).endswith("client_login_timeout (server down)")


def test_a_role_that_may_not_ask_is_not_tried_again_at_once_and_only_the_log_says_why(
    place: Server, start: Start
) -> None:
    pooler = start(secrets={ASKER: "wrong"})
    for name in ("alice", "bob"):
        assert fails(pooler, name, PASSWORD).endswith("bouncer config error")
    refused = f'password authentication failed for user "{ASKER}"'
    pooler.wait_for_log(refused)
    assert pooler.log().count(refused) == 1
    pooler.secrets[ASKER] = "asker-pa55"
    pooler.reload()
    assert who(pooler, "alice") == "alice"


def test_one_connection_for_everything_is_enough(place: Server, start: Start) -> None:
    pooler = start({APP: entry(place, max_db_connections=1)}, auth_query=COUNTED)
    for _ in range(3):
        for name in ("alice", "bob"):
            assert who(pooler, name) == name
            (row,) = pooler.show("DATABASES", name=APP)
            assert row["current_connections"] == 1
    with ThreadPoolExecutor(10) as many:
        found = list(many.map(lambda name: who(pooler, name), ["alice", "bob"] * 10))
    assert found == ["alice", "bob"] * 10


@pytest.mark.parametrize("cache", [0, 60])
@one_process("each worker asks for itself")
def test_two_hundred_logins_at_once_ask_once_for_each_name(
    place: Server, start: Start, gate: Gate, clients: ThreadPoolExecutor, cache: int
) -> None:
    names = [make_role(place, f"one of many {number} {cache}") for number in range(4)]
    pooler = start(auth_query=ASKS_GATED, auth_query_cache=cache, max_client_conn=1000)
    before = times_asked(place)
    gate.shut()
    logins: list[Future[str]] = [clients.submit(who, pooler, name) for name in names * 50]
    wait_until(lambda: waiting(pooler) == 200, 20, "all wait")
    assert len(connections(pooler)) == 1
    gate.open()
    assert [login.result(30) for login in logins] == names * 50
    assert times_asked(place) - before == 4


def test_clients_that_leave_while_they_wait_leave_nothing_behind(
    place: Server, start: Start, gate: Gate
) -> None:
    pooler = start(auth_query=ASKS_GATED)
    gate.shut()
    sockets = [pooler.socket() for _ in range(20)]
    for number, client in enumerate(sockets):
        client.send(m.startup({"user": f"nobody{number}", "database": APP}))
    wait_until(lambda: waiting(pooler) == 20, 10, "all wait")
    for client in sockets:
        client.reset()
    wait_until(lambda: not waiting(pooler), 10, "all are gone")
    gate.open()
    before = times_asked(place)
    assert who(pooler, "alice") == "alice"
    assert times_asked(place) - before <= 2, "at most the one question that had been sent, and alice's"
    assert len(connections(pooler)) == 1


def test_the_connection_closes_when_it_has_been_idle(place: Server, start: Start) -> None:
    pooler = start(server_idle_timeout=0.5)
    assert who(pooler, "alice") == "alice"
    wait_until(lambda: not connections(pooler), 10, "closed")
    assert who(pooler, "alice") == "alice"


def test_orders_of_the_console_reach_the_connection(start: Start, clients: ThreadPoolExecutor) -> None:
    pooler = start()
    assert who(pooler, "alice") == "alice"
    (before,) = connections(pooler)
    pooler.admin(f"RECONNECT {APP}")
    assert who(pooler, "alice") == "alice"
    (after,) = connections(pooler)
    assert before["id"] != after["id"]
    pooler.admin(f"PAUSE {APP}")
    assert not connections(pooler)
    login = clients.submit(who, pooler, "alice")
    wait_until(lambda: waiting(pooler) == 1, 10, "it waits")
    pooler.admin(f"RESUME {APP}")
    assert login.result(30) == "alice"


def test_too_many_unknown_names_from_one_address_have_to_wait(
    start: Start, clients: ThreadPoolExecutor
) -> None:
    pooler = start(auth_query_unknown_rate=20, auth_type="plain")
    names = [f"nobody{number}" for number in range(60)]
    texts = list(clients.map(lambda name: fails(pooler, name, PASSWORD), names))
    assert all(WRONG in text or "too many logins of unknown users" in text for text in texts)
    totals = {row["name"]: row["value"] for row in pooler.show("TOTALS")}
    assert totals["total_auth_query_questions"] == totals["total_auth_query_unknown"]

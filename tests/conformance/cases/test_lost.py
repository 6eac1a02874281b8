"""A client or a server is lost, or PostgreSQL is not there to be reached."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conformance.expect import BUSY, refusing, sqlstates
from tests.conformance.marks import pgbouncer_fails, pooler_only
from tests.integration.conftest import FAKE, Launch
from tests.support import messages as m
from tests.support.alive import BYSTANDER
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.postgres import PostgresServer
from tests.support.script import FakeServer, default_script
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION_ONE, entry
from tests.support.wire import LoginRefused, Raw

DATABASES = pytest.mark.parametrize("database", [ONE, SESSION_ONE])


def leave(client: Raw, how: str) -> None:
    match how:
        case "reset":
            client.reset()
        case "close":
            client.close()
        case "terminate":
            client.quit()


@pytest.mark.case("O43")
@pytest.mark.parametrize("how", ["reset", "close", "terminate"])
@DATABASES
def test_an_open_transaction_is_rolled_back(pooler: Pooler, server: Server, how: str, database: str) -> None:
    server.sql("create table if not exists o43(n int)")
    server.sql("grant all on o43 to public")
    with pooler.raw(database) as client:
        client.rows("begin")
        client.rows("insert into o43 values (1)")
        leave(client, how)
    assert server.wait_until_quiet() <= 1.0 + BUSY
    with pooler.raw(database) as rival:
        assert rival.value("select count(*) from o43") == "0"


@pytest.mark.case("O44")
@pgbouncer_fails("adds an error of its own")
@DATABASES
@pytest.mark.parametrize("idle", [False, True], ids=["running", "idle in transaction"])
def test_a_terminated_server_is_reported_once(
    pooler: Pooler, server: Server, database: str, idle: bool
) -> None:
    with pooler.raw(database) as client:
        if idle:
            client.rows("begin")
            pid = int(str(client.value("select pg_backend_pid()")))
        else:
            client.send(m.query("select pg_sleep(30) /* doomed */"))
            pid = server.wait_for_query("/* doomed */")
        server.sql("select pg_terminate_backend(%s)", [pid])
        got = client.until_closed()
    # A running query has announced its columns before it slept.
    assert m.tags(got).lstrip("T") == "E"
    fields = m.errors(got)[0]
    assert (fields["S"], fields["C"]) == ("FATAL", "57P01")
    assert fields["M"] == "terminating connection due to administrator command"


@pytest.mark.case("O45")
@pooler_only("its idle servers are its clients' own")
def test_idle_servers_that_were_terminated_are_never_handed_out(pooler: Pooler, server: Server) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(pooler.raw(APP)) for _ in range(8)]
        for _ in range(3):
            for client in clients:
                client.send(m.query("select pg_sleep(0.05)"))
            for client in clients:
                client.until()
            doomed = server.backends(pooler.user)
            server.sql("select pg_terminate_backend(pid) from unnest(%s::int[]) pid", [doomed])
            wait_until(lambda: not server.backends(pooler.user), 10, "all terminated")
            for number in range(100):
                assert clients[number % 8].value(f"select {number}") == str(number)


# --- PostgreSQL is down, starting or unwilling -----------------------------------------------------


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server that plays scripts; at first it lets everybody in and echoes queries."""
    with FakeServer() as fake:
        yield fake


def before_fake(launch: Launch, fake: FakeServer, server: Server, **settings: str | float) -> Pooler:
    """A pooler whose database FAKE leads to the fake server, for everybody."""
    entries = {
        FAKE: {"host": fake.host, "port": fake.port, "pool_size": 20},
        BYSTANDER: entry(server, user=server.user),
    }
    return launch(entries, settings, user="u")


@pytest.mark.case("O46")
@pgbouncer_fails("waits for server_login_retry")
@pooler_only("nobody waits for a server there")
def test_a_crash_costs_each_active_client_one_error_and_the_waiting_ones_nothing(
    launch: Launch, server: Server, new_postgres: Callable[..., PostgresServer]
) -> None:
    """Fifty active, fifty waiting; one backend is killed as by the kernel."""
    postgres = new_postgres()
    fragile = Server(postgres, postgres.new_database())
    pooler = launch({APP: entry(fragile, pool_size=50), BYSTANDER: entry(server)})
    with ExitStack() as stack:
        stack.callback(fragile.close)
        active, waiting = (
            [stack.enter_context(pooler.raw(APP, timeout=30)) for _ in range(50)] for _ in range(2)
        )
        for client in active:
            client.send(m.query("select pg_sleep(30) /* active */"))
        wait_until(lambda: len(fragile.busy_backends()) == 50, 10, "all fifty run")
        for client in waiting:
            client.send(m.query("select 'served'"))
        pooler.wait_for_pool(APP, cl_waiting=50)
        fragile.postgres.own.kill_backend(fragile.wait_for_query("/* active */"))
        for client in active:
            (code,) = sqlstates(client.until_closed(within=10))
            assert code in ("57P02", "08006")
        for client in waiting:
            assert m.rows(client.until(within=20)) == [["served"]]


@pytest.mark.case("O47")
@pgbouncer_fails("waits for server_login_retry after each")
@pooler_only("it is PostgreSQL that is starting")
@pytest.mark.parametrize("sqlstate", ["57P03", "57P02"])
def test_clients_wait_while_the_server_is_starting_up(
    launch: Launch, server: Server, fake: FakeServer, sqlstate: str
) -> None:
    fake.script = refusing(sqlstate, "the database system is starting up")
    pooler = before_fake(launch, fake, server, query_wait_timeout=30)
    with pooler.socket(30) as client:
        client.send(m.startup({"user": "u", "database": FAKE}) + m.query("select 'ready'"))
        wait_until(lambda: fake.logins() >= 3, 10, "it keeps asking")
        asked = fake.logins()
        assert asked < 20
        started = time.monotonic()
        fake.script = default_script
        client.finish_login()
        assert m.rows(client.until()) == [["select 'ready'"]]
        assert time.monotonic() - started < 2.0 + BUSY


@pytest.mark.case("O48")
@pgbouncer_fails("1.18 keeps the first client waiting")
@pooler_only("it is PostgreSQL that refuses")
def test_a_wrong_server_password_is_told_at_once_and_tried_once(
    launch: Launch, server: Server, fake: FakeServer
) -> None:
    fake.script = refusing("28P01", 'password authentication failed for user "u"')
    pooler = before_fake(launch, fake, server, server_login_retry=30)
    for _ in range(10):
        started = time.monotonic()
        with pytest.raises(LoginRefused, match='password authentication failed for user "u"'):
            pooler.raw(FAKE)
        assert time.monotonic() - started < 1.0 + BUSY
    assert fake.logins() == 1


@pytest.mark.case("O48")
@pgbouncer_fails("has a code of its own for the cached error")
@pooler_only("it is PostgreSQL that refuses")
@pytest.mark.parametrize(
    ("sqlstate", "text"),
    [
        ("28P01", "password authentication failed"),
        ("3D000", 'database "x" does not exist'),
        ("28000", 'no pg_hba.conf entry for host "127.0.0.1"'),
    ],
)
def test_waiting_clients_hear_the_servers_own_words(
    launch: Launch, server: Server, fake: FakeServer, sqlstate: str, text: str
) -> None:
    fake.script = refusing(sqlstate, text)
    pooler = before_fake(launch, fake, server, server_login_retry=30)
    with ExitStack() as stack:
        clients = [stack.enter_context(pooler.socket()) for _ in range(10)]
        for client in clients:
            client.send(m.startup({"user": "u", "database": FAKE}))
        for client in clients:
            got = client.until_closed()
            assert [(fields["S"], fields["C"]) for fields in m.errors(got)] == [("FATAL", sqlstate)]
            assert text in m.errors(got)[0]["M"]
    assert fake.logins() <= 2

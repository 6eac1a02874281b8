"""Real drivers and loads over a pool of servers with TLS; cancels, bulk and auth_query among them."""

import asyncio
from collections.abc import Iterator

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.integration.conftest import Launch
from tests.integration.server_tls.conftest import ENCRYPTED, only, trusting
from tests.integration.test_pgbench import check, run_pgbench
from tests.support import messages as m
from tests.support.alive import stays_alive
from tests.support.certificates import Pki
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler, Settings
from tests.support.postgres import APP_TRUST
from tests.support.server import Server
from tests.support.standard import entry, howdah_only
from tests.support.terminator import Terminator

pytestmark = howdah_only("has no TLS settings of a database")


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, secure: Server, pki: Pki) -> Pooler:
    """Transaction mode, eight servers, all by verify-full."""
    databases = only(secure, trusting(pki, "verify-full", host="localhost"), pool_size=8)
    return module_launch(databases, user=APP_TRUST.name)


@pytest.fixture(autouse=True)
def well(pooler: Pooler, secure: Server) -> Iterator[None]:
    """After each test everybody else is still well served."""
    with stays_alive(pooler, secure.busy_backends):
        yield


def encrypted(pooler: Pooler) -> bool:
    # Another worker may be opening the next.
    servers = [row for row in pooler.show("SERVERS", database="app") if row["state"] != "new"]
    return bool(servers) and all(str(row["tls"]).startswith("TLSv1.3/") for row in servers)


def test_psycopg_with_pipelines_and_prepared_statements(pooler: Pooler) -> None:
    with pooler.connect("app") as connection:
        assert connection.execute(ENCRYPTED).fetchone() == ("TLSv1.3",)
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", (n,), prepare=True) for n in range(200)]
        assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(200)]
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select 1/0")
    assert encrypted(pooler)


async def test_asyncpg_with_a_pool_of_its_own(pooler: Pooler) -> None:
    options = conninfo_to_dict(pooler.conninfo("app"))
    where = {"host": options["host"], "port": int(str(options["port"])), "ssl": False}
    async with asyncpg.create_pool(**where, user=pooler.user, database="app", max_size=20) as pool:

        async def work(number: int) -> int:
            async with pool.acquire() as connection, connection.transaction():
                return int(await connection.fetchval("select $1::int * 2", number))

        assert await asyncio.gather(*(work(n) for n in range(300))) == [2 * n for n in range(300)]
    assert encrypted(pooler)


@pytest.mark.parametrize(
    ("protocol", "load"), [("simple", "tpcb-like"), ("extended", "tpcb-like"), ("prepared", "select-only")]
)
def test_pgbench_on_eight_servers(pooler: Pooler, secure: Server, protocol: str, load: str) -> None:
    run_pgbench(secure, secure, secure.database, "--initialize", "--quiet", "--scale=1")
    options = ["-n", "-c", "32", "-j", "2", "-t", "20", "-M", protocol, "-b", load]
    check(run_pgbench(secure, pooler, "app", *options), 32 * 20)
    assert encrypted(pooler)


def test_much_in_both_directions(pooler: Pooler) -> None:
    """Records are cut and joined on the way, rows are not."""
    rows = [f"{n}\t{'x' * (n % 3000)}\n" for n in range(3000)]
    with pooler.connect("app") as connection, connection.transaction():
        connection.execute("create temp table bulk(n int, t text) on commit drop")
        with connection.cursor().copy("copy bulk from stdin") as copy:
            for row in rows:
                copy.write(row)
        with connection.cursor().copy("copy (select * from bulk order by n) to stdout") as copy:
            assert b"".join(copy).decode() == "".join(rows)
        assert connection.execute("select string_agg(t, '' order by n) from bulk").fetchone() == (
            "".join("x" * (n % 3000) for n in range(3000)),
        )


def test_a_client_that_does_not_read_holds_up_its_server_only(pooler: Pooler) -> None:
    with pooler.socket() as lazy, pooler.raw("app") as other:
        lazy.shrink_receive_buffer()
        lazy.login(pooler.user, "app")
        before = pooler.rss()
        lazy.send(m.query("select repeat('x', 1000) from generate_series(1, 100000)"))
        assert other.value("select 1") == "1"
        assert pooler.rss() - before < 20 << 20
        lazy.reset()


def test_a_cancel_reaches_its_query_over_tls(
    launch: Launch, server: Server, terminator: Terminator, pki: Pki
) -> None:
    place: Settings = {"host": "localhost", "port": terminator.port, "dbname": server.database}
    pooler = launch({"app": {**place, **trusting(pki, "verify-full")}}, user=APP_TRUST.name)
    with pooler.raw("app") as client:
        client.value("select 1")
        (first,) = terminator.handshakes
        client.send(m.query("select pg_sleep(30) /* cancelled */"))
        server.wait_for_query("/* cancelled */")
        pooler.cancel(client)
        (error,) = m.errors(client.until())
        assert error["C"] == "57014"
        assert len(terminator.handshakes) == 2
        assert terminator.handshakes[1].host == first.host == "localhost"
        assert terminator.plain == 0
        assert client.value("select 'still here'") == "still here"


def test_a_query_that_is_given_up_is_cancelled_over_tls(
    launch: Launch, server: Server, terminator: Terminator, pki: Pki
) -> None:
    place: Settings = {
        "host": "localhost",
        "port": terminator.port,
        "dbname": server.database,
        "pool_size": 1,
    }
    tls = trusting(pki, "require", sslnegotiation="direct")
    pooler = launch({"app": {**place, **tls}}, user=APP_TRUST.name)
    with pooler.raw("app") as client:
        client.send(m.query("select pg_sleep(30)"))
        server.wait_for_query("pg_sleep")
        client.reset()
        server.wait_until_quiet()
    wait_until(lambda: len(terminator.handshakes) == 2, 10, "the cancel came over TLS, too")
    assert all(each.direct for each in terminator.handshakes)
    assert terminator.plain == 0


def test_the_connection_of_auth_query_is_encrypted_as_all_others(
    launch: Launch, secure: Server, pki: Pki
) -> None:
    settings: Settings = {
        "auth_type": "scram-sha-256",
        "auth_user": "postgres",
        "server_tls_ca_file": str(pki.ca),
    }
    pooler = launch(
        {"app": entry(secure, host="localhost")},
        {**settings, "server_tls_sslmode": "verify-full"},
        user=APP_TRUST.name,
    )
    password = secure.postgres.passwords["app"]
    with pooler.connect("app", "app", password=str(password)) as connection:
        assert connection.execute("select session_user").fetchone() == ("app",)
    rows = pooler.show("SERVERS", database="app")
    assert {row["user"] for row in rows} == {"postgres", "app"}
    assert all(str(row["tls"]).startswith("TLSv1.3/") for row in rows)

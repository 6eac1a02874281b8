"""What goes through TLS: drivers, loads, large results, slow readers; and what it costs in memory."""

import asyncio
import os
import socket
import ssl
import subprocess

import asyncpg  # type: ignore[import-untyped]
import pytest

from tests.integration.client_tls.conftest import context, trusting
from tests.integration.test_pgbench import check, run_pgbench
from tests.support import messages as m
from tests.support.certificates import Pki
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.postgres import PostgresServer
from tests.support.server import Server
from tests.support.standard import APP, ONE

LARGE = 3_000_000


async def test_asyncpg_asks_for_tls_and_gets_it(pooler: Pooler, pki: Pki) -> None:
    connection = await asyncpg.connect(
        host="localhost", port=pooler.port, user=pooler.user, database=APP, ssl=context(pki)
    )
    try:
        assert await connection.fetchval("select $1::int + 1", 41) == 42
        rows = await connection.fetch("select repeat('x', 1000) as text from generate_series(1, 3000)")
        assert {len(row["text"]) for row in rows} == {1000}
    finally:
        await connection.close()


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_pgbench_by_tls(pooler: Pooler, server: Server, tls_postgres: PostgresServer, protocol: str) -> None:
    """32 clients on 8 servers, by a pgbench of the system, for the embedded one knows no TLS."""
    run_pgbench(server, server, server.database, "--initialize", "--quiet", "--scale=1")
    where = ["-h", "127.0.0.1", "-p", str(pooler.port), "-U", pooler.user]
    load = ["-n", "-c", "32", "-j", "32", "-t", "30", "-M", protocol, "-b", "tpcb-like"]
    done = subprocess.run(
        [tls_postgres.pgbench, *where, *load, APP],
        env={**os.environ, "PGSSLMODE": "require"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check(done.stdout, 32 * 30)


async def test_libpqs_asynchronous_interface_never_stalls_on_a_record(pooler: Pooler, pki: Pki) -> None:
    """It waits for the socket while the rest of a long record is in OpenSSL already."""
    connection = await pooler.connect_async(APP, **trusting(pki))
    async with connection, asyncio.timeout(20):
        for size in (1, 8191, 8192, 8193, 16384, 100_000, LARGE):
            cursor = await connection.execute("select repeat('x', %s)", [size])
            found = await cursor.fetchone()
            assert found is not None
            assert len(found[0]) == size


def test_large_values_go_both_ways(pooler: Pooler, pki: Pki) -> None:
    with pooler.connect(APP, **trusting(pki)) as connection:
        text = "ab" * LARGE
        found = connection.execute("select %s::text || 'c'", [text]).fetchone()
        assert found == (text + "c",)


def test_copy_goes_both_ways(pooler: Pooler, pki: Pki) -> None:
    with pooler.connect(ONE, **trusting(pki)) as connection, connection.transaction():
        connection.execute("create temp table sink(line text) on commit drop")
        with connection.cursor().copy("copy sink from stdin") as copy:
            for _ in range(2000):
                copy.write(b"x" * 999 + b"\n")
        assert connection.execute("select count(*), sum(length(line)) from sink").fetchone() == (
            2000,
            1_998_000,
        )
        with connection.cursor().copy("copy sink to stdout") as copy:
            assert sum(len(data) for data in copy) == 2_000_000


def by_tls(pooler: Pooler, pki: Pki, database: str) -> ssl.SSLSocket:
    """A bare client that has logged in."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    plain.settimeout(20)
    plain.connect(("127.0.0.1", pooler.port))
    plain.sendall(m.ssl_request())
    assert plain.recv(1) == b"S"
    client = context(pki).wrap_socket(plain, server_hostname="localhost")
    client.sendall(m.startup({"user": pooler.user, "database": database}))
    got = b""
    while not got.endswith(b"Z\0\0\0\x05I"):
        got += client.recv(65536)
    return client


def test_who_does_not_read_costs_no_memory_and_loses_nothing(pooler: Pooler, pki: Pki) -> None:
    with by_tls(pooler, pki, ONE) as client:
        before = pooler.rss()
        client.sendall(m.query("select repeat('x', 10000) from generate_series(1, 5000)"))
        wait_until(lambda: _waits_to_be_read(pooler), 10, "the pooler waits for its client")
        assert pooler.rss() - before < 8 << 20
        size = 0
        while True:
            data = client.recv(1 << 20)
            size += len(data)
            if data.endswith(b"Z\0\0\0\x05I"):
                break
        assert size > 50_000_000


def _waits_to_be_read(pooler: Pooler) -> bool:
    return any(row["send_avail"] for row in pooler.show("SOCKETS", type="C"))


def test_idle_clients_are_cheap(pooler: Pooler, pki: Pki) -> None:
    """60 KiB at most for each; about 21 are taken."""
    count = 150
    warm = [by_tls(pooler, pki, APP) for _ in range(20)]
    before = pooler.rss()
    clients = [by_tls(pooler, pki, APP) for _ in range(count)]
    try:
        assert (pooler.rss() - before) / count < 60 * 1024
    finally:
        for client in [*warm, *clients]:
            client.close()


@pytest.mark.slow
def test_memory_comes_back_after_2000_handshakes(pooler: Pooler, pki: Pki) -> None:
    made = context(pki)

    def shake_hands(times: int) -> None:
        for _ in range(times):
            plain = socket.create_connection(("127.0.0.1", pooler.port), 10)
            plain.sendall(m.ssl_request())
            assert plain.recv(1) == b"S"
            made.wrap_socket(plain, server_hostname="localhost").close()

    shake_hands(200)
    before = pooler.rss()
    shake_hands(2000)
    wait_until(lambda: not [row for row in pooler.show("SOCKETS") if row["state"] == "cl_login"], 10, "gone")
    assert pooler.rss() - before < 1 << 20


def test_a_client_that_vanishes_gives_its_server_back(pooler: Pooler, pki: Pki) -> None:
    client = by_tls(pooler, pki, ONE)
    client.sendall(m.query("begin"))
    client.recv(100)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    socket.socket(fileno=client.detach()).close()
    with pooler.connect(ONE, **trusting(pki)) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_who_says_goodbye_is_answered_and_gone(pooler: Pooler, pki: Pki) -> None:
    client = by_tls(pooler, pki, ONE)
    with pooler.log_contains("closing because: client unexpected eof"), client.unwrap() as plain:
        assert plain.recv(100) == b""

"""Limits on time and on the number of clients, and what becomes of those beyond them."""

import time
from contextlib import ExitStack

import pytest

from tests.conformance import direct
from tests.conformance.expect import BUSY, login_refused, refusal, sqlstates, wording
from tests.conformance.marks import pgbouncer_fails, pooler_only
from tests.support import messages as m
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import ONE, SESSION_ONE, STATEMENT

MOST = 6
"""Clients; one of them is the oracle's bystander."""


@pytest.mark.case("O49")
@pooler_only("nobody waits for a server there")
def test_query_wait_timeout_ends_a_client_that_waits_too_long(pooler: Pooler) -> None:
    with pooler.with_settings(query_wait_timeout=1), pooler.raw(ONE) as holder, pooler.raw(ONE) as client:
        holder.rows("begin")
        started = time.monotonic()
        client.send(m.query("select 1"))
        fields = refusal(client)
        assert 0.5 <= time.monotonic() - started < 2.5 + BUSY
        assert fields["M"] == "query_wait_timeout"
        assert fields["C"] in ("57014", "08P01")
        assert holder.value("select 'unhurt'") == "unhurt"
        holder.rows("rollback")


@pytest.mark.case("O50")
def test_clients_above_max_client_conn_are_refused_but_the_administrator_is_let_in(
    pooler: Pooler, server: Server
) -> None:
    reason = wording(
        pooler,
        "no more connections allowed (max_client_conn)",
        postgresql=f'too many connections for role "{pooler.user}"',
    )
    if pooler.kind == direct.KIND:
        wait_until(lambda: len(server.backends(pooler.user)) == 1, 10, "only the bystander is there")
    with pooler.with_settings(max_client_conn=MOST), ExitStack() as stack:
        for _ in range(MOST - 1):
            stack.enter_context(pooler.raw())
        fields = login_refused(pooler)
        assert fields["M"] == reason
        assert fields["C"] in ("53300", "08P01")
        if pooler.kind != direct.KIND:
            assert len(pooler.show("CLIENTS", database=pooler.database)) == MOST - 1
        assert server.postgres.sql("select 'superuser'") == [("superuser",)]
    wait_until(lambda: not pooler.show("CLIENTS", database=pooler.database), 10, "all have left")
    with pooler.raw() as client:
        assert client.value("select 1") == "1"


@pytest.mark.case("O51")
@pgbouncer_fails("lets the query run on")
@pooler_only("statement_timeout ends the query, not the connection")
def test_query_timeout_ends_the_client_and_the_query(pooler: Pooler, server: Server) -> None:
    with pooler.with_settings(query_timeout=1), pooler.raw(ONE) as client:
        started = time.monotonic()
        client.send(m.query("select pg_sleep(60) /* too long */"))
        got = client.until_closed()
        assert 0.5 <= time.monotonic() - started < 2.5 + BUSY
        assert len(sqlstates(got)) == 1
        fields = m.errors(got)[-1]
        assert fields["M"] == "query timeout"
        assert fields["C"] in ("57014", "08P01")
    server.wait_until_quiet()


@pytest.mark.case("O52")
@pytest.mark.parametrize("database", [ONE, SESSION_ONE])
def test_idle_transaction_timeout_ends_the_transaction(pooler: Pooler, server: Server, database: str) -> None:
    reason = wording(
        pooler,
        "idle transaction timeout",
        postgresql="terminating connection due to idle-in-transaction timeout",
    )
    with pooler.with_settings(idle_transaction_timeout=1), pooler.raw(database) as client:
        client.rows("begin")
        started = time.monotonic()
        client.rows("select pg_advisory_lock(52)")
        fields = refusal(client)
        assert 0.5 <= time.monotonic() - started < 2.5 + BUSY
        assert fields["M"] == reason
        assert fields["C"] in ("25P03", "08P01")
        server.wait_until_quiet()
        wait_until(
            lambda: server.value("select count(*) from pg_locks where locktype = 'advisory'") == 0,
            10,
            "unlocked",
        )


@pytest.mark.case("O53")
def test_client_login_timeout_is_absolute(pooler: Pooler) -> None:
    """A byte of the startup packet every 0.2 seconds does not buy more time."""
    packet = m.startup({"user": pooler.user, "database": pooler.database, "application_name": "x" * 100})
    with pooler.with_settings(client_login_timeout=1):
        started = time.monotonic()
        with pooler.socket() as client:
            for at in range(len(packet)):
                if not client.silent_for(0.2) or not client.send_quietly(packet[at : at + 1]):
                    break
            assert 0.5 <= time.monotonic() - started < 2.5 + BUSY
            assert {fields["M"] for fields in m.errors(client.until_closed())} <= {"client_login_timeout"}


@pytest.mark.case("O54")
@pooler_only("there is no statement mode")
@pytest.mark.parametrize("sql", ["begin", "start transaction", "select 1; begin"])
def test_a_transaction_is_refused_in_statement_mode(pooler: Pooler, server: Server, sql: str) -> None:
    with pooler.raw(STATEMENT) as client:
        client.send(m.query(sql))
        got = client.until_closed()
        fields = m.errors(got)[-1]
        assert fields["S"] == "FATAL"
        assert fields["M"] == "transaction blocks not allowed in statement pooling mode"
    server.wait_until_quiet()
    with pooler.raw(STATEMENT) as client:
        assert client.value("select 1") == "1"

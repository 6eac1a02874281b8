"""Every time limit, at its exact value.

Times are chosen short; what is allowed beside them covers a busy machine. The
numbers in brackets are those of tests/bad_input.md.
"""

import time

import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support import postgres
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION_ONE, entry, howdah_only
from tests.support.wire import Raw

OTHER = "postgres"
"""A second role that PostgreSQL trusts."""


def fatal(client: Raw, within: float = 5.0) -> m.Fields:
    """The one FATAL with which the client is sent away."""
    got = client.until_closed(within=within)
    errors = m.errors(got)
    assert len(errors) == 1, got
    assert errors[0]["S"] == "FATAL"
    return errors[0]


def test_query_wait_timeout_ends_a_client_that_waits_too_long(pooler: Pooler) -> None:
    """[O49]"""
    with pooler.with_settings(query_wait_timeout=1), pooler.raw(ONE) as holder, pooler.raw(ONE) as client:
        holder.rows("begin")
        started = time.monotonic()
        client.send(m.query("select 1"))
        fields = fatal(client)
        assert 0.5 <= time.monotonic() - started <= 2.0
        assert fields["M"] == "query_wait_timeout"
        assert fields["C"] in ("57014", "08P01")
        assert holder.value("select 'unhurt'") == "unhurt"
        holder.rows("rollback")


@howdah_only("not in PgBouncer 1.18")
def test_a_client_that_waits_long_is_told_so_by_a_notice(pooler: Pooler) -> None:
    with pooler.with_settings(query_wait_notify=1), pooler.raw(ONE) as holder, pooler.raw(ONE) as client:
        holder.rows("begin")
        client.send(m.query("select 'served'"))
        notice = client.until(b"N", within=3)[-1]
        assert m.fields_of(notice.body)["S"] == "NOTICE"
        holder.rows("rollback")
        assert m.rows(client.until()) == [["served"]]


def test_query_timeout_ends_the_client_and_the_query(pooler: Pooler, server: Server) -> None:
    """[O51]"""
    with pooler.with_settings(query_timeout=1), pooler.raw(ONE) as client:
        started = time.monotonic()
        client.send(m.query("select pg_sleep(60) /* too long */"))
        got = client.until_closed(within=5)
        assert 0.9 <= time.monotonic() - started <= 2.5
        fields = m.errors(got)[-1]
        assert len(m.errors(got)) == 1
        assert fields["M"] == "query timeout"
        assert fields["C"] in ("57014", "08P01")
    server.wait_until_quiet(2.0)


@howdah_only("not in PgBouncer 1.18")
def test_transaction_timeout_ends_a_transaction_that_lasts_too_long(pooler: Pooler, server: Server) -> None:
    with pooler.with_settings(transaction_timeout=1), pooler.raw(ONE) as client:
        client.rows("begin")
        started = time.monotonic()
        got: list[m.Message] = []
        while time.monotonic() - started < 3 and not m.errors(got):
            client.send_quietly(m.query("select pg_sleep(0.1)"))
            got = client.until(b"Z", b"E")
        fields = m.errors(got)[0]
        assert 0.5 <= time.monotonic() - started <= 2.5
        assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "25P04", "transaction timeout")
    server.wait_until_quiet(2.0)


@pytest.mark.parametrize("database", [ONE, SESSION_ONE])
def test_idle_transaction_timeout_ends_the_transaction(pooler: Pooler, server: Server, database: str) -> None:
    """[O52]"""
    with pooler.with_settings(idle_transaction_timeout=1), pooler.raw(database) as client:
        client.rows("begin")
        client.rows("select pg_advisory_lock(52)")
        started = time.monotonic()
        fields = fatal(client)
        assert 0.5 <= time.monotonic() - started <= 2.5
        assert fields["M"] == "idle transaction timeout"
        assert fields["C"] in ("25P03", "08P01")
        server.wait_until_quiet(2.0)
        wait_until(
            lambda: server.value("select count(*) from pg_locks where locktype = 'advisory'") == 0,
            2,
            "unlocked",
        )


def test_work_inside_a_transaction_starts_its_idle_time_anew(pooler: Pooler) -> None:
    with pooler.with_settings(idle_transaction_timeout=1), pooler.raw(ONE) as client:
        client.rows("begin")
        for _ in range(3):
            client.rows("select pg_sleep(0.6)")
        client.rows("commit")


def test_client_idle_timeout_ends_an_idle_client(pooler: Pooler) -> None:
    with pooler.with_settings(client_idle_timeout=1), pooler.raw(ONE) as client:
        client.value("select 1")
        started = time.monotonic()
        fields = fatal(client)
        assert 0.5 <= time.monotonic() - started <= 2.5
        assert fields["M"] == "client_idle_timeout"
        assert fields["C"] in ("57P05", "08P01")


def test_client_login_timeout_is_absolute(pooler: Pooler) -> None:
    """[O53] A byte of the startup packet every 0.2 seconds does not buy more time."""
    packet = m.startup({"user": pooler.user, "database": APP, "application_name": "x" * 100})
    with pooler.with_settings(client_login_timeout=1), pooler.socket() as client:
        started = time.monotonic()
        for at in range(len(packet)):
            if not client.silent_for(0.2) or not client.send_quietly(packet[at : at + 1]):
                break
        assert 0.5 <= time.monotonic() - started <= 2.5
        assert {fields["M"] for fields in m.errors(client.until_closed(within=1))} <= {"client_login_timeout"}


def test_a_login_that_stops_at_the_password_times_out(launch: Launch, server: Server) -> None:
    entries = {APP: entry(server)}
    pooler = launch(entries, {"auth_type": "plain", "client_login_timeout": 1}, secrets={"someone": "x"})
    with pooler.socket() as client:
        client.send(m.startup({"user": "someone", "database": APP}))
        assert client.message().tag == b"R"
        started = time.monotonic()
        fields = fatal(client)
        assert 0.5 <= time.monotonic() - started <= 2.5
        assert fields["M"] == "client_login_timeout"


@howdah_only("not in PgBouncer 1.18")
def test_limits_of_a_user_win_over_the_global_ones(launch: Launch, server: Server) -> None:
    users = {postgres.APP_TRUST.name: {"query_timeout": 1, "pool_mode": "statement"}}
    pooler = launch({APP: entry(server)}, {"pool_mode": "session"}, users, {OTHER: ""})
    with pooler.raw(APP) as client:
        client.send(m.query("select pg_sleep(30)"))
        assert m.errors(client.until_closed(within=4))[-1]["M"] == "query timeout"
    with pooler.raw(APP, OTHER) as client:
        assert client.query("begin")[-1].body == b"T"
        client.rows("select pg_sleep(1.5)")

"""Every time limit, at its exact value.

Times are chosen short; what is allowed beside them covers a busy machine.
"""

import time

from tests.conformance.expect import BUSY, refusal
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support import postgres
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, entry, howdah_only

OTHER = "postgres"
"""A second role that PostgreSQL trusts."""


@howdah_only("not in PgBouncer 1.18")
def test_a_client_that_waits_long_is_told_so_by_a_notice(pooler: Pooler) -> None:
    with pooler.with_settings(query_wait_notify=1), pooler.raw(ONE) as holder, pooler.raw(ONE) as client:
        holder.rows("begin")
        client.send(m.query("select 'served'"))
        notice = client.until(b"N")[-1]
        assert m.fields_of(notice.body)["S"] == "NOTICE"
        holder.rows("rollback")
        assert m.rows(client.until()) == [["served"]]


@howdah_only("not in PgBouncer 1.18")
def test_transaction_timeout_ends_a_transaction_that_lasts_too_long(pooler: Pooler, server: Server) -> None:
    with pooler.with_settings(transaction_timeout=1), pooler.raw(ONE) as client:
        started = time.monotonic()
        client.rows("begin")
        got: list[m.Message] = []
        while time.monotonic() - started < 1.0 + BUSY and not m.errors(got):
            client.send_quietly(m.query("select pg_sleep(0.1)"))
            got = client.until(b"Z", b"E")
        fields = m.errors(got)[0]
        assert 0.5 <= time.monotonic() - started < 2.5 + BUSY
        assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "25P04", "transaction timeout")
    server.wait_until_quiet()


def test_work_inside_a_transaction_starts_its_idle_time_anew(pooler: Pooler) -> None:
    with pooler.with_settings(idle_transaction_timeout=1), pooler.raw(ONE) as client:
        client.rows("begin")
        for _ in range(3):
            client.rows("select pg_sleep(0.6)")
        client.rows("commit")


def test_client_idle_timeout_ends_an_idle_client(pooler: Pooler) -> None:
    with pooler.with_settings(client_idle_timeout=1), pooler.raw(ONE) as client:
        started = time.monotonic()
        client.value("select 1")
        fields = refusal(client)
        assert 0.5 <= time.monotonic() - started < 2.5 + BUSY
        assert fields["M"] == "client_idle_timeout"
        assert fields["C"] in ("57P05", "08P01")


def test_a_login_that_stops_at_the_password_times_out(launch: Launch, server: Server) -> None:
    entries = {APP: entry(server)}
    pooler = launch(entries, {"auth_type": "plain", "client_login_timeout": 1}, secrets={"someone": "x"})
    started = time.monotonic()
    with pooler.socket() as client:
        client.send(m.startup({"user": "someone", "database": APP}))
        assert client.message().tag == b"R"
        fields = refusal(client)
        assert 0.5 <= time.monotonic() - started < 2.5 + BUSY
        assert fields["M"] == "client_login_timeout"


@howdah_only("not in PgBouncer 1.18")
def test_limits_of_a_user_win_over_the_global_ones(launch: Launch, server: Server) -> None:
    users = {postgres.APP_TRUST.name: {"query_timeout": 1, "pool_mode": "statement"}}
    pooler = launch({APP: entry(server)}, {"pool_mode": "session"}, users, {OTHER: ""})
    with pooler.raw(APP) as client:
        client.send(m.query("select pg_sleep(30)"))
        assert m.errors(client.until_closed())[-1]["M"] == "query timeout"
    with pooler.raw(APP, OTHER) as client:
        assert client.query("begin")[-1].body == b"T"
        client.rows("select pg_sleep(1.5)")

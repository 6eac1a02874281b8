"""Whole exchanges, as they pass on both sides of the pooler, compared with golden texts.

Law: a test has the name of its golden text in `traces/`, and of the database its clients ask for, so each has
a pool of its own. HOWDAH_WRITE_TRACES=1 writes the texts anew; the difference is then for the reviewer.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.postgres import APP, PostgresServer
from tests.support.scram import ScramClient
from tests.support.server import Server
from tests.support.standard import entry, howdah_only
from tests.support.target import Target
from tests.support.trace import Relay, differences, transcript
from tests.support.wire import Raw

pytestmark = howdah_only("the traces are ours")

TRACES = Path(__file__).with_name("traces")
WRITE = "HOWDAH_WRITE_TRACES"
POSTGRES = 18
"""The major version that the golden texts were recorded with."""

SESSION = "server_reset_query_runs_when_a_session_ends"
"""The one exchange in session mode."""


class Exchange:
    """What one test has to say, within its `with`: then it is compared with the golden text."""

    def __init__(self, name: str, pooler: Pooler, frontends: Relay, backends: Relay) -> None:
        self.name = name
        self.pooler = pooler
        self.sides = {"client": frontends, "server": backends}
        self.way = Target("relay", frontends.host, frontends.port, pooler.user, name)
        self.greetings = False
        """Whether the golden text shows what servers report about themselves."""
        self._clients: list[Raw] = []

    def client(self, **parameters: str) -> Raw:
        """A client that has logged in by trust; it says goodbye at the end, unless it did before."""
        self._clients.append(self.way.raw(parameters=parameters))
        return self._clients[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            if client.fileno() >= 0:
                client.quit()
        # Unless everything came to its end, the trace would say of an accident that it has to be so.
        if error is None:
            wait_until(self._settled, 10, "the pool has settled")
            self.pooler.admin(f"RECONNECT {self.name}")
            self._compare()

    def _settled(self) -> bool:
        """Nobody is connected any more, and the servers are clean."""
        pool = self.pooler.pool(self.name)
        return not any(
            number
            for key, number in pool.items()
            if key.startswith(("cl_", "sv_")) and key not in ("sv_idle", "sv_used")
        )

    def _compare(self) -> None:
        recordings = {side: relay.take() for side, relay in self.sides.items()}
        dbname = str(self.pooler.databases["*"]["dbname"])
        seen = transcript(recordings, {dbname: "d" * len(dbname)}, greetings=self.greetings)
        compare(TRACES / f"{self.name}.txt", seen)


@pytest.fixture(scope="module")
def traced(postgres: PostgresServer) -> Iterator[Server]:
    """A database whose servers report the same values wherever the tests run."""
    if postgres.version != POSTGRES:
        pytest.skip(f"HOWDAH_TEST_PG names another version than {POSTGRES}, with which the traces were made")
    server = Server(postgres, postgres.new_database())
    for setting in ("timezone = 'Etc/UTC'", "datestyle = 'ISO, MDY'", "client_encoding = 'UTF8'"):
        server.sql(f"alter database {server.database} set {setting}")
    server.sql("create table copied(n int primary key); grant all on copied to public")
    yield server
    server.close()


@pytest.fixture(scope="module")
def backends(traced: Server) -> Iterator[Relay]:
    """Stands between the pooler and PostgreSQL."""
    with Relay((traced.host, traced.port)) as relay:
        yield relay


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, traced: Server, backends: Relay) -> Pooler:
    way = entry(traced, pool_size=1, host=backends.host, port=backends.port)
    verifier = traced.value("select rolpassword from pg_authid where rolname = %s", [APP.name])
    databases = {"*": way, SESSION: {**way, "pool_mode": "session"}}
    return module_launch(databases, secrets={APP.name: str(verifier)})


@pytest.fixture(scope="module")
def frontends(pooler: Pooler) -> Iterator[Relay]:
    """Stands between the clients and the pooler."""
    with Relay((pooler.host, pooler.port)) as relay:
        yield relay


@pytest.fixture
def exchange(
    request: pytest.FixtureRequest, pooler: Pooler, frontends: Relay, backends: Relay
) -> Iterator[Exchange]:
    """The test's own; its name is the test's."""
    yield Exchange(request.node.name.removeprefix("test_"), pooler, frontends, backends)
    frontends.forget()
    backends.forget()


def compare(golden: Path, seen: str) -> None:
    """Fail with the lines that differ, or write them down when that was asked for."""
    if os.environ.get(WRITE):
        golden.write_text(seen)
    difference = differences(golden.read_text() if golden.exists() else "", seen)
    if difference:
        pytest.fail(f"not as in {golden.name} ({WRITE}=1 writes it anew)\n{difference}", pytrace=False)


# --- logins ----------------------------------------------------------------------------------------


def test_a_login_by_trust_hears_what_the_server_reports(exchange: Exchange) -> None:
    exchange.greetings = True
    with exchange:
        exchange.client(application_name="golden")


def test_a_login_by_scram_gives_the_pooler_the_keys_for_its_own(exchange: Exchange) -> None:
    with exchange, exchange.pooler.with_settings(auth_type="scram-sha-256"):
        scram = ScramClient(APP.password or "")

        def answer(asked: m.Message) -> bytes:
            if asked.body[:4] == m.int32(10):
                return m.sasl_initial("SCRAM-SHA-256", scram.first())
            return m.sasl_response(scram.final(asked.body[4:]))

        client = exchange.way.socket()
        client.login(APP.name, exchange.name, answer=answer)
        client.rows("select 1")
        client.quit()


# --- queries ---------------------------------------------------------------------------------------


def test_a_simple_query_passes_as_it_is(exchange: Exchange) -> None:
    with exchange:
        exchange.client().query("select 1 as one, null as nothing")


def test_an_error_ends_a_string_of_statements(exchange: Exchange) -> None:
    with exchange:
        client = exchange.client()
        client.query("select 1; select 1/0; select 2")
        client.query("select 3")


def test_an_error_in_a_pipeline_lasts_until_its_sync(exchange: Exchange) -> None:
    with exchange:
        client = exchange.client()
        skipped = m.parse("", "select 'skipped'") + m.bind() + m.execute()
        broken = m.parse("", "select $1::int") + m.bind(values=["x"]) + m.execute()
        first, second = m.one_shot("select $1::text", ["first"], end=b""), m.one_shot("select 'second'")
        client.send(first, broken, skipped, m.sync(), second)
        client.until()
        client.until()


def test_copy_in_and_out_pass_as_they_are(exchange: Exchange, traced: Server) -> None:
    traced.sql("truncate copied")
    with exchange:
        client = exchange.client()
        client.send(m.query("copy copied from stdin"))
        client.until(b"G")
        client.send(m.copy_data(b"1\n"), m.copy_data(b"2\n"), m.copy_done())
        client.until()
        client.query("copy (select n from copied order by n) to stdout")
        client.send(m.query("copy copied from stdin"))
        client.until(b"G")
        client.send(m.copy_data(b"3\n"), m.copy_fail("changed my mind"))
        client.until()


# --- between two clients -----------------------------------------------------------------------------


def test_parameters_are_set_before_the_query_and_not_with_it(exchange: Exchange) -> None:
    """Were the SET in one pipeline with the query, its failure could not keep the query from running."""
    exchange.greetings = True
    with exchange:
        first = exchange.client()
        second = exchange.client(TimeZone="Asia/Tokyo")
        second.query("select 'in Tokyo since the login'")
        first.query("select 'in the zone of the server'")
        second.ask(m.one_shot("select 'in Tokyo again'"), m.query("select 'still there'"))
        second.until()


def test_a_client_that_listened_leaves_no_channel_to_the_next(exchange: Exchange) -> None:
    with exchange:
        first, second = exchange.client(), exchange.client()
        first.query("listen news")
        second.query("select 'hears nothing'")


def test_server_reset_query_runs_when_a_session_ends(exchange: Exchange) -> None:
    with exchange:
        first, second = exchange.client(), exchange.client()
        first.query("set work_mem = '1MB'")
        second.send(m.query("show work_mem"))
        exchange.pooler.wait_for_pool(exchange.name, cl_waiting=1)
        first.query("select 'still mine'")
        first.quit()
        second.until()


def test_a_server_is_checked_before_it_is_lent(exchange: Exchange) -> None:
    with exchange, exchange.pooler.with_settings(server_check_delay=0):
        client = exchange.client()
        client.query("begin")
        client.query("commit")
        client.query("select 1")


# --- cancels -----------------------------------------------------------------------------------------


def test_a_cancelled_query_that_still_waits_never_reaches_a_server(exchange: Exchange) -> None:
    with exchange:
        holder, client = exchange.client(), exchange.client()
        holder.query("begin")
        client.send(m.query("select 'never sent'"))
        exchange.pooler.wait_for_pool(exchange.name, cl_waiting=1)
        exchange.way.cancel(client)
        client.until()
        holder.query("commit")
        client.query("select 'later'")


def test_a_cancel_reaches_the_server_that_runs_the_query(exchange: Exchange, traced: Server) -> None:
    with exchange:
        client = exchange.client()
        client.send(m.query("select pg_sleep(30)"))
        traced.wait_for_query("pg_sleep(30)")
        exchange.way.cancel(client)
        client.until()


# --- the tests themselves ----------------------------------------------------------------------------


def test_every_golden_text_has_its_test() -> None:
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert [path.name for path in TRACES.iterdir() if path.stem not in tests] == []


def test_a_difference_is_shown_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WRITE, raising=False)
    golden = tmp_path / "golden.txt"
    golden.write_text("F\t4\tSync\nB\t5\tReadyForQuery\t I\n")
    compare(golden, golden.read_text())
    with pytest.raises(pytest.fail.Exception, match=r"(?m)golden.txt[^$]*^-B   5   ReadyForQuery    I$"):
        compare(golden, "F\t4\tSync\n")

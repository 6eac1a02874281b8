"""Statements prepared by name: what a session does not know, what it knows, and whose name it is."""

import pytest

from tests.conformance.marks import pgbouncer_fails
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.standard import APP, ONE, SESSION_ONE, STATEMENT
from tests.support.wire import Raw

WITH_TRANSACTIONS = [APP, ONE, SESSION_ONE]
DATABASES = pytest.mark.parametrize("database", [*WITH_TRANSACTIONS, STATEMENT])

ROUNDS = 1000


def unknown(fields: m.Fields, name: str) -> None:
    """An ERROR that says so, with the client's own name."""
    assert (fields["S"], fields["C"]) == ("ERROR", "26000")
    assert fields["M"] == f'prepared statement "{name}" does not exist'


def value(got: list[m.Message]) -> str | None:
    ((value,),) = m.rows(got)
    return value


@pytest.mark.case("O34")
@DATABASES
@pytest.mark.parametrize(
    "request_",
    [m.bind("", "nothing"), m.describe(b"S", "nothing"), m.bind("p", "nothing") + m.execute("p")],
    ids=["Bind", "Describe", "Bind and Execute"],
)
def test_an_unknown_statement_is_an_error_until_sync(pooler: Pooler, database: str, request_: bytes) -> None:
    with pooler.raw(database) as client:
        got = client.ask(request_ + m.sync())
        assert m.tags(got) == "EZ"
        assert got[-1].body == b"I"
        unknown(m.errors(got)[0], "nothing")
        assert client.value("select 'still here'") == "still here"


@pytest.mark.case("O34")
@pytest.mark.parametrize("database", WITH_TRANSACTIONS)
def test_an_unknown_statement_fails_its_transaction_and_no_more(pooler: Pooler, database: str) -> None:
    with pooler.raw(database) as client:
        client.rows("begin")
        got = client.ask(m.one_shot("select 'before'", end=b"") + m.bind("", "nothing") + m.sync())
        assert m.tags(got) == "12TDCEZ"
        assert got[-1].body == b"E"
        unknown(m.errors(got)[0], "nothing")
        assert client.query("rollback")[-1].body == b"I"
        assert client.value("select 'still here'") == "still here"


def already(got: list[m.Message], name: str) -> None:
    (fields,) = m.errors(got)
    assert (fields["S"], fields["C"]) == ("ERROR", "42P05")
    assert fields["M"] == f'prepared statement "{name}" already exists'


def prepare(client: Raw, name: str, sql: str) -> list[m.Message]:
    return client.ask(m.parse(name, sql) + m.sync())


def run(client: Raw, name: str) -> list[m.Message]:
    return client.ask(m.bind("", name) + m.execute() + m.sync())


@pytest.mark.case("O35")
@DATABASES
def test_a_name_prepared_twice_is_an_error_and_the_first_one_stays(pooler: Pooler, database: str) -> None:
    with pooler.raw(database) as client:
        assert m.tags(prepare(client, "s", "select 'first'")) == "1Z"
        got = prepare(client, "s", "select 'second'")
        assert m.tags(got) == "EZ"
        already(got, "s")
        assert value(run(client, "s")) == "first"
        assert m.tags(client.ask(m.close(b"S", "s") + m.sync())) == "3Z"
        assert m.tags(prepare(client, "s", "select 'third'")) == "1Z"
        assert value(run(client, "s")) == "third"


@pytest.mark.case("O35")
@pgbouncer_fails("before 1.21 a name lives on one server only")
def test_a_name_prepared_twice_is_an_error_on_another_server_too(pooler: Pooler) -> None:
    """A second client takes the server on which the first one has prepared."""
    with pooler.raw(APP) as client, pooler.raw(APP) as other:
        prepare(client, "s", "select 'first'")
        other.rows("begin")
        already(prepare(client, "s", "select 'second'"), "s")
        assert value(run(client, "s")) == "first"
        other.rows("rollback")
        assert value(run(client, "s")) == "first"


@pytest.mark.case("O60")
@pgbouncer_fails("before 1.21 a name belongs to whoever prepared it first")
def test_two_clients_on_one_server_may_use_one_name_for_different_statements(pooler: Pooler) -> None:
    with pooler.raw(ONE) as one, pooler.raw(ONE) as two:
        clients = {"one": one, "two": two}
        for word, client in clients.items():
            assert m.tags(prepare(client, "s1", f"select '{word} ' || $1::text")) == "1Z"
        for number in range(ROUNDS):
            for word, client in clients.items():
                got = client.ask(m.bind("", "s1", [str(number)]) + m.execute() + m.sync())
                assert m.rows(got) == [[f"{word} {number}"]]

"""Malformed messages after the login, and requests for what does not exist."""

import pytest

from tests.conformance.expect import MIB, refusal, the_only_error
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.standard import APP, SESSION_ONE


@pytest.mark.case("O13")
def test_a_second_startup_packet_is_a_protocol_violation(pooler: Pooler) -> None:
    with pooler.raw() as client:
        client.send(m.startup({"user": pooler.user, "database": pooler.database}))
        assert refusal(client)["C"] == "08P01"


@pytest.mark.case("O28")
@pytest.mark.parametrize("tag", [b"\0", b"~", b"T", b"R"], ids=repr)
def test_a_type_no_client_may_send_is_a_protocol_violation(pooler: Pooler, tag: bytes) -> None:
    with pooler.raw() as client:
        client.send(m.message(tag, b"\0" * 8))
        assert refusal(client)["C"] == "08P01"


def violation(pooler: Pooler, got: list[m.Message]) -> None:
    """A FATAL 08P01; who is not Howdah may also hang up without it."""
    if got or pooler.kind == "howdah":
        fields = the_only_error(got)
        assert fields["S"] == "FATAL"
        assert fields["C"] in ("08P01", "54000")


@pytest.mark.case("O29")
@pytest.mark.parametrize("length", [3, 0, -1], ids=str)
def test_a_query_with_an_impossible_length_is_a_protocol_violation(pooler: Pooler, length: int) -> None:
    with pooler.raw() as client:
        client.send(m.message_claiming(b"Q", length, b"select 1\0"))
        violation(pooler, client.until_closed())


@pytest.mark.case("O30")
def test_a_query_of_two_gibibytes_is_refused_at_its_head(pooler: Pooler) -> None:
    with pooler.raw() as client:
        before = pooler.rss()
        client.send(m.message_claiming(b"Q", 0x7FFFFFFE, b"select"))
        violation(pooler, client.until_closed())
        assert pooler.rss() - before < MIB


@pytest.mark.case("O31")
def test_a_query_without_a_null_is_answered_by_postgresql(pooler: Pooler) -> None:
    with pooler.raw() as client:
        got = client.ask(m.message(b"Q", b"select 1"))
        assert m.tags(got) == "EZ"
        assert m.errors(got)[0]["C"] == "08P01"
        assert client.value("select 2") == "2"


@pytest.mark.case("O32")
@pytest.mark.parametrize("database", [SESSION_ONE, APP])
def test_a_bind_with_too_many_parameters_is_an_error_until_sync(pooler: Pooler, database: str) -> None:
    statement = "s" if database == SESSION_ONE else ""
    with pooler.raw(database) as client:
        parsed = m.parse(statement, "select $1::text")
        got = client.ask(parsed, m.bind("", statement, ["a", "b"]), m.execute(), m.sync())
        assert m.tags(got) == "1EZ"
        fields = m.errors(got)[0]
        assert fields["C"] == "08P01"
        assert "bind message supplies 2 parameters" in fields["M"]
        assert client.value("select 1") == "1"


@pytest.mark.case("O33")
def test_executing_an_unknown_portal_is_an_error_until_sync(pooler: Pooler) -> None:
    with pooler.raw() as client:
        got = client.ask(m.execute("nowhere"), m.sync())
        assert m.tags(got) == "EZ"
        assert m.errors(got)[0]["C"] == "34000"
        assert client.value("select 1") == "1"


@pytest.mark.case("O36")
def test_closing_what_does_not_exist_is_no_error(pooler: Pooler) -> None:
    with pooler.raw(SESSION_ONE) as client:
        got = client.ask(m.close(b"S", "nothing"), m.close(b"P", "nowhere"), m.sync())
        assert m.tags(got) == "33Z"
        assert client.value("select 1") == "1"

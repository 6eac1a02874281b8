"""Many requests in flight at once, and a server that is kept while anything is open."""

import pytest

from tests.conformance.expect import replies, rival_is_served, rival_waits
from tests.conformance.marks import pooler_only
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION_ONE

QUERIES = 1000
FAILING = 500


@pytest.mark.case("O37")
def test_an_error_in_a_multi_statement_query_undoes_all_of_it(pooler: Pooler, server: Server) -> None:
    server.sql("create table if not exists o37(n int)")
    server.sql("grant all on o37 to public")
    with pooler.raw() as client:
        got = client.query("insert into o37 values (1); select 1/0; insert into o37 values (2)")
        assert m.tags(got) == "CEZ"
        assert m.errors(got)[0]["C"] == "22012"
        assert got[-1].body == b"I"
    assert server.value("select count(*) from o37") == 0


@pytest.mark.case("O38")
@pytest.mark.parametrize("database", [APP, ONE, SESSION_ONE])
def test_a_thousand_pipelined_queries_get_what_postgresql_would_say(
    pooler: Pooler, server: Server, database: str
) -> None:
    """One of them fails; every query has its own Sync."""
    parts = []
    for n in range(QUERIES):
        sql = f"select 1 / ($1::int - {FAILING})" if n == FAILING else "select $1::int + 1"
        parts.append(m.parse("", sql) + m.bind(values=[str(n)]) + m.execute() + m.sync())
    data = b"".join(parts)
    got = replies(pooler, database, QUERIES, data)
    assert got == replies(server, server.database, QUERIES, data)
    assert [tag for tag, _ in got].count(b"E") == 1


@pytest.mark.case("O39")
@pooler_only("everybody has a server of his own")
def test_a_flushed_describe_keeps_its_server_until_sync(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE) as rival:
        client.send(m.parse("", "select $1::text") + m.describe(b"S") + m.flush())
        assert m.tags(client.until(b"T")) == "1tT"
        rival_waits(pooler, rival)
        assert client.silent_for(0.2)
        got = client.ask(m.bind(values=["mine"]) + m.execute() + m.sync())
        assert m.rows(got) == [["mine"]]
        rival_is_served(rival)

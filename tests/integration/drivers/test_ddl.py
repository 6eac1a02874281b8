"""`select *` prepared before the table changes: who is told, who is healed, and that nobody is deceived.

PostgreSQL answers 0A000 to whoever runs such a statement, until it is prepared anew. Howdah spares that to
clients which ask for the columns in the same request, and to them alone.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest
from psycopg.rows import dict_row

from tests.integration.drivers.conftest import ONE, PAIR
from tests.integration.drivers.crowd import Place
from tests.integration.drivers.jdbc import ServerError
from tests.integration.drivers.shapes import (
    ADD,
    ADDED,
    CHANGES,
    DIRECT,
    EVERY_CHANGE,
    EVERYWHERE,
    OLD,
    POOLED,
    STALE,
    WITH_ONE_SERVER,
    WITH_TWO_SERVERS,
    Shapes,
    shapes,
    used_by,
)
from tests.support.server import Server

__all__ = ["shapes"]

# --- clients that remember the columns -------------------------------------------------------------------


@EVERY_CHANGE
@WITH_ONE_SERVER
def test_a_client_that_remembers_the_columns_is_told(shapes: Shapes, change: str) -> None:
    client = shapes.remembering()
    shapes.migrate(change)
    client.is_told()
    for _ in range(12):
        assert client.look() == CHANGES[change]


@EVERY_CHANGE
@EVERYWHERE
def test_every_client_that_remembers_the_columns_is_told(shapes: Shapes, change: str) -> None:
    """Not only the first: that its error gave the text a new life must not deceive the others."""
    clients = [shapes.remembering() for _ in range(4)]
    shapes.migrate(change)
    for client in clients:
        client.is_told()
    for client in clients:
        for _ in range(7):
            assert client.look() == CHANGES[change]


@EVERY_CHANGE
@WITH_TWO_SERVERS
def test_a_server_that_never_knew_the_statement_deceives_nobody(shapes: Shapes, change: str) -> None:
    client = shapes.remembering()
    known = used_by(client.raw)
    shapes.migrate(change)
    with shapes.hold_server(known):
        client.is_told()
    assert client.look() == CHANGES[change]


@EVERYWHERE
def test_in_a_transaction_the_error_fails_it(shapes: Shapes) -> None:
    client = shapes.remembering()
    client.autocommit = False
    assert client.look() == OLD
    client.end()
    shapes.migrate(ADD)
    client.is_told()
    with pytest.raises(ServerError, match="25P02"):
        client.execute("select 1 as one")
    client.end("ROLLBACK")
    assert client.look() == ADDED
    client.end()


@EVERYWHERE
def test_after_the_error_every_server_prepares_afresh(shapes: Shapes) -> None:
    clients = [shapes.remembering() for _ in range(2)]
    shapes.migrate(ADD)
    for client in clients:
        client.is_told()
        client.autocommit = shapes.place.name == ONE
    for _ in range(7):
        for client in clients:  # both servers of a pair are busy: each client keeps one
            assert client.look() == ADDED
    for client in clients:
        client.end()


@WITH_TWO_SERVERS
async def test_a_server_that_never_knew_the_statement_does_not_deceive_asyncpg(shapes: Shapes) -> None:
    async with asyncpg_client(shapes.place) as client:
        statement = await client.prepare(shapes.sql)
        assert dict(await statement.fetchrow()) == OLD
        known = str(await client.fetchval("select pg_backend_pid()"))
        shapes.migrate(ADD)
        with shapes.hold_server(known):
            with pytest.raises(asyncpg.InvalidCachedStatementError):
                await statement.fetchrow()
            assert dict(await client.fetchrow(shapes.sql)) == ADDED


# --- psycopg, which asks for the columns each time -------------------------------------------------------


def psycopg_client(shapes: Shapes) -> "psycopg.Connection[dict[str, object]]":
    info = shapes.place.target.conninfo(shapes.place.database)
    client = psycopg.connect(info, autocommit=True, prepare_threshold=0, row_factory=dict_row)
    return shapes.clients.enter_context(client)


@EVERY_CHANGE
@EVERYWHERE
def test_a_client_that_asks_for_the_columns_is_healed(shapes: Shapes, change: str) -> None:
    """At PostgreSQL it hears the error, again and again."""
    client = psycopg_client(shapes)
    assert client.execute(shapes.sql).fetchone() == OLD
    shapes.migrate(change)
    for _ in range(3):
        if shapes.place.name == DIRECT:
            with pytest.raises(psycopg.errors.FeatureNotSupported, match=STALE):
                client.execute(shapes.sql)
        else:
            assert client.execute(shapes.sql).fetchone() == CHANGES[change]


@WITH_ONE_SERVER
def test_in_a_transaction_nobody_is_healed(shapes: Shapes) -> None:
    client = psycopg_client(shapes)
    assert client.execute(shapes.sql).fetchone() == OLD
    shapes.migrate(ADD)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match=STALE), client.transaction():
        client.execute(shapes.sql)
    # The driver sends DEALLOCATE ALL after a ROLLBACK.
    assert client.execute(shapes.sql).fetchone() == ADDED


@WITH_ONE_SERVER
def test_what_follows_another_reply_of_its_group_is_not_healed(shapes: Shapes) -> None:
    """Part of the group has been answered: it may not be run twice."""
    client = psycopg_client(shapes)
    for _ in range(2):
        assert pipelined(client, shapes.sql) == [{"one": 1}, OLD]
    shapes.migrate(ADD)
    with pytest.raises(psycopg.errors.FeatureNotSupported, match=STALE):
        pipelined(client, shapes.sql)


def pipelined(client: "psycopg.Connection[dict[str, object]]", sql: str) -> list[dict[str, object] | None]:
    with client.pipeline():
        cursors = [client.execute("select 1 as one"), client.execute(sql.encode())]
        return [cursor.fetchone() for cursor in cursors]


# --- asyncpg, which remembers them, and prepares anew when it is told ------------------------------------


@asynccontextmanager
async def asyncpg_client(place: Place) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    target = place.target
    client = await asyncpg.connect(
        host=target.host, port=target.port, user=target.user, database=place.database, ssl=False
    )
    try:
        yield client
    finally:
        await client.close(timeout=5)


@EVERY_CHANGE
@EVERYWHERE
async def test_asyncpg_is_told_and_prepares_anew(shapes: Shapes, change: str) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(asyncpg_client(shapes.place)) for _ in range(3)]
        kept = []
        for client in clients:
            # Its `prepare` ends with Flush: server, and lock on the table, are kept until the next Sync.
            kept.append(await client.prepare(shapes.sql))
            assert dict(await kept[-1].fetchrow()) == OLD
            assert dict(await client.fetchrow(shapes.sql)) == OLD
        shapes.migrate(change)
        for client, statement in zip(clients, kept, strict=True):
            with pytest.raises(asyncpg.InvalidCachedStatementError):
                await statement.fetchrow()
            assert dict(await client.fetchrow(shapes.sql)) == CHANGES[change]
        for client in clients:
            assert dict(await client.fetchrow(shapes.sql)) == CHANGES[change]


# --- clients that prepare for the first time -------------------------------------------------------------


@EVERY_CHANGE
@EVERYWHERE
async def test_who_prepares_after_a_migration_sees_what_it_made(shapes: Shapes, change: str) -> None:
    """Although every server knows the text from before."""
    old = [shapes.remembering() for _ in range(2)]
    if shapes.place.name == PAIR:
        with shapes.hold_server(used_by(old[0].raw)):
            assert old[1].look() == OLD
    shapes.migrate(change)
    expected = CHANGES[change]
    for _ in range(2):
        assert shapes.fresh().execute(shapes.sql) == [tuple(expected.values())]
        assert psycopg_client(shapes).execute(shapes.sql).fetchone() == expected
        async with asyncpg_client(shapes.place) as client:
            statement = await client.prepare(shapes.sql)
            assert [each.name for each in statement.get_attributes()] == [*expected]
            assert dict(await statement.fetchrow()) == expected


@EVERY_CHANGE
@EVERYWHERE
def test_a_migration_that_took_another_way_heals_after_the_first_error(
    shapes: Shapes, server: Server, change: str
) -> None:
    client = shapes.remembering()
    server.sql(change.format(shapes.table))
    client.is_told()
    assert shapes.fresh().execute(shapes.sql) == [tuple(CHANGES[change].values())]
    for _ in range(7):
        assert client.look() == CHANGES[change]


@POOLED
def test_a_migration_that_took_another_way_costs_a_newcomer_one_error_at_most(
    shapes: Shapes, server: Server
) -> None:
    shapes.remembering()
    server.sql(ADD.format(shapes.table))
    newcomer, errors = shapes.fresh(), list[str]()
    for _ in range(4):
        try:
            assert newcomer.execute(shapes.sql) == [tuple(ADDED.values())]
        except ServerError as error:
            errors.append(error.sqlstate)
    assert errors in ([], ["0A000"])

"""Real drivers do real work: psycopg (sync, async, pipelines) and asyncpg."""

import asyncio

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION
from tests.support.target import Connection

pytestmark = pytest.mark.usefixtures("alive")

POOLED = pytest.mark.parametrize("database", [APP, ONE, SESSION])


# --- psycopg ---------------------------------------------------------------------------------------------


@POOLED
def test_psycopg_with_parameters_transactions_and_errors(pooler: Pooler, database: str) -> None:
    with pooler.connect(database) as connection:
        assert connection.execute("select %s::int + %s::int", (1, 2)).fetchone() == (3,)
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("create temp table work(n int, t text) on commit drop")
            cursor.executemany("insert into work values (%s, %s)", [(n, f"row {n}") for n in range(50)])
            assert cursor.execute("select count(*), max(t) from work").fetchone() == (50, "row 9")
            with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
                cursor.execute("select 1/0")
            assert cursor.execute("select count(*) from work").fetchone() == (50,)
        with pytest.raises(psycopg.errors.SyntaxError):
            connection.execute("selekt")
        assert connection.execute("select 'still here'").fetchone() == ("still here",)


def failing_pipeline(connection: Connection) -> None:
    with connection.pipeline():
        connection.execute("select 1/0")
        connection.execute("select 2")


@POOLED
def test_psycopg_pipelines(pooler: Pooler, database: str) -> None:
    with pooler.connect(database) as connection:
        with connection.pipeline() as pipeline:
            cursors = [connection.execute("select %s::int", (n,)) for n in range(200)]
            pipeline.sync()
            assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(200)]
        with pytest.raises(psycopg.errors.DivisionByZero):
            failing_pipeline(connection)
        assert connection.execute("select 3").fetchone() == (3,)


@POOLED
def test_psycopg_copy_both_ways(pooler: Pooler, database: str) -> None:
    with pooler.connect(database) as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute("create temp table copied_rows(n int, t text) on commit drop")
        with cursor.copy("copy copied_rows from stdin") as copy:
            for n in range(1000):
                copy.write_row((n, f"row {n}"))
        with cursor.copy("copy copied_rows to stdout") as copy:
            assert sum(1 for _ in copy.rows()) == 1000


@POOLED
def test_psycopg_server_side_cursors_and_streams(pooler: Pooler, database: str) -> None:
    with pooler.connect(database) as connection:
        with connection.transaction(), connection.cursor("named") as cursor:
            cursor.execute("select n from generate_series(1, 1000) n")
            cursor.itersize = 100
            assert sum(row[0] for row in cursor) == 500_500
        with connection.cursor() as plain:
            assert sum(row[0] for row in plain.stream("select n from generate_series(1, 1000) n")) == 500_500


def test_psycopg_prepared_statements_in_session_mode(pooler: Pooler) -> None:
    with psycopg.connect(pooler.conninfo(SESSION), autocommit=True, prepare_threshold=0) as connection:
        for n in range(20):
            assert connection.execute("select %s::int * 2", (n,)).fetchone() == (2 * n,)
        assert connection.execute("select count(*) from pg_prepared_statements").fetchone() != (0,)


@POOLED
async def test_psycopg_async_many_at_once(pooler: Pooler, database: str) -> None:
    async def work(number: int) -> None:
        async with await pooler.connect_async(database) as connection:
            for step in range(5):
                cursor = await connection.execute("select %s::text", (f"{number}.{step}",))
                assert await cursor.fetchone() == (f"{number}.{step}",)
                async with connection.transaction():
                    await connection.execute("select 1")

    await asyncio.gather(*(work(number) for number in range(30)))


# --- asyncpg ---------------------------------------------------------------------------------------------


async def asyncpg_connect(
    pooler: Pooler, database: str, *, cached: bool
) -> "asyncpg.Connection[asyncpg.Record]":
    """Statements are cached by name only where the session keeps its server."""
    info = conninfo_to_dict(pooler.conninfo(database))
    return await asyncpg.connect(
        host=str(info["host"]),
        port=int(str(info["port"])),
        user=str(info["user"]),
        database=database,
        ssl=False,
        statement_cache_size=100 if cached else 0,
    )


@pytest.mark.parametrize(("database", "cached"), [(APP, False), (ONE, False), (SESSION, True)])
async def test_asyncpg(pooler: Pooler, database: str, cached: bool) -> None:
    connection = await asyncpg_connect(pooler, database, cached=cached)
    try:
        async with connection.transaction():
            for n in range(20):
                assert await connection.fetchval("select $1::int + 1", n) == n + 1
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with connection.transaction():
                await connection.fetchval("select 1/$1::int", 0)
        async with connection.transaction():
            await connection.execute("create temp table asy(n int, t text) on commit drop")
            await connection.copy_records_to_table("asy", records=[(n, str(n)) for n in range(500)])
            assert len(await connection.fetch("select * from asy order by n")) == 500
            numbers = [record["n"] async for record in connection.cursor("select n from asy")]
            assert len(numbers) == 500
        with pytest.raises(asyncio.TimeoutError):
            await connection.execute("select pg_sleep(10)", timeout=0.2)
        assert await connection.execute("select 1") == "SELECT 1"
    finally:
        await connection.close()


async def test_asyncpg_pools_share_the_servers(pooler: Pooler, server: Server) -> None:
    pool = await asyncpg.create_pool(
        host=pooler.host,
        port=pooler.port,
        user=pooler.user,
        database=APP,
        ssl=False,
        statement_cache_size=0,
        min_size=20,
        max_size=20,
    )
    async with pool:

        async def work(number: int) -> int:
            async with pool.acquire() as connection, connection.transaction():
                value = await connection.fetchval("select pg_backend_pid() from pg_sleep(0.01)")
                assert isinstance(value, int)
                return value

        pids = await asyncio.gather(*(work(number) for number in range(100)))
    assert len(set(pids)) <= 8


async def test_asyncpg_listens_in_session_mode(pooler: Pooler) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg_connect(pooler, SESSION, cached=True)
    speaker = await asyncpg_connect(pooler, SESSION, cached=True)
    try:
        await listener.add_listener("drivers", lambda *news: heard.put_nowait(str(news[3])))
        await speaker.execute("notify drivers, 'hello'")
        assert await asyncio.wait_for(heard.get(), 3) == "hello"
    finally:
        await listener.close()
        await speaker.close()

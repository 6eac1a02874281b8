"""asyncpg as it comes: its statement cache on, statements kept across transactions, types looked up."""

import asyncio

import asyncpg  # type: ignore[import-untyped]
import pytest

from tests.integration.drivers.crowd import CLIENTS, AsyncPlayer, Place, play_async
from tests.integration.drivers.losses import of_asyncpg
from tests.support.server import Server

pytestmark = pytest.mark.usefixtures("alive")

CACHES = pytest.mark.parametrize("cache", [100, 3], ids=["usual cache", "small cache"])

TYPES = """
do $$ begin
  create type mood as enum ('glad', 'sad');
  create type place_and_mood as (place text, mood mood);
exception when duplicate_object then null;
end $$
"""
INSERT = "insert into deeds values ($1, $2, $3)"


@pytest.fixture(scope="module", autouse=True)
def types(server: Server) -> None:
    """Types that a driver has to ask the server about before it can read them."""
    server.sql(TYPES)


async def connect(place: Place, **more: object) -> "asyncpg.Connection[asyncpg.Record]":
    target = place.target
    return await asyncpg.connect(
        host=target.host, port=target.port, user=target.user, database=place.database, ssl=False, **more
    )


class Client(AsyncPlayer):
    """Everything is prepared by name: what `prepare` returns is used for the life of the connection."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", number: int) -> None:
        self.connection, self.number = connection, number
        self.kept: asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record] | None = None
        self.turns = [self.values, self.transaction, self.error, self.cursor, self.types, self.many]

    async def turn(self, step: int) -> None:
        await self.turns[step % len(self.turns)](step)

    async def close(self) -> None:
        self.connection.terminate()

    async def values(self, step: int) -> None:
        word = f"{self.number}.{step}"
        row = await self.connection.fetchrow("select $1::int * 2 as n, $2::text as word", step, word)
        assert dict(row) == {"n": 2 * step, "word": word}
        if self.kept is None:
            self.kept = await self.connection.prepare("select $1::text || ' kept' as kept")
        assert await self.kept.fetchval(word) == f"{word} kept"
        assert [each.name for each in self.kept.get_attributes()] == ["kept"]

    async def transaction(self, step: int) -> None:
        async with self.connection.transaction():
            await self.connection.execute("delete from deeds where client = $1", self.number)
            await self.connection.executemany(INSERT, [(self.number, n, f"{step}") for n in range(9)])
            rows = await self.connection.fetch("select n, word from deeds where client = $1", self.number)
            assert sorted(map(tuple, rows)) == [(n, f"{step}") for n in range(9)]
        copied = [(self.number, 100 + n, f"{step}") for n in range(20)]
        async with self.connection.transaction():
            await self.connection.execute("delete from deeds where client = $1", self.number)
            await self.connection.copy_records_to_table("deeds", records=copied)

    async def error(self, step: int) -> None:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await self.connection.fetchval("select $1::int / $2::int", step, 0)
        with pytest.raises(asyncpg.UniqueViolationError):
            await self.do_twice()
        with pytest.raises(asyncpg.UndefinedTableError):
            await self.connection.fetch("select * from no_such_table where n = $1", step)
        assert await self.connection.fetchval("select $1::int / $2::int", step, 1) == step

    async def do_twice(self) -> None:
        async with self.connection.transaction():
            await self.connection.execute("delete from deeds where client = $1", self.number)
            await self.connection.executemany(INSERT, [(self.number, 1, "twice")] * 2)

    async def cursor(self, step: int) -> None:
        async with self.connection.transaction():
            query = "select n + $1 from generate_series(1, 50) n"
            seen = [row[0] async for row in self.connection.cursor(query, step, prefetch=7)]
            assert seen == [n + step for n in range(1, 51)]

    async def types(self, step: int) -> None:
        row = await self.connection.fetchval("select ($1::text, 'sad')::place_and_mood", f"{step}")
        assert tuple(row) == (f"{step}", "sad")
        assert await self.connection.fetchval("select array[$1::mood]", "glad") == ["glad"]

    async def many(self, step: int) -> None:
        """More texts than the small cache keeps, so that the driver closes statements all the time."""
        for n in range(8):
            assert await self.connection.fetchval(f"select $1::int + {n + step % 3}", n) == 2 * n + step % 3
            await asyncio.sleep(0)


@CACHES
async def test_a_crowd_with_the_statement_cache_on(place: Place, cache: int) -> None:
    async def join(number: int) -> Client:
        return Client(await connect(place, statement_cache_size=cache), number)

    await play_async(place, join, of_asyncpg)


@pytest.mark.parametrize("place", ["postgresql", "calm"], indirect=True)
async def test_its_pool_and_the_reset_between_two_users(place: Place) -> None:
    """asyncpg's own pool resets a connection by several statements in one simple query."""
    target = place.target
    async with asyncpg.create_pool(
        host=target.host,
        port=target.port,
        user=target.user,
        database=place.database,
        ssl=False,
        min_size=CLIENTS,
        max_size=CLIENTS,
    ) as pool:

        async def work(number: int) -> None:
            async with pool.acquire() as connection:
                client = Client(connection, number)
                for step in range(6):
                    await client.turn(step)

        await asyncio.gather(*(work(number) for number in range(5 * CLIENTS)))

"""psycopg 3 with its automatic prepare on, sync and async, in pipelines, with few and many statements."""

import asyncio

import psycopg
import pytest

from tests.integration.drivers.conftest import CALM
from tests.integration.drivers.crowd import AsyncPlayer, Place, Player, play, play_async
from tests.integration.drivers.losses import of_psycopg
from tests.support.target import AsyncConnection, Connection

pytestmark = [
    pytest.mark.usefixtures("alive"),
    # Cursors on connections that were lost are never closed.
    pytest.mark.filterwarnings("ignore:.*ServerCursor.*was deleted:ResourceWarning"),
]

THRESHOLDS = pytest.mark.parametrize("threshold", [0, 5])

INSERT = "insert into deeds values (%s, %s, %s)"
COUNT = "select count(*), min(word) from deeds where client = %s"
DELETE = "delete from deeds where client = %s returning n"


class Client(Player):
    """Prepares what it has run `threshold` times before, and never more than four statements at once."""

    def __init__(self, place: Place, number: int, threshold: int) -> None:
        info = place.target.conninfo(place.database)
        self.connection: Connection = psycopg.connect(info, autocommit=True, prepare_threshold=threshold)
        self.connection.prepared_max = 4
        self.number = number
        self.turns = [self.values, self.transaction, self.error, self.pipeline, self.cursor, self.many]

    def turn(self, step: int) -> None:
        self.turns[step % len(self.turns)](step)

    def close(self) -> None:
        self.connection.close()

    def values(self, step: int) -> None:
        word = f"{self.number}.{step}"
        row = self.connection.execute("select %s::int * 2, %s::text as word", (step, word)).fetchone()
        assert row == (2 * step, word)
        assert self.connection.execute("select %s::text as other", (word,)).fetchone() == (word,)

    def transaction(self, step: int) -> None:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.execute(DELETE, (self.number,))
            cursor.executemany(INSERT, [(self.number, n, f"{step}") for n in range(9)])
            assert cursor.execute(COUNT, (self.number,)).fetchone() == (9, f"{step}")

    def error(self, step: int) -> None:
        with pytest.raises(psycopg.errors.DivisionByZero):
            self.connection.execute("select %s::int / %s::int", (step, 0))
        with pytest.raises(psycopg.errors.UniqueViolation):
            self.do_twice()
        assert self.connection.execute("select %s::int / %s::int", (step, 1)).fetchone() == (step,)

    def do_twice(self) -> None:
        with self.connection.transaction():
            self.connection.execute(DELETE, (self.number,))
            for _ in range(2):
                self.connection.execute(INSERT, (self.number, 1, "twice"))

    def pipeline(self, step: int) -> None:
        with self.connection.pipeline():
            cursors = [self.connection.execute(f"select %s::int + {n % 6}", (step,)) for n in range(24)]
            assert [cursor.fetchone() for cursor in cursors] == [(step + n % 6,) for n in range(24)]
        with pytest.raises(psycopg.errors.DivisionByZero):
            self.failing_pipeline(step)

    def failing_pipeline(self, step: int) -> None:
        with self.connection.pipeline():
            self.connection.execute("select %s::int + 1", (step,))
            self.connection.execute("select %s::int / %s::int", (step, 0))
            self.connection.execute(f"select %s::int + {100 + step}", (step,))

    def cursor(self, step: int) -> None:
        with self.connection.transaction(), self.connection.cursor("chosen") as cursor:
            cursor.execute("select n + %s::int from generate_series(1, 50) n", (step,))
            assert [row[0] for row in cursor] == [n + step for n in range(1, 51)]

    def many(self, step: int) -> None:
        """Each text is run often enough to be prepared, and there are more of them than may be."""
        for n in range(6):
            for _ in range(2):
                row = self.connection.execute(f"select %s::int as c{n + step % 3}", (n,), prepare=True)
                assert row.fetchone() == (n,)


@THRESHOLDS
def test_a_crowd_with_automatic_prepare(place: Place, threshold: int) -> None:
    play(place, lambda number: Client(place, number, threshold), of_psycopg)


@pytest.mark.parametrize("place", ["postgresql", CALM], indirect=True)
def test_the_driver_really_prepares(place: Place) -> None:
    """What the other tests rely on: after five runs the statement has a name on the server."""
    client = Client(place, 0, 5)
    with client.connection.transaction():
        for n in range(9):
            client.values(n)
        names = client.connection.execute("select 1 from pg_prepared_statements", prepare=False).fetchall()
        assert names
    client.close()


class AsyncClient(AsyncPlayer):
    """Runs a few statements, in and out of transactions and pipelines."""

    def __init__(self, connection: AsyncConnection, number: int) -> None:
        self.connection, self.number = connection, number

    async def turn(self, step: int) -> None:
        word = f"{self.number}.{step}"
        cursor = await self.connection.execute("select %s::text as word", (word,))
        assert await cursor.fetchone() == (word,)
        async with self.connection.transaction():
            for n in range(3):
                cursor = await self.connection.execute("select %s::int + %s::int", (n, step))
                assert await cursor.fetchone() == (n + step,)
                await asyncio.sleep(0)
        async with self.connection.pipeline():
            cursors = [await self.connection.execute("select %s::text", (f"{word}.{n}",)) for n in range(9)]
            assert [await each.fetchone() for each in cursors] == [(f"{word}.{n}",) for n in range(9)]

    async def close(self) -> None:
        await self.connection.close()


@THRESHOLDS
async def test_an_asynchronous_crowd_with_automatic_prepare(place: Place, threshold: int) -> None:
    async def join(number: int) -> AsyncClient:
        info = place.target.conninfo(place.database)
        connect = psycopg.AsyncConnection.connect
        return AsyncClient(await connect(info, autocommit=True, prepare_threshold=threshold), number)

    await play_async(place, join, of_psycopg)

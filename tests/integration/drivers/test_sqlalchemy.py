"""SQLAlchemy over psycopg and over asyncpg, with both drivers as its dialects set them up."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import Engine, String, create_engine, delete, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.integration.drivers.crowd import CLIENTS, AsyncPlayer, Place, Player, play, play_async
from tests.integration.drivers.losses import of_asyncpg, of_psycopg

pytestmark = [
    pytest.mark.usefixtures("alive"),
    # Cursors on connections that were lost are never closed.
    pytest.mark.filterwarnings("ignore:.*ServerCursor.*was deleted:ResourceWarning"),
]


class Base(DeclarativeBase):
    """What declarative classes derive from."""


class Deed(Base):
    """A row of the clients' table."""

    __tablename__ = "deeds"

    client: Mapped[int] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(String)


def url(place: Place, driver: str) -> str:
    target = place.target
    return f"postgresql+{driver}://{target.user}@{target.host}:{target.port}/{place.database}"


def is_loss(error: Exception) -> bool:
    """SQLAlchemy finds out that the connection is gone; not so while it makes one, or asyncpg is confused."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    original = getattr(error, "orig", error)
    causes = [each for each in (original, original.__cause__) if isinstance(each, Exception)]
    return any(of_psycopg(each) or of_asyncpg(each) for each in causes)


def deeds_of(number: int, step: int) -> list[Deed]:
    return [Deed(client=number, n=n, word=f"{step}") for n in range(12)]


class Client(Player):
    """A thread of an application with an engine that all share."""

    def __init__(self, engine: Engine, number: int) -> None:
        self.engine, self.number = engine, number
        self.turns = [self.core, self.orm, self.error, self.stream]

    def turn(self, step: int) -> None:
        self.turns[step % len(self.turns)](step)

    def close(self) -> None:
        """The engine keeps the connections."""

    def core(self, step: int) -> None:
        with self.engine.connect() as connection:
            for n in range(8):
                value = connection.execute(text("select :n + 1 as n, :word as word"), {"n": n, "word": "w"})
                assert value.one() == (n + 1, "w")
            connection.commit()
            count = select(func.count()).select_from(Deed).where(Deed.client == -1 - step)
            assert connection.scalar(count) == 0

    def orm(self, step: int) -> None:
        with Session(self.engine) as session, session.begin():
            session.execute(delete(Deed).where(Deed.client == self.number))
            session.add_all(deeds_of(self.number, step))
            session.flush()
            found = session.get(Deed, (self.number, 3))
            assert found is not None
            found.word = "changed"
        with Session(self.engine) as session:
            mine = select(Deed.word).where(Deed.client == self.number).order_by(Deed.n)
            words = session.scalars(mine).all()
            assert words == [f"{step}"] * 3 + ["changed"] + [f"{step}"] * 8

    def error(self, step: int) -> None:
        with pytest.raises(IntegrityError):
            self.do_nothing()
        self.core(step)

    def do_nothing(self) -> None:
        with Session(self.engine) as session, session.begin():
            session.execute(delete(Deed).where(Deed.client == self.number))
            session.add(Deed(client=self.number, n=1, word=None))

    def stream(self, step: int) -> None:
        numbers = text("select n from generate_series(1, :top) n")
        with self.engine.connect() as connection:
            rows = connection.execution_options(yield_per=20).execute(numbers, {"top": 50 + step % 4})
            assert len(rows.all()) == 50 + step % 4


@pytest.fixture
def engine(place: Place) -> Iterator[Engine]:
    engine = create_engine(url(place, "psycopg"), pool_size=CLIENTS)
    yield engine
    engine.dispose()


def test_a_crowd_over_psycopg(place: Place, engine: Engine) -> None:
    play(place, lambda number: Client(engine, number), is_loss)


class AsyncClient(AsyncPlayer):
    """A task of an application with an engine that all share."""

    def __init__(self, engine: AsyncEngine, number: int) -> None:
        self.engine, self.number = engine, number
        self.turns = [self.core, self.orm, self.error, self.stream]

    async def turn(self, step: int) -> None:
        await self.turns[step % len(self.turns)](step)

    async def close(self) -> None:
        """The engine keeps the connections."""

    async def core(self, step: int) -> None:
        async with self.engine.connect() as connection:
            for n in range(8):
                query = text("select cast(:n as int) + 1, cast(:word as text)")
                value = await connection.execute(query, {"n": n, "word": "w"})
                assert value.one() == (n + 1, "w")
                await asyncio.sleep(0)

    async def orm(self, step: int) -> None:
        async with AsyncSession(self.engine) as session, session.begin():
            await session.execute(delete(Deed).where(Deed.client == self.number))
            session.add_all(deeds_of(self.number, step))
            await session.flush()
            found = await session.get(Deed, (self.number, 3))
            assert found is not None
            found.word = "changed"
        async with AsyncSession(self.engine) as session:
            mine = select(Deed.word).where(Deed.client == self.number).order_by(Deed.n)
            words = (await session.scalars(mine)).all()
            assert words == [f"{step}"] * 3 + ["changed"] + [f"{step}"] * 8

    async def error(self, step: int) -> None:
        with pytest.raises(IntegrityError):
            await self.do_nothing()
        await self.core(step)

    async def do_nothing(self) -> None:
        async with AsyncSession(self.engine) as session, session.begin():
            await session.execute(delete(Deed).where(Deed.client == self.number))
            session.add(Deed(client=self.number, n=1, word=None))

    async def stream(self, step: int) -> None:
        numbers = text("select n from generate_series(1, cast(:top as int)) n")
        async with self.engine.connect() as connection:
            rows = await connection.stream(numbers, {"top": 50 + step % 4})
            assert len(await rows.all()) == 50 + step % 4


@pytest.fixture
async def async_engine(place: Place) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url(place, "asyncpg"), pool_size=CLIENTS, connect_args={"ssl": False})
    yield engine
    await engine.dispose()


async def test_a_crowd_over_asyncpg(place: Place, async_engine: AsyncEngine) -> None:
    async def join(number: int) -> AsyncClient:
        return AsyncClient(async_engine, number)

    await play_async(place, join, is_loss)

"""The habits of the JDBC driver: a name from the fifth run on, one Describe, batches, portals."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.drivers.conftest import CALM
from tests.integration.drivers.crowd import Place, play
from tests.integration.drivers.jdbc import Jdbc, ServerError
from tests.integration.drivers.losses import CODES

pytestmark = pytest.mark.usefixtures("alive")

INSERT = "insert into deeds values ($1::int4, $2::int4, $3)"
MINE = "select n, word from deeds where client = $1::int4 order by n"


def is_loss(error: Exception) -> bool:
    """An error and the end of the connection while a query ran, or its end alone."""
    lost = isinstance(error, ServerError) and error.sqlstate in CODES
    return lost or isinstance(error, EOFError | ConnectionError)


@contextmanager
def refused(sqlstate: str) -> Iterator[None]:
    """The statement fails with this code; a loss of the connection is not caught."""
    try:
        yield
    except ServerError as error:
        if error.sqlstate != sqlstate:
            raise
    else:
        pytest.fail(f"{sqlstate} was expected")


class Client(Jdbc):
    """Does a little of everything in its turns."""

    def __init__(self, place: Place, number: int, *, cache: int, deallocates: bool) -> None:
        super().__init__(place.target, place.database, cache=cache, deallocates=deallocates)
        self.number = number
        self.turns = [self.values, self.work, self.fail, self.read, self.many]

    def turn(self, step: int) -> None:
        self.turns[step % len(self.turns)](step)

    def values(self, step: int) -> None:
        for n in range(7):
            word = f"{self.number}.{step}.{n}"
            assert self.execute("select $1::int4 as n, $2 as word", [n, word]) == [(n, word)]

    def work(self, step: int) -> None:
        self.autocommit = False
        self.execute("delete from deeds where client = $1::int4", [self.number])
        assert self.batch(INSERT, [(self.number, n, f"{step}") for n in range(30)]) == 30
        assert self.execute(MINE, [self.number]) == [(n, f"{step}") for n in range(30)]
        self.end()
        self.autocommit = True

    def fail(self, step: int) -> None:
        for _ in range(6):
            with refused("22012"):
                self.execute("select $1::int4 / $2::int4 as n", [step, 0])
        self.autocommit = False
        with refused("23505"):
            self.batch(INSERT, [(self.number, -1, "twice")] * 2)
        with refused("25P02"):
            self.execute(MINE, [self.number])
        self.end("ROLLBACK")
        self.autocommit = True
        assert self.execute("select $1::int4 / $2::int4 as n", [step, 1]) == [(step,)]

    def read(self, step: int) -> None:
        self.autocommit = False
        text = "select n + $1::int4 as n from generate_series(1, 40) n"
        for _ in range(6):
            assert self.fetch(text, [step], 7) == [(n + step,) for n in range(1, 41)]
        self.end()
        self.autocommit = True

    def many(self, step: int) -> None:
        """So many texts that a small cache forgets some that are prepared."""
        for n in range(6):
            for _ in range(5):
                assert self.execute(f"select $1::int4 as c{n + step % 3}", [n]) == [(n,)]
        if step % 10 == 4:
            assert self.simple("DEALLOCATE ALL") == ["DEALLOCATE ALL"]


@pytest.mark.parametrize(
    ("cache", "deallocates"), [(256, False), (4, False), (4, True)], ids=["usual", "small", "by DEALLOCATE"]
)
def test_a_crowd_of_scripted_jdbc_clients(place: Place, cache: int, deallocates: bool) -> None:
    play(place, lambda number: Client(place, number, cache=cache, deallocates=deallocates), is_loss)


@pytest.mark.parametrize("place", ["postgresql", CALM], indirect=True)
def test_a_name_that_was_deallocated_is_free_and_unknown(place: Place) -> None:
    client = Jdbc(place.target, place.database)
    for n in range(6):
        assert client.execute("select $1::int4 as n", [n]) == [(n,)]
    with pytest.raises(ServerError, match='26000: prepared statement "s_1" does not exist'):
        client.simple("DEALLOCATE S_1")
    assert client.simple('DEALLOCATE "S_1"') == ["DEALLOCATE"]
    with pytest.raises(ServerError, match='26000: prepared statement "S_1" does not exist'):
        client.execute("select $1::int4 as n", [7])
    with pytest.raises(ServerError, match='26000: prepared statement "S_1" does not exist'):
        client.simple('DEALLOCATE "S_1"')
    client.forget_all()
    assert client.execute("select $1::int4 as n", [8]) == [(8,)]
    client.close()

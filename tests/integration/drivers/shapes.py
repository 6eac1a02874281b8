"""Tables that change under prepared statements, and clients which remember what the columns were.

Law: a migration takes the same way as the clients, unless a test says otherwise.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import count

import pytest

from tests.integration.drivers.conftest import ONE, PAIR
from tests.integration.drivers.crowd import Place
from tests.integration.drivers.jdbc import Jdbc, ServerError
from tests.support.wire import Raw

DIRECT = "postgresql"
EVERYWHERE = pytest.mark.parametrize("place", [DIRECT, ONE, PAIR], indirect=True)
WITH_ONE_SERVER = pytest.mark.parametrize("place", [DIRECT, ONE], indirect=True)
WITH_TWO_SERVERS = pytest.mark.parametrize("place", [PAIR], indirect=True)
POOLED = pytest.mark.parametrize("place", [ONE, PAIR], indirect=True)

Row = dict[str, object]
STALE = "cached plan must not change result type"

OLD: Row = {"n": 1, "word": "7"}
CHANGES: dict[str, Row] = {
    "alter table {} add column more text default 'more'": {"n": 1, "word": "7", "more": "more"},
    "alter table {} alter column word type int using word::int": {"n": 1, "word": 7},
}
"""A migration, and the only row after it."""
EVERY_CHANGE = pytest.mark.parametrize("change", CHANGES, ids=["add column", "change type"])
ADD = "alter table {} add column more text"
ADDED: Row = {**OLD, "more": None}

_numbers = count(1)


class Remembering(Jdbc):
    """Has the columns of `select *` in its memory, and asks for them no more."""

    def __init__(self, place: Place, table: str) -> None:
        super().__init__(place.target, place.database)
        self.sql = f"select * from {table}"
        for _ in range(6):
            assert self.look() == OLD
        assert self.statements[self.sql].name == "S_1"

    def look(self) -> dict[str, object]:
        (row,) = self.execute(self.sql)
        columns = self.statements[self.sql].columns
        assert columns is not None
        return dict(zip((column.name for column in columns), row, strict=True))

    def is_told(self) -> None:
        """It looks, and hears PostgreSQL's error, unchanged. It forgets what it has prepared."""
        with pytest.raises(ServerError) as caught:
            self.look()
        told = {code: caught.value.fields[code] for code in "SVCMR"}
        expected = {"S": "ERROR", "V": "ERROR", "C": "0A000", "M": STALE, "R": "RevalidateCachedQuery"}
        assert told == expected
        self.forget_all()


class Shapes:
    """A table of one row, and the clients of one test."""

    def __init__(self, place: Place, clients: ExitStack) -> None:
        self.place = place
        self.clients = clients
        self.table = f"shape_{next(_numbers)}"
        self.sql = f"select * from {self.table}"

    def migrate(self, change: str) -> None:
        """Runs the statement with the table's name in it, the way that clients take."""
        with self.place.target.raw(self.place.database) as client:
            client.rows(change.format(self.table))

    def remembering(self) -> Remembering:
        """A client that has run the statement often enough."""
        return self.clients.enter_context(closing(Remembering(self.place, self.table)))

    def fresh(self) -> Jdbc:
        """A client that has prepared nothing yet, and will prepare everything at once."""
        client = Jdbc(self.place.target, self.place.database, threshold=1)
        return self.clients.enter_context(closing(client))

    def hold_server(self, pid: str) -> ExitStack:
        """Keeps this one of a pool's two servers busy until the end of the `with`."""
        held = ExitStack()
        pair = [held.enter_context(self.place.target.raw(self.place.database)) for _ in range(2)]
        for client in pair:
            client.rows("begin")
        used = [used_by(client) for client in pair]
        pair[1 - used.index(pid)].rows("rollback")
        return held


def used_by(client: Raw) -> str:
    """The server that this client is lent; out of a transaction also the one that is lent next."""
    pid = client.value("select pg_backend_pid()")
    assert pid is not None
    return pid


@pytest.fixture
def shapes(place: Place) -> Iterator[Shapes]:
    """A new table, owned by the role that the clients log in as; clients leave before it does."""
    with ExitStack() as clients:
        shapes = Shapes(place, clients)
        shapes.migrate("create table {0}(n int, word text); insert into {0} values (1, '7')")
        yield shapes
    shapes.migrate("set lock_timeout = '5s'; drop table {}; reset lock_timeout")

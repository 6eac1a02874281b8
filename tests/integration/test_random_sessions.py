"""Random conversations, played at PostgreSQL and through the pooler: every reply must be the same.

Requests of all kinds follow each other without waiting: errors, transactions,
COPY in every shape, portals, flushes, function calls. A seed that fails is
played again by `-k "[SEED-..."`.
"""

import contextlib
import random
import threading
from collections.abc import Callable

import pytest

from tests.integration.test_same_replies import normal
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import ONE, SESSION_ONE, howdah_only
from tests.support.target import Target
from tests.support.wire import Raw

pytestmark = [
    pytest.mark.usefixtures("alive"),
    howdah_only("PgBouncer 1.18 answers some of them differently"),
]

SEEDS = range(40)
END = "the end of the script"

QUERIES = [
    "select 1",
    "",
    "select 1; select 2; select 'three'",
    "select 1; select 1/0; select 2",
    "selekt",
    "begin",
    "begin; select 1",
    "commit",
    "rollback",
    "savepoint s",
    "rollback to s",
    "set timezone = 'Asia/Tokyo'",
    "set local timezone = 'UTC'",
    "reset timezone",
    "show timezone",
    "do $$ begin raise notice 'n'; end $$",
    "select repeat('x', 30000)",
    "select n from generate_series(1, 500) n",
    "insert into random_rows values (1)",
    "copy (select n from generate_series(1, 20) n) to stdout",
    "copy (select 1 / (3 - n) from generate_series(1, 9) n) to stdout",
]
EXTENDED = [
    *QUERIES[:2],
    "select $1::text",
    "select 1/0",
    "selekt",
    "select generate_series(1, 9)",
    *QUERIES[5:15],
]


class Author:
    """Writes one script; `named` statements only where the session keeps its server."""

    def __init__(self, seed: int, *, named: bool) -> None:
        self.random = random.Random(seed)
        self.named = named

    def script(self) -> bytes:
        parts: list[Callable[[], bytes]] = [
            self.simple,
            self.simple,
            self.batch,
            self.batch,
            self.copy_in,
            self.call,
        ]
        middle = b"".join(self.random.choice(parts)() for _ in range(self.random.randrange(1, 25)))
        return middle + m.sync() + m.query(f"rollback; reset all; select '{END}'")

    def simple(self) -> bytes:
        return m.query(self.random.choice(QUERIES))

    def call(self) -> bytes:
        arguments = [m.int32(1)] * self.random.choice([2, 2, 1])
        return m.function_call(177, arguments)

    def batch(self) -> bytes:
        """A few messages of the extended protocol, most often with a Sync at the end."""
        data = b"".join(self.message() for _ in range(self.random.randrange(1, 12)))
        return data + (m.sync() if self.random.random() < 0.9 else b"")

    def message(self) -> bytes:
        choose = self.random.choice
        statement = choose(["", "", "s1", "s2"]) if self.named else ""
        portal = choose(["", "", "p1"])
        match choose("PPBBDEEEHCS"):
            case "P":
                return m.parse(statement, choose(EXTENDED))
            case "B":
                return m.bind(portal, statement, ["x"] * choose([0, 0, 1]))
            case "D":
                return m.describe(*choose([(b"S", statement), (b"P", portal)]))
            case "E":
                return m.execute(portal, choose([0, 0, 2]))
            case "H":
                return m.flush()
            case "C":
                return m.close(*choose([(b"S", statement), (b"P", portal)]))
            case _:
                return m.sync()

    def copy_in(self) -> bytes:
        """A COPY FROM with what follows it, right or wrong, by either protocol."""
        choose = self.random.choice
        start = "copy random_rows from stdin"
        extended = choose([True, False])
        data = m.parse("", start) + m.bind() + m.execute() + m.sync() if extended else m.query(start)
        # A Sync among the data is left out: after an error nobody but the server knows if it counts.
        data += choose([b"", b"", m.sync()])
        pieces = [m.copy_data(b"7\n"), m.copy_data(b"7\n"), m.copy_data(b"x\n"), m.flush()]
        data += b"".join(choose(pieces) for _ in range(self.random.randrange(4)))
        data += choose([m.copy_done(), m.copy_done(), m.copy_fail("no")])
        return data + (m.sync() if extended else b"")


def send(client: Raw, script: bytes) -> None:
    with contextlib.suppress(OSError):
        client.send(script)


def played(target: Target, database: str, script: bytes) -> list[object]:
    """Every reply up to the end of the script, normalised; ParameterStatus apart."""
    with target.raw(database) as client:
        sender = threading.Thread(target=send, args=(client, script))
        sender.start()
        got: list[m.Message] = []
        try:
            while not (got and got[-1].tag == b"Z" and [END] in m.rows(got[-4:])):
                got.extend(client.until(within=20))
        except EOFError:
            # PostgreSQL gives up a connection on which a request comes in the middle of COPY data.
            sender.join()
            return [*(normal(message) for message in got if message.tag != b"S"), "closed"]
        sender.join()
        assert client.silent_for(0.02)
        client.quit()
    statuses = [message for message in got if message.tag == b"S"]
    return [*(normal(message) for message in got if message.tag != b"S"), len(statuses)]


@pytest.fixture(autouse=True)
def table(server: Server) -> None:
    server.sql("create table if not exists random_rows(n int)")
    server.sql("grant all on random_rows to public")


@pytest.mark.parametrize("database", [ONE, SESSION_ONE])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_conversations_are_answered_as_by_postgresql(
    pooler: Pooler, server: Server, seed: int, database: str
) -> None:
    script = Author(seed, named=database == SESSION_ONE).script()
    assert played(pooler, database, script) == played(server, server.database, script)

"""The texts of prepared statements that clients share, as SHOW lists them: the most used first.

Law of this file: there may be very many, so nothing here takes long at a stretch. What has to be done before
the first row is known is done in parts, with None between them.
"""

from codecs import getincrementaldecoder
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import merge
from typing import Final

from proxy.names import to_wire
from proxy.pool.statements import Preparation, Registry, ServerStatements, Statement
from proxy.snapshot import StatementSnapshot, text

TEXT_LIMIT: Final = 1000
"""Bytes of a query that are shown; about as many as PostgreSQL shows in pg_stat_activity."""
PART: Final = 1000
"""How many statements are counted or sorted in one go."""

_decoder: Final = getincrementaldecoder("utf-8")


def listed(registry: Registry, servers: Iterable[ServerStatements]) -> Iterator[StatementSnapshot | None]:
    """Each shared text, by how often it was used."""
    preparations: list[Preparation] = []
    for server in servers:
        preparations += server.prepared.values()
    statements = list(registry.statements.values())
    holders = Counter[Statement]()
    for at in range(0, len(preparations), PART):
        holders.update(each.statement for each in preparations[at : at + PART] if each.confirmed)
        yield None
    # Uses and place in one number: so many tuples would set the garbage collector going over everything.
    total = len(statements)
    runs: list[list[int]] = []
    for at in range(0, total, PART):
        part = enumerate(statements[at : at + PART], at)
        runs.append(sorted((statement.uses * total - place for place, statement in part), reverse=True))
        yield None
    for rank in merge(*runs, reverse=True):
        statement = statements[-rank % total]
        yield _shown(statement, -(-rank // total), holders[statement])


def _shown(statement: Statement, uses: int, servers: int) -> StatementSnapshot:
    return StatementSnapshot(
        database=text(to_wire(statement.key[0].database)),
        user=text(to_wire(statement.key[0].user)),
        text=_query(statement.text),
        clients=statement.clients,
        uses=uses,
        servers=servers,
        bytes=statement.size,
        generation=statement.ddl,
    )


def _query(body: bytes) -> str:
    """The query in the body of a Parse; a long one is cut between two characters."""
    query, ended, _ = body[: TEXT_LIMIT + 1].partition(b"\0")
    if ended:
        return text(query)
    return _decoder("backslashreplace").decode(query[:TEXT_LIMIT]) + "..."

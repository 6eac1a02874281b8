"""One question of ours with bound values, asked at a server under settings that nobody else can choose.

Settings and question travel in one group of extended messages, which PostgreSQL runs as one transaction: what
is set is gone with it, whatever comes of the question. So the settings hold also where a pooler stands in
between, and nothing about the connection has to be trusted.
"""

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from protocol import tags
from protocol.backend import DataRow
from protocol.frontend import Bind, Execute, Parse, Sync
from protocol.looks import BACKEND
from proxy.errand import Errand
from proxy.errors import TimedOut
from proxy.stay import Stay, answer

if TYPE_CHECKING:
    from proxy.pool.pool import Pool

Row = tuple[bytes | None, ...]

MOST_BYTES: Final = 1 << 20
"""Longest row, and longest answer, that is taken."""
GRACE: Final = 1.0
"""How much longer than the statement itself may run we wait for what PostgreSQL says of it (s)."""
OWN_PATH: Final = ""
SAFE_PATH: Final = ", pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)"
"""What is set of the search_path: nothing, or that only names in pg_catalog need no schema."""

_CAPS: Final = tuple(min(cap, MOST_BYTES) if tag == tags.DATA_ROW else cap for tag, cap in enumerate(BACKEND))
# PostgreSQL gives names as bytes of no encoding: in the server's own nothing is converted.
_SETTINGS: Final = (
    "SELECT pg_catalog.set_config('standard_conforming_strings', 'on', true), "
    "pg_catalog.set_config('client_encoding', pg_catalog.current_setting('server_encoding'), true), "
    "pg_catalog.set_config('statement_timeout', '%d', true)"
)
_SYNC: Final = Sync().encode()


class TooMuch(Exception):
    """The answer is longer than anybody can have meant."""

    def __init__(self) -> None:
        super().__init__(f"the answer has more than {MOST_BYTES} bytes")


class Answer(Errand):
    """Keeps every row; the first is that of the settings."""

    __slots__ = ("rows", "size")

    def __init__(self) -> None:
        super().__init__(answer, _CAPS)
        self.rows: list[bytes] = []
        self.size = 0

    def take(self, row: bytes) -> None:
        """The body of a DataRow came."""
        self.size += len(row)
        if self.size <= MOST_BYTES:
            self.rows.append(row)


class Question(Stay):
    """`error` is PostgreSQL's ErrorResponse where it answered by one, and `where` the server's log prefix."""

    def __init__(
        self, pool: "Pool", sql: bytes, values: Sequence[bytes], most: int, begun: Callable[[], None]
    ) -> None:
        super().__init__(0, pool)
        self.error: bytes | None = None
        self.where = ""
        self._sql = sql
        self._values = list(values)
        self._most = most
        self._begun = begun

    async def put(self, now: int, path: str) -> list[Row]:
        """Wait for a server, ask, and return the rows of the answer, at most as many as wanted. Between the
        two `begun` is called: from then on it costs less to hear the answer than not to.

        `path`: OWN_PATH or SAFE_PATH. Where PostgreSQL answers by an error there are no rows, and `error` is
        set. Raises PoolerError, ProtocolError, TooMuch.
        """
        try:
            server = await self.borrow(now)
            self.where = str(server.prefix)
            self._begun()
            limit = self.pool.common.auth_query_timeout
            found = Answer()
            async with asyncio.timeout(limit + GRACE if limit else None):
                self.error = await self.run(server, found, self._messages(limit, path))
        except TimeoutError:
            raise TimedOut("auth_query_timeout") from None
        finally:
            self.leave()
        if found.size > MOST_BYTES:
            raise TooMuch
        if self.error is not None:
            return []
        return [tuple(DataRow.decode(row).values) for row in found.rows[1:]]

    def _messages(self, limit: float, path: str) -> bytes:
        bind = Bind(b"", b"", values=list[bytes | None](self._values)).encode()
        begin = _parsed(self._sql, int(limit * 1000), path)
        return b"".join((begin, bind, Execute(b"", self._most).encode(), _SYNC))


@functools.lru_cache(maxsize=64)
def _parsed(sql: bytes, milliseconds: int, path: str) -> bytes:
    """Everything up to where the values come in: the same from question to question."""
    settings = _SETTINGS % milliseconds + path
    parts = (Parse(b"", settings.encode()), Bind(b"", b""), Execute(b"", 0), Parse(b"", sql))
    return b"".join(part.encode() for part in parts)

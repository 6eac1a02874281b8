"""Plays cells by a driver, and says what came of each."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import psycopg
from psycopg.conninfo import make_conninfo

from proxy.demo.binaries import find
from tests.conformance.login_matrix import stage
from tests.conformance.login_matrix.rule import Cell, Client, Driver, Outcome, expected
from tests.support.certificates import Pki
from tests.support.pooler import Pooler
from tests.support.postgres import ROLES, PostgresServer, started

_PATIENCE = 20
_NOT_BELIEVED = ("authentication failed", "certificate", "no such user")


@dataclass
class Played:
    """How many cells there were, and those that went otherwise than the rule says, in the driver's words."""

    count: int = 0
    wrong: list[str] = field(default_factory=list)


class _Loop(asyncio.SelectorEventLoop):
    """Knows its connections: after a refusal by TLS a driver does not wait until they are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[asyncio.Transport] = []

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        made = await super().create_connection(*arguments, **options)
        self.made.append(made[0])
        return made


async def _end_connections() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _Loop)
    for transport in loop.made:
        transport.abort()


class Stage:
    """The servers, and the pooler that is up at the moment."""

    def __init__(self, clear: PostgresServer, secure: PostgresServer, pki: Pki) -> None:
        self._servers = {False: clear, True: secure}
        self._pki = pki
        self._stored = {
            tls: {
                str(name): str(secret)
                for name, secret in server.sql("select rolname, rolpassword from pg_authid")
            }
            for tls, server in self._servers.items()
        }

    def play(self, cells: Iterable[Cell]) -> Played:
        """Every cell, pooler by pooler."""
        played = Played()
        groups: dict[tuple[Client, bool], list[Cell]] = {}
        for cell in cells:
            method = Client.SCRAM if cell.client is Client.PLUS else cell.client
            groups.setdefault((method, cell.tls), []).append(cell)
        for (client, tls), group in groups.items():
            with self._pooler(client, tls) as pooler, asyncio.Runner(loop_factory=_Loop) as runner:
                runner.run(self._group(pooler, group, played))
                runner.run(_end_connections())
        return played

    @contextlib.contextmanager
    def _pooler(self, client: Client, tls: bool) -> Iterator[Pooler]:
        server = self._servers[tls]
        with stage.pooler(client, self._pki, server.host, server.port, self._stored[tls], tls=tls) as pooler:
            yield pooler

    async def _group(self, pooler: Pooler, group: list[Cell], played: Played) -> None:
        for cell in group:
            played.count += 1
            text = await self._login(pooler, cell)
            outcome = _outcome(text)
            if outcome is not expected(cell):
                played.wrong.append(f"{cell}: {expected(cell).value}, but {text or 'was let in'}")

    async def _login(self, pooler: Pooler, cell: Cell) -> str:
        """Log in and ask something; the words of the refusal, empty for none."""
        play = self._by_psycopg if cell.driver is Driver.PSYCOPG else self._by_asyncpg
        try:
            async with asyncio.timeout(_PATIENCE):
                await play(pooler, cell)
        except (psycopg.Error, asyncpg.PostgresError, OSError) as error:
            return " ".join(str(error).split()) or type(error).__name__
        return ""

    async def _by_psycopg(self, pooler: Pooler, cell: Cell) -> None:
        options = self._libpq_tls(cell) if cell.tls else {"sslmode": "disable"}
        place = make_conninfo(
            "",
            host="127.0.0.1",
            port=pooler.port,
            user=stage.user_of(cell),
            password=_password(cell),
            dbname=stage.database_of(cell),
            connect_timeout=_PATIENCE,
            **options,
        )
        with psycopg.connect(place, autocommit=True) as connection:
            assert connection.execute("select 1").fetchone() == (1,)

    async def _by_asyncpg(self, pooler: Pooler, cell: Cell) -> None:
        context: ssl.SSLContext | bool = False
        if cell.tls:
            context = ssl.create_default_context(cafile=os.fspath(self._pki.ca))
            if cell.client is Client.CERT:
                files = self._pki.client(_certified(cell))
                context.load_cert_chain(files.certificate, files.key)
        connection = await asyncpg.connect(
            host="127.0.0.1",
            port=pooler.port,
            user=stage.user_of(cell),
            password=_password(cell),
            database=stage.database_of(cell),
            ssl=context,
            timeout=_PATIENCE,
        )
        try:
            assert await connection.fetchval("select 1") == 1
        finally:
            await connection.close()

    def _libpq_tls(self, cell: Cell) -> dict[str, str]:
        options = {
            "sslmode": "verify-full",
            "sslrootcert": os.fspath(self._pki.ca),
            "channel_binding": "require" if cell.client is Client.PLUS else "disable",
        }
        if cell.client is Client.CERT:
            files = self._pki.client(_certified(cell))
            options |= {"sslcert": os.fspath(files.certificate), "sslkey": os.fspath(files.key)}
        return options


@contextlib.contextmanager
def staged(pki: Pki) -> Iterator[Stage]:
    """The newest PostgreSQL there is without TLS, and the system's with it. Raises NoPostgres."""
    files, roles, hba = pki.server(), (*ROLES, *stage.roles()), stage.hba()
    tls = (files.certificate, files.key)
    with (
        started(find(), hba=hba, roles=roles) as clear,
        started(find(origin="system"), hba=hba, roles=roles, tls=tls) as secure,
    ):
        yield Stage(clear, secure, pki)


def _password(cell: Cell) -> str:
    return stage.password_of(stage.user_of(cell)) if cell.right else "wrong"


def _certified(cell: Cell) -> str:
    return stage.user_of(cell) if cell.right else "somebody_else"


def _outcome(text: str) -> Outcome:
    if not text:
        return Outcome.IN
    return Outcome.NOT_BELIEVED if any(words in text for words in _NOT_BELIEVED) else Outcome.NO_SERVER

"""Real drivers on a real socket, with a console behind a login that lets everyone in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import cast

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest
from psycopg.rows import dict_row

from protocol import tags
from protocol.backend import AuthenticationOk, BackendKeyData, ParameterStatus, ReadyForQuery
from protocol.startup import CancelRequest, Startup, packet_length, parse_startup
from proxy.admin.console import GREETING, Console
from tests.proxy.admin.harness import ADMIN, Admin
from tests.support import messages as m

pytestmark = pytest.mark.both_loops


class AdminPort(asyncio.Protocol):
    """One connection: refuses TLS, welcomes everyone, then is a console."""

    def __init__(self, admin: Admin) -> None:
        self.admin = admin
        self.buffer = bytearray()
        self.console: Console | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.console is not None:
            self.console.receive(data)
            return
        self.buffer += data
        while (length := packet_length(self.buffer)) and len(self.buffer) >= length:
            packet = bytes(self.buffer[:length])
            del self.buffer[:length]
            self.greet(parse_startup(packet))

    def greet(self, packet: object) -> None:
        if isinstance(packet, Startup):
            self.console = Console(
                ADMIN, self.transport.write, self.transport.close, self.admin.snapshots, self.admin.control
            )
            self.admin.console = self.console
            status = b"".join(ParameterStatus(name, value).encode() for name, value in GREETING.items())
            key = BackendKeyData(1, b"key!").encode()
            ready = ReadyForQuery(tags.STATUS_IDLE).encode()
            self.transport.write(AuthenticationOk().encode() + status + key + ready)
        elif isinstance(packet, CancelRequest):
            self.admin.console.cancel()
            self.transport.close()
        else:
            self.transport.write(b"N")

    def connection_lost(self, error: Exception | None) -> None:
        if self.console is not None:
            self.console.lost()


@asynccontextmanager
async def listening(admin: Admin) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(lambda: AdminPort(admin), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def psycopg_console(admin: Admin) -> AsyncIterator[psycopg.AsyncConnection[dict[str, object]]]:
    async with listening(admin) as port:
        connection = await psycopg.AsyncConnection.connect(
            host="127.0.0.1",
            port=port,
            user="alice",
            dbname="pgbouncer",
            autocommit=True,
            row_factory=dict_row,
        )
        async with connection:
            yield connection


@asynccontextmanager
async def asyncpg_console(admin: Admin) -> AsyncIterator[asyncpg.Connection]:
    async with listening(admin) as port:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user="alice", database="pgbouncer", ssl=False
        )
        try:
            yield connection
        finally:
            await connection.close()


@pytest.mark.parametrize("binary", [False, True])
async def test_psycopg_reads_results_in_both_formats(binary: bool) -> None:
    async with psycopg_console(Admin()) as connection:
        cursor = await connection.execute("SHOW STATS", binary=binary)
        row = await cursor.fetchone()
        assert row is not None
        assert (row["database"], row["total_xact_count"]) == ("app", Decimal(2_000_000))
        cursor = await connection.execute("SHOW POOLS", binary=binary)
        row = await cursor.fetchone()
        assert row is not None
        assert (row["user"], row["maxwait"], row["load_balance_hosts"]) == ("alice", 3, None)


async def test_psycopg_prepares_and_repeats() -> None:
    async with psycopg_console(Admin()) as connection:
        for _ in range(8):
            cursor = await connection.execute("SHOW LISTS", prepare=True)
            assert len(await cursor.fetchall()) == 16


async def test_psycopg_uses_the_simple_protocol_through_client_cursors() -> None:
    async with psycopg_console(Admin()) as connection:
        cursor = psycopg.AsyncClientCursor(connection)
        await cursor.execute("SET query_timeout = '5'")
        assert cursor.statusmessage == "SET query_timeout=5"


async def test_psycopg_sees_errors_by_their_class_and_goes_on() -> None:
    async with psycopg_console(Admin()) as connection:
        with pytest.raises(psycopg.errors.ProtocolViolation, match="no such database: nix"):
            await connection.execute("KILL nix")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="takes no parameters"):
            await connection.execute("SELECT %s", ["x"])
        cursor = await connection.execute("SHOW VERSION")
        assert await cursor.fetchone() == {"version": "PgBouncer 1.25.2 (Howdah 0.1.0)"}


async def test_psycopg_reads_help_as_a_notice() -> None:
    notices: list[str | None] = []
    async with psycopg_console(Admin()) as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        await connection.execute("SHOW HELP")
    assert notices == ["Console usage"]


async def test_psycopg_cancels_a_waiting_pause() -> None:
    admin = Admin()
    admin.daemon.drained.clear()
    async with psycopg_console(admin) as connection:
        waiting = asyncio.create_task(connection.execute("PAUSE app"))
        await admin.daemon.waiting.wait()
        await connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await waiting
        assert not admin.daemon.is_paused("app")


async def test_asyncpg_connects_and_decodes_every_type() -> None:
    async with asyncpg_console(Admin()) as connection:
        assert connection.get_server_version().major == 1
        stats = await connection.fetchrow("SHOW STATS_TOTALS")
        assert stats is not None
        assert (stats["database"], stats["query_time"]) == ("app", Decimal(7_000_000))
        clients = await connection.fetch("SHOW CLIENTS")
        assert [client["id"] for client in clients] == [1, 2, 3, 5]
        assert await connection.fetchval("SHOW DNS_HOSTS", column=1) == 12
        assert await connection.fetch("SHOW FDS") == []


async def test_asyncpg_repeats_statements_from_its_cache() -> None:
    async with asyncpg_console(Admin()) as connection:
        for _ in range(5):
            assert len(await connection.fetch("SHOW LISTS")) == 16


async def test_asyncpg_walks_through_a_result_with_a_row_limit() -> None:
    async with asyncpg_console(Admin()) as connection:
        statement = await connection.prepare("SHOW LISTS")
        assert [attribute.name for attribute in statement.get_attributes()] == ["list", "items"]
        assert (await statement.fetchrow())["items"] == 1


async def test_asyncpg_gives_orders_and_sees_errors() -> None:
    admin = Admin()
    async with asyncpg_console(admin) as connection:
        assert await connection.execute("DISABLE app") == "DISABLE"
        assert admin.daemon.calls == [("disable", "app")]
        with pytest.raises(asyncpg.exceptions.PostgresError, match="no such database"):
            await connection.fetch("RECONNECT nix")
        with pytest.raises(asyncpg.exceptions.FeatureNotSupportedError):
            await connection.execute("SUSPEND")


async def test_a_lost_connection_gives_up_its_wait() -> None:
    admin = Admin()
    admin.daemon.drained.clear()
    async with listening(admin) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(m.startup({"user": "alice"}))
        await reader.readuntil(m.ready_for_query())
        writer.write(m.query("PAUSE"))
        await admin.daemon.waiting.wait()
        writer.close()
        await admin.daemon.left.wait()
    assert admin.daemon.is_paused(None)

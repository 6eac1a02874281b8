"""How a lost connection looks to a driver whose server was killed.

Law: what is listed here a driver also raises when PostgreSQL itself kills its connection, or it is 08006,
which Howdah says where PostgreSQL could say nothing more.
"""

import asyncpg  # type: ignore[import-untyped]
import psycopg

CODES = ("57P01", "08006")


def of_psycopg(error: Exception) -> bool:
    """An error while a query ran, or the end of the connection before the next one."""
    return isinstance(error, psycopg.OperationalError) and error.sqlstate in (None, *CODES)


def of_asyncpg(error: Exception) -> bool:
    """The same, and asyncpg's own confusion when it is told while it prepares a statement."""
    lost = (
        asyncpg.AdminShutdownError,
        asyncpg.PostgresConnectionError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    )
    return isinstance(error, (*lost, ConnectionError))

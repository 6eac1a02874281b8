"""A PostgreSQL with a role that asks and roles that are asked about, and poolers before it."""

from collections.abc import Callable, Iterator, Mapping

import psycopg
import pytest
from psycopg import sql

from tests.integration.conftest import Launch
from tests.support.pooler import Pooler, Sections
from tests.support.postgres import PostgresServer, started
from tests.support.server import Server
from tests.support.standard import APP, entry

ASKER, ASKERS = "asker", "asker-pa55"
"""The role that asks, and its password."""
PASSWORD = "pa55"
"""Of all others."""
WRONG = "authentication failed"
COUNTED = "SELECT * FROM public.counted($1)"
"""An auth_query that counts how often it is asked; see `times_asked`."""

_COUNTED = """
    CREATE SEQUENCE times_asked;
    CREATE FUNCTION counted(name text) RETURNS TABLE (usename name, passwd text)
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS $$
        SELECT rolname, rolpassword FROM pg_authid, nextval('public.times_asked') WHERE rolname = $1
    $$
"""

Start = Callable[..., Pooler]


def make_role(server: Server, name: str, password: str = PASSWORD) -> str:
    text = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
    server.connection.execute(text.format(sql.Identifier(name), sql.Literal(password)))
    return name


def change(server: Server, name: str, what: str) -> None:
    """ALTER ROLE."""
    role = sql.Identifier(name).as_string()
    server.sql(f"ALTER ROLE {role} {what}")


def times_asked(server: Server) -> int:
    return int(str(server.value("SELECT last_value FROM times_asked")))


def who(pooler: Pooler, user: str, password: str = PASSWORD, database: str = APP, **more: str) -> str:
    """As whom a query of this user runs."""
    with pooler.connect(database, user, password=password, **more) as connection:
        row = connection.execute("select current_user::text").fetchone()
        assert row is not None
        return str(row[0])


def gets_in(pooler: Pooler, user: str, password: str, *, as_role: str | None = None) -> bool:
    """Whether the login succeeds; if not it is for the password."""
    try:
        return who(pooler, user, password) == (as_role or user)
    except psycopg.OperationalError as error:
        if WRONG in str(error):
            return False
        raise


@pytest.fixture(scope="package")
def place(postgres: PostgresServer) -> Iterator[Server]:
    """A PostgreSQL of these tests' own: they make roles in it, and restart it."""
    with started(postgres.own.binaries) as own:
        server = Server(own, own.new_database())
        make_role(server, ASKER, ASKERS)
        for database in (server.database, own.database):
            # What may be done with a table of all databases, each database says for itself.
            own.sql(f"GRANT SELECT ON pg_authid TO {ASKER}", database)
        server.sql(_COUNTED)
        server.sql("SELECT nextval('times_asked')")
        make_role(server, "alice")
        make_role(server, "bob")
        yield server
        server.close()


@pytest.fixture
def start(place: Server, launch: Launch) -> Start:
    """Starts a pooler before it, whose clients are asked about there."""

    def start(
        databases: Sections | None = None, secrets: Mapping[str, str] | None = None, **settings: str | float
    ) -> Pooler:
        fixed = {"auth_type": "scram-sha-256", "auth_user": ASKER}
        entries = {APP: entry(place, pool_size=5)} if databases is None else databases
        listed = {ASKER: ASKERS} if secrets is None else secrets
        return launch(entries, {**fixed, **settings}, secrets=listed)

    return start

"""The same on PostgreSQL 18, 16 and 15: replies, logins, cancels, tracked parameters."""

from collections.abc import Iterator

import pytest

from tests.integration.test_same_replies import SCRIPTS, played
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.postgres import APP as APP_ROLE
from tests.support.postgres import APP_MD5, PostgresServer
from tests.support.server import Server
from tests.support.standard import ONE, SESSION_ONE, build, databases, entry

PASSWORD_LOGIN, MD5_LOGIN = "password_login", "md5_login"


@pytest.fixture(scope="module", params=["postgres", "postgres16", "postgres15"])
def versioned(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each version, with the table the scripts use."""
    postgres = request.getfixturevalue(request.param)
    assert isinstance(postgres, PostgresServer)
    server = Server(postgres, postgres.new_database())
    server.sql("create table script(n int, t text)")
    server.sql("grant all on script to public")
    yield server
    server.close()


@pytest.fixture(scope="module")
def pooler(versioned: Server) -> Iterator[Pooler]:
    entries = {
        **databases(versioned),
        PASSWORD_LOGIN: entry(versioned, user=APP_ROLE.name, password=APP_ROLE.password or ""),
        MD5_LOGIN: entry(versioned, user=APP_MD5.name, password=APP_MD5.password or ""),
    }
    with build(entries, user=versioned.user) as pooler:
        yield pooler


@pytest.mark.parametrize("name", SCRIPTS)
def test_replies_are_those_of_this_version(pooler: Pooler, versioned: Server, name: str) -> None:
    versioned.sql("truncate script")
    through = played(pooler, ONE, SCRIPTS[name])
    versioned.sql("truncate script")
    assert through == played(versioned, versioned.database, SCRIPTS[name])


@pytest.mark.parametrize("database", [ONE, SESSION_ONE])
def test_the_welcome_is_that_of_this_version(pooler: Pooler, versioned: Server, database: str) -> None:
    with pooler.raw(database) as client, versioned.raw() as direct:
        assert client.greeting.parameters.keys() == direct.greeting.parameters.keys()
        version = client.greeting.parameters["server_version"]
        assert version == direct.greeting.parameters["server_version"]


@pytest.mark.parametrize("database", [PASSWORD_LOGIN, MD5_LOGIN])
def test_the_pooler_logs_in_by_password(pooler: Pooler, database: str) -> None:
    with pooler.raw(database) as client:
        assert client.value("select 1") == "1"


def test_a_query_is_cancelled(pooler: Pooler, versioned: Server) -> None:
    with pooler.raw(ONE) as client:
        client.send(m.query("select pg_sleep(30) /* version */"))
        versioned.wait_for_query("/* version */")
        pooler.cancel(client)
        assert m.errors(client.until())[0]["C"] == "57014"


def test_parameters_follow_their_client(pooler: Pooler) -> None:
    with pooler.raw(ONE) as one, pooler.raw(ONE) as two:
        one.rows("set timezone = 'Asia/Tokyo'; set datestyle = 'German'")
        assert two.value("show timezone") != "Asia/Tokyo"
        assert one.value("show timezone") == "Asia/Tokyo"
        assert one.value("show datestyle") == "German, DMY"

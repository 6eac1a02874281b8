"""Who gets in: names and secrets of every kind."""

import asyncpg  # type: ignore[import-untyped]
import pytest

from tests.conformance.logins import METHODS, PASSWORDS, SECRETS, WORKING, fails
from tests.integration.auth_query.conftest import (
    ASKER,
    ASKERS,
    PASSWORD,
    WRONG,
    Start,
    change,
    gets_in,
    make_role,
    who,
)
from tests.support import messages as m
from tests.support.pooler import ADMIN, CONSOLE
from tests.support.postgres import APP_TRUST
from tests.support.scram import verifier
from tests.support.server import Server
from tests.support.standard import APP, entry, howdah_only

pytestmark = howdah_only("PgBouncer says which names are unknown")

NAMES = [
    "o'Brien",
    'quo"te',
    "back\\slash",
    "semi;colon --",
    "$1",
    "%s",
    "sp ace",
    "Upper",
    "naïve",
    "名" * 21,
    "n" * 63,
    "') or true --",
]
HOSTILE: list[str | bytes] = [
    "' OR rolname = 'postgres",
    "alice' --",
    'alice"',
    "ALICE",
    "alice ",
    "a" * 127,
    "n" * 64,
    b"\xff\xfe",
    b"alice\xc3",
]


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_users_of_postgresql_get_in_by_their_passwords(start: Start, auth_type: str) -> None:
    pooler = start(auth_type=auth_type)
    assert who(pooler, "alice") == "alice"
    assert WRONG in fails(pooler, "alice", "wrong")
    assert WRONG in fails(pooler, "nobody", PASSWORD)
    assert who(pooler, "bob") == "bob"


async def test_asyncpg_gets_in_too(start: Start) -> None:
    pooler = start()
    at = {"host": pooler.host, "port": pooler.port, "database": APP, "user": "alice", "ssl": False}
    connection = await asyncpg.connect(**at, password=PASSWORD)
    assert await connection.fetchval("select current_user::text") == "alice"
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(**at, password="wrong")


@pytest.mark.parametrize("auth_type", METHODS)
async def test_each_kind_of_secret_serves_the_methods_it_can(
    place: Server, start: Start, auth_type: str
) -> None:
    place.sql("CREATE TABLE IF NOT EXISTS kinds (name text, secret text); GRANT SELECT ON kinds TO PUBLIC")
    place.sql("TRUNCATE kinds")
    for user, secret in SECRETS.items():
        place.sql("INSERT INTO kinds VALUES (%s, %s)", (user, secret))
    query = "SELECT name, secret FROM public.kinds WHERE name = $1"
    pooler = start({APP: entry(place, user=place.user)}, auth_type=auth_type, auth_query=query)
    at = {"host": pooler.host, "port": pooler.port, "database": APP, "ssl": False}
    for user, right in PASSWORDS.items():
        for password in (right, "wrong"):
            expected = (auth_type, user) in WORKING and password == right
            assert gets_in(pooler, user, password, as_role=place.user) is expected, (user, password)
            try:
                connection = await asyncpg.connect(**at, user=user, password=password)
            except asyncpg.InvalidPasswordError:
                assert not expected, (user, password)
            else:
                assert expected, (user, password)
                await connection.close()


def test_names_of_every_kind_are_their_own(place: Server, start: Start) -> None:
    pooler = start()
    for name in NAMES:
        make_role(place, name)
        assert who(pooler, name) == name
        assert WRONG in fails(pooler, name, "wrong")


def test_hostile_names_are_unknown_and_hurt_nobody(start: Start) -> None:
    pooler = start(auth_type="plain")
    for name in HOSTILE:
        with pooler.socket() as client:
            client.send(m.startup({"user": name, "database": APP}))
            assert client.message().body == m.int32(3)
            client.send(m.password(PASSWORD))
            (error,) = client.until_closed()
            fields = m.fields_of(error.body)
            assert (fields["C"], fields["M"]) == ("28P01", "password authentication failed")
    assert who(pooler, "alice") == "alice"
    assert {row["user"] for row in pooler.show("SERVERS")} == {ASKER, "alice"}


def test_nobody_becomes_the_role_that_asks(start: Start) -> None:
    """CVE-2015-6817: an unknown user was logged in as the auth_user."""
    pooler = start()
    assert WRONG in fails(pooler, "nobody", ASKERS)
    assert WRONG in fails(pooler, ASKER, PASSWORD)
    assert who(pooler, ASKER, ASKERS) == ASKER


def test_the_auth_file_is_asked_first(start: Start) -> None:
    pooler = start(secrets={ASKER: ASKERS, "bob": "of the file"})
    assert WRONG in fails(pooler, "bob", PASSWORD)
    assert who(pooler, "alice") == "alice"


def test_who_may_not_log_in_to_postgresql_does_not_get_in(place: Server, start: Start) -> None:
    """CVE-2025-2291: the end of a password's validity was not looked at."""
    name = make_role(place, "leaving")
    pooler = start()
    for what, undo in (
        ("VALID UNTIL '1999-01-01'", "VALID UNTIL 'infinity'"),
        ("NOLOGIN", "LOGIN"),
        ("PASSWORD NULL", f"PASSWORD '{PASSWORD}'"),
    ):
        assert who(pooler, name) == name
        change(place, name, what)
        assert WRONG in fails(pooler, name, PASSWORD), what
        change(place, name, undo)


def test_trust_lets_in_whoever_is_known(start: Start) -> None:
    pooler = start(auth_type="trust")
    assert who(pooler, APP_TRUST.name) == APP_TRUST.name
    assert "no such user" in fails(pooler, "nobody", "")


def test_a_table_of_ones_own_may_have_other_secrets(place: Server, start: Start) -> None:
    place.sql("CREATE TABLE secrets (name text, secret text); GRANT SELECT ON secrets TO PUBLIC")
    place.sql("INSERT INTO secrets VALUES ('bob', %s), ('alice', %s)", (PASSWORD, verifier("other")))
    pooler = start(auth_query="SELECT name, secret FROM secrets WHERE name = $1")
    assert who(pooler, "bob") == "bob"
    text = fails(pooler, "alice", "other")
    assert "server has another SCRAM secret than the one known for user" in text


def test_a_forced_user_serves_clients_that_are_asked_about(place: Server, start: Start) -> None:
    forced = entry(place, user="bob", password=PASSWORD)
    pooler = start({APP: forced})
    assert who(pooler, "alice") == "bob"
    assert WRONG in fails(pooler, "alice", "wrong")


def test_the_password_of_a_forced_user_may_be_in_the_auth_file(place: Server, start: Start) -> None:
    pooler = start({APP: entry(place, user="bob")}, secrets={ASKER: ASKERS, "bob": PASSWORD})
    assert who(pooler, "alice") == "bob"


def test_admins_of_the_console_may_be_asked_about(place: Server, start: Start) -> None:
    pooler = start(auth_dbname=APP, admin_users=f"{ADMIN}, alice")
    with pooler.connect(CONSOLE, "alice", password=PASSWORD) as console:
        assert console.execute("SHOW VERSION").fetchone()
    assert WRONG in fails(pooler, "alice", "wrong", CONSOLE)
    assert "not allowed" in fails(pooler, "bob", PASSWORD, CONSOLE)


def test_no_secret_is_shown_or_logged(start: Start, place: Server) -> None:
    pooler = start(verbose=3, auth_query_cache=60)
    stored = str(place.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'alice'"))
    assert who(pooler, "alice") == "alice"
    assert WRONG in fails(pooler, "alice", "pa55-mistyped")
    shown = "".join(repr(pooler.show(what)) for what in ("CONFIG", "SERVERS", "CLIENTS", "USERS", "POOLS"))
    for secret in (stored, PASSWORD, ASKERS):
        assert secret not in shown
        assert secret not in pooler.log()

"""What the question cannot be bent into, where it is asked, and how long it may take."""

import re

import pytest

from tests.conformance.logins import answering, fails
from tests.integration.auth_query.conftest import ASKER, ASKERS, PASSWORD, WRONG, Start, who
from tests.support.pooler import ROOT
from tests.support.scram import verifier
from tests.support.server import Server
from tests.support.standard import APP, entry, howdah_only
from tests.support.wire import LoginRefused

pytestmark = howdah_only("PgBouncer says which names are unknown")

CONFIG_ERROR = "bouncer config error"
GUARDED = """
    CREATE OR REPLACE FUNCTION guarded(username text) RETURNS TABLE (usename name, passwd text) AS $$
    BEGIN
        IF current_setting('search_path') LIKE '%evil%' OR current_setting('role') <> 'none'
           OR session_user <> 'asker' OR current_setting('application_name') <> '' THEN
            RAISE EXCEPTION 'bent: % %', current_setting('search_path'), session_user;
        END IF;
        RETURN QUERY SELECT rolname, rolpassword FROM pg_authid WHERE rolname = username;
    END $$ LANGUAGE plpgsql
"""
SLOW = """
    CREATE OR REPLACE FUNCTION slow(username text) RETURNS TABLE (usename name, passwd text)
    LANGUAGE sql SECURITY DEFINER AS $$
        SELECT rolname, rolpassword FROM pg_authid, pg_sleep(30 * (username = 'alice')::int)
        WHERE rolname = username
    $$
"""
MANUAL = """
    CREATE SCHEMA pgbouncer;
    CREATE FUNCTION pgbouncer.user_lookup(in i_username text, out uname text, out phash text)
    RETURNS record AS $$
    BEGIN
        SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END
        FROM pg_authid WHERE rolname = i_username AND rolcanlogin INTO uname, phash;
        RETURN;
    END $$ LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
    REVOKE ALL ON FUNCTION pgbouncer.user_lookup(text) FROM public;
    GRANT USAGE ON SCHEMA pgbouncer TO asker;
    GRANT EXECUTE ON FUNCTION pgbouncer.user_lookup(text) TO asker;
"""
"""As in PgBouncer's manual; for an unknown name it returns a row of NULLs."""


@pytest.mark.parametrize(
    "settings",
    [
        {"track_extra_parameters": "search_path"},
        {"unknown_startup_parameters": "apply"},
        {"ignore_startup_parameters": "options, search_path, role"},
    ],
)
def test_nothing_of_a_startup_packet_reaches_the_question(
    place: Server, start: Start, settings: dict[str, str]
) -> None:
    """CVE-2025-12819: what somebody unknown asked for was set where the question was asked."""
    place.sql(GUARDED)
    pooler = start(auth_query="SELECT * FROM guarded($1)", **settings)
    wishes = {"search_path": "evil", "application_name": "evil"}
    if "track_extra_parameters" not in settings:
        wishes |= {"role": "alice", "options": "-c search_path=evil"}
    with pooler.socket() as client:
        client.login("alice", APP, wishes, answer=answering("alice", PASSWORD))
        assert client.value("select session_user::text") == "alice"
    with pooler.socket() as client, pytest.raises(LoginRefused) as caught:
        client.login("alice", APP, wishes, answer=answering("alice", "wrong"))
    assert caught.value.fields["C"] == "28P01"


def test_what_clients_leave_behind_on_servers_never_meets_the_question(place: Server, start: Start) -> None:
    place.sql(GUARDED)
    pooler = start(auth_query="SELECT * FROM guarded($1)")
    with pooler.connect(APP, ASKER, password=ASKERS) as client:
        client.execute("SET search_path = evil; SET application_name = 'evil'; SET statement_timeout = 1")
        assert who(pooler, "alice") == "alice"


def test_names_in_pg_catalog_are_meant_whatever_the_role_has_in_its_search_path(
    place: Server, start: Start
) -> None:
    place.sql("CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC")
    place.sql(
        "CREATE VIEW evil.pg_authid AS SELECT 'alice'::name AS rolname, true AS rolcanlogin,"
        f" 'infinity'::timestamptz AS rolvaliduntil, '{verifier('evil')}' AS rolpassword"
    )
    place.sql("GRANT SELECT ON evil.pg_authid TO PUBLIC")
    place.sql(f"ALTER ROLE {ASKER} SET search_path = evil, pg_catalog")
    try:
        pooler = start()
        assert WRONG in fails(pooler, "alice", "evil")
        assert who(pooler, "alice") == "alice"
    finally:
        place.sql(f"ALTER ROLE {ASKER} RESET search_path")


def test_what_the_role_has_set_otherwise_does_not_matter(place: Server, start: Start) -> None:
    place.sql("CREATE ROLE \"Zoë\" LOGIN PASSWORD 'pa55'")
    for setting in (
        "client_encoding = 'LATIN1'",
        "standard_conforming_strings = off",
        "statement_timeout = 1",
    ):
        place.sql(f"ALTER ROLE {ASKER} SET {setting}")
    try:
        pooler = start()
        assert who(pooler, "Zoë") == "Zoë"
    finally:
        place.sql(f"ALTER ROLE {ASKER} RESET ALL")


def test_a_function_without_its_schema_is_found_where_the_role_would_find_it(
    place: Server, start: Start
) -> None:
    place.sql(GUARDED)
    pooler = start(auth_query="SELECT usename, passwd FROM guarded($1)")
    assert who(pooler, "alice") == "alice"
    assert WRONG in fails(pooler, "nobody", PASSWORD)
    pooler.wait_for_log(f"auth_query needs the search_path of {ASKER}")


def test_the_function_of_pgbouncers_manual_serves(place: Server, start: Start) -> None:
    place.sql(MANUAL)
    pooler = start(auth_query="SELECT * FROM pgbouncer.user_lookup($1)")
    assert who(pooler, "alice") == "alice"
    assert WRONG in fails(pooler, "alice", "wrong")


def test_the_function_of_the_readme_serves(place: Server, start: Start) -> None:
    text = (ROOT / "README.md").read_text().partition("```sql\nCREATE SCHEMA pooler")[2].partition("```")[0]
    (query,) = re.findall(r"^-- auth_query = (.*)$", text, re.MULTILINE)
    place.sql("CREATE SCHEMA pooler" + text)
    pooler = start(auth_query=query)
    assert who(pooler, "alice") == "alice"
    assert WRONG in fails(pooler, "nobody", PASSWORD)


@pytest.mark.parametrize(
    ("query", "logged"),
    [
        (
            "SELECT usename, passwd FROM not_pg_shadow WHERE usename = $1",
            'relation "not_pg_shadow" does not exist',
        ),
        ("SELECT 1 WHERE $1 = $1", "expected 2 columns from auth_query, not 1"),
        (
            "SELECT rolname, rolpassword FROM pg_authid WHERE rolname >= $1",
            "expected one row from auth_query",
        ),
        ("SELECT 1, 2", "bind message supplies 1 parameters"),
    ],
)
def test_a_query_that_makes_no_sense_is_explained_in_the_log_and_not_to_clients(
    start: Start, query: str, logged: str
) -> None:
    pooler = start(auth_query=query)
    assert fails(pooler, "alice", PASSWORD).endswith(CONFIG_ERROR)
    pooler.wait_for_log(logged)


def test_a_question_may_take_so_long_and_no_longer(place: Server, start: Start) -> None:
    place.sql(SLOW)
    pooler = start(auth_query="SELECT * FROM public.slow($1)", auth_query_timeout=0.5)
    with pooler.socket() as client, pytest.raises(LoginRefused) as caught:
        client.login("alice", APP, answer=answering("alice", PASSWORD))
    assert (caught.value.fields["C"], caught.value.fields["M"]) == ("57014", "auth_query_timeout")
    assert who(pooler, "bob") == "bob"


# Where it is asked.


def test_another_database_can_be_asked_globally_and_per_database(place: Server, start: Start) -> None:
    asked = entry(place)
    empty = entry(place, dbname="postgres")
    pooler = start(
        {"asked": asked, "by_global": empty, "by_own": {**empty, "auth_dbname": "asked"}},
        auth_dbname="asked",
        auth_query="SELECT * FROM public.counted($1)",
    )
    for database in ("by_global", "by_own"):
        assert who(pooler, "alice", database=database) == "alice"
    assert {(row["database"], row["user"]) for row in pooler.show("SERVERS", user=ASKER)} == {
        ("asked", ASKER)
    }
    (row,) = pooler.show("DATABASES", name="asked")
    assert row["current_connections"] == 1


def test_a_databases_own_query_and_user_win(place: Server, start: Start) -> None:
    own = entry(place, auth_user=ASKER, auth_query="SELECT * FROM public.counted($1)")
    pooler = start({APP: own}, auth_user="nobody", auth_query="SELECT 1")
    assert who(pooler, "alice") == "alice"


def test_databases_made_by_the_star_entry_are_asked_about_and_in(place: Server, start: Start) -> None:
    entries = {"*": {"host": place.host, "port": place.port}}
    pooler = start(entries)
    assert who(pooler, "alice", database="postgres") == "alice"
    for _ in range(2):
        assert fails(pooler, "alice", PASSWORD, "nowhere").endswith('database "nowhere" does not exist')
    pooler = start({"*": {**entries["*"], "auth_dbname": "postgres"}})
    assert who(pooler, "alice", database=place.database) == "alice"
    assert WRONG in fails(pooler, "alice", "wrong", "nowhere")
    assert 'database "nowhere" does not exist' in fails(pooler, "alice", PASSWORD, "nowhere")


def test_a_database_that_does_not_exist_is_not_asked_about(start: Start) -> None:
    pooler = start()
    assert WRONG in fails(pooler, "alice", PASSWORD, "nowhere")
    assert not pooler.show("SERVERS")


@pytest.mark.parametrize(
    ("where", "logged"),
    [
        ("nowhere", 'authentication database "nowhere" is not configured'),
        ("pgbouncer", 'cannot use the reserved "pgbouncer" database as an auth_dbname'),
    ],
)
def test_what_cannot_be_asked_is_a_mistake_in_the_configuration(
    place: Server, start: Start, where: str, logged: str
) -> None:
    pooler = start({APP: entry(place, auth_dbname=where)})
    assert fails(pooler, "alice", PASSWORD).endswith(CONFIG_ERROR)
    pooler.wait_for_log(logged)


def test_a_disabled_database_is_not_asked(place: Server, start: Start) -> None:
    pooler = start({"asked": entry(place), APP: entry(place, auth_dbname="asked")})
    pooler.admin("DISABLE asked")
    assert 'authentication database "asked" is disabled' in fails(pooler, "alice", PASSWORD)
    pooler.admin("ENABLE asked")
    assert who(pooler, "alice") == "alice"


def test_set_on_the_console_changes_who_is_asked(place: Server, start: Start) -> None:
    pooler = start(auth_user="")
    assert WRONG in fails(pooler, "alice", PASSWORD)
    pooler.admin(f"SET auth_user = '{ASKER}'")
    assert who(pooler, "alice") == "alice"


def test_the_console_may_be_reached_by_way_of_the_pooler_itself(start: Start) -> None:
    pooler = start(stats_users="alice", auth_type="md5", auth_dbname=APP)
    pooler.databases["me"] = {"host": "127.0.0.1", "port": pooler.port, "dbname": "pgbouncer"}
    pooler.reload()
    with pooler.connect("me", "alice", password=PASSWORD) as connection:
        assert connection.pgconn.exec_(b"show version").get_value(0, 0)

"""Passwords that change, keys that stay, answers that are remembered."""

import threading

import psycopg

from tests.conformance.logins import fails
from tests.integration.auth_query.conftest import (
    ASKER,
    ASKERS,
    COUNTED,
    PASSWORD,
    WRONG,
    Start,
    change,
    gets_in,
    make_role,
    times_asked,
    who,
)
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, howdah_only, one_process

pytestmark = howdah_only("PgBouncer says which names are unknown")


def test_a_new_password_counts_at_once_for_clients_and_servers(place: Server, start: Start) -> None:
    name = make_role(place, "rotating")
    pooler = start()
    for password in (PASSWORD, "one", "two"):
        change(place, name, f"PASSWORD '{password}'")
        pooler.admin("RECONNECT")
        assert who(pooler, name, password) == name
        assert WRONG in fails(pooler, name, "zero")


def test_under_load_the_old_password_ends_when_the_new_one_begins(place: Server, start: Start) -> None:
    name = make_role(place, "loaded")
    pooler = start()
    changed, stop, wrong = threading.Event(), threading.Event(), list[str]()

    def log_in_again_and_again(password: str, expected: bool) -> None:
        while not stop.is_set():
            before = changed.is_set()
            got_in = is_served(pooler, name, password)
            if before == changed.is_set() and got_in is not (expected is before):
                wrong.append(f"{password} {'got in' if got_in else 'was refused'}, changed: {before}")

    threads = [
        threading.Thread(target=log_in_again_and_again, args=case)
        for case in [(PASSWORD, False), ("new", True)] * 2
    ]
    for thread in threads:
        thread.start()
    place.wait_until_quiet()
    change(place, name, "PASSWORD 'new'")
    changed.set()
    for _ in range(20):
        assert who(pooler, name, "new") == name
    stop.set()
    for thread in threads:
        thread.join()
    assert not [text for text in wrong if "new was refused" in text or "got in, changed: True" in text]


def test_keys_of_a_login_open_servers_after_a_reconnect_and_a_reload(place: Server, start: Start) -> None:
    pooler = start()
    with pooler.connect(APP, "alice", password=PASSWORD) as client:
        for order in ("RECONNECT", "RELOAD", "RECONNECT"):
            before = client.execute("select pg_backend_pid()").fetchone()
            pooler.admin(order)
            after = client.execute("select pg_backend_pid()").fetchone()
            assert (before == after) is (order == "RELOAD")


def test_keys_end_with_the_password_until_the_next_login_shows_new_ones(place: Server, start: Start) -> None:
    name = make_role(place, "stale")
    pooler = start()
    assert who(pooler, name) == name
    change(place, name, "PASSWORD 'new'")
    pooler.admin("RECONNECT")
    assert who(pooler, name, "new") == name


def test_with_a_cache_a_login_that_fails_finds_out_that_the_password_is_new(
    place: Server, start: Start
) -> None:
    name = make_role(place, "cached")
    pooler = start(auth_query_cache=300)
    assert who(pooler, name) == name
    change(place, name, "PASSWORD 'new'")
    assert WRONG in fails(pooler, name, "new")
    wait_until(lambda: gets_in(pooler, name, "new"), 10, "the new password counts")
    assert WRONG in fails(pooler, name, PASSWORD)


@one_process("each worker remembers for itself")
def test_with_a_cache_a_name_is_asked_about_once_until_a_reload(place: Server, start: Start) -> None:
    pooler = start(auth_query_cache=300, auth_query=COUNTED)
    before = times_asked(place)
    for _ in range(3):
        assert who(pooler, "alice") == "alice"
    assert times_asked(place) - before == 1
    assert totals(pooler)["total_auth_query_hits"] == 2
    pooler.admin("RELOAD")
    assert who(pooler, "alice") == "alice"
    assert times_asked(place) - before == 2


def test_without_a_cache_each_login_asks(place: Server, start: Start) -> None:
    pooler = start(auth_query=COUNTED)
    before = times_asked(place)
    for _ in range(3):
        assert who(pooler, "alice") == "alice"
    assert times_asked(place) - before == 3


def test_a_user_made_a_moment_ago_gets_in(place: Server, start: Start) -> None:
    pooler = start()
    assert WRONG in fails(pooler, "newcomer", PASSWORD)
    make_role(place, "newcomer")
    assert who(pooler, "newcomer") == "newcomer"


def test_a_role_that_expires_is_let_in_as_long_as_its_answer_is_remembered(
    place: Server, start: Start
) -> None:
    name = make_role(place, "brief")
    pooler = start(auth_query_cache=300)
    assert who(pooler, name) == name
    change(place, name, "VALID UNTIL '1999-01-01'")
    assert who(pooler, name) == name
    pooler.admin("RELOAD")
    assert WRONG in fails(pooler, name, PASSWORD)


def test_both_passwords_of_the_auth_file_serve_while_one_follows_the_other(
    place: Server, start: Start
) -> None:
    name = make_role(place, "listed")
    pooler = start(secrets={ASKER: ASKERS, name: PASSWORD})
    pooler.secrets[name] = f'old"\n"{name}" "{PASSWORD}'
    pooler.reload()
    for password in ("old", PASSWORD):
        assert who(pooler, name, password) == name
    change(place, name, "PASSWORD 'old'")
    pooler.admin("RECONNECT")
    for password in ("old", PASSWORD):
        assert who(pooler, name, password) == name


def is_served(pooler: Pooler, name: str, password: str) -> bool:
    """Whether a client logs in and has a server; the password may change between the one and the other."""
    try:
        return gets_in(pooler, name, password)
    except psycopg.OperationalError as error:
        if "another SCRAM secret" in str(error):
            return False
        raise


def totals(pooler: Pooler) -> dict[str, int]:
    return {str(row["name"]): int(str(row["value"])) for row in pooler.show("TOTALS")}

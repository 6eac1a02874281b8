"""Logins by password: every method, every kind of stored secret, and every way to get them wrong.

That what goes wrong looks alike from outside is among the cases of the conformance suite.
"""

import struct

import pytest

from tests.conformance.logins import (
    MD5,
    METHODS,
    NOBODY,
    PASSWORDS,
    PLAIN,
    SCRAM,
    SECRETS,
    WORKING,
    begin,
    fails,
    refused,
    scram_until_final,
)
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support import postgres
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.scram import ScramClient
from tests.support.server import Server
from tests.support.standard import APP, databases, entry, howdah_only
from tests.support.wire import LoginRefused

PASSWORD = PASSWORDS[SCRAM]


@pytest.fixture(scope="module")
def poolers(module_launch: Launch, server: Server) -> dict[str, Pooler]:
    """One pooler per auth_type; everybody reaches PostgreSQL as the same role."""
    entries = databases(server, user=server.user)
    return {method: module_launch(entries, {"auth_type": method}, secrets=SECRETS) for method in METHODS}


# --- who gets in ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "user"), WORKING)
def test_the_right_password_is_let_in(poolers: dict[str, Pooler], method: str, user: str) -> None:
    with poolers[method].connect(APP, user, password=PASSWORDS[user]) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_an_md5_secret_cannot_serve_scram(poolers: dict[str, Pooler]) -> None:
    assert "authentication failed" in fails(poolers["scram-sha-256"], MD5, PASSWORDS[MD5])


def test_no_refusal_leaves_a_client_behind(poolers: dict[str, Pooler]) -> None:
    for pooler in poolers.values():
        fails(pooler, PLAIN, "wrong")
        wait_until(lambda p=pooler: not p.show("CLIENTS", database=APP), 10, "gone")  # type: ignore[misc]


def test_secrets_never_reach_the_log(poolers: dict[str, Pooler]) -> None:
    for pooler in poolers.values():
        fails(pooler, PLAIN, "pa55-typed-by-the-client")
        pooler.connect(APP, PLAIN, password=PASSWORDS[PLAIN]).close()
        log = pooler.log()
        for secret in ("pa55", *PASSWORDS.values(), *SECRETS.values()):
            assert secret not in log


def test_no_console_row_contains_a_secret(launch: Launch, server: Server) -> None:
    entries = {APP: entry(server, user=postgres.APP.name, password=postgres.APP.password or "")}
    pooler = launch(entries, secrets=SECRETS)
    with pooler.raw(APP) as client:
        client.value("select 1")
        for what in ("CONFIG", "DATABASES", "USERS", "CLIENTS", "SERVERS", "POOLS", "LISTS"):
            shown = repr(pooler.show(what))
            for secret in (postgres.APP.password or "", *SECRETS.values()):
                assert secret not in shown, what


# --- the wire ------------------------------------------------------------------------------------


@howdah_only("PgBouncer says 08P01 to everything")
@pytest.mark.parametrize("user", [PLAIN, NOBODY])
def test_a_wrong_plain_password_is_28p01(poolers: dict[str, Pooler], user: str) -> None:
    client, _ = begin(poolers["plain"], user)
    with client:
        client.send(m.password("wrong"))
        assert refused(client)["C"] == "28P01"


def test_md5_salts_differ_between_logins(poolers: dict[str, Pooler]) -> None:
    salts = set()
    for _ in range(4):
        client, request = begin(poolers["md5"], MD5)
        client.close()
        assert request.body[:4] == m.int32(5)
        salts.add(request.body[4:])
    assert len(salts) == 4


def test_the_raw_exchange_works_when_nothing_is_wrong(poolers: dict[str, Pooler]) -> None:
    client, request = begin(poolers["scram-sha-256"], SCRAM)
    with client:
        assert request.body == m.int32(10) + b"SCRAM-SHA-256\0\0"
        scram = ScramClient(PASSWORD)
        client.send(m.sasl_response(scram.final(scram_until_final(client, scram))))
        assert client.message().body[:4] == m.int32(12)
        client.finish_login()
        assert client.value("select 1") == "1"


@howdah_only("what PgBouncer checks varies with its version")
@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n",
        b"n,,",
        b"p=tls-unique,,n=,r=abc",
        b"n,a=boss,n=,r=abc",
        b"n,,m=x,n=,r=abc",
        b"n,,n=,r=",
        b"\xff" * 20,
    ],
    ids=repr,
)
def test_a_malformed_client_first_never_gets_a_challenge(poolers: dict[str, Pooler], first: bytes) -> None:
    client, _ = begin(poolers["scram-sha-256"], SCRAM)
    with client:
        client.send(m.sasl_initial("SCRAM-SHA-256", first))
        assert refused(client)["C"] in ("08P01", "28P01")


def test_a_query_instead_of_a_password_is_refused(poolers: dict[str, Pooler]) -> None:
    for method, pooler in poolers.items():
        client, _ = begin(pooler, PLAIN)
        with client:
            client.send(m.query("select 1"))
            got = client.until_closed()
            assert "D" not in m.tags(got), method


@howdah_only("caps by phase are ours")
def test_a_huge_password_is_refused_at_its_head(poolers: dict[str, Pooler]) -> None:
    for pooler in poolers.values():
        before = pooler.rss()
        client, _ = begin(pooler, PLAIN)
        with client:
            client.send(m.message_claiming(b"p", 0x3FFFFFFF, b"x" * 100))
            assert refused(client)["C"] in ("08P01", "54000")
        assert pooler.rss() - before < 2**20


# --- everybody is let in ---------------------------------------------------------------------------


def test_trust_asks_no_password_but_knows_its_users(pooler: Pooler) -> None:
    with pooler.raw(APP) as client:
        assert client.value("select 1") == "1"
    with pytest.raises(LoginRefused, match="authentication failed"):
        pooler.raw(APP, NOBODY)


def test_any_lets_everybody_in_as_the_forced_user(launch: Launch, server: Server) -> None:
    pooler = launch(databases(server, user=server.user), {"auth_type": "any"})
    with pooler.raw(APP, NOBODY) as client:
        assert client.value("select session_user") == server.user


def test_a_disabled_login_takes_no_time_from_the_others(poolers: dict[str, Pooler]) -> None:
    """Forty SCRAM logins that stop half-way do not keep a working one waiting."""
    pooler = poolers["scram-sha-256"]
    stuck = [begin(pooler, SCRAM)[0] for _ in range(40)]
    try:
        with pooler.connect(APP, SCRAM, password=PASSWORD) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        for client in stuck:
            client.close()


def test_replication_connections_are_refused(pooler: Pooler) -> None:
    for value in ("true", "database", "1", "on"):
        with pytest.raises(LoginRefused) as caught:
            pooler.raw(APP, parameters={"replication": value})
        assert caught.value.fields["S"] == "FATAL"


@howdah_only("PgBouncer writes them into its log as they are")
def test_user_and_database_names_of_every_byte_are_taken_as_they_are(pooler: Pooler) -> None:
    name = bytes(range(1, 64))
    for parameters in ({"user": name, "database": b"app"}, {"user": pooler.user.encode(), "database": name}):
        with pooler.socket() as client:
            client.send(m.startup(parameters))
            fields = refused(client)
            assert fields["S"] == "FATAL"
    assert all(line.isprintable() for line in pooler.log().splitlines())


def test_a_database_not_named_is_the_one_of_the_user(launch: Launch, server: Server) -> None:
    entries = {server.user: {"host": server.host, "port": server.port, "dbname": server.database}}
    pooler = launch(entries)
    with pooler.socket() as client:
        client.send(m.startup({"user": server.user}))
        client.finish_login()
        assert client.value("select current_database()") == server.database


def test_the_key_data_of_two_clients_differ(pooler: Pooler) -> None:
    keys = set()
    for _ in range(20):
        with pooler.raw() as client:
            keys.add(struct.pack("!I", client.greeting.pid) + client.greeting.secret)
    assert len(keys) == 20

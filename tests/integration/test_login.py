"""Logins by password: every method, every kind of stored secret, and every way to get them wrong.

A wrong password, an unknown user and a broken exchange look alike from outside;
a database is named as unknown only to somebody who has proved who he is. The
numbers in brackets are those of tests/bad_input.md.
"""

import base64
import hashlib
import struct

import psycopg
import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support import postgres
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.scram import ScramClient, attributes, verifier
from tests.support.server import Server
from tests.support.standard import APP, databases, entry, howdah_only
from tests.support.wire import LoginRefused, Raw

PASSWORD = "correct horse"
PLAIN, MD5, SCRAM, NOBODY = "plainly", "hashed", "scrambled", "stranger"

SECRETS = {
    PLAIN: PASSWORD,
    MD5: "md5" + hashlib.md5((PASSWORD + MD5).encode()).hexdigest(),
    SCRAM: verifier(PASSWORD),
}

WORKING = [
    ("plain", PLAIN),
    ("plain", MD5),
    ("plain", SCRAM),
    ("md5", PLAIN),
    ("md5", MD5),
    ("md5", SCRAM),
    ("scram-sha-256", PLAIN),
    ("scram-sha-256", SCRAM),
]
"""Which secrets serve which auth_type; md5 runs SCRAM for a SCRAM secret, as PgBouncer does."""


@pytest.fixture(scope="module")
def poolers(module_launch: Launch, server: Server) -> dict[str, Pooler]:
    """One pooler per auth_type; everybody reaches PostgreSQL as the same role."""
    entries = databases(server, user=server.user)
    return {
        method: module_launch(entries, {"auth_type": method}, secrets=SECRETS)
        for method in ("plain", "md5", "scram-sha-256")
    }


def fails(pooler: Pooler, user: str, password: str, database: str = APP) -> str:
    """The text with which a login by libpq is refused."""
    with pytest.raises(psycopg.OperationalError) as caught:
        pooler.connect(database, user, password=password)
    return str(caught.value)


# --- who gets in ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "user"), WORKING)
def test_the_right_password_is_let_in(poolers: dict[str, Pooler], method: str, user: str) -> None:
    with poolers[method].connect(APP, user, password=PASSWORD) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_an_md5_secret_cannot_serve_scram(poolers: dict[str, Pooler]) -> None:
    assert "authentication failed" in fails(poolers["scram-sha-256"], MD5, PASSWORD)


@pytest.mark.parametrize(("method", "user"), WORKING)
def test_a_wrong_password_is_refused(poolers: dict[str, Pooler], method: str, user: str) -> None:
    """[O17]"""
    with poolers[method].log_contains("authentication failed"):
        assert "authentication failed" in fails(poolers[method], user, "wrong")


@pytest.mark.parametrize("method", ["plain", "md5", "scram-sha-256"])
def test_an_unknown_user_is_refused_like_a_wrong_password(poolers: dict[str, Pooler], method: str) -> None:
    """[O16]"""
    texts = {fails(poolers[method], user, "wrong").splitlines()[0] for user in (PLAIN, NOBODY)}
    assert len({text.replace(PLAIN, "").replace(NOBODY, "") for text in texts}) == 1


@pytest.mark.parametrize("method", ["plain", "md5", "scram-sha-256"])
def test_an_unknown_database_is_named_only_after_the_login(poolers: dict[str, Pooler], method: str) -> None:
    """[O15]"""
    assert "no such database: nowhere" in fails(poolers[method], PLAIN, PASSWORD, "nowhere")
    assert "nowhere" not in fails(poolers[method], PLAIN, "wrong", "nowhere")
    assert "nowhere" not in fails(poolers[method], NOBODY, "wrong", "nowhere")


def test_no_refusal_leaves_a_client_behind(poolers: dict[str, Pooler]) -> None:
    for pooler in poolers.values():
        fails(pooler, PLAIN, "wrong")
        wait_until(lambda p=pooler: not p.show("CLIENTS", database=APP), 3, "gone")  # type: ignore[misc]


def test_secrets_never_reach_the_log(poolers: dict[str, Pooler]) -> None:
    for pooler in poolers.values():
        fails(pooler, PLAIN, "pa55-typed-by-the-client")
        pooler.connect(APP, PLAIN, password=PASSWORD).close()
        log = pooler.log()
        for secret in ("pa55", PASSWORD, *SECRETS.values()):
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


def begin(pooler: Pooler, user: str) -> tuple[Raw, m.Message]:
    """A client that has sent its startup packet, and the authentication request it got."""
    client = pooler.socket()
    client.send(m.startup({"user": user, "database": APP}))
    return client, client.message()


def refusal(client: Raw) -> m.Fields:
    got = client.until_closed(within=2)
    assert m.tags(got) == "E", got
    fields = m.fields_of(got[0].body)
    assert fields["S"] == "FATAL"
    return fields


def test_an_empty_password_is_refused(poolers: dict[str, Pooler]) -> None:
    """[O18]"""
    client, request = begin(poolers["plain"], PLAIN)
    with client:
        assert request == m.Message(b"R", m.int32(3))
        client.send(m.password(""))
        fields = refusal(client)
    assert fields["M"] in ("empty password returned by client", "password authentication failed")
    assert fields["C"] in ("28P01", "08P01")


@howdah_only("PgBouncer says 08P01 to everything")
@pytest.mark.parametrize("user", [PLAIN, NOBODY])
def test_a_wrong_plain_password_is_28p01(poolers: dict[str, Pooler], user: str) -> None:
    client, _ = begin(poolers["plain"], user)
    with client:
        client.send(m.password("wrong"))
        assert refusal(client)["C"] == "28P01"


def test_md5_salts_differ_between_logins(poolers: dict[str, Pooler]) -> None:
    salts = set()
    for _ in range(4):
        client, request = begin(poolers["md5"], MD5)
        client.close()
        assert request.body[:4] == m.int32(5)
        salts.add(request.body[4:])
    assert len(salts) == 4


def scram_until_final(client: Raw, scram: ScramClient) -> bytes:
    """Sends the first message and returns the server's first."""
    client.send(m.sasl_initial("SCRAM-SHA-256", scram.first()))
    answer = client.message()
    assert answer.tag == b"R", m.fields_of(answer.body)
    assert answer.body[:4] == m.int32(11)
    return answer.body[4:]


def test_the_raw_exchange_works_when_nothing_is_wrong(poolers: dict[str, Pooler]) -> None:
    client, request = begin(poolers["scram-sha-256"], SCRAM)
    with client:
        assert request.body == m.int32(10) + b"SCRAM-SHA-256\0\0"
        scram = ScramClient(PASSWORD)
        client.send(m.sasl_response(scram.final(scram_until_final(client, scram))))
        assert client.message().body[:4] == m.int32(12)
        client.finish_login()
        assert client.value("select 1") == "1"


@howdah_only("PgBouncer 1.18 does not do all of this")
def test_a_mechanism_not_offered_is_a_protocol_violation(poolers: dict[str, Pooler]) -> None:
    """[O19]"""
    for mechanism in ("FOO", "SCRAM-SHA-256-PLUS", ""):
        client, _ = begin(poolers["scram-sha-256"], SCRAM)
        with client:
            client.send(m.sasl_initial(mechanism, ScramClient(PASSWORD).first()))
            fields = refusal(client)
        assert fields["C"] == "08P01"
        assert fields["M"] == "client selected an invalid SASL authentication mechanism"


@howdah_only("overflows in PgBouncer before 1.25.2")
@pytest.mark.parametrize("claim", [0x7FFFFFFF, 0xFFFFFFFE, 1000, 1], ids=hex)
def test_an_inner_length_that_lies_is_a_protocol_violation(poolers: dict[str, Pooler], claim: int) -> None:
    """[O20]"""
    pooler = poolers["scram-sha-256"]
    before = pooler.rss()
    client, _ = begin(pooler, SCRAM)
    with client:
        client.send(m.sasl_initial("SCRAM-SHA-256", ScramClient(PASSWORD).first(), claim=claim))
        assert refusal(client)["C"] == "08P01"
    assert pooler.rss() - before < 2**20


def mutated_final(kind: str, scram: ScramClient, server_first: bytes) -> bytes:
    match kind:
        case "wrong nonce":
            scram.final_nonce = scram.nonce + "somebodyelse"
        case "short proof":
            scram.proof = b"p" * 19
        case "trailing junk":
            scram.junk = ",x=y"
        case "other binding":
            return scram.final(server_first, binding="y,,")
        case "wrong password":
            scram.password = "wrong"
    return scram.final(server_first)


@howdah_only("PgBouncer 1.18 answers 08P01 and the texts differ")
def test_every_broken_client_final_gets_the_same_answer(poolers: dict[str, Pooler]) -> None:
    """[O21]"""
    answers = {}
    for kind in ("wrong nonce", "short proof", "trailing junk", "other binding", "wrong password"):
        client, _ = begin(poolers["scram-sha-256"], SCRAM)
        with client:
            scram = ScramClient(PASSWORD)
            client.send(m.sasl_response(mutated_final(kind, scram, scram_until_final(client, scram))))
            answers[kind] = refusal(client)
    assert {(fields["C"], fields["M"]) for fields in answers.values()} == {
        ("28P01", "SASL authentication failed")
    }, answers


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
        assert refusal(client)["C"] in ("08P01", "28P01")


def test_a_query_instead_of_a_password_is_refused(poolers: dict[str, Pooler]) -> None:
    for method, pooler in poolers.items():
        client, _ = begin(pooler, PLAIN)
        with client:
            client.send(m.query("select 1"))
            got = client.until_closed(within=2)
            assert "D" not in m.tags(got), method


@howdah_only("caps by phase are ours")
def test_a_huge_password_is_refused_at_its_head(poolers: dict[str, Pooler]) -> None:
    for pooler in poolers.values():
        before = pooler.rss()
        client, _ = begin(pooler, PLAIN)
        with client:
            client.send(m.message_claiming(b"p", 0x3FFFFFFF, b"x" * 100))
            assert refusal(client)["C"] in ("08P01", "54000")
        assert pooler.rss() - before < 2**20


# --- unknown users -------------------------------------------------------------------------------


def server_first(pooler: Pooler, user: str) -> dict[str, str]:
    client, request = begin(pooler, user)
    with client:
        assert request.body == m.int32(10) + b"SCRAM-SHA-256\0\0"
        return attributes(scram_until_final(client, ScramClient(PASSWORD)))


def test_the_salt_of_an_unknown_user_is_stable_and_looks_like_a_real_one(poolers: dict[str, Pooler]) -> None:
    """[O16]"""
    pooler = poolers["scram-sha-256"]
    unknown, again = server_first(pooler, NOBODY), server_first(pooler, NOBODY)
    other, known = server_first(pooler, "another"), server_first(pooler, SCRAM)
    assert unknown["s"] == again["s"] != other["s"]
    assert unknown["r"] != again["r"]
    assert unknown["i"] == known["i"]
    assert len(base64.b64decode(unknown["s"])) == len(base64.b64decode(known["s"]))


@howdah_only("PgBouncer has other codes")
def test_an_unknown_user_gets_the_same_bytes_as_a_wrong_password(poolers: dict[str, Pooler]) -> None:
    """[O16, O17]"""
    final = {}
    for user in (SCRAM, NOBODY):
        client, request = begin(poolers["scram-sha-256"], user)
        with client:
            scram = ScramClient("wrong")
            client.send(m.sasl_response(scram.final(scram_until_final(client, scram))))
            final[user] = (request, client.until_closed(within=2))
    assert final[SCRAM] == final[NOBODY]


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
            fields = refusal(client)
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

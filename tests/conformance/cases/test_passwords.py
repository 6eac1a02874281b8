"""Logins by password that go wrong, which all look alike from outside."""

import pytest

from tests.conformance import direct
from tests.conformance.cases.conftest import Stable
from tests.conformance.expect import MIB
from tests.conformance.logins import (
    ASKING,
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
    salt_length,
    scram_until_final,
)
from tests.conformance.marks import pgbouncer_fails
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.scram import ScramClient, attributes
from tests.support.server import Server
from tests.support.standard import KIND, databases

PASSWORD = PASSWORDS[SCRAM]


@pytest.fixture
def method() -> str:
    """The auth_type, where a case is about one only."""
    return "scram-sha-256"


@pytest.fixture
def pooler(stable: Stable, server: Server, method: str) -> Pooler:
    """Asks for passwords by this method; everybody reaches PostgreSQL as the same role."""
    if KIND == direct.KIND:
        return stable.get("standard", lambda: direct.Direct(server))
    entries = databases(server, user=server.user)
    secrets = {**SECRETS, server.user: "known to the oracle only"}
    return stable.get(
        method, lambda: ASKING[KIND](entries, {"auth_type": method}, None, secrets, user=server.user)
    )


@pytest.mark.case("O17")
@pytest.mark.parametrize(("method", "user"), WORKING)
def test_a_wrong_password_is_refused(pooler: Pooler, user: str) -> None:
    with pooler.log_contains("authentication failed"):
        assert "authentication failed" in fails(pooler, user, "wrong")


@pytest.mark.case("O16")
@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_user_is_refused_like_a_wrong_password(pooler: Pooler) -> None:
    texts = {fails(pooler, user, "wrong").splitlines()[0] for user in (PLAIN, NOBODY)}
    assert len({text.replace(PLAIN, "").replace(NOBODY, "") for text in texts}) == 1


@pytest.mark.case("O15")
@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_database_is_named_only_after_the_login(pooler: Pooler) -> None:
    told = fails(pooler, PLAIN, PASSWORDS[PLAIN], "nowhere")
    assert "no such database: nowhere" in told or 'database "nowhere" does not exist' in told
    assert "nowhere" not in fails(pooler, PLAIN, "wrong", "nowhere")
    assert "nowhere" not in fails(pooler, NOBODY, "wrong", "nowhere")


@pytest.mark.case("O18")
@pytest.mark.parametrize("method", ["plain"])
def test_an_empty_password_is_refused(pooler: Pooler) -> None:
    client, request = begin(pooler, PLAIN)
    with client:
        assert request == m.Message(b"R", m.int32(3))
        client.send(m.password(""))
        fields = refused(client)
    assert fields["M"] in ("empty password returned by client", "password authentication failed")
    assert fields["C"] in ("28P01", "08P01")


# --- SCRAM -----------------------------------------------------------------------------------------


@pytest.mark.case("O19")
def test_a_mechanism_not_offered_is_a_protocol_violation(pooler: Pooler) -> None:
    for mechanism in ("FOO", "SCRAM-SHA-256-PLUS", ""):
        client, _ = begin(pooler, SCRAM)
        with client:
            client.send(m.sasl_initial(mechanism, ScramClient(PASSWORD).first()))
            fields = refused(client)
        assert fields["C"] == "08P01"
        assert fields["M"] == "client selected an invalid SASL authentication mechanism"


@pytest.mark.case("O20")
@pgbouncer_fails("overflows before 1.25.2")
@pytest.mark.parametrize("claim", [0x7FFFFFFF, 0xFFFFFFFE, 1000, 1], ids=hex)
def test_an_inner_length_that_lies_is_a_protocol_violation(pooler: Pooler, claim: int) -> None:
    before = pooler.rss()
    client, _ = begin(pooler, SCRAM)
    with client:
        client.send(m.sasl_initial("SCRAM-SHA-256", ScramClient(PASSWORD).first(), claim=claim))
        assert refused(client)["C"] == "08P01"
    assert pooler.rss() - before < MIB


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


@pytest.mark.case("O21")
def test_every_broken_client_final_gets_the_same_answer(pooler: Pooler) -> None:
    answers = {}
    for kind in ("wrong nonce", "short proof", "trailing junk", "other binding", "wrong password"):
        client, _ = begin(pooler, SCRAM)
        with client:
            scram = ScramClient(PASSWORD)
            client.send(m.sasl_response(mutated_final(kind, scram, scram_until_final(client, scram))))
            answers[kind] = refused(client)
    if pooler.kind == direct.KIND:
        # PostgreSQL tells an exchange that is malformed from one that fails.
        assert {fields["C"] for fields in answers.values()} == {"28P01", "08P01"}
        return
    assert len({(fields["C"], fields["M"]) for fields in answers.values()}) == 1, answers
    for fields in answers.values():
        assert fields["M"] == "SASL authentication failed"
        assert fields["C"] == "28P01" or (fields["C"] == "08P01" and pooler.kind == "pgbouncer")


def server_first(pooler: Pooler, user: str) -> dict[str, str]:
    client, request = begin(pooler, user)
    with client:
        assert request.body == m.int32(10) + b"SCRAM-SHA-256\0\0"
        return attributes(scram_until_final(client, ScramClient(PASSWORD)))


@pytest.mark.case("O16")
def test_the_salt_of_an_unknown_user_is_stable_and_looks_like_a_real_one(pooler: Pooler) -> None:
    unknown, again = server_first(pooler, NOBODY), server_first(pooler, NOBODY)
    other, known = server_first(pooler, "another"), server_first(pooler, SCRAM)
    assert unknown["s"] == again["s"] != other["s"]
    assert unknown["r"] != again["r"]
    assert unknown["i"] == known["i"]
    assert salt_length(unknown) == salt_length(known)


@pytest.mark.case("O16", "O17")
def test_an_unknown_user_gets_the_same_bytes_as_a_wrong_password(pooler: Pooler) -> None:
    final = {}
    for user in (SCRAM, NOBODY):
        client, request = begin(pooler, user)
        with client:
            scram = ScramClient("wrong")
            client.send(m.sasl_response(scram.final(scram_until_final(client, scram))))
            got = client.until_closed()
        final[user] = (request, [(tag, body.replace(f'"{user}"'.encode(), b"...")) for tag, body in got])
    assert final[SCRAM] == final[NOBODY]

import base64
import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import scram
from protocol.scram import Derive, ScramClient, ScramError, ScramKeys, ScramServer, ScramVerifier

# RFC 7677, section 3: user "user", password "pencil".
CLIENT_NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
UNPROVEN = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
PROOF = b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
CLIENT_FINAL = UNPROVEN + b",p=" + PROOF
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
VERIFIER = (
    b"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    b"$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)
KEYS = ScramKeys.of(Derive(b"pencil", SALT, 4096).run(), SALT, 4096)


def keys_of(password: bytes, salt: bytes = SALT, iterations: int = 1) -> ScramKeys:
    return ScramKeys.of(Derive(password, salt, iterations).run(), salt, iterations)


@dataclass
class Exchange:
    """One whole exchange; the attributes are the four messages."""

    client: ScramClient
    server: ScramServer
    client_first: bytes = b""
    server_first: bytes = b""
    client_final: bytes = b""

    def run(self, keys: ScramKeys) -> None:
        self.client_first = self.client.first()
        self.server_first = self.server.first(self.client_first)
        self.client.challenge(self.server_first)
        self.client_final = self.client.final(keys)
        self.server.final(self.client_final)


def rfc_server() -> ScramServer:
    return ScramServer(SALT, 4096, nonce=SERVER_NONCE)


def test_the_server_speaks_the_exchange_of_rfc_7677() -> None:
    server = rfc_server()

    assert server.first(CLIENT_FIRST) == SERVER_FIRST
    server.final(CLIENT_FINAL)
    keys = server.keys(ScramVerifier.parse(VERIFIER))
    assert keys == KEYS
    assert server.answer(keys) == SERVER_FINAL


def test_the_keys_are_those_of_rfc_7677() -> None:
    assert KEYS.verifier().format() == VERIFIER


def test_a_client_and_a_server_that_know_the_same_password_agree() -> None:
    keys = keys_of(b"pencil")
    exchange = Exchange(ScramClient(), ScramServer(SALT, 1))
    exchange.run(keys)

    seen = exchange.server.keys(keys.verifier())
    assert seen == keys
    exchange.client.verify(exchange.server.answer(seen))


def test_the_client_leaves_the_user_name_empty_as_libpq_does() -> None:
    assert ScramClient(nonce="abc").first() == b"n,,n=,r=abc"


def test_nonces_are_random_unless_given() -> None:
    assert ScramClient().first() != ScramClient().first()
    assert ScramServer(SALT, 1).first(CLIENT_FIRST) != ScramServer(SALT, 1).first(CLIENT_FIRST)


def test_keys_learnt_from_a_proof_open_another_server_with_the_same_verifier() -> None:
    server = rfc_server()
    server.first(CLIENT_FIRST)
    server.final(CLIENT_FINAL)
    learnt = server.keys(ScramVerifier.parse(VERIFIER))
    assert learnt

    second = Exchange(ScramClient(), ScramServer(SALT, 4096))
    second.run(learnt)
    assert second.server.keys(KEYS.verifier())


def test_a_proof_of_another_password_reveals_nothing() -> None:
    exchange = Exchange(ScramClient(), ScramServer(SALT, 1))
    exchange.run(keys_of(b"wrong"))
    assert exchange.server.keys(keys_of(b"pencil").verifier()) is None


@pytest.mark.parametrize(
    "client_first",
    [
        b"n,,n=,r=abc",
        b"y,,n=,r=abc",
        b"n,,n=*,r=abc",
        b"n,,n=caf\xc3\xa9=,r=abc",
        b"n,,n=user,r=abc,x=future,Z=",
    ],
)
def test_client_first_messages_of_every_driver_are_taken(client_first: bytes) -> None:
    assert ScramServer(b"salt", 5, nonce="xyz").first(client_first) == b"r=abcxyz,s=c2FsdA==,i=5"


FIRST_MUTATIONS = [
    b"",
    b"n",
    b"n,",
    b"n,,",
    b"n,,n=",
    b"n,,n=user",
    b"n,,n=user,",
    b"n,,n=user,r",
    b"n,,n=user,r=",
    b"n,,n=user,r=a b",
    b"n,,n=user,r=a\x7f",
    b"n,,n=user,r=a\xc3\xa9",
    b"n,,n=user,r=" + b"a" * 1025,
    b"n,,n=user,R=abc",
    b"n,,r=abc,n=user",
    b"n,,N=user,r=abc",
    b"n,,nuser,r=abc",
    b"n,,m=x,n=user,r=abc",
    b"n,,n=user,m=x,r=abc",
    b"n,,n=user,r=abc,m=x",
    b"n,,n=user,r=abc,p=x",
    b"n,,n=user,r=abc,",
    b"n,,n=user,r=abc,xyz",
    b"n,,n=user,r=abc,1=x",
    b"n,a=admin,n=user,r=abc",
    b"n,admin,n=user,r=abc",
    b"n=user,r=abc",
    b",,n=user,r=abc",
    b"x,,n=user,r=abc",
    b"N,,n=user,r=abc",
    b"nn,,n=user,r=abc",
    b"p,,n=user,r=abc",
    b"p=,,n=user,r=abc",
    b"p=tls-unique,,n=user,r=abc",
    b"p=tls-server-end-point,,n=user,r=abc",
    b"n,,n=user,r=abc\0",
    b"\0n,,n=user,r=abc",
    b"n,,n=us\0er,r=abc",
    b"n,,n=" + b"u" * 65_536 + b",r=abc",
    b" n,,n=user,r=abc",
]


@pytest.mark.parametrize("client_first", FIRST_MUTATIONS)
def test_a_mutated_client_first_message_is_refused(client_first: bytes) -> None:
    with pytest.raises(ScramError):
        ScramServer(b"salt", 1, nonce="xyz").first(client_first)


FINAL_MUTATIONS = [
    b"",
    b",",
    b"p=" + PROOF,
    b",p=" + PROOF,
    UNPROVEN,
    UNPROVEN + b",p=",
    UNPROVEN + b",p",
    UNPROVEN + b"," + PROOF,
    UNPROVEN + b",p=" + base64.b64encode(bytes(19)),
    UNPROVEN + b",p=" + base64.b64encode(bytes(33)),
    CLIENT_FINAL[:-1],
    CLIENT_FINAL[:-2] + b"R=",
    CLIENT_FINAL + b"=",
    CLIENT_FINAL + b"x",
    CLIENT_FINAL + b"\n",
    CLIENT_FINAL + b"\0",
    CLIENT_FINAL + b",x=y",
    CLIENT_FINAL + b",p=" + PROOF,
    b" " + CLIENT_FINAL,
    CLIENT_FINAL.replace(b"c=biws", b"c=eSws"),
    CLIENT_FINAL.replace(b"c=biws", b"c="),
    CLIENT_FINAL.replace(b"c=biws", b"c=biws="),
    CLIENT_FINAL.replace(b"c=biws", b"c=biwsAAAA"),
    CLIENT_FINAL.replace(b"c=biws", b"C=biws"),
    CLIENT_FINAL.replace(b"c=biws,", b""),
    CLIENT_FINAL.replace(b"k0,p", b"k,p"),
    CLIENT_FINAL.replace(b"k0,p", b"k00,p"),
    CLIENT_FINAL.replace(b"k0,p", b"K0,p"),
    CLIENT_FINAL.replace(b"r=rOp", b"r="),
    CLIENT_FINAL.replace(b"r=", b"R="),
    b"c=biws,p=" + PROOF,
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO,p=" + PROOF,
    b"c=biws,r=,p=" + PROOF,
    UNPROVEN + b",m=x,p=" + PROOF,
    UNPROVEN + b",p=x,p=" + PROOF,
    UNPROVEN + b",,p=" + PROOF,
    UNPROVEN + b",xyz,p=" + PROOF,
    UNPROVEN + b",x=" + b"y" * 65_536 + b",p=" + PROOF,
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,c=biws,p=" + PROOF,
]


@pytest.mark.parametrize("client_final", FINAL_MUTATIONS)
def test_a_mutated_client_final_message_is_refused(client_final: bytes) -> None:
    server = rfc_server()
    server.first(CLIENT_FIRST)
    with pytest.raises(ScramError):
        server.final(client_final)


@pytest.mark.parametrize(
    "client_final",
    [
        UNPROVEN + b",x=y,p=" + PROOF,
        UNPROVEN + b",p=A" + PROOF[1:],
        UNPROVEN + b",p=" + base64.b64encode(bytes(32)),
    ],
)
def test_a_well_formed_client_final_message_that_was_changed_proves_nothing(client_final: bytes) -> None:
    server = rfc_server()
    server.first(CLIENT_FIRST)
    server.final(client_final)
    assert server.keys(KEYS.verifier()) is None


def test_a_proof_for_another_client_first_message_proves_nothing() -> None:
    server = rfc_server()
    server.first(CLIENT_FIRST.replace(b"user", b"user2"))
    server.final(CLIENT_FINAL)
    assert server.keys(KEYS.verifier()) is None


@given(st.binary(max_size=80), st.binary(max_size=80))
@settings(deadline=None)
def test_only_scram_errors_come_out_of_a_server(first: bytes, final: bytes) -> None:
    server = ScramServer(b"salt", 1)
    with contextlib.suppress(ScramError):
        server.first(first)
    with contextlib.suppress(ScramError):
        server.final(final)


@pytest.mark.parametrize(
    "server_first",
    [
        b"",
        b"r=abc,s=c2FsdA==,i=1",
        b"r=abx123,s=c2FsdA==,i=1",
        b"r=xabc123,s=c2FsdA==,i=1",
        b"r=abc123\x7f,s=c2FsdA==,i=1",
        b"r=abc" + b"x" * 60_000 + b",s=c2FsdA==,i=1",
        b"r=abc" + b"x" * 70_000 + b",s=c2FsdA==,i=1",
        b"m=x,r=abc123,s=c2FsdA==,i=1",
        b"r=abc123,s=,i=1",
        b"r=abc123,s=c2FsdA,i=1",
        b"r=abc123,s=c2Fsd\xff==,i=1",
        b"r=abc123,s=" + base64.b64encode(bytes(1025)) + b",i=1",
        b"r=abc123,i=1,s=c2FsdA==",
        b"r=abc123,s=c2FsdA==",
        b"r=abc123,s=c2FsdA==,i=",
        b"r=abc123,s=c2FsdA==,i=0",
        b"r=abc123,s=c2FsdA==,i=-1",
        b"r=abc123,s=c2FsdA==,i=+1",
        b"r=abc123,s=c2FsdA==,i= 1",
        b"r=abc123,s=c2FsdA==,i=1_0",
        b"r=abc123,s=c2FsdA==,i=100001",
        b"r=abc123,s=c2FsdA==,i=2147483647",
        b"r=abc123,s=c2FsdA==,i=" + b"9" * 5000,
        b"r=abc123,s=c2FsdA==,i=1,x=y",
        b"r=abc123,s=c2FsdA==,i=1\0",
        b"e=other-error",
    ],
)
def test_a_server_first_message_that_is_not_to_be_trusted_is_refused(server_first: bytes) -> None:
    client = ScramClient(nonce="abc")
    client.first()
    with pytest.raises(ScramError):
        client.challenge(server_first)


def test_the_cap_on_iterations_is_the_callers() -> None:
    challenge = b"r=abc123,s=c2FsdA==,i=200000"
    assert ScramClient(nonce="abc").challenge(challenge, 200_000) == (b"salt", 200_000)
    with pytest.raises(ScramError, match="iteration"):
        ScramClient(nonce="abc").challenge(challenge, 199_999)


@pytest.mark.parametrize(
    "server_final",
    [b"", b"v=", b"v", SERVER_FINAL, SERVER_FINAL + b"x", b"e=invalid-proof", b"v=" + b"A" * 70_000, b"x=\0"],
)
def test_a_server_that_does_not_prove_itself_is_not_believed(server_final: bytes) -> None:
    exchange = Exchange(ScramClient(), ScramServer(SALT, 1))
    exchange.run(keys_of(b"pencil"))
    with pytest.raises(ScramError):
        exchange.client.verify(server_final)


@pytest.mark.parametrize("data", [b"\0" * 32, b"hash of the certificate"])
def test_both_sides_agree_on_a_bound_channel(data: bytes) -> None:
    keys = keys_of(b"pencil")
    exchange = Exchange(ScramClient(binding=data, plus=True), ScramServer(SALT, 1, binding=data, plus=True))
    exchange.run(keys)

    assert exchange.client_first.startswith(b"p=tls-server-end-point,,")
    assert exchange.server.keys(keys.verifier()) == keys


def test_a_channel_bound_to_another_certificate_is_refused() -> None:
    exchange = Exchange(
        ScramClient(binding=b"one", plus=True), ScramServer(SALT, 1, binding=b"two", plus=True)
    )
    with pytest.raises(ScramError, match="channel binding"):
        exchange.run(keys_of(b"pencil"))


def test_a_client_that_was_kept_from_binding_is_refused() -> None:
    exchange = Exchange(ScramClient(binding=b"one"), ScramServer(SALT, 1, binding=b"one"))
    with pytest.raises(ScramError, match="channel binding"):
        exchange.run(keys_of(b"pencil"))
    assert exchange.client_first.startswith(b"y,,")


def test_a_client_that_cannot_bind_may_come_in_without() -> None:
    exchange = Exchange(ScramClient(), ScramServer(SALT, 1, binding=b"one"))
    exchange.run(keys_of(b"pencil"))
    assert exchange.server.keys(keys_of(b"pencil").verifier())


@pytest.mark.parametrize("flag", [b"n", b"y", b"p=tls-unique"])
def test_who_chose_binding_must_bind(flag: bytes) -> None:
    with pytest.raises(ScramError, match="channel binding"):
        ScramServer(SALT, 1, binding=b"one", plus=True).first(flag + b",,n=,r=abc")


def test_binding_needs_something_to_bind_to() -> None:
    with pytest.raises(ValueError, match="without channel binding data"):
        ScramServer(SALT, 1, plus=True)
    with pytest.raises(ValueError, match="without channel binding data"):
        ScramClient(plus=True)


def test_a_verifier_comes_back_as_it_was_written() -> None:
    verifier = ScramVerifier.parse(VERIFIER)

    assert (verifier.iterations, verifier.salt) == (4096, SALT)
    assert verifier.format() == VERIFIER


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"sesame",
        VERIFIER[14:],
        VERIFIER[:-1],
        VERIFIER[:-4],
        VERIFIER + b":",
        VERIFIER.replace(b"4096", b""),
        VERIFIER.replace(b"4096", b"0"),
        VERIFIER.replace(b"4096", b"04096"),
        VERIFIER.replace(b"4096", b"4294967296"),
        VERIFIER.replace(b"4096", b"2000001"),
        VERIFIER.replace(b"4096:", b"4096$"),
        VERIFIER.replace(b"W22ZaJ0SNY7soEsUEjb6gQ==", b""),
        VERIFIER.replace(b"W22Z", b"W2!Z"),
        VERIFIER.replace(b"WG5d", b""),
        VERIFIER.replace(b"wfPL", b""),
        VERIFIER.replace(b"SCRAM-SHA-256", b"SCRAM-SHA-512"),
    ],
)
def test_a_text_that_is_no_verifier_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a SCRAM-SHA-256 verifier"):
        ScramVerifier.parse(text)


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_only_value_errors_come_out_of_any_text(text: bytes) -> None:
    with contextlib.suppress(ValueError):
        ScramVerifier.parse(b"SCRAM-SHA-256$" + text)


def test_no_key_shows_in_a_repr() -> None:
    shown = repr(
        [KEYS, KEYS.verifier(), Derive(b"pencil", SALT, 1), rfc_server(), ScramClient(nonce="sesame")]
    )

    for secret in ("pencil", "sesame", "\\x", str(SALT)[2:6]):
        assert secret not in shown


def test_a_nonce_is_24_characters() -> None:
    assert len(scram.new_nonce()) == 24

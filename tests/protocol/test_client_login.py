import base64
from collections.abc import Sequence

import pytest

from protocol import tags
from protocol.authentication import (
    AuthenticationCleartextPassword,
    AuthenticationMD5Password,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
)
from protocol.client_login import LoginResult, client_login
from protocol.conversation import AuthMethod, LoginFailed
from protocol.errors import MalformedMessage, ProtocolError, UnexpectedMessage
from protocol.frontend import PasswordMessage, SASLInitialResponse, SASLResponse
from protocol.scram import Derive, ScramClient, ScramError, ScramKeys, ScramVerifier
from protocol.secret import Md5Secret, PlainSecret, Secret, md5_response, md5_secret
from tests.protocol.talk import Talk
from tests.protocol.test_scram import FINAL_MUTATIONS, FIRST_MUTATIONS

USER = b"alice"
MOCK_KEY = b"k" * 32
PLAIN = PlainSecret(b"sesame")
MD5 = md5_secret(b"sesame", USER)
KEYS = ScramKeys.of(Derive(b"sesame", b"salt", 3).run(), b"salt", 3)
VERIFIER = KEYS.verifier()
OTHER_PLAIN = PlainSecret(b"other")
OTHER_MD5 = md5_secret(b"other", USER)
OTHER_VERIFIER = ScramKeys.of(Derive(b"other", b"pepper", 2).run(), b"pepper", 2).verifier()


def begin(
    method: AuthMethod,
    secrets: Sequence[Secret],
    *,
    user: bytes = USER,
    mock_key: bytes = MOCK_KEY,
    nonce: str | None = None,
    binding: bytes | None = None,
) -> Talk[LoginResult]:
    return Talk(
        client_login(
            method,
            user,
            secrets,
            mock_key=mock_key,
            iterations=5,
            nonce=nonce,
            md5_salt=b"salt" if nonce else None,
            binding=binding,
        )
    )


def scram_challenge(talk: Talk[LoginResult], client: ScramClient) -> bytes:
    """Begin the SCRAM exchange and return server-first-message."""
    data = talk.hear(SASLInitialResponse(b"SCRAM-SHA-256", client.first()))
    return AuthenticationSASLContinue.decode(data[5:]).data


def scram(talk: Talk[LoginResult], password: bytes) -> ScramClient:
    client = ScramClient()
    salt, iterations = client.challenge(scram_challenge(talk, client))
    keys = ScramKeys.of(Derive(password, salt, iterations).run(), salt, iterations)
    talk.hear(SASLResponse(client.final(keys)))
    return client


def md5_answer(talk: Talk[LoginResult], password: bytes) -> PasswordMessage:
    salt = AuthenticationMD5Password.decode(talk.last[5:]).salt
    return PasswordMessage(md5_response(md5_secret(password, USER), salt))


def fails(error: LoginFailed, message: str, sqlstate: str = "28P01") -> bool:
    return (error.message, error.sqlstate) == (message, sqlstate)


# No proof


def test_any_lets_everyone_in_at_once() -> None:
    talk = begin(AuthMethod.ANY, [])
    assert talk.done
    assert talk.sent == []
    assert talk.result == LoginResult()


def test_trust_lets_known_users_in_at_once() -> None:
    talk = begin(AuthMethod.TRUST, [PlainSecret(b"")])
    assert talk.done
    assert talk.sent == []
    assert talk.result == LoginResult(secret=PlainSecret(b""))


def test_trust_does_not_let_in_an_unknown_user() -> None:
    with pytest.raises(LoginFailed) as caught:
        begin(AuthMethod.TRUST, [])
    assert fails(caught.value, '"trust" authentication failed', "28000")


# Clear text


@pytest.mark.parametrize(
    ("secrets", "match"),
    [
        ([PLAIN], PLAIN),
        ([MD5], MD5),
        ([VERIFIER], VERIFIER),
        ([OTHER_PLAIN, OTHER_MD5, OTHER_VERIFIER, PLAIN], PLAIN),
        ([OTHER_VERIFIER, MD5], MD5),
        ([OTHER_PLAIN, VERIFIER], VERIFIER),
    ],
)
def test_a_clear_text_password_opens_every_form_of_secret(secrets: list[Secret], match: Secret) -> None:
    talk = begin(AuthMethod.PLAIN, secrets)
    assert talk.last == AuthenticationCleartextPassword().encode()

    talk.hear(PasswordMessage(b"sesame"))
    assert talk.result.secret == match
    assert talk.result.reply == b""
    assert talk.result.keys == (KEYS if match is VERIFIER else None)


SECRETS: list[list[Secret]] = [[], [PlainSecret(b"")], [PLAIN], [MD5], [VERIFIER], [PLAIN, MD5, VERIFIER]]


@pytest.mark.parametrize("secrets", SECRETS)
@pytest.mark.parametrize("password", [b"wrong", b"sesame ", b"SESAME", MD5.digest, b"md5" + MD5.digest])
def test_a_wrong_clear_text_password_gets_one_answer(secrets: list[Secret], password: bytes) -> None:
    talk = begin(AuthMethod.PLAIN, secrets)
    with pytest.raises(LoginFailed) as caught:
        talk.hear(PasswordMessage(password))
    assert fails(caught.value, "password authentication failed")


@pytest.mark.parametrize("method", [AuthMethod.PLAIN, AuthMethod.MD5])
@pytest.mark.parametrize("secrets", [[], [PLAIN], [PlainSecret(b"")], [MD5]])
def test_an_empty_password_is_named(method: AuthMethod, secrets: list[Secret]) -> None:
    talk = begin(method, secrets)
    with pytest.raises(LoginFailed) as caught:
        talk.hear(PasswordMessage(b""))
    assert fails(caught.value, "empty password returned by client")


# MD5


@pytest.mark.parametrize("secrets", [[PLAIN], [MD5], [OTHER_PLAIN, PLAIN], [VERIFIER, OTHER_MD5, MD5]])
def test_an_md5_answer_opens_plain_and_md5_secrets(secrets: list[Secret]) -> None:
    talk = begin(AuthMethod.MD5, secrets)
    talk.hear(md5_answer(talk, b"sesame"))
    assert talk.result == LoginResult(secret=secrets[-1])


@pytest.mark.parametrize(
    "secrets", [[], [PlainSecret(b"")], [OTHER_PLAIN], [OTHER_MD5], [OTHER_MD5, VERIFIER]]
)
def test_a_wrong_md5_answer_gets_one_answer(secrets: list[Secret]) -> None:
    talk = begin(AuthMethod.MD5, secrets)
    with pytest.raises(LoginFailed) as caught:
        talk.hear(md5_answer(talk, b"sesame"))
    assert fails(caught.value, "password authentication failed")


@pytest.mark.parametrize("answer", [b"sesame", b"md5", b"md5" + MD5.digest, b"x" * 5000])
def test_what_is_no_md5_answer_is_a_wrong_one(answer: bytes) -> None:
    talk = begin(AuthMethod.MD5, [PLAIN, MD5])
    with pytest.raises(LoginFailed, match="password authentication failed"):
        talk.hear(PasswordMessage(answer))


def test_the_salt_of_md5_changes_unless_given() -> None:
    assert begin(AuthMethod.MD5, []).last != begin(AuthMethod.MD5, []).last
    assert begin(AuthMethod.MD5, [], nonce="x").last == AuthenticationMD5Password(b"salt").encode()


@pytest.mark.parametrize("secrets", [[VERIFIER], [VERIFIER, PLAIN]])
def test_md5_turns_to_scram_for_a_user_with_a_verifier(secrets: list[Secret]) -> None:
    talk = begin(AuthMethod.MD5, secrets)
    assert talk.last == AuthenticationSASL([b"SCRAM-SHA-256"]).encode()
    scram(talk, b"sesame")
    assert talk.result.keys == KEYS


# SCRAM


def test_scram_with_a_verifier_reveals_the_keys() -> None:
    talk = begin(AuthMethod.SCRAM_SHA_256, [VERIFIER])
    client = scram(talk, b"sesame")

    assert talk.result.secret == VERIFIER
    assert talk.result.keys == KEYS
    assert talk.derived == []
    client.verify(AuthenticationSASLFinal.decode(talk.result.reply[5:]).data)


def test_scram_with_a_plain_secret_has_its_key_derived_once_the_proof_is_there() -> None:
    talk = begin(AuthMethod.SCRAM_SHA_256, [PLAIN])
    client = ScramClient()
    challenge = scram_challenge(talk, client)
    assert talk.derived == []
    salt, iterations = client.challenge(challenge)
    keys = ScramKeys.of(Derive(b"sesame", salt, iterations).run(), salt, iterations)
    talk.hear(SASLResponse(client.final(keys)))

    assert talk.derived == [Derive(b"sesame", salt, 5)]
    assert talk.result.keys == keys
    client.verify(AuthenticationSASLFinal.decode(talk.result.reply[5:]).data)


@pytest.mark.parametrize(
    "secrets",
    [
        [OTHER_PLAIN, PLAIN],
        [MD5, PLAIN],
        [PLAIN, OTHER_VERIFIER],
        [PlainSecret(b""), OTHER_VERIFIER, PLAIN],
        [VERIFIER, OTHER_VERIFIER],
    ],
)
def test_scram_opens_any_of_several_secrets_that_can_share_a_salt(secrets: list[Secret]) -> None:
    talk = begin(AuthMethod.SCRAM_SHA_256, secrets)
    scram(talk, b"sesame")
    assert talk.result.secret in (PLAIN, VERIFIER)


@pytest.mark.parametrize(
    "secrets", [[], [PlainSecret(b"")], [MD5], [OTHER_PLAIN], [OTHER_VERIFIER], [OTHER_VERIFIER, VERIFIER]]
)
def test_a_wrong_scram_proof_gets_one_answer_after_the_whole_exchange(secrets: list[Secret]) -> None:
    talk = begin(AuthMethod.SCRAM_SHA_256, secrets)
    with pytest.raises(LoginFailed) as caught:
        scram(talk, b"sesame")
    assert len(talk.sent) == 2
    assert fails(caught.value, "SASL authentication failed")


def test_an_empty_password_never_opens_scram() -> None:
    talk = begin(AuthMethod.SCRAM_SHA_256, [PlainSecret(b"")])
    with pytest.raises(LoginFailed):
        scram(talk, b"")


def test_unknown_users_get_a_salt_that_is_theirs_and_never_changes() -> None:
    def challenge(user: bytes, mock_key: bytes = MOCK_KEY) -> bytes:
        talk = begin(AuthMethod.SCRAM_SHA_256, [], user=user, mock_key=mock_key, nonce="fix")
        return scram_challenge(talk, ScramClient(nonce="abc"))

    assert challenge(b"alice") == challenge(b"alice")
    assert challenge(b"alice") != challenge(b"bob")
    assert challenge(b"alice") != challenge(b"alice", b"another key")
    salt, iterations = ScramClient(nonce="abc").challenge(challenge(b"alice"))
    assert (len(salt), iterations) == (16, 5)


def test_an_unknown_user_sees_what_a_known_one_with_a_plain_secret_sees() -> None:
    def seen(secrets: list[Secret]) -> list[bytes]:
        talk = begin(AuthMethod.SCRAM_SHA_256, secrets, nonce="fix")
        client = ScramClient(nonce="abc")
        salt, iterations = client.challenge(scram_challenge(talk, client))
        answer = SASLResponse(client.final(ScramKeys.of(b"wrong", salt, iterations)))
        with pytest.raises(LoginFailed):
            talk.hear(answer)
        return talk.sent

    assert seen([]) == seen([PLAIN])


def test_a_client_may_wait_to_be_asked_for_its_first_message() -> None:
    talk = begin(AuthMethod.SCRAM_SHA_256, [VERIFIER])
    asked = talk.hear(SASLInitialResponse(b"SCRAM-SHA-256", None))
    assert asked == AuthenticationSASLContinue(b"").encode()

    client = ScramClient()
    data = talk.hear(SASLResponse(client.first()))
    client.challenge(AuthenticationSASLContinue.decode(data[5:]).data)
    talk.hear(SASLResponse(client.final(KEYS)))
    assert talk.result.keys == KEYS


@pytest.mark.parametrize("mechanism", [b"FOO", b"SCRAM-SHA-256-PLUS", b"", b"scram-sha-256", b"SCRAM-SHA-1"])
@pytest.mark.parametrize("secrets", [[], [VERIFIER]])
def test_a_mechanism_that_was_not_offered_is_refused(mechanism: bytes, secrets: list[Secret]) -> None:
    talk = begin(AuthMethod.SCRAM_SHA_256, secrets)
    with pytest.raises(LoginFailed) as caught:
        talk.hear(SASLInitialResponse(mechanism, b"n,,n=,r=abc"))
    assert fails(caught.value, "client selected an invalid SASL authentication mechanism", "08P01")


@pytest.mark.parametrize("client_first", FIRST_MUTATIONS)
@pytest.mark.parametrize("secrets", [[], [VERIFIER]])
def test_every_mutated_client_first_message_gets_one_answer(
    client_first: bytes, secrets: list[Secret]
) -> None:
    talk = begin(AuthMethod.SCRAM_SHA_256, secrets)
    with pytest.raises(LoginFailed) as caught:
        talk.hear(SASLInitialResponse(b"SCRAM-SHA-256", client_first))
    assert fails(caught.value, "SASL authentication failed")


@pytest.mark.parametrize("client_final", FINAL_MUTATIONS)
def test_every_mutated_client_final_message_gets_one_answer(client_final: bytes) -> None:
    talk = begin(AuthMethod.SCRAM_SHA_256, [VERIFIER])
    scram_challenge(talk, ScramClient())
    with pytest.raises(LoginFailed) as caught:
        talk.hear(SASLResponse(client_final))
    assert fails(caught.value, "SASL authentication failed")


@pytest.mark.parametrize("at", range(0, 94, 3))
def test_no_changed_byte_of_a_good_client_final_message_lets_in(at: int) -> None:
    talk = begin(AuthMethod.SCRAM_SHA_256, [VERIFIER], nonce="0123456789abcdef")
    client = ScramClient(nonce="ghijklmnop")
    client.challenge(scram_challenge(talk, client))
    good = client.final(KEYS)
    changed = bytearray(good)
    changed[at % len(good)] ^= 1
    with pytest.raises(LoginFailed) as caught:
        talk.hear(SASLResponse(bytes(changed)))
    assert fails(caught.value, "SASL authentication failed")


# Channel binding


@pytest.mark.parametrize("plus", [True, False])
def test_where_binding_is_possible_it_is_offered_and_not_forced(plus: bool) -> None:
    talk = begin(AuthMethod.SCRAM_SHA_256, [VERIFIER], binding=b"certificate")
    assert AuthenticationSASL.decode(talk.last[5:]).mechanisms == [b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]

    client = ScramClient(binding=b"certificate" if plus else None, plus=plus)
    mechanism = b"SCRAM-SHA-256-PLUS" if plus else b"SCRAM-SHA-256"
    data = talk.hear(SASLInitialResponse(mechanism, client.first()))
    client.challenge(AuthenticationSASLContinue.decode(data[5:]).data)
    talk.hear(SASLResponse(client.final(KEYS)))
    assert (talk.result.keys, talk.result.bound) == (KEYS, plus)


# Messages that are none


@pytest.mark.parametrize("method", [AuthMethod.PLAIN, AuthMethod.MD5, AuthMethod.SCRAM_SHA_256])
@pytest.mark.parametrize("tag", [0, tags.QUERY, tags.TERMINATE, tags.SYNC, tags.PARSE, 255])
def test_another_message_during_login_is_unexpected(method: AuthMethod, tag: int) -> None:
    with pytest.raises(UnexpectedMessage, match=f"got message type {tag}") as caught:
        begin(method, [PLAIN]).hear_raw(tag, b"")
    assert caught.value.sqlstate == "08P01"


@pytest.mark.parametrize("method", [AuthMethod.PLAIN, AuthMethod.MD5])
@pytest.mark.parametrize("body", [b"", b"sesame", b"sesame\0x", b"sesame\0\0"])
def test_a_password_message_that_is_malformed_is_told_so(method: AuthMethod, body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        begin(method, [PLAIN]).hear_raw(tags.PASSWORD, body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=abc",
        b"SCRAM-SHA-256\0\xff\xff\xff\xffn,,n=,r=abc",
        b"SCRAM-SHA-256\0\xff\xff\xff\xfen,,n=,r=abc",
        b"SCRAM-SHA-256\0\0\0\0\x0an,,n=,r=abc",
        b"SCRAM-SHA-256\0\0\0\0\x0cn,,n=,r=abc",
    ],
)
def test_a_sasl_response_whose_inner_length_lies_is_malformed(body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        begin(AuthMethod.SCRAM_SHA_256, [PLAIN]).hear_raw(tags.PASSWORD, body)
    assert not isinstance(caught.value, ScramError)
    assert caught.value.sqlstate == "08P01"


def test_a_result_does_not_show_its_secrets() -> None:
    talk = begin(AuthMethod.PLAIN, [PLAIN])
    talk.hear(PasswordMessage(b"sesame"))
    assert "sesame" not in repr(talk.result)


def test_forms_of_secrets_are_what_this_file_thinks() -> None:
    assert isinstance(MD5, Md5Secret)
    assert isinstance(VERIFIER, ScramVerifier)
    assert base64.b64encode(b"salt") in VERIFIER.format()

"""An exchange gone through again with other secrets than it was begun with."""

import hashlib

import pytest

from protocol.login import (
    AuthMethod,
    Conversation,
    Derive,
    LoginFailed,
    LoginResult,
    Md5Secret,
    PlainSecret,
    ScramVerifier,
    Secret,
    client_login,
    parse_secret,
)
from proxy.recheck import AskedOtherwise, Said, judged, noted
from tests.support import scram

NONCE = "server-nonce-of-this-test"
OLD, NEW = "old password", "new password"


def login(method: AuthMethod, secret: Secret) -> Conversation[LoginResult]:
    return client_login(
        method, b"alice", [secret], mock_key=b"key", iterations=1, nonce=NONCE, md5_salt=b"salt"
    )


async def derived(step: Derive) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", step.password, step.salt, step.iterations)


def answer_to(request: bytes, client: scram.ScramClient) -> bytes:
    """What a client with the new password says to an authentication request."""
    match request[5:9]:
        case b"\0\0\0\3":
            return NEW.encode() + b"\0"
        case b"\0\0\0\5":
            inner = hashlib.md5(NEW.encode() + b"alice").hexdigest().encode()
            return b"md5" + hashlib.md5(inner + request[9:13]).hexdigest().encode() + b"\0"
        case b"\0\0\0\n":
            first = client.first()
            return b"SCRAM-SHA-256\0" + len(first).to_bytes(4, "big") + first
        case _:
            return client.final(request[9:])


async def failed(method: AuthMethod, secret: Secret) -> Said:
    """What was said in a login with the new password while the old one was believed."""
    said: Said = []
    conversation = noted(login(method, secret), said)
    client = scram.ScramClient(NEW)
    step = next(conversation)
    try:
        while True:
            if isinstance(step, Derive):
                step = conversation.send(await derived(step))
            else:
                step = conversation.send((0x70, answer_to(step, client)))
    except LoginFailed:
        return said


def md5_of(password: str) -> Md5Secret:
    return Md5Secret(hashlib.md5(password.encode() + b"alice").hexdigest().encode())


def verifier_of(password: str, salt: bytes) -> ScramVerifier:
    secret = parse_secret(scram.verifier(password, iterations=1, salt=salt).encode())
    assert isinstance(secret, ScramVerifier)
    return secret


CASES = [
    (AuthMethod.PLAIN, PlainSecret(OLD.encode()), PlainSecret(NEW.encode())),
    (AuthMethod.PLAIN, verifier_of(OLD, b"one salt"), verifier_of(NEW, b"another salt")),
    (AuthMethod.MD5, md5_of(OLD), md5_of(NEW)),
    (AuthMethod.SCRAM_SHA_256, PlainSecret(OLD.encode()), PlainSecret(NEW.encode())),
    (AuthMethod.SCRAM_SHA_256, verifier_of(OLD, b"same salt"), verifier_of(NEW, b"same salt")),
]


@pytest.mark.parametrize(("method", "old", "new"), CASES)
async def test_the_new_password_counts_where_the_questions_are_the_same(
    method: AuthMethod, old: Secret, new: Secret
) -> None:
    said = await failed(method, old)
    result = await judged(login(method, new), said, derived)
    assert result.secret == new


@pytest.mark.parametrize(("method", "old", "new"), CASES)
async def test_what_was_wrong_by_the_old_secret_stays_wrong_by_it(
    method: AuthMethod, old: Secret, new: Secret
) -> None:
    said = await failed(method, old)
    with pytest.raises(LoginFailed):
        await judged(login(method, old), said, derived)


async def test_a_proof_for_another_salt_proves_nothing() -> None:
    said = await failed(AuthMethod.SCRAM_SHA_256, verifier_of(OLD, b"one salt"))
    with pytest.raises(AskedOtherwise):
        await judged(login(AuthMethod.SCRAM_SHA_256, verifier_of(NEW, b"another salt")), said, derived)


async def test_an_answer_to_another_method_proves_nothing() -> None:
    said = await failed(AuthMethod.MD5, md5_of(OLD))
    with pytest.raises(AskedOtherwise):
        await judged(login(AuthMethod.MD5, verifier_of(NEW, b"salt")), said, derived)


async def test_what_was_never_answered_proves_nothing() -> None:
    with pytest.raises(AskedOtherwise):
        await judged(login(AuthMethod.PLAIN, PlainSecret(NEW.encode())), [], derived)


async def test_a_conversation_that_is_noted_comes_to_the_same_result() -> None:
    said: Said = []
    conversation = noted(login(AuthMethod.PLAIN, PlainSecret(b"x")), said)
    asked = next(conversation)
    with pytest.raises(StopIteration) as end:
        conversation.send((0x70, b"x\0"))
    assert end.value.value.secret == PlainSecret(b"x")
    assert said == [(asked, (0x70, b"x\0"))]

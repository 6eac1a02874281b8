"""Our client's conversation against our server's: whatever one side sends, the other must understand."""

import pytest

from protocol import login
from protocol.authentication import AuthenticationOk
from protocol.backend import BackendKeyData, ReadyForQuery
from protocol.login import (
    AuthMethod,
    Greeting,
    LoginFailed,
    LoginImpossible,
    LoginResult,
    PlainSecret,
    ScramKeys,
    Secret,
    parse_secret,
)
from protocol.scram import Derive
from protocol.secret import md5_secret
from tests.protocol.talk import Talk, bodies

USER = b"alice"
PASSWORD = b"caf\xc3\xa9 sesame"
KEYS = ScramKeys.of(Derive(PASSWORD, b"0123456789abcdef", 4).run(), b"0123456789abcdef", 4)
PLAIN = PlainSecret(PASSWORD)
MD5 = md5_secret(PASSWORD, USER)
VERIFIER = KEYS.verifier()
WRONG = PlainSecret(b"wrong")

METHODS = [AuthMethod.PLAIN, AuthMethod.MD5, AuthMethod.SCRAM_SHA_256]
OPENS: dict[tuple[AuthMethod, type[Secret | ScramKeys]], list[Secret]] = {
    (AuthMethod.PLAIN, PlainSecret): [PLAIN, MD5, VERIFIER],
    (AuthMethod.MD5, PlainSecret): [PLAIN, MD5, VERIFIER],
    (AuthMethod.MD5, login.Md5Secret): [PLAIN, MD5],
    (AuthMethod.MD5, ScramKeys): [VERIFIER],
    (AuthMethod.SCRAM_SHA_256, PlainSecret): [PLAIN, VERIFIER],
    (AuthMethod.SCRAM_SHA_256, ScramKeys): [VERIFIER],
}
"""Which stored secrets each method lets each credential open; verifiers turn method MD5 to SCRAM."""


def meet(
    method: AuthMethod, stored: Secret, credential: Secret | ScramKeys, binding: bytes | None = None
) -> tuple[LoginResult, Greeting]:
    """Let the two conversations talk to each other until both are over."""
    door = Talk(login.client_login(method, USER, [stored], mock_key=b"k", iterations=3, binding=binding))
    guest = Talk(login.server_login(USER, credential, tls=True, binding=binding))
    while not door.done:
        for tag, body in bodies(door.last):
            guest.hear_raw(tag, body)
        for tag, body in bodies(guest.last):
            door.hear_raw(tag, body)
    for tag, body in bodies(door.result.reply):
        guest.hear_raw(tag, body)
    guest.hear(AuthenticationOk(), BackendKeyData(1, b"abcd"), ReadyForQuery(ord("I")))
    return door.result, guest.result


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stored", [PLAIN, MD5, VERIFIER])
@pytest.mark.parametrize("credential", [PLAIN, MD5, KEYS])
def test_every_combination_of_method_secret_and_credential_opens_or_fails_as_listed(
    method: AuthMethod, stored: Secret, credential: Secret | ScramKeys
) -> None:
    if stored in OPENS.get((method, type(credential)), []):
        result, greeting = meet(method, stored, credential)
        assert result.secret == stored
        assert greeting == Greeting({}, 1, b"abcd")
    else:
        with pytest.raises((LoginFailed, LoginImpossible)):
            meet(method, stored, credential)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stored", [PLAIN, MD5, VERIFIER])
def test_a_wrong_password_opens_nothing(method: AuthMethod, stored: Secret) -> None:
    with pytest.raises(LoginFailed):
        meet(method, stored, WRONG)


@pytest.mark.parametrize("stored", [PLAIN, VERIFIER])
def test_what_the_client_revealed_opens_the_server_behind(stored: Secret) -> None:
    result, _ = meet(AuthMethod.SCRAM_SHA_256, stored, PLAIN)
    assert result.keys

    again, _ = meet(AuthMethod.SCRAM_SHA_256, result.keys.verifier(), result.keys)
    assert again.keys == result.keys


def test_keys_of_another_salt_are_not_tried() -> None:
    with pytest.raises(LoginImpossible, match="another SCRAM secret"):
        meet(AuthMethod.SCRAM_SHA_256, PLAIN, KEYS)


@pytest.mark.parametrize("credential", [PLAIN, KEYS])
def test_both_sides_bind_the_channel_where_there_is_one(credential: PlainSecret | ScramKeys) -> None:
    result, _ = meet(AuthMethod.SCRAM_SHA_256, VERIFIER, credential, binding=b"certificate")
    assert result.keys == KEYS


def test_a_stored_text_is_enough_to_let_someone_in() -> None:
    result, _ = meet(AuthMethod.SCRAM_SHA_256, parse_secret(VERIFIER.format()), PLAIN)
    assert result.keys == KEYS


def test_all_names_of_the_module_exist() -> None:
    assert [name for name in login.__all__ if not hasattr(login, name)] == []

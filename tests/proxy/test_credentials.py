import base64
import logging

import pytest

from config.settings import Settings
from protocol.login import (
    LoginResult,
    Md5Secret,
    PlainSecret,
    ScramKeys,
    ScramVerifier,
    Secret,
    parse_secret,
)
from proxy.credentials import (
    NO_PASSWORD,
    Credentials,
    credential_of,
    credential_refused,
    credential_taken,
    learn_credential,
    secrets_of,
    usual_iterations,
)
from proxy.errors import ServerRefused
from proxy.pool.pool import Pool
from tests.support.playbook import Playbook
from tests.support.scram import verifier

MD5 = "md5" + "0" * 32
VERIFIER = "SCRAM-SHA-256$4096:c2FsdA==$" + "A" * 43 + "=:" + "A" * 43 + "="
KEYS = ScramKeys(b"client", b"s" * 32, b"salt", 4096)


def pool(credentials: dict[str, object] | None = None, password: str | None = None) -> Pool:
    entry = {"host": "127.0.0.1"} | ({"password": password} if password is not None else {})
    return Playbook(open=0, credentials=credentials or {}, databases={"app": entry}).pool


def test_each_form_of_a_secret_is_recognized() -> None:
    settings = Settings(credentials={"a": ["plain", MD5, VERIFIER]})  # type: ignore[dict-item]
    kinds = [type(secret) for secret in secrets_of(settings, "a")]
    assert kinds == [PlainSecret, Md5Secret, ScramVerifier]


def test_an_unknown_user_has_none_and_one_with_an_empty_secret_has_no_password() -> None:
    settings = Settings(credentials={"none": []})  # type: ignore[dict-item]
    assert secrets_of(settings, "unknown") == []
    assert secrets_of(settings, "none") == [NO_PASSWORD]


def test_a_broken_secret_is_logged_without_being_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "howdah")
    broken = "SCRAM-SHA-256$0:hunter2$a:b"
    settings = Settings(credentials={"a": broken})  # type: ignore[dict-item]
    found = secrets_of(settings, "a")
    if found == [NO_PASSWORD]:
        assert "secret of user a is of no use" in caplog.text
    assert "hunter2" not in caplog.text


def test_without_anything_there_is_no_credential() -> None:
    assert credential_of(pool()) is None
    assert credential_of(pool({"alice": []})) is None
    assert credential_of(pool({"bob": "his"})) is None


def test_the_configured_password_beats_all_others() -> None:
    found = credential_of(pool({"alice": "hers"}, password="configured"))
    assert found == PlainSecret(b"configured")


def test_a_plain_secret_beats_learnt_keys_and_those_beat_a_hashed_one() -> None:
    hashed = pool({"alice": MD5})
    assert isinstance(credential_of(hashed), Md5Secret)
    hashed.credential = Credentials([KEYS])
    assert credential_of(hashed) is KEYS
    plain = pool({"alice": [MD5, "plain"]})
    plain.credential = Credentials([KEYS])
    assert credential_of(plain) == PlainSecret(b"plain")


def test_learnt_keys_do_where_the_auth_file_says_nothing() -> None:
    one = pool()
    one.credential = Credentials([KEYS])
    assert credential_of(one) is KEYS


def learnt(one: Pool, secret: Secret | None, keys: ScramKeys | None = None) -> object:
    learn_credential(one, LoginResult(b"", secret, keys))
    return next(iter(one.credential.learnt), None) if isinstance(one.credential, Credentials) else None


def test_the_keys_of_a_login_are_learnt_and_so_is_a_secret_that_no_file_has() -> None:
    assert learnt(pool(), KEYS.verifier(), KEYS) is KEYS
    assert learnt(pool({"alice": "x"}), KEYS.verifier(), KEYS) is KEYS
    for secret in (PlainSecret(b"x"), Md5Secret(b"0" * 32)):
        one = pool()
        assert learnt(one, secret) == secret == credential_of(one)


def test_keys_made_from_a_plain_secret_fit_no_server_and_are_not_learnt() -> None:
    assert learnt(pool(), PlainSecret(b"x"), KEYS) == PlainSecret(b"x")
    assert learnt(pool({"alice": "x"}), PlainSecret(b"x"), KEYS) is None


def test_nothing_is_learnt_of_who_has_no_password_or_was_not_asked() -> None:
    assert learnt(pool(), NO_PASSWORD) is None
    assert learnt(pool(), None) is None


def test_nothing_is_learnt_for_a_forced_user() -> None:
    entry = {"host": "127.0.0.1", "user": "owner"}
    book = Playbook(open=0, databases={"app": entry})
    assert learnt(book.pool, KEYS.verifier(), KEYS) is None


def test_a_new_credential_is_tried_at_once_and_a_known_one_is_not() -> None:
    one = pool()
    learnt(one, KEYS.verifier(), KEYS)
    one.refuse_logins(ServerRefused("password authentication failed"), 1 << 62)
    learnt(one, KEYS.verifier(), KEYS)
    assert one.refused_until == 1 << 62
    other = ScramKeys(b"other", b"s" * 32, b"salt", 4096)
    learnt(one, other.verifier(), other)
    assert one.refused_until == 0
    assert one.refusal is None


def test_keys_outlive_a_reload_that_leaves_the_verifier_and_no_other() -> None:
    verifier = parse_secret(VERIFIER.encode())
    assert isinstance(verifier, ScramVerifier)
    one = pool({"alice": VERIFIER})
    one.credential = Credentials([ScramKeys(b"client", verifier.server_key, verifier.salt, 4096)])
    assert credential_of(one) == verifier, "the keys are another password's"
    parts = (KEYS.salt, KEYS.verifier().stored_key, KEYS.server_key)
    text = "SCRAM-SHA-256$4096:{}${}:{}".format(*(base64.b64encode(part).decode() for part in parts))
    same = pool({"alice": text})
    same.credential = Credentials([KEYS])
    assert credential_of(same) is KEYS


def test_each_plain_secret_is_tried_in_turn_and_the_one_that_served_stays() -> None:
    one = pool({"alice": ["old", "new"]})
    assert credential_of(one) == PlainSecret(b"old")
    assert credential_refused(one, "28P01"), "there is another"
    assert credential_of(one) == PlainSecret(b"new")
    credential_taken(one)
    assert credential_of(one) == PlainSecret(b"new")
    assert credential_refused(one, "28P01")
    assert credential_of(one) == PlainSecret(b"old")
    assert not credential_refused(one, "28P01"), "both were refused"
    assert credential_refused(one, "28P01"), "and may be tried again later"
    assert not credential_refused(one, "3D000"), "which no secret helps against"


@pytest.mark.parametrize("credentials", [{}, {"alice": "x"}, {"alice": VERIFIER}])
def test_where_there_is_one_secret_or_none_a_refusal_is_final(credentials: dict[str, object]) -> None:
    assert not credential_refused(pool(credentials), "28P01")


def test_an_md5_secret_is_tried_where_learnt_keys_were_refused() -> None:
    one = pool({"alice": [MD5, VERIFIER]})
    assert isinstance(credential_of(one), Md5Secret)
    one = pool({"alice": MD5})
    one.credential = Credentials([KEYS])
    assert credential_refused(one, "28P01")
    assert isinstance(credential_of(one), Md5Secret)


def test_of_two_learnt_keys_the_one_that_served_is_tried_first() -> None:
    one = pool()
    other = ScramKeys(b"other", b"s" * 32, b"other salt", 4096)
    learnt(one, KEYS.verifier(), KEYS)
    credential_taken(one)
    learnt(one, other.verifier(), other)
    assert credential_of(one) is KEYS, "it serves"
    assert credential_refused(one, "28P01")
    assert credential_of(one) is other
    credential_taken(one)
    learnt(one, KEYS.verifier(), KEYS)
    assert credential_of(one) is other, "what served is not pushed aside by what is known"


def test_no_more_than_two_learnt_keys_are_kept() -> None:
    one = pool()
    keys = [ScramKeys(bytes([number]), b"s" * 32, b"salt", 4096) for number in range(4)]
    for each in keys:
        learnt(one, each.verifier(), each)
    assert isinstance(one.credential, Credentials)
    assert one.credential.learnt == [keys[3], keys[2]]


@pytest.mark.parametrize(
    ("secrets", "iterations"),
    [
        ({}, None),
        ({"a": "plain"}, None),
        ({"a": "md5" + "0" * 32, "b": verifier("x")}, None),
        ({"a": verifier("x", iterations=5000)}, 5000),
        ({"a": verifier("x"), "b": verifier("y", iterations=9), "c": verifier("z", iterations=9)}, 9),
        ({"a": "plain", "b": verifier("y", iterations=9), "c": verifier("z", iterations=9)}, 9),
        ({"a": "SCRAM-SHA-256$nonsense"}, None),
        ({"a": "SCRAM-SHA-256$2000001:x", "b": "SCRAM-SHA-256$" + "9" * 5000}, None),
    ],
)
def test_the_usual_iterations_are_those_of_most_verifiers(
    secrets: dict[str, str], iterations: int | None
) -> None:
    assert usual_iterations(Settings.model_validate({"credentials": secrets})) == iterations

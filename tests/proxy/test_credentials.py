import logging

import pytest

from config.settings import Settings
from protocol.login import Md5Secret, PlainSecret, ScramKeys, ScramVerifier
from proxy.credentials import NO_PASSWORD, credential_of, secrets_of
from proxy.pool.pool import Pool
from tests.support.playbook import Playbook

MD5 = "md5" + "0" * 32
VERIFIER = "SCRAM-SHA-256$4096:c2FsdA==$" + "A" * 43 + "=:" + "A" * 43 + "="
KEYS = ScramKeys(b"client", b"server", b"salt", 4096)


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
    hashed.credential = KEYS
    assert credential_of(hashed) is KEYS
    plain = pool({"alice": [MD5, "plain"]})
    plain.credential = KEYS
    assert credential_of(plain) == PlainSecret(b"plain")


def test_learnt_keys_do_where_the_auth_file_says_nothing() -> None:
    one = pool()
    one.credential = KEYS
    assert credential_of(one) is KEYS

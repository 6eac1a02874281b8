"""Salts of unknown users: the same over restarts, secret, and no more moved by an edit than others."""

from collections.abc import Mapping

import pytest

from config.settings import Settings
from proxy import mock_keys
from proxy.mock_keys import MockKeys
from tests.support import scram

NAMES = [f"somebody{number}" for number in range(2000)]


def keys(credentials: Mapping[str, str] = {}, **settings: object) -> MockKeys:
    return MockKeys(Settings.model_validate({"credentials": dict(credentials), **settings}))


def moved(one: MockKeys, other: MockKeys) -> float:
    """The share of names that have another key."""
    return sum(one.of(name) != other.of(name) for name in NAMES) / len(NAMES)


def test_each_process_with_the_same_settings_has_the_same_keys() -> None:
    assert moved(keys({"a": "x", "b": "y"}), keys({"b": "y", "a": "x"})) == 0


def test_keys_depend_on_secrets_and_not_on_names() -> None:
    assert moved(keys({"a": "x"}), keys({"b": "x"})) == 0
    assert moved(keys({"a": "x"}), keys({"a": "y"})) == 1


def test_a_secret_that_changes_moves_about_as_few_names_as_have_it() -> None:
    users = {f"user{number}": scram.verifier(str(number), iterations=1) for number in range(100)}
    changed = {**users, "user7": scram.verifier("new", iterations=1)}
    assert 0 < moved(keys(users), keys(changed)) < 0.2
    added = {**users, "another": "x"}
    assert 0 < moved(keys(users), keys(added)) < 0.2


def test_who_knows_one_of_the_secrets_knows_no_key() -> None:
    both, own = keys({"a": "x", "b": "y"}), keys({"a": "x"})
    assert moved(both, own) == 1


def test_a_nonce_of_ones_own_makes_keys_that_no_edit_moves() -> None:
    one = keys({"a": "x"}, mock_authentication_nonce="long and random")
    assert moved(one, keys({"a": "y", "b": "z"}, mock_authentication_nonce="long and random")) == 0
    assert moved(one, keys({"a": "x"}, mock_authentication_nonce="other")) == 1


def test_passwords_of_databases_are_secrets_too() -> None:
    databases = {"app": {"user": "u", "password": "p"}}
    assert moved(keys(databases=databases), keys()) == 1


def test_without_a_secret_keys_are_of_this_start_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert moved(keys(), keys()) == 0
    before = keys()
    monkeypatch.setattr(mock_keys, "_BOOT", "/no/such/file")
    assert moved(keys(), keys()) == 0
    assert moved(before, keys()) == 1

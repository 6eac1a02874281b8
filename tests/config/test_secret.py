"""Secrets do not leak by printing, and references to them are resolved."""

import copy
import pickle

import pytest

from config.databases import DatabaseSettings
from config.secret import Secret, expand, to_secret


def test_secret_is_masked_in_every_printed_form() -> None:
    secret = Secret(b"hunter2")
    assert repr(secret) == str(secret) == f"{secret}" == "***"
    assert secret.reveal() == b"hunter2"


def test_secret_in_a_database_is_masked_when_printed_or_dumped() -> None:
    entry = DatabaseSettings(user="u", password=Secret(b"hunter2"))
    shown = repr(entry) + str(entry) + entry.model_dump_json() + str(entry.model_dump())
    assert "hunter2" not in shown
    assert DatabaseSettings().model_dump_json().count("***") == 0


def test_secrets_are_equal_when_their_bytes_are() -> None:
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
    assert len({Secret(b"a"), Secret(b"a"), Secret(b"b")}) == 2


def test_secret_survives_copying_and_pickling() -> None:
    secret = Secret(b"a")
    assert copy.deepcopy(secret) == secret
    assert pickle.loads(pickle.dumps(secret)) == secret


@pytest.mark.parametrize(("value", "message"), [(b"", "empty"), (b"a\0b", "NUL")])
def test_secret_refuses(value: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Secret(value)


def test_text_and_bytes_become_secrets() -> None:
    assert to_secret("ä") == Secret("ä".encode())
    assert to_secret("\udcff") == Secret(b"\xff")
    assert to_secret(b"x") == Secret(b"x")
    assert to_secret(Secret(b"x")) == Secret(b"x")
    assert to_secret(None) is None
    with pytest.raises(ValueError, match="must be text"):
        to_secret(5)


def test_variables_are_replaced() -> None:
    environ = {"A": "1", "B_2": "${A}"}
    assert expand("x${A}y${B_2}", environ) == "x1y${A}"
    assert expand("no $A, ${1}, $${A}", environ) == "no $A, ${1}, ${A}"


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ValueError, match="variable MISSING is not set"):
        expand("${MISSING}", {})

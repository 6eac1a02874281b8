import pytest

from protocol.conversation import (
    AuthMethod,
    LoginError,
    LoginFailed,
    LoginImpossible,
    ServerRefused,
    derive,
    exchange,
)
from protocol.report import ErrorResponse
from protocol.scram import Derive


def test_an_exchange_sends_bytes_and_returns_the_next_message() -> None:
    step = exchange(b"ask")
    assert next(step) == b"ask"
    with pytest.raises(StopIteration) as end:
        step.send((1, b"answer"))
    assert end.value.value == (1, b"answer")


def test_an_exchange_may_only_wait() -> None:
    assert next(exchange()) == b""


def test_a_derivation_asks_for_the_normal_form_of_a_password() -> None:
    step = derive("\u2168".encode(), b"salt", 7)
    assert next(step) == Derive(b"IX", b"salt", 7)
    with pytest.raises(StopIteration) as end:
        step.send(b"salted")
    assert end.value.value == b"salted"


def test_a_driver_that_mixes_up_its_answers_is_told() -> None:
    waiting, deriving = exchange(), derive(b"x", b"salt", 1)
    next(waiting)
    next(deriving)
    with pytest.raises(TypeError, match="waits for a message"):
        waiting.send(b"salted")
    with pytest.raises(TypeError, match="waits for a derived key"):
        deriving.send((1, b""))


def test_login_errors_carry_text_and_code() -> None:
    for kind in (LoginFailed, LoginImpossible):
        error = kind("28P01", "no")
        assert isinstance(error, LoginError)
        assert (error.sqlstate, error.message, str(error)) == ("28P01", "no", "no")


def test_a_refusal_keeps_what_the_server_said() -> None:
    refused = ServerRefused(ErrorResponse({"C": b"3D000", "M": b"no"}), b"E...")
    assert (refused.sqlstate, refused.message, refused.raw) == ("3D000", "no", b"E...")
    assert refused.error.sqlstate == "3D000"


def test_methods_have_pgbouncers_names() -> None:
    assert [method.value for method in AuthMethod] == ["trust", "any", "plain", "md5", "scram-sha-256"]

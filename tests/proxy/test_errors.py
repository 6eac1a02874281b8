import inspect

import pytest

from protocol.errors import MalformedMessage, MessageTooLarge, ProtocolError
from proxy import errors
from proxy.errors import (
    Canceled,
    DatabaseDisabled,
    Killed,
    LoginRefused,
    LoginRetry,
    PoolerError,
    ServerLost,
    ServerRefused,
    ShuttingDown,
    TimedOut,
    TooManyClients,
    UnknownDatabase,
    error_response,
)
from tests.support import messages as m

CASES: list[tuple[PoolerError | ProtocolError, str, str, str]] = [
    (LoginRefused("not allowed"), "FATAL", "28P01", "not allowed"),
    (LoginRefused("not allowed", "42501"), "FATAL", "42501", "not allowed"),
    (UnknownDatabase("x"), "FATAL", "3D000", "no such database: x"),
    (DatabaseDisabled("x"), "FATAL", "57P03", 'database "x" is disabled'),
    (TooManyClients("no more connections allowed"), "FATAL", "53300", "no more connections allowed"),
    (ShuttingDown("pooler is shutting down"), "FATAL", "57P01", "pooler is shutting down"),
    (TimedOut("query timeout"), "FATAL", "57014", "query timeout"),
    (Canceled(), "ERROR", "57014", "canceling statement due to user request"),
    (ServerLost(), "FATAL", "08006", "server conn crashed?"),
    (ServerRefused("no"), "FATAL", "08006", "no"),
    (Killed(), "FATAL", "57P01", "admin forced disconnect"),
    (PoolerError("what"), "FATAL", "08P01", "what"),
    (ProtocolError("bad"), "FATAL", "08P01", "bad"),
    (MalformedMessage("bad"), "FATAL", "08P01", "bad"),
    (MessageTooLarge("big"), "FATAL", "54000", "big"),
]


def fields(error: PoolerError | ProtocolError) -> dict[str, str]:
    data = error_response(error)
    assert data[:1] == b"E"
    assert int.from_bytes(data[1:5], "big") == len(data) - 1
    return m.fields_of(data[5:])


@pytest.mark.parametrize(
    ("error", "severity", "code", "text"), CASES, ids=lambda case: type(case).__name__[:20]
)
def test_each_error_has_its_severity_code_and_text(
    error: PoolerError | ProtocolError, severity: str, code: str, text: str
) -> None:
    told = fields(error)
    assert (told["S"], told["V"], told["C"], told["M"]) == (severity, severity, code, text)
    assert str(error) == text


def test_every_kind_of_error_is_among_the_cases() -> None:
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PoolerError)}
    assert kinds == {type(case[0]) for case in CASES if isinstance(case[0], PoolerError)} | {LoginRetry}


def test_postgresqls_own_words_are_passed_on_as_they_are() -> None:
    raw = m.error_response("3D000", 'database "x" does not exist', severity="FATAL")
    assert error_response(ServerRefused("x", "3D000", raw)) is raw


def test_a_refusal_remembered_names_its_cause_and_keeps_its_code() -> None:
    told = fields(LoginRetry(ServerRefused("wrong password", "28P01")))
    assert told["C"] == "28P01"
    assert told["M"] == "server login has been failing, cached error: wrong password (server_login_retry)"


def test_only_an_error_before_anything_was_sent_is_safe_to_retry() -> None:
    assert TimedOut("query_wait_timeout").safe_to_retry
    assert not ServerLost().safe_to_retry


def test_text_from_the_wire_that_is_not_utf8_can_be_sent() -> None:
    assert fields(UnknownDatabase("a\udcffb"))["C"] == "3D000"

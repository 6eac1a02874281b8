import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import authentication
from protocol.authentication import (
    Authentication,
    AuthenticationCleartextPassword,
    AuthenticationGSS,
    AuthenticationGSSContinue,
    AuthenticationKerberosV5,
    AuthenticationMD5Password,
    AuthenticationOk,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
    AuthenticationSSPI,
)
from protocol.errors import MalformedMessage, ProtocolError, UnexpectedMessage

EXAMPLES: list[tuple[Authentication, bytes]] = [
    (AuthenticationOk(), b"R\0\0\0\x08\0\0\0\0"),
    (AuthenticationKerberosV5(), b"R\0\0\0\x08\0\0\0\x02"),
    (AuthenticationCleartextPassword(), b"R\0\0\0\x08\0\0\0\x03"),
    (AuthenticationMD5Password(b"salt"), b"R\0\0\0\x0c\0\0\0\x05salt"),
    (AuthenticationGSS(), b"R\0\0\0\x08\0\0\0\x07"),
    (AuthenticationGSSContinue(b"\0x"), b"R\0\0\0\x0a\0\0\0\x08\0x"),
    (AuthenticationSSPI(), b"R\0\0\0\x08\0\0\0\x09"),
    (AuthenticationSASL([b"A", b"BC"]), b"R\0\0\0\x0e\0\0\0\x0aA\0BC\0\0"),
    (AuthenticationSASLContinue(b"r=1"), b"R\0\0\0\x0b\0\0\0\x0br=1"),
    (AuthenticationSASLFinal(b"v=1"), b"R\0\0\0\x0b\0\0\0\x0cv=1"),
]


@pytest.mark.parametrize(("message", "data"), EXAMPLES)
def test_every_request_has_the_layout_of_the_manual(message: Authentication, data: bytes) -> None:
    assert message.encode() == data
    assert authentication.decode(data[5:]) == message
    assert type(message).decode(data[5:]) == message


def test_all_requests_of_the_manual_are_known() -> None:
    assert {message.code for message, _ in EXAMPLES} == set(authentication.REQUESTS)


def test_a_request_of_another_kind_is_unexpected() -> None:
    with pytest.raises(UnexpectedMessage):
        AuthenticationOk.decode(b"\0\0\0\x03")


@pytest.mark.parametrize("code", [b"\0\0\0\x01", b"\0\0\0\x0d", b"\xff\xff\xff\xff"])
def test_an_unknown_request_is_unexpected(code: bytes) -> None:
    with pytest.raises(UnexpectedMessage):
        authentication.decode(code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0x",
        b"\0\0\0\x03x",
        b"\0\0\0\x05sal",
        b"\0\0\0\x05salty",
        b"\0\0\0\x0a",
        b"\0\0\0\x0aSCRAM",
        b"\0\0\0\x0aSCRAM\0",
        b"\0\0\0\x0aSCRAM\0\0x",
    ],
)
def test_a_request_of_the_wrong_size_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        authentication.decode(body)


@pytest.mark.parametrize(
    "message",
    [
        AuthenticationMD5Password(b"sal"),
        AuthenticationSASL([b""]),
        AuthenticationSASL([b"a\0b"]),
    ],
)
def test_what_could_not_be_read_back_is_not_written(message: Authentication) -> None:
    with pytest.raises(MalformedMessage):
        message.encode()


@given(st.sampled_from([b"", *(kind.to_bytes(4, "big") for kind in range(14))]), st.binary(max_size=24))
@settings(deadline=None)
def test_only_protocol_errors_come_out_of_any_body(code: bytes, rest: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        authentication.decode(code + rest)

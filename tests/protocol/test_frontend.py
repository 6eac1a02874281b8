import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import frontend
from protocol.errors import MalformedMessage, ProtocolError, UnexpectedMessage
from protocol.frontend import (
    PORTAL,
    STATEMENT,
    Bind,
    Close,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
    Execute,
    Flush,
    FunctionCall,
    GSSResponse,
    Parse,
    PasswordMessage,
    Query,
    SASLInitialResponse,
    SASLResponse,
    Sync,
    Terminate,
)
from protocol.messages import Message

EXAMPLES: list[tuple[Message, bytes]] = [
    (
        Bind(b"p", b"s", [0, 1], [b"x", None], [1]),
        b"B\0\0\0\x1dp\0s\0\0\x02\0\0\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\x01\0\x01",
    ),
    (Bind(b"", b""), b"B\0\0\0\x0c\0\0\0\0\0\0\0\0"),
    (Close(STATEMENT, b"s"), b"C\0\0\0\x07Ss\0"),
    (CopyData(b"1\n"), b"d\0\0\0\x061\n"),
    (CopyDone(), b"c\0\0\0\x04"),
    (CopyFail(b"no"), b"f\0\0\0\x07no\0"),
    (Describe(PORTAL, b""), b"D\0\0\0\x06P\0"),
    (Execute(b"p", 10), b"E\0\0\0\x0ap\0\0\0\0\x0a"),
    (Flush(), b"H\0\0\0\x04"),
    (
        FunctionCall(1598, [1], [b"ab", None], 0),
        b"F\0\0\0\x1a\0\0\x06\x3e\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\0",
    ),
    (Parse(b"s", b"select $1", [23, 0]), b"P\0\0\0\x1as\0select $1\0\0\x02\0\0\0\x17\0\0\0\0"),
    (Query(b"select 1"), b"Q\0\0\0\x0dselect 1\0"),
    (Sync(), b"S\0\0\0\x04"),
    (Terminate(), b"X\0\0\0\x04"),
]
AMBIGUOUS: list[tuple[Message, bytes]] = [
    (PasswordMessage(b"sesame"), b"p\0\0\0\x0bsesame\0"),
    (SASLInitialResponse(b"SCRAM-SHA-256", b"n,,"), b"p\0\0\0\x19SCRAM-SHA-256\0\0\0\0\x03n,,"),
    (SASLInitialResponse(b"X", None), b"p\0\0\0\x0aX\0\xff\xff\xff\xff"),
    (SASLResponse(b"c=biws"), b"p\0\0\0\x0ac=biws"),
    (GSSResponse(b"\0\x01"), b"p\0\0\0\x06\0\x01"),
]


@pytest.mark.parametrize(("message", "data"), EXAMPLES + AMBIGUOUS)
def test_every_message_has_the_layout_of_the_manual(message: Message, data: bytes) -> None:
    assert message.encode() == data
    assert type(message).decode(data[5:]) == message


@pytest.mark.parametrize(("message", "data"), EXAMPLES)
def test_the_tag_tells_the_message(message: Message, data: bytes) -> None:
    assert frontend.decode(data[0], data[5:]) == message


@pytest.mark.parametrize("tag", b"\0~TRp")
def test_a_tag_that_tells_nothing_is_unexpected(tag: int) -> None:
    with pytest.raises(UnexpectedMessage, match=f"invalid frontend message type {tag}"):
        frontend.decode(tag, b"")


@pytest.mark.parametrize(("message", "data"), EXAMPLES + AMBIGUOUS)
def test_a_message_cut_short_or_too_long_is_malformed(message: Message, data: bytes) -> None:
    kind = type(message)
    if kind in (CopyData, SASLResponse, GSSResponse):
        return
    for body in (data[5:-1], data[5:] + b"x"):
        if len(data) == 5 and body == b"":
            continue
        with pytest.raises(MalformedMessage):
            kind.decode(body)


def test_a_kind_other_than_statement_or_portal_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="invalid DESCRIBE message subtype 88"):
        Describe.decode(b"Xs\0")
    with pytest.raises(MalformedMessage, match="invalid CLOSE message subtype 0"):
        Close.decode(b"\0s\0")


def test_counts_that_claim_more_than_is_there_are_malformed() -> None:
    with pytest.raises(MalformedMessage):
        Bind.decode(b"\0\0\xff\xff")
    with pytest.raises(MalformedMessage):
        Parse.decode(b"\0\0\xff\xff")


@pytest.mark.parametrize("length", [b"\x7f\xff\xff\xff", b"\xff\xff\xff\xfe", b"\0\0\0\x04", b"\0\0\0\x02"])
def test_the_inner_length_of_a_sasl_response_is_checked(length: bytes) -> None:
    with pytest.raises(MalformedMessage):
        SASLInitialResponse.decode(b"SCRAM-SHA-256\0" + length + b"n,,")


@pytest.mark.parametrize(
    "message",
    [
        Bind(b"a\0b", b""),
        Bind(b"", b"a\0b"),
        Close(STATEMENT, b"a\0b"),
        CopyFail(b"a\0b"),
        Execute(b"a\0b"),
        Parse(b"a\0b", b""),
        Parse(b"", b"a\0b"),
        Query(b"a\0b"),
        PasswordMessage(b"a\0b"),
        SASLInitialResponse(b"a\0b", None),
    ],
)
def test_no_nul_is_smuggled_into_a_string(message: Message) -> None:
    with pytest.raises(MalformedMessage):
        message.encode()


@pytest.mark.parametrize(
    "message",
    [
        PasswordMessage(b"sesame"),
        SASLInitialResponse(b"X", b"sesame"),
        SASLResponse(b"sesame"),
        GSSResponse(b"sesame"),
    ],
)
def test_secrets_do_not_show_in_a_repr(message: Message) -> None:
    assert "sesame" not in repr(message)


KINDS: list[type[Message]] = [
    *frontend.MESSAGES.values(),
    PasswordMessage,
    SASLInitialResponse,
    SASLResponse,
    GSSResponse,
]


@given(st.sampled_from(KINDS), st.binary(max_size=48))
@settings(deadline=None, max_examples=400)
def test_any_body_is_malformed_or_comes_back_byte_for_byte(kind: type[Message], body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert kind.decode(body).encode()[5:] == body


@given(st.integers(0, 255), st.binary(max_size=48))
@settings(deadline=None)
def test_only_protocol_errors_come_out_of_any_message(tag: int, body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        frontend.decode(tag, body)

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import backend
from protocol.backend import (
    AuthenticationMD5Password,
    AuthenticationOk,
    BackendKeyData,
    BindComplete,
    CloseComplete,
    CommandComplete,
    CopyBothResponse,
    CopyData,
    CopyDone,
    CopyInResponse,
    CopyOutResponse,
    DataRow,
    EmptyQueryResponse,
    ErrorResponse,
    FieldDescription,
    FunctionCallResponse,
    NegotiateProtocolVersion,
    NoData,
    NoticeResponse,
    NotificationResponse,
    ParameterDescription,
    ParameterStatus,
    ParseComplete,
    PortalSuspended,
    ReadyForQuery,
    RowDescription,
)
from protocol.errors import MalformedMessage, ProtocolError, UnexpectedMessage
from protocol.messages import Message

EXAMPLES: list[tuple[Message, bytes]] = [
    (AuthenticationOk(), b"R\0\0\0\x08\0\0\0\0"),
    (AuthenticationMD5Password(b"salt"), b"R\0\0\0\x0c\0\0\0\x05salt"),
    (BackendKeyData(258, b"abcd"), b"K\0\0\0\x0c\0\0\x01\x02abcd"),
    (BindComplete(), b"2\0\0\0\x04"),
    (CloseComplete(), b"3\0\0\0\x04"),
    (CommandComplete(b"SELECT 1"), b"C\0\0\0\x0dSELECT 1\0"),
    (CopyBothResponse(0, []), b"W\0\0\0\x07\0\0\0"),
    (CopyData(b"1\n"), b"d\0\0\0\x061\n"),
    (CopyDone(), b"c\0\0\0\x04"),
    (CopyInResponse(1, [1, 1]), b"G\0\0\0\x0b\x01\0\x02\0\x01\0\x01"),
    (CopyOutResponse(0, [0]), b"H\0\0\0\x09\0\0\x01\0\0"),
    (DataRow([b"x", None, b""]), b"D\0\0\0\x13\0\x03\0\0\0\x01x\xff\xff\xff\xff\0\0\0\0"),
    (EmptyQueryResponse(), b"I\0\0\0\x04"),
    (ErrorResponse({"C": b"42601"}), b"E\0\0\0\x0cC42601\0\0"),
    (FunctionCallResponse(b"ab"), b"V\0\0\0\x0a\0\0\0\x02ab"),
    (FunctionCallResponse(None), b"V\0\0\0\x08\xff\xff\xff\xff"),
    (NegotiateProtocolVersion(196608, [b"_pq_.x"]), b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0"),
    (NoData(), b"n\0\0\0\x04"),
    (NoticeResponse({"M": b"hi"}), b"N\0\0\0\x09Mhi\0\0"),
    (NotificationResponse(7, b"c", b"p"), b"A\0\0\0\x0c\0\0\0\x07c\0p\0"),
    (ParameterDescription([23, 4294967295]), b"t\0\0\0\x0e\0\x02\0\0\0\x17\xff\xff\xff\xff"),
    (ParameterStatus(b"a", b"b"), b"S\0\0\0\x08a\0b\0"),
    (ParseComplete(), b"1\0\0\0\x04"),
    (PortalSuspended(), b"s\0\0\0\x04"),
    (ReadyForQuery(ord("T")), b"Z\0\0\0\x05T"),
    (
        RowDescription([FieldDescription(b"n", 1, 2, 23, 4, -1, 0)]),
        b"T\0\0\0\x1a\0\x01n\0\0\0\0\x01\0\x02\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0",
    ),
]


@pytest.mark.parametrize(("message", "data"), EXAMPLES)
def test_every_message_has_the_layout_of_the_manual(message: Message, data: bytes) -> None:
    assert message.encode() == data
    assert backend.decode(data[0], data[5:]) == message


def test_every_message_of_the_manual_is_shown_here() -> None:
    shown = {data[0] for _, data in EXAMPLES}
    assert shown == {*backend.MESSAGES, ord("R")}


@pytest.mark.parametrize("tag", b"\0~QpX")
def test_a_tag_no_backend_sends_is_unexpected(tag: int) -> None:
    with pytest.raises(UnexpectedMessage, match=f"invalid backend message type {tag}"):
        backend.decode(tag, b"")


@pytest.mark.parametrize(("message", "data"), EXAMPLES)
def test_a_message_cut_short_or_too_long_is_malformed(message: Message, data: bytes) -> None:
    if isinstance(message, CopyData):
        return
    bodies = [data[5:] + b"x"] if not isinstance(message, BackendKeyData) else [data[5:] + bytes(253)]
    if len(data) > 5:
        bodies.append(data[5:-1])
    for body in bodies:
        with pytest.raises(MalformedMessage):
            backend.decode(data[0], body)


@pytest.mark.parametrize("size", [4, 32, 256])
def test_cancel_secrets_may_have_4_to_256_bytes(size: int) -> None:
    key = BackendKeyData(-1, bytes(size))
    assert BackendKeyData.decode(key.encode()[5:]) == key


@pytest.mark.parametrize("size", [0, 3, 257])
def test_cancel_secrets_of_another_size_are_not_sent(size: int) -> None:
    with pytest.raises(MalformedMessage):
        BackendKeyData(1, bytes(size)).encode()


def test_the_cancel_secret_does_not_show_in_a_repr() -> None:
    assert "sesame" not in repr(BackendKeyData(1, b"sesame"))


@pytest.mark.parametrize("status", b"\0iX\xff")
def test_a_transaction_status_nobody_knows_is_malformed(status: int) -> None:
    with pytest.raises(MalformedMessage):
        ReadyForQuery.decode(bytes([status]))


@pytest.mark.parametrize("count", [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x03"])
def test_a_count_of_options_that_lies_is_malformed(count: bytes) -> None:
    with pytest.raises(MalformedMessage):
        NegotiateProtocolVersion.decode(b"\0\x03\0\0" + count + b"a\0")


@pytest.mark.parametrize("kind", [DataRow, RowDescription, ParameterDescription])
def test_a_count_of_columns_that_lies_is_malformed(kind: type[Message]) -> None:
    with pytest.raises(MalformedMessage):
        kind.decode(b"\xff\xff\0\0\0\0")


def test_a_negative_length_of_a_column_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        DataRow.decode(b"\0\x01\xff\xff\xff\xfexyz")


@pytest.mark.parametrize(
    "message",
    [
        CommandComplete(b"a\0b"),
        NegotiateProtocolVersion(0, [b"a\0b"]),
        NotificationResponse(1, b"a\0b", b""),
        ParameterStatus(b"a", b"b\0c"),
        RowDescription([FieldDescription(b"a\0b")]),
    ],
)
def test_no_nul_is_smuggled_into_a_string(message: Message) -> None:
    with pytest.raises(MalformedMessage):
        message.encode()


def test_a_column_is_text_unless_said_otherwise() -> None:
    column = FieldDescription(b"n")
    assert (column.type_oid, column.type_size, column.format) == (25, -1, 0)


@given(st.sampled_from(list(backend.MESSAGES.values())), st.binary(max_size=48))
@settings(deadline=None, max_examples=400)
def test_any_body_is_malformed_or_decodes_to_what_it_encodes(kind: type[Message], body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        message = kind.decode(body)
        assert kind.decode(message.encode()[5:]) == message


@given(st.integers(0, 255), st.binary(max_size=48))
@settings(deadline=None)
def test_only_protocol_errors_come_out_of_any_message(tag: int, body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        backend.decode(tag, body)

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol import startup, tags
from protocol.errors import MalformedMessage, MessageTooLarge, ProtocolError
from protocol.startup import (
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    Startup,
    encode_cancel_request,
    encode_ssl_request,
    encode_startup,
    packet_length,
    parse_options,
    parse_startup,
)
from tests.support import messages as m

TERMINATOR = "invalid startup packet layout: expected terminator as last byte"
OPTIONS = "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"

names = st.binary(min_size=1, max_size=12).filter(lambda name: 0 not in name)
values = st.binary(max_size=12).filter(lambda value: 0 not in value)


def packet(code: int, body: bytes) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + code.to_bytes(4, "big") + body


def startup_packet(body: bytes) -> bytes:
    return packet(tags.PROTOCOL_3_0, body)


@pytest.mark.parametrize("have", [b"", b"\0", b"\0\0\0"])
def test_the_length_is_unknown_until_four_bytes_are_there(have: bytes) -> None:
    assert packet_length(have) is None


@pytest.mark.parametrize("length", [8, 9, 10_000])
def test_lengths_postgresql_takes_are_taken(length: int) -> None:
    assert packet_length(bytearray(length.to_bytes(4, "big") + b"more")) == length


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 7])
def test_a_length_too_short_for_a_code_is_malformed(length: int) -> None:
    with pytest.raises(MalformedMessage, match="invalid length of startup packet"):
        packet_length(length.to_bytes(4, "big"))


@pytest.mark.parametrize("length", [10_001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_length_over_ten_thousand_is_refused_at_once(length: int) -> None:
    with pytest.raises(MessageTooLarge, match="invalid length of startup packet"):
        packet_length(length.to_bytes(4, "big"))


def test_a_request_of_the_web_is_refused_by_its_length() -> None:
    with pytest.raises(ProtocolError):
        packet_length(b"GET / HTTP/1.1\r\n\r\n")


@given(st.dictionaries(names, values, max_size=8), st.integers(0, 0xFFFF))
@settings(deadline=None)
def test_a_startup_packet_comes_back_as_it_was_encoded(parameters: dict[bytes, bytes], minor: int) -> None:
    version = 3 << 16 | minor
    parsed = parse_startup(encode_startup(parameters, version))

    assert parsed == Startup(version, parameters)
    assert isinstance(parsed, Startup)
    assert list(parsed.parameters) == list(parameters)


def test_a_startup_packet_has_the_layout_of_the_manual() -> None:
    assert encode_startup({b"user": b"alice"}) == b"\0\0\0\x14\0\x03\0\0user\0alice\0\0"


def test_major_and_minor_version_are_told_apart() -> None:
    parsed = parse_startup(encode_startup({}, 3 << 16 | 9999))
    assert isinstance(parsed, Startup)
    assert (parsed.major, parsed.minor) == (3, 9999)


def test_of_equal_names_the_last_wins() -> None:
    parsed = parse_startup(startup_packet(b"user\0a\0database\0d\0user\0b\0\0"))
    assert isinstance(parsed, Startup)
    assert parsed.parameters == {b"user": b"b", b"database": b"d"}


def test_an_empty_value_is_a_value() -> None:
    assert parse_startup(startup_packet(b"user\0\0\0")) == Startup(tags.PROTOCOL_3_0, {b"user": b""})


def test_names_and_values_may_be_any_bytes_but_nul() -> None:
    everything = bytes(range(1, 256))
    parsed = parse_startup(startup_packet(everything + b"\0" + everything + b"\0\0"))
    assert parsed == Startup(tags.PROTOCOL_3_0, {everything: everything})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"user\0alice\0",
        b"user\0alice",
        b"user\0alice\0database\0",
        b"user\0alice\0database\0\0",
        b"user\0alice\0\0trailing",
        b"user\0alice\0\0trailing\0",
        b"user\0alice\0\0database\0d\0\0",
        b"user\0alice\0\0d\0\0",
        b"\0\0",
        b"\0user\0alice\0\0",
        b"user\0\0",
    ],
)
def test_a_list_that_does_not_end_where_the_packet_ends_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_startup(startup_packet(body))
    assert caught.value.message == TERMINATOR
    assert caught.value.sqlstate == "08P01"


@pytest.mark.parametrize("version", [0, 1 << 16, 2 << 16, 4 << 16, 1234 << 16 | 1, 0xFFFFFFFF])
def test_other_major_versions_are_left_to_the_reader_to_refuse(version: int) -> None:
    assert parse_startup(packet(version, b"whatever")) == Startup(version, {})


def test_protocol_two_is_told_by_its_major_version() -> None:
    parsed = parse_startup(packet(2 << 16, bytes(288)))
    assert isinstance(parsed, Startup)
    assert (parsed.major, parsed.minor) == (2, 0)


def test_the_requests_for_encryption_come_back_as_encoded() -> None:
    assert encode_ssl_request() == b"\0\0\0\x08\x04\xd2\x16\x2f"
    assert parse_startup(encode_ssl_request()) == SSLRequest()
    assert parse_startup(m.gssenc_request()) == GSSENCRequest()


@pytest.mark.parametrize("code", [tags.SSL_REQUEST, tags.GSSENC_REQUEST])
def test_a_request_for_encryption_with_a_body_is_malformed(code: int) -> None:
    with pytest.raises(MalformedMessage):
        parse_startup(packet(code, b"x"))


@given(st.integers(-0x80000000, 0x7FFFFFFF), st.binary(min_size=4, max_size=256))
@settings(deadline=None)
def test_a_cancel_request_comes_back_as_it_was_encoded(pid: int, secret: bytes) -> None:
    assert parse_startup(encode_cancel_request(pid, secret)) == CancelRequest(pid, secret)


@pytest.mark.parametrize("size", [0, 3, 257, 300])
def test_a_cancel_request_with_a_secret_of_impossible_size_is_malformed(size: int) -> None:
    with pytest.raises(MalformedMessage):
        parse_startup(packet(tags.CANCEL_REQUEST, bytes(4) + bytes(size)))
    with pytest.raises(MalformedMessage):
        encode_cancel_request(1, bytes(size))


def test_a_cancel_request_without_process_id_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        parse_startup(packet(tags.CANCEL_REQUEST, b"\0\0"))


def test_the_secret_of_a_cancel_request_is_not_shown() -> None:
    assert "sesame" not in repr(CancelRequest(1, b"sesame"))


@pytest.mark.parametrize("data", [b"", b"\0\0\0", encode_ssl_request()[:7], encode_ssl_request() + b"x"])
def test_a_packet_of_another_length_than_it_says_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse_startup(data)


@given(st.binary(max_size=60), st.sampled_from([None, 0, 196608, 80877102, 80877103, 80877104]))
@example(b"\0\0\0\x08\xff\xff\xff\xff", None)
@settings(deadline=None)
def test_only_protocol_errors_come_out_of_any_packet(data: bytes, code: int | None) -> None:
    with contextlib.suppress(ProtocolError):
        parse_startup(data if code is None else packet(code, data))


def test_a_startup_parameter_needs_a_name() -> None:
    with pytest.raises(MalformedMessage):
        encode_startup({b"": b"x"})


@pytest.mark.parametrize("parameters", [{b"a\0b": b"c"}, {b"a": b"x\0user\0admin"}])
def test_no_nul_is_smuggled_into_a_startup_packet(parameters: dict[bytes, bytes]) -> None:
    with pytest.raises(MalformedMessage):
        encode_startup(parameters)


def test_a_startup_packet_the_server_would_refuse_is_not_sent() -> None:
    room = startup.MAX_PACKET - len(encode_startup({b"a": b""}))
    assert len(encode_startup({b"a": b"x" * room})) == 10_000
    with pytest.raises(MessageTooLarge):
        encode_startup({b"a": b"x" * (room + 1)})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (b"", []),
        (b"  \t", []),
        (b"-c geqo=off", [(b"geqo", b"off")]),
        (b"-cgeqo=off", [(b"geqo", b"off")]),
        (b"--geqo=off", [(b"geqo", b"off")]),
        (b"  -c  a=1   --b=2 -cc=3 ", [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]),
        (b"--statement-timeout=5s", [(b"statement_timeout", b"5s")]),
        (b"-c statement-timeout=5s", [(b"statement_timeout", b"5s")]),
        (b"--app.x=a-b", [(b"app.x", b"a-b")]),
        (b"-c search_path=a\\ b\\\\c", [(b"search_path", b"a b\\c")]),
        (b"-c a=b=c", [(b"a", b"b=c")]),
        (b"-c a=", [(b"a", b"")]),
        (b"-c a=x\\", [(b"a", b"x")]),
        (b"-c a=1 -c a=2", [(b"a", b"1"), (b"a", b"2")]),
        (b"-c\ta=\xc3\xa9", [(b"a", b"\xc3\xa9")]),
    ],
)
def test_options_are_split_into_settings(options: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    assert parse_options(options) == expected


@pytest.mark.parametrize(
    "options", [b"-z", b"-c", b"-c geqo", b"--geqo", b"--", b"-c =x", b"--=x", b"geqo=off", b"-d 5", b"\\ "]
)
def test_options_of_another_form_are_refused_in_pgbouncers_words(options: bytes) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_options(options)
    assert caught.value.message == OPTIONS


@given(st.dictionaries(st.from_regex(rb"[a-z_.]{1,9}", fullmatch=True), values, max_size=5))
@settings(deadline=None)
def test_escaped_options_come_back_as_they_were(settings_: dict[bytes, bytes]) -> None:
    def escape(value: bytes) -> bytes:
        return b"".join(b"\\" + bytes([byte]) for byte in value)

    line = b" ".join(b"-c " + name + b"=" + escape(value) for name, value in settings_.items())
    assert parse_options(line) == list(settings_.items())


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_only_protocol_errors_come_out_of_any_options(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        parse_options(data)

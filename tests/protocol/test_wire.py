from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import MalformedMessage, MessageTooLarge, ProtocolError
from protocol.wire import Reader


class HugeBuffer(bytearray):
    """A buffer that claims to hold more than any message may."""

    def __len__(self) -> int:
        return wire.MAX_BODY + 6


def test_a_message_carries_its_tag_and_a_length_that_counts_itself() -> None:
    assert wire.message(0x51, b"select 1\0") == b"Q\0\0\0\x0dselect 1\0"


def test_an_empty_message_has_length_four() -> None:
    assert wire.message(0x53, b"") == b"S\0\0\0\x04"


def test_a_body_whose_length_would_not_fit_is_refused() -> None:
    with pytest.raises(MessageTooLarge):
        wire.message(0x51, bytes(wire.MAX_BODY + 1))


def test_messages_can_be_built_one_behind_the_other_in_one_buffer() -> None:
    buffer = bytearray(b"before")
    for _ in range(2):
        at = wire.begin(buffer, 0x43)
        wire.put_string(buffer, b"SELECT 1")
        wire.finish(buffer, at)

    assert bytes(buffer) == b"before" + 2 * b"C\0\0\0\x0dSELECT 1\0"


def test_finishing_a_message_that_grew_too_long_is_refused() -> None:
    buffer = HugeBuffer()
    with pytest.raises(MessageTooLarge):
        wire.finish(buffer, 0)


@pytest.mark.parametrize(
    ("put", "value", "expected"),
    [
        (wire.put_int16, -1, b"\xff\xff"),
        (wire.put_int16, 0x7FFF, b"\x7f\xff"),
        (wire.put_uint16, 0xFFFF, b"\xff\xff"),
        (wire.put_int32, -1, b"\xff\xff\xff\xff"),
        (wire.put_int32, 258, b"\0\0\x01\x02"),
        (wire.put_uint32, 0xFFFFFFFE, b"\xff\xff\xff\xfe"),
    ],
)
def test_numbers_are_written_big_endian(
    put: Callable[[bytearray, int], None], value: int, expected: bytes
) -> None:
    buffer = bytearray()
    put(buffer, value)
    assert bytes(buffer) == expected


@pytest.mark.parametrize(
    ("put", "value"),
    [
        (wire.put_int16, 0x8000),
        (wire.put_int16, -0x8001),
        (wire.put_uint16, -1),
        (wire.put_uint16, 0x10000),
        (wire.put_int32, 0x80000000),
        (wire.put_int32, -0x80000001),
        (wire.put_uint32, -1),
        (wire.put_uint32, 0x100000000),
    ],
)
def test_numbers_that_do_not_fit_are_refused(put: Callable[[bytearray, int], None], value: int) -> None:
    buffer = bytearray()
    with pytest.raises(MalformedMessage):
        put(buffer, value)
    assert not buffer


def test_a_string_with_a_nul_is_never_written() -> None:
    buffer = bytearray()
    with pytest.raises(MalformedMessage):
        wire.put_string(buffer, b"x\0user\0admin")
    assert not buffer


def test_a_reader_reads_what_was_written() -> None:
    buffer = bytearray([7])
    wire.put_int16(buffer, -2)
    wire.put_uint16(buffer, 65535)
    wire.put_int32(buffer, -3)
    wire.put_uint32(buffer, 4294967295)
    wire.put_string(buffer, b"caf\xc3\xa9")
    wire.put_string(buffer, b"")
    buffer += b"abcdef"
    reader = Reader(bytes(buffer))

    assert reader.byte() == 7
    assert reader.int16() == -2
    assert reader.uint16() == 65535
    assert reader.int32() == -3
    assert reader.uint32() == 4294967295
    assert reader.string() == b"caf\xc3\xa9"
    assert reader.string() == b""
    assert reader.take(2) == b"ab"
    assert reader.take(0) == b""
    assert reader.left() == 4
    assert reader.rest() == b"cdef"
    assert reader.rest() == b""
    reader.expect_end()


@pytest.mark.parametrize(
    "read", [Reader.byte, Reader.int16, Reader.uint16, Reader.int32, Reader.uint32, Reader.string]
)
def test_reading_past_the_end_is_malformed(read: Callable[[Reader], object]) -> None:
    for body in (b"", b"\x01"):
        reader = Reader(body)
        if body:
            reader.byte()
        with pytest.raises(MalformedMessage):
            read(reader)


def test_a_string_without_terminator_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        Reader(b"abc").string()


@pytest.mark.parametrize("length", [-1, -0x80000000, 4, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_length_that_lies_takes_nothing(length: int) -> None:
    reader = Reader(b"abc")
    with pytest.raises(MalformedMessage):
        reader.take(length)
    assert reader.rest() == b"abc"


def test_bytes_left_over_are_malformed() -> None:
    reader = Reader(b"abc")
    reader.take(2)
    with pytest.raises(MalformedMessage, match="1 bytes too many"):
        reader.expect_end()


@settings(deadline=None)
@given(st.binary(max_size=40), st.lists(st.integers(-5, 50), max_size=12))
def test_any_reading_returns_the_bytes_in_order_or_is_malformed(body: bytes, lengths: list[int]) -> None:
    reader = Reader(body)
    seen = b""
    try:
        for length in lengths:
            seen += reader.take(length)
    except ProtocolError:
        pass
    assert body.startswith(seen)
    assert reader.left() == len(body) - len(seen)
    assert seen + reader.rest() == body

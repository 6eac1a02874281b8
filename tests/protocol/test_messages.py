from dataclasses import dataclass
from typing import ClassVar, Self

import pytest

from protocol import messages
from protocol.errors import MalformedMessage
from protocol.messages import CopyData, CopyDone, EmptyMessage, Message, SecretMessage
from protocol.wire import Reader, put_string


@dataclass(frozen=True, slots=True)
class Greeting(Message):
    tag: ClassVar[int] = ord("g")
    name: bytes

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.string())

    def _write(self, buffer: bytearray) -> None:
        put_string(buffer, self.name)


@dataclass(frozen=True, slots=True)
class Nod(EmptyMessage):
    tag: ClassVar[int] = ord("n")


@dataclass(frozen=True, slots=True)
class Whisper(SecretMessage):
    tag: ClassVar[int] = ord("w")


def test_a_message_writes_its_own_frame() -> None:
    assert Greeting(b"you").encode() == b"g\0\0\0\x08you\0"


def test_a_message_reads_its_body() -> None:
    assert Greeting.decode(b"you\0") == Greeting(b"you")


def test_a_byte_nobody_reads_makes_a_message_malformed() -> None:
    with pytest.raises(MalformedMessage):
        Greeting.decode(b"you\0!")


def test_an_empty_message_is_all_tag() -> None:
    assert Nod().encode() == b"n\0\0\0\x04"
    assert Nod.decode(b"") == Nod()
    with pytest.raises(MalformedMessage):
        Nod.decode(b"\0")


def test_copy_data_takes_any_bytes() -> None:
    assert CopyData.decode(b"1\t2\n\0") == CopyData(b"1\t2\n\0")
    assert CopyData(b"1\n").encode() == b"d\0\0\0\x061\n"
    assert CopyDone().encode() == b"c\0\0\0\x04"


def test_a_secret_message_does_not_show_what_it_carries() -> None:
    message = Whisper.decode(b"sesame\0")

    assert message.data == b"sesame\0"
    assert "sesame" not in repr(message)
    assert message.encode() == b"w\0\0\0\x0bsesame\0"


def test_values_have_a_length_and_null_has_none() -> None:
    buffer = bytearray()
    messages.put_values(buffer, [b"ab", None, b""])

    assert bytes(buffer) == b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0"
    assert messages.read_values(Reader(bytes(buffer))) == [b"ab", None, b""]


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xfe", b"\x80\0\0\0", b"\0\0\0\x03", b"\x7f\xff\xff\xff"])
def test_a_value_whose_length_lies_is_malformed(length: bytes) -> None:
    with pytest.raises(MalformedMessage):
        Reader(length + b"ab").value()


def test_more_values_than_a_count_can_say_are_refused() -> None:
    with pytest.raises(MalformedMessage):
        messages.put_values(bytearray(), [None] * 65536)


def test_a_count_of_65535_is_no_negative_number() -> None:
    buffer = bytearray()
    messages.put_values(buffer, [None] * 65535)

    assert len(messages.read_values(Reader(bytes(buffer)))) == 65535


def test_formats_are_counted() -> None:
    buffer = bytearray()
    messages.put_formats(buffer, [0, 1])

    assert bytes(buffer) == b"\0\x02\0\0\0\x01"
    assert messages.read_formats(Reader(bytes(buffer))) == [0, 1]


def test_formats_that_are_not_there_are_malformed() -> None:
    with pytest.raises(MalformedMessage):
        messages.read_formats(Reader(b"\xff\xff\0\0"))

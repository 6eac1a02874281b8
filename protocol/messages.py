"""What the classes of frontend.py and backend.py have in common, and the messages both sides send.

A message knows its tag and how its body is laid out; the frame around the body is written and checked here.
Decoding raises ProtocolError and nothing else, and leaves no byte of the body unread.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from . import tags
from .wire import Reader, begin, finish, put_int16, put_int32, put_uint16


class Message(ABC):
    """One message with a tag."""

    __slots__ = ()

    tag: ClassVar[int]

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read the body of a message of this kind (what follows tag and length). Raises ProtocolError."""
        reader = Reader(body)
        message = cls._read(reader)
        reader.expect_end()
        return message

    def encode(self) -> bytes:
        """Return the whole message, tag and length included. Raises ProtocolError for what cannot be sent."""
        buffer = bytearray()
        at = begin(buffer, self.tag)
        self._write(buffer)
        finish(buffer, at)
        return bytes(buffer)

    @classmethod
    @abstractmethod
    def _read(cls, reader: Reader) -> Self:
        """Read the body."""

    @abstractmethod
    def _write(self, buffer: bytearray) -> None:
        """Append the body."""


class EmptyMessage(Message):
    """A message that is all tag."""

    __slots__ = ()

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls()

    def _write(self, buffer: bytearray) -> None:
        pass


@dataclass(frozen=True, slots=True)
class CopyData(Message):
    """A piece of COPY data, either way."""

    tag: ClassVar[int] = tags.COPY_DATA
    data: bytes

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.rest())

    def _write(self, buffer: bytearray) -> None:
        buffer += self.data


@dataclass(frozen=True, slots=True)
class CopyDone(EmptyMessage):
    """The end of COPY data, either way."""

    tag: ClassVar[int] = tags.COPY_DONE


@dataclass(frozen=True, slots=True)
class SecretMessage(Message):
    """A body that is one run of bytes nobody but its reader may see."""

    data: bytes = field(repr=False)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.rest())

    def _write(self, buffer: bytearray) -> None:
        buffer += self.data


def put_value(buffer: bytearray, value: bytes | None) -> None:
    """Append a value with its length, or the length -1 for None."""
    if value is None:
        put_int32(buffer, -1)
    else:
        put_int32(buffer, len(value))
        buffer += value


def read_values(reader: Reader) -> list[bytes | None]:
    """Read a count of up to 65535 and as many values."""
    return [reader.value() for _ in range(reader.uint16())]


def put_values(buffer: bytearray, values: Sequence[bytes | None]) -> None:
    """Append the count and the values. Raises MalformedMessage for more than 65535."""
    put_uint16(buffer, len(values))
    for value in values:
        put_value(buffer, value)


def read_formats(reader: Reader) -> list[int]:
    """Read a count and as many format codes: 0 is text, 1 is binary."""
    return [reader.int16() for _ in range(reader.uint16())]


def put_formats(buffer: bytearray, formats: Sequence[int]) -> None:
    """Append the count and the format codes. Raises MalformedMessage for more than 65535."""
    put_uint16(buffer, len(formats))
    for code in formats:
        put_int16(buffer, code)

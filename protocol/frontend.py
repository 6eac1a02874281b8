"""Messages a frontend sends, named and laid out as in the PostgreSQL manual, "Message Formats".

Four messages share the tag `p`; which one is meant only the conversation knows, so `decode` does not take it.
Packets without a tag are in startup.py. Passwords and proofs never show in a repr.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Final, Self

from . import messages, tags
from .errors import MalformedMessage, UnexpectedMessage
from .messages import (
    EmptyMessage,
    Message,
    SecretMessage,
    put_formats,
    put_value,
    put_values,
    read_formats,
    read_values,
)
from .wire import Reader, put_int16, put_int32, put_string, put_uint16, put_uint32

CopyData = messages.CopyData
CopyDone = messages.CopyDone

STATEMENT: Final = 0x53  # S
PORTAL: Final = 0x50  # P


@dataclass(frozen=True, slots=True)
class Bind(Message):
    """Make a portal of a prepared statement; `values` may be None for NULL, format codes are 0 or 1."""

    tag: ClassVar[int] = tags.BIND
    portal: bytes
    statement: bytes
    formats: list[int] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    result_formats: list[int] = field(default_factory=list)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(
            reader.string(), reader.string(), read_formats(reader), read_values(reader), read_formats(reader)
        )

    def _write(self, buffer: bytearray) -> None:
        put_string(buffer, self.portal)
        put_string(buffer, self.statement)
        put_formats(buffer, self.formats)
        put_values(buffer, self.values)
        put_formats(buffer, self.result_formats)


@dataclass(frozen=True, slots=True)
class _Named(Message):
    """A message about a prepared statement or a portal: `kind` is STATEMENT or PORTAL."""

    kind: int
    name: bytes

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        kind = reader.byte()
        if kind not in (STATEMENT, PORTAL):
            raise MalformedMessage(f"invalid {cls.__name__.upper()} message subtype {kind}")
        return cls(kind, reader.string())

    def _write(self, buffer: bytearray) -> None:
        buffer.append(self.kind)
        put_string(buffer, self.name)


@dataclass(frozen=True, slots=True)
class Close(_Named):
    """Forget a prepared statement or a portal."""

    tag: ClassVar[int] = tags.CLOSE


@dataclass(frozen=True, slots=True)
class Describe(_Named):
    """Ask what a prepared statement or a portal looks like."""

    tag: ClassVar[int] = tags.DESCRIBE


@dataclass(frozen=True, slots=True)
class CopyFail(Message):
    """The frontend cannot go on with COPY; `message` says why."""

    tag: ClassVar[int] = tags.COPY_FAIL
    message: bytes

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.string())

    def _write(self, buffer: bytearray) -> None:
        put_string(buffer, self.message)


@dataclass(frozen=True, slots=True)
class Execute(Message):
    """Run a portal for at most `max_rows` rows; 0 is no limit."""

    tag: ClassVar[int] = tags.EXECUTE
    portal: bytes
    max_rows: int = 0

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.string(), reader.int32())

    def _write(self, buffer: bytearray) -> None:
        put_string(buffer, self.portal)
        put_int32(buffer, self.max_rows)


@dataclass(frozen=True, slots=True)
class Flush(EmptyMessage):
    """Ask for the replies so far."""

    tag: ClassVar[int] = tags.FLUSH


@dataclass(frozen=True, slots=True)
class FunctionCall(Message):
    """Call a function by its object id."""

    tag: ClassVar[int] = tags.FUNCTION_CALL
    oid: int
    formats: list[int]
    arguments: list[bytes | None]
    result_format: int

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.uint32(), read_formats(reader), read_values(reader), reader.int16())

    def _write(self, buffer: bytearray) -> None:
        put_uint32(buffer, self.oid)
        put_formats(buffer, self.formats)
        put_values(buffer, self.arguments)
        put_int16(buffer, self.result_format)


@dataclass(frozen=True, slots=True)
class Parse(Message):
    """Prepare a statement; `types` are object ids, 0 leaves one to the server."""

    tag: ClassVar[int] = tags.PARSE
    name: bytes
    query: bytes
    types: list[int] = field(default_factory=list)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.string(), reader.string(), [reader.uint32() for _ in range(reader.uint16())])

    def _write(self, buffer: bytearray) -> None:
        put_string(buffer, self.name)
        put_string(buffer, self.query)
        put_uint16(buffer, len(self.types))
        for oid in self.types:
            put_uint32(buffer, oid)


@dataclass(frozen=True, slots=True)
class Query(Message):
    """A simple query, possibly of several statements."""

    tag: ClassVar[int] = tags.QUERY
    query: bytes

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.string())

    def _write(self, buffer: bytearray) -> None:
        put_string(buffer, self.query)


@dataclass(frozen=True, slots=True)
class Sync(EmptyMessage):
    """The end of a group of extended messages."""

    tag: ClassVar[int] = tags.SYNC


@dataclass(frozen=True, slots=True)
class Terminate(EmptyMessage):
    """The frontend leaves."""

    tag: ClassVar[int] = tags.TERMINATE


@dataclass(frozen=True, slots=True)
class PasswordMessage(Message):
    """A password, in clear text or as an MD5 response."""

    tag: ClassVar[int] = tags.PASSWORD
    password: bytes = field(repr=False)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.string())

    def _write(self, buffer: bytearray) -> None:
        put_string(buffer, self.password)


@dataclass(frozen=True, slots=True)
class SASLInitialResponse(Message):
    """The mechanism chosen, and its first data; None when the client waits to be asked for it."""

    tag: ClassVar[int] = tags.PASSWORD
    mechanism: bytes
    data: bytes | None = field(repr=False)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.string(), reader.value())

    def _write(self, buffer: bytearray) -> None:
        put_string(buffer, self.mechanism)
        put_value(buffer, self.data)


@dataclass(frozen=True, slots=True)
class SASLResponse(SecretMessage):
    """More data of the SASL mechanism."""

    tag: ClassVar[int] = tags.PASSWORD


@dataclass(frozen=True, slots=True)
class GSSResponse(SecretMessage):
    """Data for GSSAPI or SSPI."""

    tag: ClassVar[int] = tags.PASSWORD


_ALL: Final[tuple[type[Message], ...]] = (
    Bind,
    Close,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
    Execute,
    Flush,
    FunctionCall,
    Parse,
    Query,
    Sync,
    Terminate,
)
MESSAGES: Final[Mapping[int, type[Message]]] = MappingProxyType({kind.tag: kind for kind in _ALL})
"""The class of each tag, `p` left out."""


def decode(tag: int, body: bytes) -> Message:
    """Decode any message but those of tag `p`. Raises UnexpectedMessage for an unknown tag, ProtocolError."""
    kind = MESSAGES.get(tag)
    if kind is None:
        raise UnexpectedMessage(f"invalid frontend message type {tag}")
    return kind.decode(body)

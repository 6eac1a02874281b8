"""Messages a backend sends, named and laid out as in the PostgreSQL manual, "Message Formats".

Those of tag `R` come from authentication.py, ErrorResponse and NoticeResponse from report.py; all are
meant to be used from here. Whatever a hostile server sends, only ProtocolError comes out of `decode`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Final, Self

from . import authentication, messages, report, tags
from .errors import MalformedMessage, UnexpectedMessage
from .messages import (
    EmptyMessage,
    Message,
    put_formats,
    put_value,
    put_values,
    read_formats,
    read_values,
)
from .startup import MAX_SECRET, MIN_SECRET
from .wire import Reader, put_int16, put_int32, put_string, put_uint16, put_uint32

Authentication = authentication.Authentication
AuthenticationOk = authentication.AuthenticationOk
AuthenticationKerberosV5 = authentication.AuthenticationKerberosV5
AuthenticationCleartextPassword = authentication.AuthenticationCleartextPassword
AuthenticationMD5Password = authentication.AuthenticationMD5Password
AuthenticationGSS = authentication.AuthenticationGSS
AuthenticationGSSContinue = authentication.AuthenticationGSSContinue
AuthenticationSSPI = authentication.AuthenticationSSPI
AuthenticationSASL = authentication.AuthenticationSASL
AuthenticationSASLContinue = authentication.AuthenticationSASLContinue
AuthenticationSASLFinal = authentication.AuthenticationSASLFinal
CopyData = messages.CopyData
CopyDone = messages.CopyDone
ErrorResponse = report.ErrorResponse
NoticeResponse = report.NoticeResponse


@dataclass(frozen=True, slots=True)
class BackendKeyData(Message):
    """The key a CancelRequest must repeat; `pid` is a signed Int32, `secret` 4 to 256 bytes."""

    tag: ClassVar[int] = tags.BACKEND_KEY_DATA
    pid: int
    secret: bytes = field(repr=False)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        pid, secret = reader.int32(), reader.rest()
        if not MIN_SECRET <= len(secret) <= MAX_SECRET:
            raise MalformedMessage(f"cancel secret of {len(secret)} bytes")
        return cls(pid, secret)

    def _write(self, buffer: bytearray) -> None:
        if not MIN_SECRET <= len(self.secret) <= MAX_SECRET:
            raise MalformedMessage(f"cancel secret of {len(self.secret)} bytes")
        put_int32(buffer, self.pid)
        buffer += self.secret


@dataclass(frozen=True, slots=True)
class BindComplete(EmptyMessage):
    """A Bind succeeded."""

    tag: ClassVar[int] = tags.BIND_COMPLETE


@dataclass(frozen=True, slots=True)
class CloseComplete(EmptyMessage):
    """A Close succeeded."""

    tag: ClassVar[int] = tags.CLOSE_COMPLETE


@dataclass(frozen=True, slots=True)
class CommandComplete(Message):
    """A command succeeded; `command` is its tag, such as `INSERT 0 1`."""

    tag: ClassVar[int] = tags.COMMAND_COMPLETE
    command: bytes

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.string())

    def _write(self, buffer: bytearray) -> None:
        put_string(buffer, self.command)


@dataclass(frozen=True, slots=True)
class _CopyResponse(Message):
    """COPY begins; `format` is 0 for text, 1 for binary, `formats` the same per column."""

    format: int
    formats: list[int]

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.byte(), read_formats(reader))

    def _write(self, buffer: bytearray) -> None:
        buffer.append(self.format)
        put_formats(buffer, self.formats)


@dataclass(frozen=True, slots=True)
class CopyInResponse(_CopyResponse):
    """The backend waits for COPY data."""

    tag: ClassVar[int] = tags.COPY_IN_RESPONSE


@dataclass(frozen=True, slots=True)
class CopyOutResponse(_CopyResponse):
    """The backend will send COPY data."""

    tag: ClassVar[int] = tags.COPY_OUT_RESPONSE


@dataclass(frozen=True, slots=True)
class CopyBothResponse(_CopyResponse):
    """Replication: COPY data both ways."""

    tag: ClassVar[int] = tags.COPY_BOTH_RESPONSE


@dataclass(frozen=True, slots=True)
class DataRow(Message):
    """One row; None is NULL."""

    tag: ClassVar[int] = tags.DATA_ROW
    values: list[bytes | None]

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(read_values(reader))

    def _write(self, buffer: bytearray) -> None:
        put_values(buffer, self.values)


@dataclass(frozen=True, slots=True)
class EmptyQueryResponse(EmptyMessage):
    """The query was empty."""

    tag: ClassVar[int] = tags.EMPTY_QUERY_RESPONSE


@dataclass(frozen=True, slots=True)
class FunctionCallResponse(Message):
    """The result of a FunctionCall; None is NULL."""

    tag: ClassVar[int] = tags.FUNCTION_CALL_RESPONSE
    value: bytes | None

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.value())

    def _write(self, buffer: bytearray) -> None:
        put_value(buffer, self.value)


@dataclass(frozen=True, slots=True)
class NegotiateProtocolVersion(Message):
    """The server speaks less than was asked for.

    `newest_minor` is what PostgreSQL puts there: the whole version, major * 65536 + minor. `unrecognized` are
    the `_pq_.` options it does not know.
    """

    tag: ClassVar[int] = tags.NEGOTIATE_PROTOCOL_VERSION
    newest_minor: int
    unrecognized: list[bytes]

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        newest_minor, count = reader.int32(), reader.int32()
        if not 0 <= count <= reader.left():
            raise MalformedMessage(f"{count} protocol options in {reader.left()} bytes")
        return cls(newest_minor, [reader.string() for _ in range(count)])

    def _write(self, buffer: bytearray) -> None:
        put_int32(buffer, self.newest_minor)
        put_int32(buffer, len(self.unrecognized))
        for option in self.unrecognized:
            put_string(buffer, option)


@dataclass(frozen=True, slots=True)
class NoData(EmptyMessage):
    """The statement or portal returns no rows."""

    tag: ClassVar[int] = tags.NO_DATA


@dataclass(frozen=True, slots=True)
class NotificationResponse(Message):
    """A NOTIFY reached this backend."""

    tag: ClassVar[int] = tags.NOTIFICATION_RESPONSE
    pid: int
    channel: bytes
    payload: bytes

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.int32(), reader.string(), reader.string())

    def _write(self, buffer: bytearray) -> None:
        put_int32(buffer, self.pid)
        put_string(buffer, self.channel)
        put_string(buffer, self.payload)


@dataclass(frozen=True, slots=True)
class ParameterDescription(Message):
    """Object ids of the types of a statement's parameters."""

    tag: ClassVar[int] = tags.PARAMETER_DESCRIPTION
    types: list[int]

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls([reader.uint32() for _ in range(reader.uint16())])

    def _write(self, buffer: bytearray) -> None:
        put_uint16(buffer, len(self.types))
        for oid in self.types:
            put_uint32(buffer, oid)


@dataclass(frozen=True, slots=True)
class ParameterStatus(Message):
    """A reported parameter has this value now."""

    tag: ClassVar[int] = tags.PARAMETER_STATUS
    name: bytes
    value: bytes

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(reader.string(), reader.string())

    def _write(self, buffer: bytearray) -> None:
        put_string(buffer, self.name)
        put_string(buffer, self.value)


@dataclass(frozen=True, slots=True)
class ParseComplete(EmptyMessage):
    """A Parse succeeded."""

    tag: ClassVar[int] = tags.PARSE_COMPLETE


@dataclass(frozen=True, slots=True)
class PortalSuspended(EmptyMessage):
    """Execute reached its row limit."""

    tag: ClassVar[int] = tags.PORTAL_SUSPENDED


@dataclass(frozen=True, slots=True)
class ReadyForQuery(Message):
    """The backend waits; `status` is one of tags.STATUS_IDLE, STATUS_IN_TRANSACTION, STATUS_FAILED."""

    tag: ClassVar[int] = tags.READY_FOR_QUERY
    status: int

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        status = reader.byte()
        if status not in (tags.STATUS_IDLE, tags.STATUS_IN_TRANSACTION, tags.STATUS_FAILED):
            raise MalformedMessage(f"unknown transaction status {status}")
        return cls(status)

    def _write(self, buffer: bytearray) -> None:
        buffer.append(self.status)


READY: Final = ReadyForQuery(tags.STATUS_IDLE).encode()
"""What a session outside of transactions hears at the end of every request."""


@dataclass(frozen=True, slots=True)
class FieldDescription:
    """One column of a RowDescription, named as in the manual; `format` is 0 for text, 1 for binary."""

    name: bytes
    table_oid: int = 0
    column: int = 0
    type_oid: int = 25
    type_size: int = -1
    type_modifier: int = -1
    format: int = 0

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Read one column."""
        name, table_oid, column = reader.string(), reader.uint32(), reader.int16()
        type_oid, type_size = reader.uint32(), reader.int16()
        return cls(name, table_oid, column, type_oid, type_size, reader.int32(), reader.int16())

    def write(self, buffer: bytearray) -> None:
        """Append this column."""
        put_string(buffer, self.name)
        put_uint32(buffer, self.table_oid)
        put_int16(buffer, self.column)
        put_uint32(buffer, self.type_oid)
        put_int16(buffer, self.type_size)
        put_int32(buffer, self.type_modifier)
        put_int16(buffer, self.format)


@dataclass(frozen=True, slots=True)
class RowDescription(Message):
    """The columns of the rows that follow."""

    tag: ClassVar[int] = tags.ROW_DESCRIPTION
    fields: list[FieldDescription]

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls([FieldDescription.read(reader) for _ in range(reader.uint16())])

    def _write(self, buffer: bytearray) -> None:
        put_uint16(buffer, len(self.fields))
        for column in self.fields:
            column.write(buffer)


_ALL: Final[tuple[type[Message], ...]] = (
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
MESSAGES: Final[Mapping[int, type[Message]]] = MappingProxyType({kind.tag: kind for kind in _ALL})
"""The class of each tag, `R` left out."""


def decode(tag: int, body: bytes) -> Message:
    """Decode any backend message. Raises UnexpectedMessage for an unknown tag, ProtocolError."""
    if tag == tags.AUTHENTICATION:
        return authentication.decode(body)
    kind = MESSAGES.get(tag)
    if kind is None:
        raise UnexpectedMessage(f"invalid backend message type {tag}")
    return kind.decode(body)

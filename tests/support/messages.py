"""Builds and reads PostgreSQL messages as raw bytes, for black-box tests.

Law: this file must not import the `protocol` package. What it says about the
wire is an opinion of its own, taken from the manual's chapter on the
frontend/backend protocol, so that a mistake in one is not hidden by the other.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

PROTOCOL_2_0 = 0x20000
PROTOCOL_3_0 = 0x30000
PROTOCOL_3_2 = 0x30002


class Message(NamedTuple):
    """One message: its type byte and what follows the length."""

    tag: bytes
    body: bytes


Fields = dict[str, str]


def int16(value: int) -> bytes:
    return struct.pack("!h", value)


def int32(value: int) -> bytes:
    return struct.pack("!i", value)


def string(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return data + b"\0"


def message(tag: bytes, body: bytes = b"") -> bytes:
    """A message with the right length."""
    return tag + struct.pack("!I", len(body) + 4) + body


def message_claiming(tag: bytes, length: int, body: bytes = b"") -> bytes:
    """A message whose length field says whatever the test wants (taken modulo 2**32)."""
    return tag + struct.pack("!I", length % 2**32) + body


# --- packets without a type byte -------------------------------------------------------------


def packet(body: bytes) -> bytes:
    return struct.pack("!I", len(body) + 4) + body


def startup(
    parameters: Mapping[str, str | bytes], *, version: int = PROTOCOL_3_0, terminator: bytes = b"\0"
) -> bytes:
    pairs = b"".join(string(name) + string(value) for name, value in parameters.items())
    return packet(int32(version) + pairs + terminator)


def ssl_request() -> bytes:
    return packet(struct.pack("!I", 80877103))


def gssenc_request() -> bytes:
    return packet(struct.pack("!I", 80877104))


def cancel_request(pid: int, secret: bytes) -> bytes:
    return packet(struct.pack("!II", 80877102, pid) + secret)


# --- what a frontend sends ---------------------------------------------------------------------


def query(sql: str | bytes) -> bytes:
    return message(b"Q", string(sql))


def parse(name: str, sql: str, types: Sequence[int] = ()) -> bytes:
    oids = int16(len(types)) + b"".join(int32(oid) for oid in types)
    return message(b"P", string(name) + string(sql) + oids)


def bind(portal: str = "", statement: str = "", values: Sequence[str | bytes | None] = ()) -> bytes:
    """Bind with every parameter and every result column in text format."""
    body = string(portal) + string(statement) + int16(0) + int16(len(values))
    for value in values:
        if value is None:
            body += int32(-1)
        else:
            data = value.encode() if isinstance(value, str) else value
            body += int32(len(data)) + data
    return message(b"B", body + int16(0))


def describe(kind: bytes, name: str = "") -> bytes:
    return message(b"D", kind + string(name))


def execute(portal: str = "", max_rows: int = 0) -> bytes:
    return message(b"E", string(portal) + int32(max_rows))


def close(kind: bytes, name: str = "") -> bytes:
    return message(b"C", kind + string(name))


def sync() -> bytes:
    return message(b"S")


def flush() -> bytes:
    return message(b"H")


def terminate() -> bytes:
    return message(b"X")


def copy_data(data: bytes) -> bytes:
    return message(b"d", data)


def copy_done() -> bytes:
    return message(b"c")


def copy_fail(reason: str) -> bytes:
    return message(b"f", string(reason))


def password(secret: str | bytes) -> bytes:
    return message(b"p", string(secret))


def sasl_initial(mechanism: str, data: bytes, *, claim: int | None = None) -> bytes:
    """SASLInitialResponse; `claim` puts another number into the inner length field."""
    length = struct.pack("!I", (len(data) if claim is None else claim) % 2**32)
    return message(b"p", string(mechanism) + length + data)


def sasl_response(data: bytes) -> bytes:
    return message(b"p", data)


def function_call(oid: int, arguments: Sequence[bytes]) -> bytes:
    """FunctionCall with binary arguments and a binary result."""
    body = int32(oid) + int16(1) + int16(1) + int16(len(arguments))
    for argument in arguments:
        body += int32(len(argument)) + argument
    return message(b"F", body + int16(1))


def one_shot(sql: str, values: Sequence[str | bytes | None] = (), *, end: bytes | None = None) -> bytes:
    """Parse, Bind, Describe, Execute of the unnamed statement, then Sync (or `end`)."""
    tail = sync() if end is None else end
    return parse("", sql) + bind(values=values) + describe(b"P") + execute() + tail


# --- what a backend sends ----------------------------------------------------------------------


def authentication(kind: int, data: bytes = b"") -> bytes:
    """AuthenticationOk is kind 0, CleartextPassword 3, MD5Password 5 (with salt), SASL 10."""
    return message(b"R", int32(kind) + data)


def parameter_status(name: str, value: str) -> bytes:
    return message(b"S", string(name) + string(value))


def backend_key_data(pid: int, secret: bytes) -> bytes:
    return message(b"K", int32(pid) + secret)


def ready_for_query(status: bytes = b"I") -> bytes:
    return message(b"Z", status)


def command_complete(tag: str) -> bytes:
    return message(b"C", string(tag))


def row_description(names: Iterable[str]) -> bytes:
    """Columns of type text."""
    columns = [
        string(name) + int32(0) + int16(0) + int32(25) + int16(-1) + int32(-1) + int16(0) for name in names
    ]
    return message(b"T", int16(len(columns)) + b"".join(columns))


def data_row(values: Sequence[str | bytes | None]) -> bytes:
    body = int16(len(values))
    for value in values:
        if value is None:
            body += int32(-1)
        else:
            data = value.encode() if isinstance(value, str) else value
            body += int32(len(data)) + data
    return message(b"D", body)


def error_response(
    sqlstate: str, text: str, *, severity: str = "ERROR", tag: bytes = b"E", more: Fields | None = None
) -> bytes:
    """ErrorResponse, or NoticeResponse with `tag=b"N"`; `more` are further fields."""
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": text, **(more or {})}
    return message(tag, b"".join(key.encode() + string(value) for key, value in fields.items()) + b"\0")


def copy_error(sqlstate: str, text: str, *, routine: str = "CopyGetAttributesText") -> bytes:
    """The ErrorResponse of a COPY that has begun to read its data."""
    return error_response(sqlstate, text, more={"W": "COPY t, line 1", "R": routine})


def copy_refused(text: str) -> bytes:
    """What a CopyFail is answered with."""
    return copy_error("57014", f"COPY from stdin failed: {text}", routine="CopyGetData")


# --- reading -------------------------------------------------------------------------------------


def fields_of(body: bytes) -> Fields:
    """Fields of an ErrorResponse or NoticeResponse, by their one-letter codes."""
    return {f[:1].decode(): f[1:].decode("utf-8", "backslashreplace") for f in body.split(b"\0") if f}


def row_of(body: bytes) -> list[str | None]:
    """Values of a DataRow in text format."""
    (count,) = struct.unpack_from("!H", body)
    at, values = 2, list[str | None]()
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, at)
        at += 4
        values.append(None if length < 0 else body[at : at + length].decode())
        at += max(length, 0)
    return values


def column_names(body: bytes) -> list[str]:
    """Column names of a RowDescription."""
    (count,) = struct.unpack_from("!H", body)
    at, names = 2, list[str]()
    for _ in range(count):
        end = body.index(b"\0", at)
        names.append(body[at:end].decode())
        at = end + 1 + 18
    return names


def tags(messages: Iterable[Message]) -> str:
    """The type bytes as one word, such as `TDCZ`."""
    return b"".join(m.tag for m in messages).decode("latin-1")


def rows(messages: Iterable[Message]) -> list[list[str | None]]:
    return [row_of(m.body) for m in messages if m.tag == b"D"]


def errors(messages: Iterable[Message]) -> list[Fields]:
    return [fields_of(m.body) for m in messages if m.tag == b"E"]


def command_tags(messages: Iterable[Message]) -> list[str]:
    return [m.body.rstrip(b"\0").decode() for m in messages if m.tag == b"C"]

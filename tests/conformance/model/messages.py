"""What clients send and hear, as small values: steps for the author, replies for the comparison."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.conformance.model.catalogue import Columns, Failure, Text
from tests.support import messages as m

Reply = tuple[object, ...]
"""The tag of a message, and what is known of its inside; an error is its code and, or None, its text."""


@dataclass(frozen=True)
class Parse:
    name: str
    text: Text

    def encode(self) -> bytes:
        return m.parse(self.name, self.text.sql, self.text.types)


@dataclass(frozen=True)
class Bind:
    portal: str
    name: str
    values: tuple[str, ...]

    def encode(self) -> bytes:
        return m.bind(self.portal, self.name, self.values)


@dataclass(frozen=True)
class Describe:
    kind: str
    name: str

    def encode(self) -> bytes:
        return m.describe(self.kind.encode(), self.name)


@dataclass(frozen=True)
class Execute:
    portal: str
    most: int = 0

    def encode(self) -> bytes:
        return m.execute(self.portal, self.most)


@dataclass(frozen=True)
class Close:
    kind: str
    name: str

    def encode(self) -> bytes:
        return m.close(self.kind.encode(), self.name)


@dataclass(frozen=True)
class Flush:
    def encode(self) -> bytes:
        return m.flush()


@dataclass(frozen=True)
class Sync:
    def encode(self) -> bytes:
        return m.sync()


@dataclass(frozen=True)
class Query:
    """A simple query; `kind` says what it does, `subject` to what."""

    kind: str
    sql: str
    subject: str = ""
    columns: Columns | None = None

    def encode(self) -> bytes:
        return m.query(self.sql)


Extended = Parse | Bind | Describe | Execute | Close | Flush
Message = Extended | Sync | Query


def error(failure: Failure) -> Reply:
    return ("E", failure.code, failure.text)


def heard(messages: Sequence[m.Message]) -> list[Reply]:
    """Replies as they are compared; what a server may say at any time is left out."""
    return [_read(message) for message in messages if message.tag not in b"SNA"]


def _read(message: m.Message) -> Reply:
    tag, body = message.tag.decode(), message.body
    match tag:
        case "E":
            fields = m.fields_of(body)
            return (tag, fields["C"], fields["M"])
        case "T":
            return (tag, _columns(body))
        case "t":
            return (tag, tuple(int.from_bytes(body[at : at + 4], "big") for at in range(2, len(body), 4)))
        case "D":
            return (tag, tuple(m.row_of(body)))
        case "C":
            return (tag, body.rstrip(b"\0").decode())
        case "Z":
            return (tag, body.decode())
    return (tag,)


def _columns(body: bytes) -> Columns:
    columns, at = [], 2
    for name in m.column_names(body):
        at += len(name.encode()) + 1
        columns.append((name, int.from_bytes(body[at + 6 : at + 10], "big")))
        at += 18
    return tuple(columns)


def same(expected: Sequence[Reply], got: Sequence[Reply]) -> bool:
    """Whether these are the replies; an error without a text stands for any text."""
    return len(expected) == len(got) and all(
        one == other or (one[0] == "E" and one[2] is None and one[:2] == other[:2])
        for one, other in zip(expected, got, strict=True)
    )

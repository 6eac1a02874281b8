"""Takes out of replies what may differ between two plays of the same script, and nothing else.

Law: one normaliser hears one connection in order. Places in the server's
source are dropped, the order of an error's fields is made one; object ids of
tables and types of users are numbered in the order in which they are heard.
"""

import struct

from tests.support import messages as m
from tests.support.messages import Message

_PLACES = b"FLR"
"""File, line and routine: the pooler's own errors have no place in PostgreSQL's source."""

FIRST_USER_OID = 16384


class Normaliser:
    """Call it with each message in turn."""

    def __init__(self) -> None:
        self._oids: dict[int, int] = {}

    def __call__(self, message: Message) -> Message:
        tag, body = message
        if tag in b"EN":
            return Message(tag, fields(body))
        if tag == b"T":
            return Message(tag, self._row_description(body))
        if tag == b"t":
            return Message(tag, self._parameter_description(body))
        if tag == b"A":
            return Message(tag, b"\0\0\0\0" + body[4:])
        return message

    def _oid(self, oid: int) -> int:
        if oid < FIRST_USER_OID:
            return oid
        return self._oids.setdefault(oid, FIRST_USER_OID + len(self._oids))

    def _row_description(self, body: bytes) -> bytes:
        (count,) = struct.unpack_from("!H", body)
        out, at = [body[:2]], 2
        for _ in range(count):
            end = body.index(b"\0", at) + 1
            table, column, kind, *rest = struct.unpack_from("!IhIhih", body, end)
            out += [body[at:end], struct.pack("!IhIhih", self._oid(table), column, self._oid(kind), *rest)]
            at = end + 18
        return b"".join(out) + body[at:]

    def _parameter_description(self, body: bytes) -> bytes:
        (count,) = struct.unpack_from("!H", body)
        kinds = struct.unpack_from(f"!{count}I", body, 2)
        return body[:2] + struct.pack(f"!{count}I", *map(self._oid, kinds)) + body[2 + 4 * count :]


def fields(body: bytes) -> bytes:
    """The fields of an error or notice without its place in the source, in one order."""
    kept = sorted(field for field in body.split(b"\0") if field and field[0] not in _PLACES)
    return b"".join(m.string(field) for field in kept) + b"\0"

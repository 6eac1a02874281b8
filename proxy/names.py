"""Names between the wire, where they are bytes, and our tables, where they are text.

PostgreSQL takes a name as bytes of no particular encoding; every sequence of bytes has exactly one text here.
"""

from typing import Final

from config.databases import RESERVED


def from_wire(name: bytes) -> str:
    """The text that stands for these bytes."""
    return name.decode("utf-8", "surrogateescape")


def to_wire(name: str) -> bytes:
    """The bytes this text stands for."""
    return name.encode("utf-8", "surrogateescape")


ADMIN_DATABASES: Final = frozenset(RESERVED)
"""What clients call the console; no pool has these names."""

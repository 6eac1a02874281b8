"""Rungs that playbooks about prepared statements climb often.

The first statement that is prepared on any server of a playbook is `howdah_1` there, the next `howdah_2`.
"""

from typing import Any

from tests.support import messages as m
from tests.support.playbook import Playbook

NOTHING = "C howdah_0"
"""The Close of a statement that no server has: what is sent for a Parse of one that is there."""


def two_servers(**settings: Any) -> Playbook:
    """A pool of two servers, of which one is open; `elsewhere` opens the other."""
    return Playbook(default_pool_size=2, **settings)


def elsewhere(book: Playbook) -> None:
    """From now on `rival` has the first server, and all others are lent the second."""
    take(book)
    book.client("Q x", by="pioneer")
    book.opens()
    book.to_server("Q x", on=2)
    book.server("C X", "Z I", on=2)
    book.to_client("C X", "Z I", by="pioneer")


def prepare(
    book: Playbook,
    name: str = "x",
    text: str = "select 1",
    *,
    at: str = "howdah_1",
    by: str = "a",
    on: int = 1,
) -> None:
    """A client prepares a text that nobody has prepared yet; `at` is its name on the server."""
    book.client(f"p {name} {text}", "S", by=by)
    book.to_server(f"p {at} {text}", f"s {at}", "S", on=on)
    book.server("1", "t", "T", "Z I", on=on)
    book.to_client("1", "Z I", by=by)


def use(book: Playbook, name: str = "x", *, at: str = "howdah_1", by: str = "a", on: int = 1) -> None:
    """A client executes what is prepared on the server."""
    book.client(f"B {name}", "E", "S", by=by)
    book.to_server(f"B {at}", "E", "S", on=on)
    book.server("2", "D 1", "C SELECT 1", "Z I", on=on)
    book.to_client("2", "D 1", "C SELECT 1", "Z I", by=by)


def run(book: Playbook, query: str, tag: str, *, by: str = "rival", on: int = 1, ready: str = "I") -> None:
    """A client runs a simple query."""
    book.client(f"Q {query}", by=by)
    book.to_server(f"Q {query}", on=on)
    book.server(f"C {tag}", f"Z {ready}", on=on)
    book.to_client(f"C {tag}", f"Z {ready}", by=by)


def take(book: Playbook, *, by: str = "rival", on: int = 1) -> None:
    """A client begins a transaction, in which it keeps its server."""
    run(book, "begin", "BEGIN", by=by, on=on, ready="T")


def give_back(book: Playbook, *, by: str = "rival", on: int = 1) -> None:
    """That transaction ends."""
    run(book, "commit", "COMMIT", by=by, on=on)


def unknown(name: str) -> str:
    """PostgreSQL's error for a statement that is not there."""
    return f'E 26000 prepared statement "{name}" does not exist'


def taken(name: str) -> str:
    """PostgreSQL's error for a statement that is there already."""
    return f'E 42P05 prepared statement "{name}" already exists'


NO_UNNAMED = "E 26000 unnamed prepared statement does not exist"
_STALE = b"SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0"
STALE = m.message(b"E", _STALE + b"Fplancache.c\0RRevalidateCachedQuery\0\0")
"""PostgreSQL's error for a plan whose rows would no longer look as they did."""

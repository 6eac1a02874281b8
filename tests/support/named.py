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


def is_gone(book: Playbook, name: str = "x", *, on: int = 1) -> None:
    """The name is unknown, and says so."""
    book.client(f"B {name}", "S")
    book.to_server("B howdah_0", "S", on=on)
    book.server(unknown("howdah_0"), "Z I", on=on)
    book.to_client(unknown(name), "Z I")
    assert not book.session().prepared.names  # type: ignore[union-attr]


def texts(book: Playbook) -> list[tuple[bytes | None, int]]:
    """The time zone of each shared statement, and how many names stand for it."""
    at = book.pool.tracked.index(b"TimeZone")
    return [(text.values[at], text.clients) for text in book.pool.statements.statements.values()]


def moved_to_tokyo(book: Playbook) -> None:
    """The client changes its time zone."""
    on = book.session().server
    book.client("Q set timezone to tokyo")
    server = book.session().server
    assert on is None
    assert server is not None
    book.to_server("Q set timezone to tokyo", on=server.id)
    book.server(TOKYO, "C SET", "Z I", on=server.id)
    book.to_client(TOKYO, "C SET", "Z I")


def unknown(name: str) -> str:
    """PostgreSQL's error for a statement that is not there."""
    return f'E 26000 prepared statement "{name}" does not exist'


def taken(name: str) -> str:
    """PostgreSQL's error for a statement that is there already."""
    return f'E 42P05 prepared statement "{name}" already exists'


TOKYO = "S TimeZone=Asia/Tokyo"
NO_UNNAMED = "E 26000 unnamed prepared statement does not exist"
_STALE = b"SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0"
STALE = m.message(b"E", _STALE + b"Fplancache.c\0RRevalidateCachedQuery\0\0")
"""PostgreSQL's error for a plan whose rows would no longer look as they did."""
UNPLANNABLE = "E 22012 division by zero"


def stale(number: int = 3) -> tuple[str, str]:
    """What stands in for a Bind that PostgreSQL would find stale: it fails when all else is well with it."""
    return f"p howdah_{number} SELECT 1 OPERATOR(pg_catalog./)0", f"B howdah_{number}"


def altered() -> Playbook:
    """The first server has `x`; the schema was changed since; others are lent the second server."""
    book = two_servers()
    prepare(book)
    run(book, "alter table t", "ALTER TABLE")
    elsewhere(book)
    return book

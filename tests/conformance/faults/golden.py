"""A session that uses every part of the protocol, and what PostgreSQL replies to it, byte by byte.

Law: the replies are recorded from PostgreSQL directly; only the word in them is
exchanged, for one of the same length. What a session has written is found in
the table `journal`, under its word.
"""

from dataclasses import dataclass

from tests.conformance.hostile.play import rebuilt
from tests.support import messages as m
from tests.support.messages import Message
from tests.support.target import Target

WORD = "g_0000000"
TABLES = """
create table if not exists journal(word text);
create table if not exists mayfly(word text);
grant all on journal, mayfly to public
"""


@dataclass(frozen=True)
class Stage:
    """A request, sent in one piece, and the whole reply that is waited for."""

    request: bytes
    reply: bytes


Request = tuple[bytes, bytes]
"""What is sent, and the tags at which PostgreSQL stops to wait."""


def word(number: int) -> str:
    return f"g_{number:07}"


def _ready(*requests: bytes) -> list[Request]:
    return [(request, b"Z") for request in requests]


def _transaction() -> list[Request]:
    return _ready(
        m.query("begin"),
        m.parse("by_name", f"select '{WORD}' || $1::text") + m.describe(b"S", "by_name") + m.sync(),
        m.bind("", "by_name", ["x"]) + m.execute() + m.bind("", "by_name", ["y"]) + m.execute() + m.sync(),
        m.query(f"insert into journal values ('{WORD}')"),
        m.close(b"S", "by_name") + m.sync(),
        m.query("commit"),
    )


def _pipeline() -> Request:
    good = m.one_shot("select $1::text", [WORD])
    bad = m.parse("", f"select 1/0 as {WORD}") + m.bind() + m.execute() + m.query("select 'never'") + m.sync()
    return good + bad + good, b"ZZZ"


def _copy_in() -> list[Request]:
    rows = b"".join(m.copy_data(f"{WORD} {number}\n".encode()) for number in range(20)) + m.copy_done()
    undone = f"do $$ begin raise exception '{WORD}'; end $$"
    return [
        (m.query("begin"), b"Z"),
        (m.query("copy mayfly from stdin"), b"G"),
        (rows, b"Z"),
        (m.query("select count(*), min(word), max(word) from mayfly"), b"Z"),
        (m.query("rollback"), b"Z"),
        (m.query(f"copy mayfly from stdin; {undone}") + rows, b"Z"),
        (m.parse("", "copy mayfly from stdin") + m.bind() + m.execute() + m.flush(), b"G"),
        (m.copy_data(f"{WORD}\n".encode()) + m.copy_fail("no more") + m.sync(), b"Z"),
    ]


def _prepared() -> list[Request]:
    """By names that outlive their transactions."""
    return _ready(
        m.parse("one", f"select '{WORD}' || $1::text") + m.parse("two", "select 2") + m.sync(),
        m.bind("", "one", ["x"]) + m.describe(b"P") + m.execute() + m.sync(),
        m.bind("", "two") + m.execute() + m.bind("", "one", ["y"]) + m.execute() + m.sync(),
        m.parse("one", "select 'taken'") + m.bind("", "one", ["never"]) + m.sync(),
        m.describe(b"S", "one") + m.close(b"S", "one") + m.sync(),
        m.bind("", "one", ["gone"]) + m.sync(),
        m.parse("one", f"select 'new {WORD}'") + m.bind("", "one") + m.execute() + m.sync(),
    )


def _portal() -> bytes:
    parts = m.parse("", f"select '{WORD}' || n from generate_series(1, 4) n") + m.bind("p")
    parts += m.describe(b"P", "p") + m.execute("p", 1) + m.execute("p", 2) + m.execute("p")
    return parts + m.close(b"P", "p") + m.sync()


SHORT: list[Request] = [
    *_ready(
        m.query(f"select '{WORD}', n from generate_series(1, 3) n"),
        m.query(f"do $$ begin raise notice '{WORD}'; end $$; select '{WORD}'; select"),
        m.query(f"select '{WORD}'::int"),
        m.query(""),
        m.one_shot("select $1::text, $2::text", [WORD, None]),
        _portal(),
    ),
    _pipeline(),
    *_transaction(),
    *_prepared(),
    *_ready(m.query(f"copy (select '{WORD}', n from generate_series(1, 10) n) to stdout")),
    *_copy_in(),
    *_ready(m.function_call(1258, [WORD.encode(), WORD.encode()])),
]
"""Requests whose replies are short enough to be cut at every byte."""

_LONG_WORDS = WORD * 1000

LONG: list[Request] = _ready(
    m.query(f"select '{WORD}', repeat('{WORD}', 1000)"),
    m.query(f"select length('{_LONG_WORDS}'), '{WORD}'"),
    m.one_shot("select $1::text", [_LONG_WORDS]),
    m.query(f"copy (select repeat('{WORD}', 100) from generate_series(1, 10)) to stdout"),
)
"""Requests and replies that are longer than any buffer is suspected to be."""


def record(server: Target, requests: list[Request]) -> list[Stage]:
    """Plays the requests at PostgreSQL, in whose database TABLES are, and keeps what it says."""
    stages = []
    with server.raw() as raw:
        for request, stops in requests:
            raw.send(request)
            got: list[Message] = []
            for stop in stops:
                got += raw.until(bytes((stop,)))
            assert raw.silent_for(0), "PostgreSQL says more than was expected"
            stages.append(Stage(request, b"".join(rebuilt(got))))
    return stages


def with_word(stages: list[Stage], own: str) -> list[Stage]:
    """The same session with another word."""
    old, new = WORD.encode(), own.encode()
    return [Stage(each.request.replace(old, new), each.reply.replace(old, new)) for each in stages]

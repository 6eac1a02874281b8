"""The requests of the nonce oracle: ways to get a word back from PostgreSQL that only its asker knows.

Law: what the reply must look like is not written here but learnt: every
request is first played at PostgreSQL itself, and its reply kept as a template
in which the word is replaced. All words are of one length.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.support import messages as m
from tests.support.messages import Message
from tests.support.target import Target

TEMPLATE = "n_000_0000000_"
"""The word that templates are learnt with; nobody else has it."""
NONCE = re.compile(r"n_\d{3}_\d{7}_")
"""Every word of every asker."""

INBOX = "create table if not exists inbox(nonce text); grant all on inbox to public"
"""What the server must know for the requests to work."""

_BETWEEN = "\0"
"""Lines of a reply; COPY data has newlines of its own."""
_MEGABYTE = 2**20
_BLOCK = 8 + 20 * len(TEMPLATE)


def word(client: int, number: int) -> str:
    """The word of one request."""
    return f"n_{client:03}_{number:07}_"


@dataclass(frozen=True)
class Request:
    """Bytes to send, and how many ReadyForQuery they earn."""

    data: bytes
    ready: int


def _simple(sql: str) -> Callable[[str], Request]:
    return lambda nonce: Request(m.query(sql.replace("{}", nonce)), 1)


def _pipeline(nonce: str) -> Request:
    return Request(b"".join(m.one_shot("select $1::text", [nonce]) for _ in range(10)), 10)


def _broken(nonce: str) -> bytes:
    """A group that fails, with a Query in it that PostgreSQL discards."""
    bad = m.parse("", f"select 1/0 as {nonce}") + m.bind() + m.execute()
    return bad + m.query("select 'never'") + m.sync()


def _broken_pipeline(nonce: str) -> Request:
    good = m.one_shot(f"select '{nonce}'")
    return Request(good + _broken(nonce) + good, 3)


def _broken_first(nonce: str) -> Request:
    """A client that waits with this and is cancelled loses the first group, the Query in it included."""
    return Request(_broken(nonce) + m.one_shot(f"select '{nonce}'"), 2)


def _transaction(nonce: str) -> Request:
    parts = ["begin", f"select '{nonce}'", f"select '{nonce}'", "commit"]
    return Request(b"".join(m.query(sql) for sql in parts), 4)


def _copy_in(nonce: str) -> Request:
    """Rows that are never committed: whoever sees one that is not his own has somebody else's server."""
    rows = m.copy_data(f"{nonce}\n".encode()) * 3 + m.copy_done()
    undone = f"do $$ begin raise exception '{nonce}'; end $$"
    return Request(m.query(f"copy inbox from stdin; select nonce from inbox; {undone}") + rows, 1)


def _extended_copy_in(nonce: str) -> Request:
    """The COPY fails, with the word in its error, and leaves nothing."""
    begin = m.parse("", "copy inbox from stdin") + m.bind() + m.execute()
    return Request(begin + m.copy_data(f"{nonce}\n".encode()) + m.copy_fail(nonce) + m.sync(), 1)


def _portal(nonce: str) -> Request:
    parts = m.parse("", "select $1::text || i from generate_series(1, 4) i") + m.describe(b"S")
    parts += m.bind("p", "", [nonce]) + m.execute("p", 1) + m.execute("p", 2) + m.execute("p")
    return Request(parts + m.close(b"P", "p") + m.sync(), 1)


def _function_call(nonce: str) -> Request:
    """textcat(word, word)."""
    return Request(m.function_call(1258, [nonce.encode(), nonce.encode()]), 1)


_ELEPHANT = (
    "select string_agg(lpad(i::text, 8, '0') || repeat('{}', 20), '' order by i) as \"{}\""
    f" from generate_series(1, {_MEGABYTE // _BLOCK + 1}) i"
)
"""One row of a megabyte, in which every byte depends on its place."""

KINDS: dict[str, Callable[[str], Request]] = {
    "value": _simple("select '{}' as \"{}\""),
    "error": _simple("do $$ begin raise exception '{}'; end $$"),
    "notice": _simple("do $$ begin raise notice '{}'; end $$"),
    "notification": _simple('listen "{}"; notify "{}", \'{}\''),
    "copy out": _simple("copy (select '{}' from generate_series(1, 50)) to stdout"),
    "copy in": _copy_in,
    "extended copy in": _extended_copy_in,
    "large": _simple("select '{}', repeat('{}', 2000)"),
    "elephant": _simple(_ELEPHANT),
    "slow": _simple("select '{}', pg_sleep(0.01)"),
    "interrupted": _simple("do $$ begin raise notice '{}'; perform pg_sleep(0.01); end $$; select '{}'"),
    "lingering": _simple("select '{}', pg_sleep(0.1)"),
    "too slow": _simple("select '{}', pg_sleep(0.3)"),
    "extended": lambda nonce: Request(m.one_shot(f'select $1::text as "{nonce}"', [nonce]), 1),
    "pipeline": _pipeline,
    "broken pipeline": _broken_pipeline,
    "broken first": _broken_first,
    "transaction": _transaction,
    "portal": _portal,
    "function call": _function_call,
}

LINGERING = "lingering"
"""The kind that outlives its asker's query_timeout while it runs, and not while it waits for a server."""
INTERRUPTED = "interrupted"
"""The kind whose reply begins while the query runs, so that a cancel can be aimed at it."""

WEIGHTS: dict[str, float] = {
    "value": 20,
    "extended": 20,
    "copy in": 3,
    "extended copy in": 3,
    "slow": 2,
    "interrupted": 6,
    "lingering": 0.1,
    "too slow": 0.1,
    "elephant": 0.3,
}
"""How often a kind is asked for, where that is not 6: what takes a server long is rare."""
ORDINARY = 6.0


def weight(kind: str) -> float:
    return WEIGHTS.get(kind, ORDINARY)


def told(messages: Iterable[Message]) -> list[str]:
    """What a reply says, one line for each message; COPY data as one, what is not anybody's left out."""
    lines: list[str] = []
    for tag, body in messages:
        if tag == b"d" and lines and lines[-1].startswith("d"):
            lines[-1] += body.decode()
        elif tag != b"S":
            lines.append(f"{tag.decode('latin-1')} {_text(tag, body)}".rstrip(" "))
    return lines


def _text(tag: bytes, body: bytes) -> str:
    match tag:
        case b"T":
            return "|".join(m.column_names(body))
        case b"D":
            return "|".join("NULL" if value is None else value for value in m.row_of(body))
        case b"E" | b"N":
            fields = m.fields_of(body)
            return f"{fields['S']} {fields['C']} {fields['M']}"
        case b"A":
            channel, payload, _ = body[4:].decode().split("\0")
            return f"{channel} {payload}"
        case b"V":
            return body[4:].decode()
        case b"C" | b"Z" | b"d":
            return body.decode().rstrip("\0")
    return ""


class Templates:
    """What PostgreSQL replies to each kind of request."""

    def __init__(self, server: Target) -> None:
        self._lines: dict[str, str] = {}
        with server.raw(timeout=30) as raw:
            for kind, make in KINDS.items():
                request = make(TEMPLATE)
                raw.send(request.data)
                got: list[Message] = []
                for _ in range(request.ready):
                    got += raw.until()
                self._lines[kind] = _BETWEEN.join(told(got))
                assert TEMPLATE in self._lines[kind], f"{kind} does not bring its word back: {got}"
                assert raw.silent_for(0)

    def expected(self, kind: str, nonce: str) -> list[str]:
        """The lines of the reply to this request of this asker."""
        return self._lines[kind].replace(TEMPLATE, nonce).split(_BETWEEN)

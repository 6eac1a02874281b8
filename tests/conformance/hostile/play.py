"""What the victim of a hostile server asks for, and what a good server says to that.

Law: the good replies are recorded from a real PostgreSQL before every run;
nothing here knows them by heart.
"""

from dataclasses import dataclass

from tests.support import messages as m
from tests.support.messages import Fields, Message
from tests.support.target import Target
from tests.support.wire import Raw

VICTIM = "victim"
"""Stands in every query of a play, so that a server knows whose it is; also a user and a table."""


@dataclass(frozen=True)
class Stage:
    """One request, sent in one piece, and the messages of the reply that the client waits for."""

    request: bytes
    reply: tuple[bytes, ...]

    def tags(self) -> list[bytes]:
        """The tags of the request's messages."""
        return [message[:1] for message in cut(self.request)]

    @property
    def last(self) -> bytes:
        """The tag that ends the reply."""
        return self.reply[-1][:1]

    @property
    def flushed(self) -> bool:
        """Whether no ReadyForQuery is to come before the next request."""
        return self.tags()[-1] == b"H"


@dataclass(frozen=True)
class Play:
    """A conversation of one client, from idle to idle.

    `by_name`: its statements have names, so the pooler may put messages of its own among the client's.
    """

    name: str
    stages: tuple[Stage, ...]

    @property
    def by_name(self) -> bool:
        return self.name == BY_NAME

    def reply_to(self, messages: list[Message]) -> tuple[bytes, ...]:
        """What a good server says to a group of a play by name, whatever the pooler has made of it."""
        described, executed = self.stages[0].reply[1:3], self.stages[1].reply[1:-1]
        replies = {
            b"P": (m.message(b"1"),),
            b"B": (m.message(b"2"),),
            b"C": (m.message(b"3"),),
            b"E": executed,
            b"S": (m.ready_for_query(),),
        }
        said: list[bytes] = []
        for tag, body in messages:
            if tag == b"D":
                said += described if body[:1] == b"S" else described[1:]
            else:
                said += replies.get(tag, ())
        return tuple(said)


Request = tuple[bytes, bytes]
"""A request, and the tags of which one ends its reply."""

BY_NAME = "by name"
_COPY_IN = "copy victim from stdin"
_SCRIPTS: dict[str, list[Request]] = {
    "simple": [(m.query("select 'victim', n from generate_series(1, 5) n"), b"Z")],
    "statements": [(m.query("do $$ begin raise notice 'victim'; end $$; select 'victim'"), b"Z")],
    "error": [(m.query("select 'victim'::int"), b"Z")],
    "transaction": [
        (m.query("begin /* victim */"), b"Z"),
        (m.query("select 'victim'"), b"Z"),
        (m.query("commit /* victim */"), b"Z"),
    ],
    "extended": [(m.one_shot("select 'victim', $1::text", ["x"]), b"Z")],
    "portal": [
        (
            m.parse("", "select n from generate_series(1, 3) n /* victim */")
            + m.describe(b"S")
            + m.bind()
            + m.execute(max_rows=1)
            + m.execute()
            + m.close(b"P")
            + m.sync(),
            b"Z",
        )
    ],
    BY_NAME: [
        (m.parse("name", "select 'victim', $1::text") + m.describe(b"S", "name") + m.sync(), b"Z"),
        (m.bind("", "name", ["x"]) + m.execute() + m.sync(), b"Z"),
        (m.bind("", "name", ["y"]) + m.describe(b"P") + m.execute() + m.sync(), b"Z"),
    ],
    "copy out": [(m.query("copy (select 'victim' from generate_series(1, 20)) to stdout"), b"Z")],
    "copy in": [
        (m.query(_COPY_IN), b"G"),
        (m.copy_data(b"one\n") + m.copy_data(b"two\n") + m.copy_done(), b"Z"),
    ],
    "extended copy in": [
        (m.parse("", _COPY_IN) + m.bind() + m.execute() + m.flush(), b"G"),
        (m.copy_data(b"one\n") + m.copy_done() + m.sync(), b"Z"),
    ],
}

PHASES: dict[str, tuple[str, ...]] = {
    "simple": ("simple", "statements", "error", "transaction"),
    "extended": ("extended", "portal", BY_NAME),
    "COPY": ("copy out", "copy in", "extended copy in"),
}
"""Plays by the part of the protocol that they use."""


def record(server: Target) -> dict[str, Play]:
    """Plays everything at a real PostgreSQL, in whose database there is a table `victim`."""
    with server.raw() as client:
        return {name: Play(name, _stages(client, script)) for name, script in _SCRIPTS.items()}


def _stages(client: Raw, script: list[Request]) -> tuple[Stage, ...]:
    stages = []
    for request, stop in script:
        client.send(request)
        stages.append(Stage(request, rebuilt(client.until(*(bytes((tag,)) for tag in stop)))))
    return tuple(stages)


def record_login(server: Target) -> tuple[bytes, ...]:
    """What a real PostgreSQL says at a login by trust."""
    with server.socket() as client:
        client.send(m.startup({"user": server.user, "database": server.database}))
        return rebuilt(client.until())


def rebuilt(messages: list[Message]) -> tuple[bytes, ...]:
    """Messages as they were on the wire."""
    return tuple(m.message(each.tag, each.body) for each in messages)


def cut(stream: bytes) -> list[bytes]:
    """The whole messages at the beginning of a stream, as long as their lengths make sense."""
    found, at = [], 0
    while at + 5 <= len(stream):
        length = int.from_bytes(stream[at + 1 : at + 5], "big")
        if length < 4 or at + 1 + length > len(stream):
            break
        found.append(stream[at : at + 1 + length])
        at += 1 + length
    return found


def told(body: bytes) -> Fields:
    """Fields of an error, however strange: `messages.fields_of` trusts its server."""
    return {part[:1].decode("latin-1"): part[1:].decode("latin-1") for part in body.split(b"\0") if part}

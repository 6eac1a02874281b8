"""A fake PostgreSQL that answers auth_query, and lets everybody else in."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.auth_query import AuthQuery
from tests.support import messages as m
from tests.support.rig import Rig
from tests.support.script import Conversation

ASKER = "asker"
FAILED = "bouncer config error"
"""What clients hear."""
UNKNOWN = ""
"""In place of a row: there is none."""

Reply = list[str | bytes | None] | str | bytes
"""A row, UNKNOWN, or messages up to where a ReadyForQuery follows."""


@dataclass
class Question:
    """What was received in one group of messages on the connection of the asker."""

    settings: str
    sql: str
    value: str
    connection: int


@dataclass
class Secrets:
    """As a script: `reply` answers each question; while `gate` is clear it waits."""

    reply: Callable[[Question], Reply]
    asked: list[Question] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    hang_up_on: set[int] = field(default_factory=set)
    """Numbers (from 1) of questions that end the connection instead."""

    def __post_init__(self) -> None:
        self.gate.set()

    def __call__(self, conversation: Conversation) -> None:
        conversation.welcome()
        if conversation.startup["user"] != ASKER:
            conversation.serve()
            return
        while (question := _read(conversation)) is not None:
            self.asked.append(question)
            if len(self.asked) in self.hang_up_on:
                return
            assert self.gate.wait(10)
            conversation.send(*_reply(self.reply(question)))


def table(**secrets: str | None) -> Secrets:
    """Answers from a table of names."""

    def reply(question: Question) -> Reply:
        name = question.value.encode("utf-8", "surrogateescape")
        return [name, secrets[question.value]] if question.value in secrets else UNKNOWN

    return Secrets(reply)


def error(code: str, text: str) -> bytes:
    """An ErrorResponse in place of an answer."""
    return m.error_response(code, text, more={"D": "because", "H": "do this"})


def _read(conversation: Conversation) -> Question | None:
    seen: list[m.Message] = []
    while not seen or seen[-1].tag != b"S":
        message = conversation.read()
        if message.tag == b"X":
            return None
        if message.tag == b"Q":
            # The check of a server that has long been idle.
            conversation.send(m.message(b"I"), m.ready_for_query())
            continue
        seen.append(message)
    assert b"".join(one.tag for one in seen) == b"PBEPBES"
    settings, sql = (one.body.split(b"\0")[1].decode() for one in seen if one.tag == b"P")
    length = int.from_bytes(seen[4].body[6:10], "big")
    value = seen[4].body[10 : 10 + length].decode("utf-8", "surrogateescape")
    return Question(settings, sql, value, conversation.number)


def _reply(reply: Reply) -> list[bytes]:
    begun = [m.message(b"1"), m.message(b"2")]
    settled = [*begun, m.data_row(["on", "UTF8", "10000"]), m.command_complete("SELECT 1")]
    if isinstance(reply, bytes):
        return [*settled, reply, m.ready_for_query()]
    rows = [m.data_row(reply)] if isinstance(reply, list) else []
    return [*settled, *begun, *rows, m.command_complete("SELECT"), m.ready_for_query()]


def rig(script: Secrets, **settings: object) -> Rig:
    return Rig(
        script,
        **{"auth_user": ASKER, "auth_query": "lookup $1", "credentials": {"listed": "x"}, **settings},  # type: ignore[arg-type]
    )


def asking(one: Rig) -> AuthQuery:
    return one.worker.lobby.auth_query

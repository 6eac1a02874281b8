"""A server that vanishes behind any byte of any message it may send, in each way to vanish.

Law: its client has heard the beginning of the reply and one error behind it; nobody else notices, and the
next one is served.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import pytest

from tests.conformance.expect import ENDS, PROMPTLY, QUIET, heard
from tests.conformance.hostile import scram
from tests.conformance.hostile.verdict import allowed, judge
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.alive import BYSTANDER, stays_alive
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.script import STARTUP_PARAMETERS, Conversation, FakeServer
from tests.support.server import Server
from tests.support.sockets import reset
from tests.support.standard import entry, howdah_only

pytestmark = [howdah_only("adds an error of its own"), pytest.mark.slow]

CUT: Final = "cut"
TOGETHER: Final = 20
"""Clients at a time, and servers."""

ROW: Final = m.row_description(["c"]) + m.data_row(["value"])
STATEMENT: Final = m.message(b"1") + m.message(b"2")


def simple(word: str) -> bytes:
    return m.query(word)


def extended(word: str) -> bytes:
    return m.parse("", word) + m.bind() + m.describe(b"P") + m.execute("", 1) + m.close(b"P") + m.sync()


def described(word: str) -> bytes:
    return m.parse("", word) + m.describe(b"S") + m.sync()


def called(word: str) -> bytes:
    return m.function_call(1258, [word.encode()])


REPLIES: Final = {
    "RowDescription": (simple, b"", m.row_description(["c"])),
    "DataRow": (simple, m.row_description(["c"]), m.data_row(["value", None])),
    "CommandComplete": (simple, ROW, m.command_complete("SELECT 1")),
    "ReadyForQuery": (simple, ROW + m.command_complete("SELECT 1"), m.ready_for_query()),
    "EmptyQueryResponse": (simple, b"", m.message(b"I")),
    "ErrorResponse": (simple, b"", m.error_response("22012", "division by zero")),
    "NoticeResponse": (simple, b"", m.error_response("00000", "a word", severity="NOTICE", tag=b"N")),
    "ParameterStatus": (simple, b"", m.parameter_status("TimeZone", "Asia/Kolkata")),
    "NotificationResponse": (simple, b"", m.message(b"A", m.int32(1) + m.string("channel") + m.string(""))),
    "CopyOutResponse": (simple, b"", m.message(b"H", b"\0" + m.int16(1) + m.int16(0))),
    "CopyInResponse": (simple, b"", m.message(b"G", b"\0" + m.int16(1) + m.int16(0))),
    "CopyData": (simple, m.message(b"H", b"\0" + m.int16(1) + m.int16(0)), m.copy_data(b"a row\n")),
    "CopyDone": (simple, m.message(b"H", b"\0" + m.int16(1) + m.int16(0)), m.copy_done()),
    "ParseComplete": (extended, b"", m.message(b"1")),
    "BindComplete": (extended, m.message(b"1"), m.message(b"2")),
    "PortalSuspended": (extended, STATEMENT + ROW, m.message(b"s")),
    "CloseComplete": (extended, STATEMENT + ROW + m.message(b"s"), m.message(b"3")),
    "NoData": (extended, STATEMENT, m.message(b"n")),
    "ParameterDescription": (described, m.message(b"1"), m.message(b"t", m.int16(2) + m.int32(25) * 2)),
    "FunctionCallResponse": (called, b"", m.message(b"V", m.int32(5) + b"value")),
}
"""What is asked, what is replied before, and what is cut short."""


def vanish(conversation: Conversation, how: str) -> None:
    """End the connection in this way; who only says no more waits until nobody listens."""
    match how:
        case "reset":
            reset(conversation.socket)
        case "half-close":
            conversation.socket.shutdown(socket.SHUT_WR)
            while conversation.socket.recv(65536):
                pass


@dataclass(frozen=True)
class Plan:
    """What a server says before it vanishes, and how it does."""

    said: bytes
    how: str


def plans(before: bytes, message: bytes) -> list[Plan]:
    """A whole ReadyForQuery is left out: who is lent that server next is the one to hear of its end."""
    most = len(message) - (message == m.ready_for_query())
    return [Plan(before + message[:at], how) for at in range(most + 1) for how in ENDS]


class Planned:
    """A script of which each word that is asked is a plan."""

    def __init__(self, plans: list[Plan]) -> None:
        self.plans = plans

    def __call__(self, conversation: Conversation) -> None:
        conversation.welcome()
        asked = conversation.read()
        while (word := re.search(rb"plan_(\d+)", asked.body)) is None:
            asked = conversation.read()
        while asked.tag not in (b"Q", b"S", b"F"):
            asked = conversation.read()
        plan = self.plans[int(word[1])]
        conversation.send(plan.said)
        vanish(conversation, plan.how)


@pytest.fixture(scope="module")
def host() -> Iterator[FakeServer]:
    with FakeServer() as host:
        yield host


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server, host: FakeServer) -> Pooler:
    entries = {
        "*": {
            "host": host.host,
            "port": host.port,
            "pool_size": TOGETHER,
            "user": "fake",
            "password": scram.PASSWORD,
        },
        BYSTANDER: entry(server),
    }
    return module_launch(entries, {**QUIET, "server_login_retry": 0.01, "autodb_idle_timeout": 1})


@pytest.fixture(autouse=True)
def alive(pooler: Pooler, server: Server) -> Iterator[None]:
    with stays_alive(pooler, server.busy_backends):
        yield
        wait_until(lambda: not pooler.show("CLIENTS", database=CUT), PROMPTLY, "no client is left")


@pytest.mark.parametrize("name", REPLIES)
def test_behind_half_a_reply_its_client_hears_one_error_and_nobody_else(
    pooler: Pooler, host: FakeServer, name: str
) -> None:
    ask, before, message = REPLIES[name]
    host.script = script = Planned(plans(before, message))
    for start in range(0, len(script.plans), TOGETHER):
        batch = list(enumerate(script.plans))[start : start + TOGETHER]
        with ExitStack() as stack:
            clients = [stack.enter_context(pooler.raw(CUT)) for _ in batch]
            for client, (number, _) in zip(clients, batch, strict=True):
                client.send(ask(f"plan_{number}"))
            for client, (_, plan) in zip(clients, batch, strict=True):
                verdict = judge(heard(client), allowed(plan.said), closed=True, complete=False)
                assert not verdict.problem, (plan, verdict)


# --- in the login --------------------------------------------------------------------------------


AS: Final = {"user": "fake", "password": scram.PASSWORD}
STATUSES: Final = [m.parameter_status(name, STARTUP_PARAMETERS[name]) for name in ("DateStyle", "TimeZone")]
WELCOME: Final = (*STATUSES, m.backend_key_data(4711, b"none"), m.ready_for_query())
LENGTHS: Final = {
    "AuthenticationSASL": len(scram.offer()),
    "AuthenticationSASLContinue": len(scram.challenge("n" * 24 + "servernonce")),
    "AuthenticationSASLFinal, Ok": len(scram.signature("", b"") + m.authentication(0)),
    "welcome": sum(map(len, WELCOME)),
}
"""Of the four replies."""


class HalfALogin:
    """A script that vanishes behind some byte of a reply of a login by SCRAM, once for each database."""

    def __init__(self) -> None:
        self.places: dict[str, tuple[int, int, str]] = {}
        """By database: the number of the reply, the byte, the way to vanish."""

    def __call__(self, conversation: Conversation) -> None:
        number, at, how = self.places.pop(conversation.startup["database"], (-1, 0, ""))

        def say(place: int, reply: tuple[bytes, ...]) -> bytes:
            said = b"".join(reply)
            if place == number:
                conversation.send(said[:at])
                vanish(conversation, how)
                raise EOFError
            conversation.send(said)
            return b""

        scram.log_in(conversation, say, WELCOME)
        conversation.serve()


@pytest.mark.parametrize(("number", "length"), list(enumerate(LENGTHS.values())), ids=list(LENGTHS))
def test_behind_half_a_login_of_a_server_its_client_is_served_by_the_next_one(
    pooler: Pooler, host: FakeServer, number: int, length: int
) -> None:
    host.script = script = HalfALogin()
    for start in range(0, length, TOGETHER):
        names = {f"half_{number}_{at}": at for at in range(start, min(start + TOGETHER, length))}
        script.places = {name: (number, at, ENDS[at % len(ENDS)]) for name, at in names.items()}
        with ExitStack() as stack:
            clients = {name: stack.enter_context(pooler.socket()) for name in names}
            for name, client in clients.items():
                client.send(m.startup({"user": pooler.user, "database": name}))
            for name, client in clients.items():
                client.finish_login()
                assert client.value(name) == name

"""A server that breaks the protocol, over the wire: at most one client hears of it, all others are served."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.integration.conftest import FAKE, Launch
from tests.support import messages as m
from tests.support.page import Page
from tests.support.pooler import Pooler
from tests.support.ports import free_port
from tests.support.script import Conversation, FakeServer
from tests.support.standard import howdah_only

pytestmark = howdah_only("PgBouncer passes much of this on")

SECRET = "hush-hush"
BATCH = m.parse("one", f"select '{SECRET}'") + m.bind("p", "one", [SECRET]) + m.execute("p") + m.sync()
ROW = m.row_description([SECRET]) + m.data_row([SECRET])
DONE = ROW + m.command_complete("SELECT 1") + m.ready_for_query()
BEGUN = m.command_complete("BEGIN") + m.ready_for_query(b"T")
PATIENCE = 5.0


@dataclass
class Host:
    """The fake server before which the pooler stands. What logs in while `reply` is set answers the first
    request with it, and when `said` is set, says `unasked`.
    """

    fake: FakeServer
    pooler: Pooler
    page: Page
    reply: bytes = b""
    unasked: bytes = b""
    said: threading.Event = field(default_factory=threading.Event)

    def script(self, conversation: Conversation) -> None:
        reply, self.reply = self.reply, b""
        conversation.welcome()
        if not reply:
            conversation.serve()
        while conversation.read().tag not in (b"Q", b"S"):
            pass
        conversation.send(reply)
        if self.unasked and self.said.wait(PATIENCE):
            conversation.send(self.unasked)
        while conversation.read():
            pass

    def count(self, kind: str) -> int:
        (row,) = self.pooler.show("VIOLATIONS", kind=kind)
        counted = int(str(row["count"]))
        assert self.page.value("howdah_server_protocol_violations_total", kind=kind) == counted
        return counted

    @contextmanager
    def commits(self, kind: str, text: str, reply: bytes, unasked: bytes = b"") -> Iterator[None]:
        """The next server that logs in breaks the protocol so; the pooler must count and log it once."""
        self.pooler.admin(f"RECONNECT {FAKE}")
        self.pooler.wait_for_pool(FAKE, sv_idle=0)
        self.reply, self.unasked = reply, unasked
        self.said.clear()
        before, mark = self.count(kind), self.pooler.log_mark()
        yield
        assert self.count(kind) == before + 1
        line = self.pooler.wait_for_log(f"broken server stream: .*{text}[)]; last messages: .*", since=mark)
        assert "B " in line.partition("; last messages: ")[2]
        assert SECRET not in self.pooler.log()
        with self.pooler.raw(FAKE) as other:
            assert other.value("select 3") == "select 3"


@pytest.fixture(scope="module")
def host(module_launch: Launch) -> Iterator[Host]:
    page = Page(free_port())
    with FakeServer() as fake:
        entries = {FAKE: {"host": fake.host, "port": fake.port, "pool_size": 1, "pool_mode": "transaction"}}
        settings = {**page.settings(), "max_prepared_statements": 0}
        host = Host(fake, page.of(module_launch(entries, settings, user="u")), page)
        fake.script = host.script
        with host.pooler.raw(FAKE) as client:
            client.value("select 0")
        yield host


@pytest.mark.parametrize(
    ("kind", "text", "request_", "reply"),
    [
        ("out_of_order", "not the reply that was owed", BATCH, m.message(b"2")),
        (
            "early_ready",
            "before all was answered",
            BATCH,
            m.message(b"1") + m.ready_for_query(),
        ),
        ("malformed", "malformed message", BATCH, m.message(b"1") + b"2\0\0\0\3" + ROW),
        ("malformed", "malformed message", m.query("select 1"), m.query(SECRET)),
    ],
    ids=["wrong order", "ready too early", "bad length", "a request"],
)
def test_a_wrong_reply_ends_its_client_with_one_error(
    host: Host, kind: str, text: str, request_: bytes, reply: bytes
) -> None:
    with host.commits(kind, text, reply), host.pooler.raw(FAKE) as client:
        client.send(request_)
        (error,) = m.errors(client.until_closed(within=PATIENCE))
        assert (error["S"], error["C"]) == ("FATAL", "08P01")


def test_a_reply_that_nobody_asked_for_ends_the_client_that_has_the_server(host: Host) -> None:
    text = "a reply that nobody asked for"
    with host.commits("unasked", text, BEGUN, ROW), host.pooler.raw(FAKE) as client:
        assert m.tags(client.query("begin")) == "CZ"
        host.said.set()
        (error,) = client.until_closed(within=PATIENCE)
        assert m.fields_of(error.body)["C"] == "08P01"


def test_more_than_was_asked_for_is_heard_by_nobody(host: Host) -> None:
    with host.commits("too_much", "more than was asked for", DONE + ROW), host.pooler.raw(FAKE) as client:
        assert m.tags(client.query("select 1")) == "TDCZ"
        assert client.value("select 2") == "select 2"


def test_what_comes_while_the_server_is_idle_is_heard_by_nobody(host: Host) -> None:
    with host.commits("idle", "bytes on an idle connection", DONE, ROW), host.pooler.raw(FAKE) as client:
        assert m.tags(client.query("select 1")) == "TDCZ"
        host.said.set()
        host.pooler.wait_for_log("bytes on an idle connection")
        assert client.value("select 2") == "select 2"


def test_a_wrong_reply_to_a_query_of_ours_costs_no_client_anything(host: Host) -> None:
    with (
        host.commits("own_query", "wrong reply to a query of ours", m.ready_for_query(b"T")),
        host.pooler.raw(FAKE, parameters={"application_name": SECRET}) as client,
    ):
        assert client.value("select 1") == "select 1"

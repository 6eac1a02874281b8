"""A server that does not keep to the protocol: its clients hear of it, and nobody else notices."""

from collections.abc import Callable

import pytest

from tests.integration.conftest import FAKE, Launch, before_fake
from tests.support import messages as m
from tests.support.fault_proxy import wait_until
from tests.support.script import Conversation, FakeServer
from tests.support.server import Server
from tests.support.standard import APP, entry, howdah_only


def speak(*chunks: bytes) -> Callable[[Conversation], None]:
    """A script that says this right after the startup packet, then waits for the pooler to hang up."""

    def script(conversation: Conversation) -> None:
        conversation.send(*chunks)
        while True:
            conversation.read()

    return script


NONSENSE = {
    "not the protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a length below four": m.message_claiming(b"R", 3),
    "a huge length": m.message_claiming(b"R", 0x7FFFFFFF, b"\0\0\0\0"),
    "ready before authentication": m.ready_for_query(),
    "an unknown authentication": m.authentication(99),
    "a row during login": m.authentication(0) + m.data_row(["x"]),
    "an error without fields": m.message(b"E", b"\0"),
    "an error without a sqlstate": m.message(b"E", b"SFATAL\0Mjust no\0\0"),
    "an unterminated parameter": m.authentication(0) + m.message(b"S", b"name"),
    "a short key": m.authentication(0) + m.message(b"K", b"\0\0"),
    "nothing, then the end": b"",
}


@howdah_only("crashes some versions of PgBouncer")
@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_from_a_server_hurts_its_own_pool_only(
    launch: Launch, fake: FakeServer, server: Server, kind: str
) -> None:
    if NONSENSE[kind]:
        fake.script = speak(NONSENSE[kind])
    else:
        fake.script = lambda conversation: None
    entries = {FAKE: {"host": fake.host, "port": fake.port}, APP: entry(server)}
    pooler = launch(
        entries, {"server_connect_timeout": 2, "query_wait_timeout": 3, "client_login_timeout": 4}
    )
    with pooler.socket() as client:
        client.send(m.startup({"user": pooler.user, "database": FAKE}))
        with pooler.raw(APP) as other:
            assert other.value("select 1") == "1"
        errors = m.errors(client.until_closed(within=8))
        assert len(errors) == 1
    assert pooler.rss() < 150 * 2**20


@howdah_only("PgBouncer pools such a server again")
@pytest.mark.parametrize(
    "stray",
    [m.data_row(["stray"]), m.command_complete("SELECT 1"), m.ready_for_query(), m.message(b"?", b"")],
    ids=["row", "complete", "ready", "unknown"],
)
def test_what_an_idle_server_says_unasked_reaches_nobody(
    launch: Launch, fake: FakeServer, stray: bytes
) -> None:
    def mad(conversation: Conversation) -> None:
        conversation.welcome()
        if conversation.number == 1:
            conversation.expect(b"Q", b"first")
            conversation.answer("first")
            conversation.send(stray)
        conversation.serve()

    fake.script = mad
    pooler = before_fake(launch, fake)
    with pooler.raw(FAKE) as client:
        assert client.value("select 'first'") == "first"
        wait_until(lambda: not pooler.show("SERVERS", database=FAKE), 3, "given up")
        for number in range(3):
            assert client.value(f"select {number}") == f"select {number}"


@howdah_only("PgBouncer forwards them")
def test_more_replies_than_were_asked_for_end_the_server_not_the_next_client(
    launch: Launch, fake: FakeServer
) -> None:
    def generous(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.expect(b"Q")
        row = m.row_description(["a"]) + m.data_row(["right"]) + m.command_complete("SELECT 1")
        conversation.send(row, m.ready_for_query(), m.data_row(["wrong"]), m.ready_for_query())
        conversation.serve()

    fake.script = generous
    pooler = before_fake(launch, fake)
    with pooler.raw(FAKE) as client:
        assert m.rows(client.query("select 1")) == [["right"]]
        assert client.silent_for(0.2)

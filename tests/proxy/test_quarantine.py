"""What is told of a server that broke the protocol, and that it is told of every kind of fault."""

import contextlib
import logging
import random

import pytest

from protocol.errors import MalformedMessage, ProtocolError, UnexpectedMessage
from protocol.framer import Framer
from protocol.looks import BACKEND, BACKEND_LOOK, FRONTEND_LOOK, REPORT, frontend_caps
from protocol.outstanding import Outstanding
from proxy.quarantine import MOST, Violation, kind_of, last_messages
from proxy.reasons import ClientClosed, ServerClosed
from tests.support import messages as m
from tests.support.playbook import Playbook, Said, fatal, from_backend, from_frontend

SECRET = "top secret"


def received(data: bytes) -> Framer:
    """The framer of a server that has sent this."""
    framer = Framer(BACKEND_LOOK, BACKEND)
    with contextlib.suppress(ProtocolError):
        framer.feed(data)
    return framer


def sent(data: bytes) -> Framer:
    """The framer of a client that has sent this."""
    framer = Framer(FRONTEND_LOOK, frontend_caps())
    framer.feed(data)
    return framer


# Which kind of fault it was.


@pytest.mark.parametrize(
    ("owed", "reply", "kind"),
    [
        ("", "C", Violation.UNASKED),
        ("", "Z", Violation.UNASKED),
        ("PBS", "2", Violation.OUT_OF_ORDER),
        ("PBS", "Z", Violation.EARLY_READY),
        ("Q", "1", Violation.OUT_OF_ORDER),
    ],
)
def test_the_kind_of_a_wrong_reply_is_seen_in_what_was_owed(owed: str, reply: str, kind: Violation) -> None:
    outstanding = Outstanding()
    for request in owed:
        outstanding.push(ord(request))
    with pytest.raises(UnexpectedMessage) as caught:
        outstanding.reply(ord(reply))
    assert kind_of(caught.value, bool(outstanding.queue)) is kind


@pytest.mark.parametrize(("owed", "kind"), [("", Violation.UNASKED), ("P", Violation.OUT_OF_ORDER)])
def test_rows_that_nobody_asked_for_are_of_a_kind_too(owed: str, kind: Violation) -> None:
    outstanding = Outstanding()
    for request in owed:
        outstanding.push(ord(request))
    with pytest.raises(UnexpectedMessage) as caught:
        outstanding.rows()
    assert kind_of(caught.value, bool(outstanding.queue)) is kind


def test_an_error_that_nobody_asked_for_is_of_a_kind_too() -> None:
    with pytest.raises(UnexpectedMessage) as caught:
        Outstanding().error()
    assert kind_of(caught.value, owed=False) is Violation.UNASKED


@pytest.mark.parametrize("error", [MalformedMessage("bad packet header: '00'"), UnexpectedMessage("unknown")])
def test_what_is_wrong_in_itself_is_malformed_whatever_is_owed(error: ProtocolError) -> None:
    assert kind_of(error, True) is kind_of(error, False) is Violation.MALFORMED


# What is shown of the last messages.


def test_the_clients_messages_come_first_with_names_and_without_contents() -> None:
    client = sent(m.parse("s", SECRET) + m.bind("p", "s", [SECRET]) + m.execute("p") + m.sync())
    server = received(
        m.message(b"1") + m.message(b"2") + m.data_row([SECRET]) + m.command_complete("SELECT 1")
    )
    assert last_messages(server, client).split(" | ") == [
        "F 19 Parse \"s\" 'BBBB'",
        'F 28 Bind "p" "s" \'BBBB\'',
        'F 10 Execute "p" 0',
        "F 4 Sync",
        "B 4 ParseComplete",
        "B 4 BindComplete",
        "B 20 DataRow 'BBBB'",
        'B 13 CommandComplete "SELECT 1"',
    ]


def test_many_messages_of_one_type_take_one_line() -> None:
    server = received(m.data_row(["x"]) * 1000 + m.ready_for_query())
    assert last_messages(server) == "B 11 DataRow 'BBBB' (and 999 more) | B 5 ReadyForQuery I"


def test_of_many_messages_the_first_and_the_last_are_shown() -> None:
    server = received((m.message(b"1") + m.message(b"2")) * 50 + m.ready_for_query())
    lines = last_messages(server).split(" | ")
    assert len(lines) == MOST
    assert lines[:5] == ["B 4 ParseComplete", "B 4 BindComplete"] * 2 + ["(92 not shown)"]
    assert lines[-1] == "B 5 ReadyForQuery I"


def test_names_are_cut_and_escaped() -> None:
    client = sent(m.bind("p" * 100, "s" * 500))
    assert last_messages(received(b""), client) == f'F 612 Bind "{"p" * 63}..." ...'
    client = sent(m.bind("", "\n|\x1b[2J"))
    assert last_messages(received(b""), client) == 'F 18 Bind "" "\\x0a|\\x1b[2J" \'BBBB\''
    client = sent(m.bind("\n" * 63, "\n" * 63))
    assert len(last_messages(received(b""), client)) == 200 + len("...")


def test_a_header_that_cannot_be_is_shown_and_nothing_behind_it() -> None:
    server = received(m.ready_for_query() + b"C\0\0\0\3" + SECRET.encode())
    assert last_messages(server) == "B 5 ReadyForQuery I | B (no message: 4300000003)"
    assert last_messages(received(b"?\0")) == "B (part of a header)"
    assert last_messages(received(b"")) == ""


def test_the_rest_of_a_message_that_began_before_is_not_taken_for_one() -> None:
    row = m.data_row([SECRET * 9])
    server = received(row[:20])
    server.feed(row[20:] + m.ready_for_query())
    rest = len(row) - 20
    assert last_messages(server) == f"B (the rest of a message, {rest} bytes) | B 5 ReadyForQuery I"
    server.feed(m.data_row(["x" * 900])[:50])
    assert last_messages(server) == "B 910 DataRow 'BBBB'"


def test_whatever_comes_the_text_is_short_printable_and_without_data() -> None:
    dice = random.Random(4)
    texts = [SECRET.encode(), b"\0", b"\xff\xfe", b"s", b"SERROR\0C", bytes(2), bytes(4)]
    for _ in range(300):
        chunk = b""
        for _ in range(dice.randrange(30)):
            tag = dice.choice(b"1CDEGHKNRSTVZdnst23~")
            body = b"".join(dice.choices(texts, k=dice.randrange(5)))
            chunk += m.message(bytes((tag,)), body)
        server, client = received(chunk[: dice.randrange(len(chunk) + 1)]), Framer(FRONTEND_LOOK, BACKEND)
        client.buffer = m.message(b"Q", SECRET.encode()) + m.message(b"f", SECRET.encode())
        shown = last_messages(server, client)
        assert shown.isascii()
        assert shown.isprintable()
        assert SECRET not in shown
        assert len(shown) < 5000


# Every kind of fault, from the wire to the log.

LINKED: list[tuple[Violation, tuple[Said, ...], tuple[Said, ...]]] = [
    (Violation.OUT_OF_ORDER, ("P", "B", "E", "S"), ("2",)),
    (Violation.OUT_OF_ORDER, ("P", "B", "S"), ("1", "D 1")),
    (Violation.EARLY_READY, ("P", "B", "E", "S"), ("1", "2", "Z I")),
    (Violation.MALFORMED, ("Q 1",), (b"C\0\0\0\3",)),
    (Violation.MALFORMED, ("Q 1",), (b"W\0\0\0\4",)),
    (Violation.MALFORMED, ("Q 1",), (m.query("select 1"),)),
    (Violation.MALFORMED, ("Q 1",), (m.message_claiming(b"S", REPORT + 1),)),
    (Violation.MALFORMED, ("Q 1",), ("C SELECT 1", m.message(b"Z", b"x"))),
]


@pytest.mark.parametrize(("kind", "said", "replies"), LINKED)
def test_a_broken_reply_ends_its_client_and_the_server_for_good(
    kind: Violation, said: tuple[Said, ...], replies: tuple[Said, ...], caplog: pytest.LogCaptureFixture
) -> None:
    book = Playbook()
    book.client(*said)
    book.client("Q next", by="b")
    book.server(*replies)
    assert book.violations == {kind: 1}
    assert book.closed == [ServerClosed.PROTOCOL]
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    line = record.getMessage()
    assert line.startswith("S-0x1: app/alice@127.0.0.1:5432 broken server stream: ")
    assert f"({kind.value}); last messages: F " in line
    assert " | B " in line
    told = book.stage().transport.take()
    assert [(one["S"], one["C"]) for one in errors_in(told)] == [("FATAL", "08P01")]
    assert book.stage().ends == [ClientClosed.SERVER_LOST]
    book.to_client(by="b")
    book.server("T", "D 1", "C SELECT 1", "Z I")
    book.to_client(by="b")
    book.server_closes()
    book.opens()
    book.to_server("Q next", on=2)


def errors_in(data: bytes) -> list[m.Fields]:
    """The errors among the messages a client got."""
    found = []
    while data:
        size = int.from_bytes(data[1:5], "big") + 1
        if data[:1] == b"E":
            found.append(m.fields_of(data[5:size]))
        data = data[size:]
    return found


def test_a_reply_in_session_mode_that_nobody_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    book = Playbook(pool_mode="session")
    book.client("Q 1")
    book.server("C SELECT 1", "Z I")
    book.to_client("C SELECT 1", "Z I")
    book.server("C SELECT 1")
    assert book.violations == {Violation.UNASKED: 1}
    book.error_to_client("08P01", "server sent 'C' while <Outstanding []> was owed")
    assert "last messages: F 6 Query 'BBBB' | B 13 CommandComplete \"SELECT 1\"" in caplog.text


@pytest.mark.parametrize("behind", ["Z I", "D 1", "E 22012 late", b"?\0\0\0\4", b"C\0\0"])
def test_more_than_was_asked_for_is_the_fault_of_nobody_else(
    behind: Said, caplog: pytest.LogCaptureFixture
) -> None:
    book = Playbook()
    book.client("Q 1")
    book.server("C SELECT 1", "Z I", behind)
    book.to_client("C SELECT 1", "Z I")
    assert book.violations == {Violation.TOO_MUCH: 1}
    assert book.state() == "closing"
    assert not book.stage().ends
    assert '; last messages: B 13 CommandComplete "SELECT 1" | B 5 ReadyForQuery I' in caplog.text


def test_bytes_on_an_idle_connection(caplog: pytest.LogCaptureFixture) -> None:
    book = Playbook()
    book.client("Q 1")
    book.server("C SELECT 1", "Z I")
    book.server("N hm", "Z I")
    assert book.violations == {Violation.IDLE: 1}
    assert caplog.text.count("last messages") == 1
    assert 'last messages: B 32 NoticeResponse V "NOTICE" C "00000" | B 5 ReadyForQuery I' in caplog.text


def test_a_wrong_reply_to_a_query_of_ours_costs_its_session_nothing(caplog: pytest.LogCaptureFixture) -> None:
    book = Playbook()
    book.enter("a", TimeZone=f"{SECRET}/Tokyo")
    book.client("Q a")
    data = from_backend("C SET", "Z T")
    book.server(data[:3])
    book.server(data[3:])
    assert book.violations == {Violation.OWN_QUERY: 1}
    assert 'last messages: B 8 CommandComplete "SET" | B 5 ReadyForQuery T' in caplog.text
    assert SECRET not in caplog.text
    book.server_closes()
    book.opens()
    assert not book.stage().ends
    book.to_client()


def test_a_chunk_of_the_session_before_says_nothing_about_a_query_of_ours() -> None:
    """What was sent to whom is judged by the chunk at fault, not by one that has long been passed on."""
    book = Playbook()
    row = from_backend("D " + "x" * 50)
    book.client("Q a")
    book.server(row[:20])
    book.server(row[20:], "C SELECT 1", "Z I")
    book.enter("b", TimeZone="Asia/Tokyo")
    book.client("Q b", by="b")
    book.server(b"?")
    assert book.server_at().framer.lead == 0
    assert book.violations == {Violation.OWN_QUERY: 1}


@pytest.mark.parametrize("behind", [fatal("57P01", "bye"), "N hm", "S TimeZone=UTC", "A channel"])
def test_what_an_idle_server_may_say_it_may_say_behind_the_reply_to_a_query_of_ours(behind: Said) -> None:
    book = Playbook()
    book.enter("a", TimeZone="Asia/Tokyo")
    book.client("Q a")
    book.server("S TimeZone=Asia/Tokyo", "C SET", "Z I", behind)
    assert not book.violations
    assert not book.stage().ends
    if isinstance(behind, bytes):
        assert book.closed == [ServerClosed.SERVER_SHUTDOWN]
        book.server_closes()
        book.opens()
        assert not book.cancels
    else:
        assert book.state() == "active"
    book.to_client()


def test_what_it_may_not_is_a_wrong_reply(caplog: pytest.LogCaptureFixture) -> None:
    book = Playbook()
    book.enter("a", TimeZone="Asia/Tokyo")
    book.client("Q a")
    book.server("C SET", "Z I", "Z I")
    assert book.violations == {Violation.OWN_QUERY: 1}
    assert "B 5 ReadyForQuery I (and 1 more)" in caplog.text


@pytest.mark.parametrize(
    ("reply", "kind"), [("3", Violation.OUT_OF_ORDER), (b"~\0\0\0\4", Violation.MALFORMED)]
)
def test_what_is_owed_to_a_client_that_left_is_judged_too(reply: Said, kind: Violation) -> None:
    book = Playbook()
    book.client("P", "B", "E", "S")
    book.client_leaves()
    assert book.state() == "being_canceled"
    book.server("1", reply)
    assert book.violations == {kind: 1}
    assert book.state() == "closing"


def test_what_cannot_be_told_apart_is_no_fault_of_the_server() -> None:
    book = Playbook()
    book.client("P", "B", "E", "S")
    book.server("1", "2", "G")
    book.client("d 1", "S", "d 2")
    book.server(m.copy_error("22P02", "bad"))
    assert book.closed == [ServerClosed.PROTOCOL]
    assert book.stage().ends
    assert not book.violations


def test_after_goodbye_nothing_is_counted() -> None:
    book = Playbook()
    server = book.server_at()
    server.close(ServerClosed.LIFETIME)
    book.server("T", b"garbage", "Z I")
    server.failed(UnexpectedMessage("late"))
    assert not book.violations


def test_the_traces_of_both_sides_are_made_of_what_was_said() -> None:
    """The framers keep the chunk as it came, so nothing needs to be kept for the case of a fault."""
    book = Playbook()
    said = book.client("Q 1")
    assert book.session().framer.buffer is said == from_frontend("Q 1")
    replied = book.server("T", "D 1")
    assert book.server_at().framer.buffer is replied

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import looks as module
from protocol import tags, wire
from protocol.errors import MalformedMessage, MessageTooLarge, ProtocolError, UnexpectedMessage
from protocol.framer import Collector, Framer
from protocol.looks import (
    BACKEND,
    BACKEND_CAPS,
    BACKEND_LOOK,
    BACKEND_LOOK_QUERY,
    BORROW_HEAD,
    ERROR_HEAD,
    FRONTEND_CAPS,
    FRONTEND_LOOK,
    FRONTEND_LOOK_COPY,
    FRONTEND_LOOK_IDLE,
    HEADER,
    LARGE,
    LOGIN_CAPS,
    RUN,
    SERVER_LOGIN_CAPS,
    SMALL,
    WHOLE,
    frontend_caps,
)
from tests.protocol.streams import CUTS, Message, cut, encoded, messages_for

FRONTEND = frontend_caps()
LOOKS = {
    "with a server": (FRONTEND_LOOK, FRONTEND),
    "without a server": (FRONTEND_LOOK_IDLE, FRONTEND),
    "in COPY": (FRONTEND_LOOK_COPY, FRONTEND),
    "of a server": (BACKEND_LOOK, BACKEND),
    "of a server that answers a Query": (BACKEND_LOOK_QUERY, BACKEND),
}

CLIENT_LOOKS = [FRONTEND_LOOK, FRONTEND_LOOK_IDLE, FRONTEND_LOOK_COPY]


@dataclass
class Seen:
    """What came out of a framer: forwarded bytes, and each message with where it lies in the stream."""

    forwarded: bytes = b""
    reported: list[tuple[int, int, int]] = field(default_factory=list)
    leads: list[tuple[int, int]] = field(default_factory=list)

    def feed(self, framer: Framer, data: bytes) -> None:
        at = len(self.forwarded)
        found = framer.feed(data)
        for tag, start, stop in found:
            want = framer.look[tag]
            assert len(framer.buffer) >= min(stop, start + HEADER + want), "reported too early"
            self.reported.append((tag, at + start, at + stop))
        if framer.lead:
            self.leads.append((at, at + framer.lead))
        self.forwarded += framer.buffer[: framer.end]


def spans(messages: list[Message]) -> list[tuple[int, int, int]]:
    """Tag, start and stop of each message in its stream."""
    found, at = [], 0
    for tag, body in messages:
        stop = at + HEADER + len(body)
        found.append((tag, at, stop))
        at = stop
    return found


@pytest.mark.parametrize("name", LOOKS)
@settings(deadline=None)
@given(data=st.data())
def test_any_cutting_of_a_valid_stream_gives_the_same_messages_and_bytes(
    name: str, data: st.DataObject
) -> None:
    look, caps = LOOKS[name]
    messages = data.draw(messages_for(caps))
    stream = encoded(messages)
    framer, seen = Framer(look, caps), Seen()
    boundaries = {0, *(stop for _, _, stop in spans(messages))}
    received = 0
    for piece in cut(stream, data.draw(CUTS)):
        seen.feed(framer, piece)
        received += len(piece)
        held = received - len(seen.forwarded)
        assert len(framer.buffer) - framer.end == held
        assert seen.forwarded == stream[: received - held]
        assert framer.whole == (received in boundaries)
        assert framer.streaming == (len(seen.forwarded) not in boundaries)

    assert seen.forwarded == stream
    assert seen.reported == [span for span in spans(messages) if look[span[0]] != RUN]


@settings(deadline=None)
@given(messages=messages_for(FRONTEND), cuts=CUTS)
def test_the_lead_is_what_is_left_of_a_message_begun_earlier(
    messages: list[Message], cuts: list[int]
) -> None:
    framer, seen = Framer(FRONTEND_LOOK, FRONTEND), Seen()
    stream = encoded(messages)
    for piece in cut(stream, cuts):
        seen.feed(framer, piece)
    for start, stop in seen.leads:
        assert any(begin < start and stop <= end for _, begin, end in spans(messages))


@settings(deadline=None)
@given(messages=messages_for(FRONTEND), cuts=CUTS, looks=st.lists(st.sampled_from(CLIENT_LOOKS)))
def test_a_look_table_may_be_switched_between_any_two_chunks(
    messages: list[Message], cuts: list[int], looks: list[tuple[int, ...]]
) -> None:
    framer, seen = Framer(FRONTEND_LOOK, FRONTEND), Seen()
    stream = encoded(messages)
    for at, piece in enumerate(cut(stream, cuts)):
        framer.look = looks[at % len(looks)] if looks else FRONTEND_LOOK_IDLE
        seen.feed(framer, piece)

    expected = spans(messages)
    assert seen.forwarded == stream
    assert [span for span in seen.reported if span not in expected] == []
    unseen = {tag for tag, start, stop in expected if (tag, start, stop) not in seen.reported}
    assert unseen <= {tags.COPY_DATA}, "only COPY data is run over"


@pytest.mark.parametrize("name", LOOKS)
@settings(deadline=None)
@given(stream=st.binary(max_size=200), cuts=CUTS)
def test_nonsense_gives_nothing_but_a_protocol_error(name: str, stream: bytes, cuts: list[int]) -> None:
    look, caps = LOOKS[name]
    framer, collector = Framer(look, caps), Collector(caps)
    try:
        for piece in cut(stream, cuts):
            framer.feed(piece)
            collector.feed(piece)
            while collector.next() is not None:
                pass
    except ProtocolError:
        pass


def test_an_undisturbed_chunk_is_the_very_object_received() -> None:
    framer = Framer(BACKEND_LOOK, BACKEND)
    data = encoded([(tags.DATA_ROW, b"x" * 50)] * 3)

    framer.feed(data)

    assert framer.buffer is data
    assert framer.end == len(data)


def test_a_message_that_is_run_over_is_not_reported() -> None:
    framer = Framer(BACKEND_LOOK, BACKEND)
    rows = encoded([(tags.DATA_ROW, b"one"), (tags.DATA_ROW, b"two")])
    done = encoded([(tags.COMMAND_COMPLETE, b"SELECT 2\0")])

    assert framer.feed(rows + done) == [(tags.COMMAND_COMPLETE, len(rows), len(rows + done))]


@pytest.mark.parametrize("odd", [None, 0, 7, 60, 61, 62])
def test_rows_of_one_length_are_run_over_however_many_there_are(odd: int | None) -> None:
    row, other = wire.message(tags.DATA_ROW, b"12345678"), wire.message(tags.DATA_ROW, b"1234")
    ready = wire.message(tags.READY_FOR_QUERY, b"I")
    for count in range(400):
        rows = [row] * count
        if odd is not None and odd < count:
            rows[odd] = other
        stream = b"".join(rows)
        assert Framer(BACKEND_LOOK, BACKEND).feed(stream + ready) == [
            (tags.READY_FOR_QUERY, len(stream), len(stream) + 6)
        ]
        framer = Framer(BACKEND_LOOK, BACKEND)
        assert framer.feed(stream + row[:6]) == []
        assert (framer.end, framer.streaming) == (len(stream) + 6, True)


def test_the_beginning_of_a_row_is_forwarded_as_it_comes() -> None:
    framer = Framer(BACKEND_LOOK, BACKEND)
    row = wire.message(tags.DATA_ROW, b"x" * 1000)

    assert framer.feed(row[:10]) == []
    assert (framer.end, framer.streaming, framer.whole) == (10, True, False)

    assert framer.feed(row[10:500]) == []
    assert (framer.end, framer.lead, framer.streaming) == (490, 490, True)

    ready = wire.message(tags.READY_FOR_QUERY, b"I")
    assert framer.feed(row[500:] + ready) == [(tags.READY_FOR_QUERY, 505, 511)]
    assert (framer.lead, framer.end, framer.whole) == (505, 511, True)


def test_half_a_header_is_held_back() -> None:
    framer = Framer(BACKEND_LOOK, BACKEND)
    row = wire.message(tags.DATA_ROW, b"x" * 10)

    for at in range(4):
        assert framer.feed(row[at : at + 1]) == []
        assert framer.end == 0
        assert not framer.whole
    framer.feed(row[4:])
    assert framer.buffer[: framer.end] == row


def test_a_small_message_is_reported_when_it_is_whole() -> None:
    framer = Framer(BACKEND_LOOK, BACKEND)
    ready = wire.message(tags.READY_FOR_QUERY, b"T")

    assert framer.feed(ready[:5]) == []
    assert framer.end == 0
    assert framer.feed(ready[5:]) == [(tags.READY_FOR_QUERY, 0, 6)]
    assert framer.buffer == ready


def test_a_long_error_is_reported_when_its_head_is_there_and_the_rest_streams() -> None:
    framer = Framer(BACKEND_LOOK, BACKEND)
    error = wire.message(tags.ERROR_RESPONSE, b"S" * 5000)

    assert framer.feed(error[: HEADER + ERROR_HEAD - 1]) == []
    assert framer.end == 0
    assert framer.feed(error[HEADER + ERROR_HEAD - 1 : 200]) == [(tags.ERROR_RESPONSE, 0, 5005)]
    assert framer.end == 200
    assert framer.feed(error[200:]) == []
    assert framer.lead == framer.end == 4805


def test_a_client_without_a_server_is_heard_once_enough_of_its_query_is_there() -> None:
    framer = Framer(FRONTEND_LOOK_IDLE, FRONTEND)
    query = wire.message(tags.QUERY, b"q" * (BORROW_HEAD + 100))

    assert framer.feed(query[: HEADER + BORROW_HEAD - 1]) == []
    assert len(framer.feed(query[HEADER + BORROW_HEAD - 1 :][:1])) == 1


def test_half_a_short_query_borrows_no_server() -> None:
    framer = Framer(FRONTEND_LOOK_IDLE, FRONTEND)
    query = wire.message(tags.QUERY, b"select 1\0")

    assert framer.feed(query[:-1]) == []
    assert framer.feed(query[-1:]) == [(tags.QUERY, 0, len(query))]


@pytest.mark.parametrize("length", [0, 1, 2, 3])
@pytest.mark.parametrize("name", LOOKS)
def test_a_length_below_four_is_malformed_for_every_tag(name: str, length: int) -> None:
    look, caps = LOOKS[name]
    for tag in (tag for tag in range(256) if caps[tag]):
        with pytest.raises(MalformedMessage, match="bad packet header"):
            Framer(look, caps).feed(bytes((tag,)) + length.to_bytes(4, "big"))


@pytest.mark.parametrize("length", [0x7FFFFFFE, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("name", LOOKS)
def test_a_huge_length_is_refused_at_once_for_every_tag(name: str, length: int) -> None:
    look, caps = LOOKS[name]
    for tag in (tag for tag in range(256) if caps[tag]):
        with pytest.raises((MessageTooLarge, MalformedMessage)):
            Framer(look, caps).feed(bytes((tag,)) + length.to_bytes(4, "big"))


@pytest.mark.parametrize(("tag", "cap"), [*FRONTEND_CAPS.items(), *BACKEND_CAPS.items()])
def test_a_length_may_reach_its_cap_and_not_one_byte_more(tag: int, cap: int) -> None:
    look, caps = (FRONTEND_LOOK, FRONTEND) if FRONTEND[tag] == cap else (BACKEND_LOOK, BACKEND)
    framer = Framer(look, caps)
    framer.feed(bytes((tag,)) + cap.to_bytes(4, "big"))

    with pytest.raises(ProtocolError):
        Framer(look, caps).feed(bytes((tag,)) + (cap + 1).to_bytes(4, "big"))


def test_a_cap_holds_within_a_row_of_messages_of_one_kind_too() -> None:
    rows = encoded([(tags.DATA_ROW, b"row")] * 100)
    bad = bytes((tags.DATA_ROW,)) + (LARGE + 1).to_bytes(4, "big")

    with pytest.raises(MessageTooLarge):
        Framer(BACKEND_LOOK, BACKEND).feed(rows + bad)
    with pytest.raises(MalformedMessage):
        Framer(BACKEND_LOOK, BACKEND).feed(rows + bytes((tags.DATA_ROW, 0, 0, 0, 3)))


@pytest.mark.parametrize(("caps", "known"), [(FRONTEND, FRONTEND_CAPS), (BACKEND, BACKEND_CAPS)])
def test_a_tag_that_may_not_come_is_refused_by_its_number(
    caps: tuple[int, ...], known: dict[int, int]
) -> None:
    for tag in set(range(256)) - set(known):
        with pytest.raises(UnexpectedMessage, match=f"unknown pkt: message type {tag}") as caught:
            Framer(FRONTEND_LOOK, caps).feed(bytes((tag, 0, 0, 0, 4)))
        assert caught.value.sqlstate == "08P01"


def test_a_tag_that_may_not_come_is_refused_before_its_length_is_there() -> None:
    framer = Framer(FRONTEND_LOOK, FRONTEND)
    framer.feed(wire.message(tags.SYNC, b""))
    with pytest.raises(UnexpectedMessage, match="message type 126"):
        framer.feed(b"~")


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (b"S\0\0\0\x03", MalformedMessage),
        (b"D\x7f\xff\xff\xff", MessageTooLarge),
        (b"~\0\0\0\x04rest", UnexpectedMessage),
        (b"~", UnexpectedMessage),
    ],
)
def test_what_precedes_a_fault_is_looked_at_first(bad: bytes, error: type[ProtocolError]) -> None:
    framer = Framer(FRONTEND_LOOK, FRONTEND)
    query = wire.message(tags.QUERY, b"select 1\0")

    assert framer.feed(query + bad) == [(tags.QUERY, 0, len(query))]
    assert framer.buffer[: framer.end] == query
    assert isinstance(framer.fault, error)
    for more in (b"", query):
        with pytest.raises(error):
            framer.feed(more)


def test_a_fault_behind_nothing_to_look_at_is_raised_at_once() -> None:
    framer = Framer(FRONTEND_LOOK_COPY, FRONTEND)
    with pytest.raises(UnexpectedMessage):
        framer.feed(wire.message(tags.COPY_DATA, b"1\n") * 9 + b"~")


def test_a_setting_lowers_the_caps_of_large_messages_only() -> None:
    caps = frontend_caps(50_000)

    assert caps[tags.QUERY] == caps[tags.BIND] == 50_000
    assert caps[tags.SYNC] == SMALL
    assert frontend_caps(1)[tags.QUERY] == SMALL


def test_the_simple_query_can_be_forbidden() -> None:
    framer = Framer(FRONTEND_LOOK_IDLE, frontend_caps(simple_query=False))
    framer.feed(wire.message(tags.SYNC, b""))
    with pytest.raises(UnexpectedMessage, match="PQexec disallowed") as caught:
        framer.feed(wire.message(tags.QUERY, b"select 1\0"))
    assert caught.value.sqlstate == "0A000"


@pytest.mark.parametrize("caps", [BACKEND, LOGIN_CAPS, SERVER_LOGIN_CAPS])
def test_only_who_has_logged_in_is_told_that_the_simple_query_is_forbidden(caps: tuple[int, ...]) -> None:
    for data in (b"Q", b"Q\0\0\0\4"):
        with pytest.raises(UnexpectedMessage, match="unknown pkt: message type 81") as caught:
            Framer(FRONTEND_LOOK, caps).feed(data)
        assert caught.value.sqlstate == "08P01"


def test_an_error_about_a_server_quotes_nothing_behind_the_header() -> None:
    for caps, quoted in ((BACKEND, "4300000003"), (FRONTEND, "4300000003736563")):
        with pytest.raises(MalformedMessage, match=f"bad packet header: '{quoted}'"):
            Framer(FRONTEND_LOOK, caps).feed(b"C\0\0\0\3secret")


def test_replication_copy_is_no_reply_a_server_may_send() -> None:
    assert BACKEND[tags.COPY_BOTH_RESPONSE] == 0


def test_an_error_about_a_header_quotes_it_in_hexadecimal() -> None:
    with pytest.raises(MalformedMessage, match="bad packet header: '5300000003'"):
        Framer(FRONTEND_LOOK, FRONTEND).feed(b"S\0\0\0\x03")


def test_too_large_is_told_with_the_limit() -> None:
    with pytest.raises(MessageTooLarge, match=f"20000 bytes, limit {SMALL}"):
        Framer(FRONTEND_LOOK, FRONTEND).feed(b"E" + (20_000).to_bytes(4, "big"))


def test_a_message_of_almost_a_gigabyte_streams_without_being_collected() -> None:
    framer = Framer(FRONTEND_LOOK_IDLE, FRONTEND)
    head = bytes((tags.QUERY,)) + LARGE.to_bytes(4, "big")
    assert framer.feed(head) == []

    chunk = b"x" * (1 << 20)
    assert framer.feed(chunk) == [(tags.QUERY, 0, LARGE + 1)]
    left = LARGE - 4 - len(chunk)
    while left:
        piece = chunk[: min(left, len(chunk))]
        assert framer.feed(piece) == []
        assert framer.end == len(piece)
        assert framer.buffer is piece or len(piece) < len(chunk)
        left -= len(piece)
    assert framer.whole


@pytest.mark.parametrize("name", [name for name in dir(module) if name.endswith("_CAPS")])
def test_no_cap_allows_more_than_postgresql_does(name: str) -> None:
    table = getattr(module, name)
    caps = table.values() if isinstance(table, dict) else table
    assert max(caps) <= LARGE


def test_only_messages_of_limited_size_are_reported_whole() -> None:
    for look, caps in LOOKS.values():
        assert [tag for tag in range(256) if look[tag] == WHOLE and caps[tag] > 1 << 20] == []

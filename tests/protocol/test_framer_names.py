"""What is looked at where names of prepared statements are replaced."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import tags
from protocol.framer import Framer
from protocol.looks import (
    BACKEND,
    BACKEND_LOOK,
    BACKEND_LOOK_NAMES,
    BORROW_HEAD,
    FRONTEND_LOOK,
    FRONTEND_LOOK_COPY,
    FRONTEND_LOOK_IDLE,
    FRONTEND_LOOK_NAMES,
    FRONTEND_LOOK_NAMES_COPY,
    FRONTEND_LOOK_NAMES_IDLE,
    HEADER,
    LONG_NAMES,
    NAMED_MOST,
    NAMES_HEAD,
    NAMES_WHOLE,
    RUN,
    SHORT_MOST,
    frontend_caps,
)
from tests.protocol.streams import CUTS, Message, cut, encoded, messages_for
from tests.support import messages as m

FRONTEND = frontend_caps()
LOOKS = {
    "with a server": (FRONTEND_LOOK_NAMES, FRONTEND_LOOK, FRONTEND),
    "without a server": (FRONTEND_LOOK_NAMES_IDLE, FRONTEND_LOOK_IDLE, FRONTEND),
    "in COPY": (FRONTEND_LOOK_NAMES_COPY, FRONTEND_LOOK_COPY, FRONTEND),
    "of a server": (BACKEND_LOOK_NAMES, BACKEND_LOOK, BACKEND),
}
CLIENT_LOOKS = [FRONTEND_LOOK_NAMES, FRONTEND_LOOK_NAMES_IDLE, FRONTEND_LOOK_NAMES_COPY]


def reported(framer: Framer, data: bytes) -> list[int]:
    """Tags of the messages that are to be looked at."""
    return [tag for tag, _, _ in framer.feed(data)]


def first_reported(look: tuple[int, ...], message: bytes) -> int:
    """How many bytes of a message have to be there before it is looked at."""
    low, high = 1, len(message)
    while low < high:
        middle = (low + high) // 2
        if Framer(look, FRONTEND).feed(message[:middle]):
            high = middle
        else:
            low = middle + 1
    return low


@pytest.mark.parametrize("name", LOOKS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_cutting_gives_the_same_bytes_and_the_messages_that_are_looked_at_anyway(
    name: str, data: st.DataObject
) -> None:
    look, plain, caps = LOOKS[name]
    messages: list[Message] = data.draw(messages_for(caps))
    stream = encoded(messages)
    framer = Framer(look, caps)
    forwarded, seen = b"", []
    for piece in cut(stream, data.draw(CUTS)):
        seen += reported(framer, piece)
        forwarded += framer.buffer[: framer.end]
    assert forwarded == stream
    assert seen == [tag for tag, _ in messages if plain[tag] != RUN]


@pytest.mark.parametrize("look", CLIENT_LOOKS)
def test_a_named_parse_is_looked_at_when_it_is_whole(look: tuple[int, ...]) -> None:
    parse = m.parse("name", "select " + "x" * (BORROW_HEAD + 100))
    assert first_reported(look, parse) == len(parse)


@pytest.mark.parametrize("look", CLIENT_LOOKS)
def test_an_unnamed_parse_is_looked_at_once_enough_of_it_is_there(look: tuple[int, ...]) -> None:
    parse = m.parse("", "select " + "x" * (BORROW_HEAD + 100))
    assert first_reported(look, parse) == HEADER + BORROW_HEAD
    short = m.parse("", "select 1")
    assert first_reported(look, short) == len(short)


@pytest.mark.parametrize("look", CLIENT_LOOKS)
@pytest.mark.parametrize("more", [0, 1])
def test_a_parse_of_more_than_anybody_writes_is_not_collected(look: tuple[int, ...], more: int) -> None:
    length = NAMED_MOST + more
    start = m.message_claiming(b"P", length, m.string("name") + b"x" * BORROW_HEAD)
    assert reported(Framer(look, FRONTEND), start) == ([tags.PARSE] if more else [])


@pytest.mark.parametrize("look", [FRONTEND_LOOK_NAMES, FRONTEND_LOOK_NAMES_COPY])
def test_a_short_query_is_looked_at_when_it_is_whole_and_a_long_one_by_its_header(
    look: tuple[int, ...],
) -> None:
    short = m.query("x" * (SHORT_MOST - 5))
    assert first_reported(look, short) == len(short)
    long = m.query("x" * (SHORT_MOST - 4))
    assert first_reported(look, long) == HEADER


@pytest.mark.parametrize("look", [FRONTEND_LOOK_NAMES, FRONTEND_LOOK_NAMES_COPY])
def test_a_bind_is_looked_at_once_its_names_are_there(look: tuple[int, ...]) -> None:
    bind = m.bind("p", "name", ["x" * 5000])
    assert first_reported(look, bind) == HEADER + len("p") + 1 + len("name") + 1
    endless = m.bind("", "n" * (LONG_NAMES + 1), [])
    assert first_reported(look, endless) == HEADER + LONG_NAMES


@pytest.mark.parametrize("look", CLIENT_LOOKS)
def test_describe_and_close_are_looked_at_when_they_are_whole(look: tuple[int, ...]) -> None:
    for message in (m.describe(b"S", "x" * 500), m.close(b"S", "x" * 500)):
        assert first_reported(look, message) == len(message)


def test_a_client_without_a_server_is_heard_once_enough_of_its_bind_or_query_is_there() -> None:
    for message in (m.bind("", "name", ["x" * 30_000]), m.query("x" * 30_000)):
        assert first_reported(FRONTEND_LOOK_NAMES_IDLE, message) == HEADER + BORROW_HEAD


def test_copy_data_is_forwarded_unseen_where_it_is_without_names() -> None:
    assert reported(Framer(FRONTEND_LOOK_NAMES_COPY, FRONTEND), m.copy_data(b"1\n") + m.sync()) == [tags.SYNC]
    assert reported(Framer(FRONTEND_LOOK_NAMES, FRONTEND), m.copy_data(b"1\n")) == [tags.COPY_DATA]


def test_of_a_server_s_error_enough_is_looked_at_to_find_the_names_in_it() -> None:
    error = m.error_response("26000", "x" * 5000)
    framer = Framer(BACKEND_LOOK_NAMES, BACKEND)
    assert reported(framer, error[: HEADER + NAMES_HEAD - 1]) == []
    assert reported(framer, error[HEADER + NAMES_HEAD - 1 :][:1]) == [tags.ERROR_RESPONSE]


@pytest.mark.parametrize("tag", [b"T", b"t"])
def test_a_description_is_looked_at_whole(tag: bytes) -> None:
    body = b"x" * (NAMES_WHOLE - 1)
    framer = Framer(BACKEND_LOOK_NAMES, BACKEND)
    description = m.message(tag, body)
    assert reported(framer, description[:-1]) == []
    assert reported(framer, description[-1:]) == [tag[0]]

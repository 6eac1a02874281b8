import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol import tags
from protocol.errors import MalformedMessage, MessageTooLarge, UnexpectedMessage
from protocol.framer import Collector
from protocol.looks import BACKEND, LOGIN_CAPS, SERVER_LOGIN_CAPS, frontend_caps
from tests.protocol.streams import CUTS, Message, cut, encoded, messages_for

FRONTEND = frontend_caps()


@pytest.mark.parametrize("caps", [FRONTEND, BACKEND])
@settings(deadline=None)
@given(data=st.data())
def test_a_collector_gives_the_same_messages_however_a_stream_is_cut(
    caps: tuple[int, ...], data: st.DataObject
) -> None:
    messages = data.draw(messages_for(caps))
    collector, got = Collector(caps), []
    for piece in cut(encoded(messages), data.draw(CUTS)):
        collector.feed(piece)
        while (message := collector.next()) is not None:
            got.append(message)

    assert got == messages
    assert collector.size == 0


@settings(deadline=None)
@given(messages=messages_for(FRONTEND), taken=st.integers(0, 20), extra=st.binary(max_size=4))
@example(messages=[], taken=0, extra=b"")
def test_what_a_collector_has_not_cut_can_be_taken_as_it_came(
    messages: list[Message], taken: int, extra: bytes
) -> None:
    collector = Collector(FRONTEND)
    collector.feed(encoded(messages) + extra)
    for _ in range(min(taken, len(messages))):
        assert collector.next() is not None

    rest = encoded(messages[taken:]) + extra
    assert collector.size == len(rest)
    assert collector.rest() == rest
    assert collector.size == 0
    assert collector.next() is None


def test_a_collector_refuses_a_tag_at_its_first_byte() -> None:
    collector = Collector(LOGIN_CAPS)
    collector.feed(b"Q")
    with pytest.raises(UnexpectedMessage):
        collector.next()


def test_a_collector_refuses_a_length_before_the_body_comes() -> None:
    collector = Collector(LOGIN_CAPS)
    collector.feed(b"p" + (65_536).to_bytes(4, "big"))
    with pytest.raises(MessageTooLarge):
        collector.next()


@pytest.mark.parametrize("length", [0, 3])
def test_a_collector_refuses_an_impossible_length(length: int) -> None:
    collector = Collector(frontend_caps(1 << 20))
    collector.feed(b"Q" + length.to_bytes(4, "big"))
    with pytest.raises(MalformedMessage):
        collector.next()


def test_a_collector_waits_for_a_known_tag_s_length() -> None:
    collector = Collector(SERVER_LOGIN_CAPS)
    collector.feed(b"R\0\0")
    assert collector.next() is None
    collector.feed(b"\0\x08\0\0\0")
    assert collector.next() is None
    collector.feed(b"\0")
    assert collector.next() == (tags.AUTHENTICATION, b"\0\0\0\0")

from collections.abc import Generator

import pytest

from protocol import tags
from protocol.errors import ProtocolError
from protocol.framer import Collector
from protocol.login import Derive, Reply, Step
from protocol.looks import LOGIN_CAPS
from proxy.talk import Talk
from tests.support import messages as m

WISH = Derive(b"secret", b"salt", 1)
FIRST, SECOND = m.password("one"), m.password("two")


def talk(conversation: Generator[Step, Reply, str]) -> tuple[Talk[str], Collector]:
    collector = Collector(LOGIN_CAPS)
    return Talk(conversation, collector), collector


def two_questions() -> Generator[Step, Reply, str]:
    first = yield b"first?"
    second = yield b"second?"
    return f"{first!r} {second!r}"


def test_answers_are_given_as_soon_as_a_message_is_whole() -> None:
    said: list[bytes] = []
    one, _ = talk(two_questions())
    assert not one.go_on(said.append)
    assert not one.hear(FIRST[:4], said.append)
    assert said == [b"first?"]
    assert not one.hear(FIRST[4:], said.append)
    assert said == [b"first?", b"second?"]
    assert one.hear(SECOND, said.append)
    assert one.over
    assert one.result == f"{(tags.PASSWORD, b'one' + bytes(1))!r} {(tags.PASSWORD, b'two' + bytes(1))!r}"


def test_what_was_heard_before_counts() -> None:
    one, collector = talk(two_questions())
    collector.feed(FIRST + SECOND)
    assert one.go_on(lambda _: None)
    assert one.over


def test_a_key_is_waited_for() -> None:
    def conversation() -> Generator[Step, Reply, str]:
        yield b""
        key = yield WISH
        answer = yield b"so"
        return f"{key!r} {answer!r}"

    said: list[bytes] = []
    one, _ = talk(conversation())
    assert not one.go_on(said.append)
    assert one.hear(FIRST, said.append)
    assert (one.over, one.wanted) == (False, WISH)
    one.derived(b"key")
    assert not one.go_on(said.append)
    assert said == [b"so"]
    assert one.hear(SECOND, said.append)
    assert one.result.startswith("b'key'")


def test_what_goes_wrong_while_hearing_is_kept_for_the_task() -> None:
    one, _ = talk(two_questions())
    one.go_on(lambda _: None)
    assert one.hear(m.query("select 1"), lambda _: None)
    assert isinstance(one.error, ProtocolError)
    assert not one.over


def test_what_goes_wrong_while_going_on_is_raised() -> None:
    def conversation() -> Generator[Step, Reply, str]:
        raise ProtocolError("no")
        yield b""

    one, _ = talk(conversation())
    with pytest.raises(ProtocolError, match="no"):
        one.go_on(lambda _: None)

"""Frames: whole messages whatever the cuts, each with its own descriptors, and nothing foreign."""

import os
import pickle
import re
import socket
import struct
import sys
from dataclasses import dataclass

import pytest

from config.loading import load
from config.settings import Settings
from proxy import frames
from proxy.control import Pause, Shutdown, ShutdownMode
from proxy.frames import Frames, LinkLost, encode


@dataclass(frozen=True, slots=True)
class Foreign:
    """A class of the tests, which are not ours."""


def feed(data: bytes) -> list[object]:
    return [message for message, _ in Frames().feed(data, [], False)]


@pytest.mark.parametrize(
    "message",
    [
        None,
        {"a": [1, 2.5, b"x"], "b": (True, frozenset({1}))},
        Pause("app"),
        Shutdown(ShutdownMode.WAIT_FOR_CLIENTS),
        re.compile("^a+$"),
    ],
)
def test_plain_data_and_classes_of_ours_arrive_as_they_were(message: object) -> None:
    assert feed(encode(message)) == [message]


def test_settings_arrive_as_they_were(tmp_path: "os.PathLike[str]") -> None:
    path = os.path.join(tmp_path, "howdah.toml")
    with open(path, "w") as file:
        file.write(
            "[howdah]\nauth_type = 'any'\n[databases.app]\nhost = '10.0.0.5'\n[users.a]\npool_size = 3\n"
        )
    settings = load(path)
    (arrived,) = feed(encode(settings))
    assert isinstance(arrived, Settings)
    assert arrived == settings


class Call:
    def __init__(self, function: object, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize(
    "message",
    [
        Foreign(),
        Call(os.system, "true"),
        Call(eval, "1"),
        Call(frames.close_all, []),
        Call(getattr, 1, "real"),
    ],
)
def test_nothing_foreign_is_unpickled(message: object) -> None:
    with pytest.raises(LinkLost):
        feed(encode(message))


def test_no_module_is_imported_for_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "proxy.__main__", raising=False)
    body = b"\x80\x04\x8c\x0eproxy.__main__\x8c\x04main\x93."
    with pytest.raises(LinkLost, match="is not sent between"):
        feed(struct.pack("!IB", len(body), 0) + body)
    assert "proxy.__main__" not in sys.modules


def test_a_dotted_name_does_not_lead_out_of_a_module_of_ours() -> None:
    body = b"\x80\x04\x8c\x0cproxy.frames\x8c\x09os.system\x93."
    with pytest.raises(LinkLost):
        feed(struct.pack("!IB", len(body), 0) + body)


def test_what_is_no_pickle_is_a_lost_link() -> None:
    with pytest.raises(LinkLost, match="cannot be read"):
        feed(struct.pack("!IB", 3, 0) + b"abc")


def test_a_frame_that_is_too_long_is_a_lost_link() -> None:
    with pytest.raises(LinkLost, match="268435457"):
        feed(struct.pack("!IB", frames.MAX_FRAME + 1, 0))


def test_a_message_with_too_many_descriptors_is_not_made() -> None:
    with pytest.raises(ValueError, match="too large"):
        encode("x", frames.MAX_DESCRIPTORS + 1)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_any_cut_gives_the_same_messages(size: int) -> None:
    data = b"".join(encode(number) for number in range(20))
    cutter = Frames()
    came = []
    for at in range(0, len(data), size):
        came += [message for message, _ in cutter.feed(data[at : at + size], [], False)]
    assert came == list(range(20))


def pipe_over(count: int) -> tuple[list[int], list[int]]:
    """Descriptors of pipes: their reading and their writing ends."""
    pairs = [os.pipe() for _ in range(count)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def test_each_message_gets_its_own_descriptors_however_they_are_read() -> None:
    ours, theirs = socket.socketpair()
    reading, writing = pipe_over(3)
    with ours, theirs:
        frames.send_once(ours, encode("none"), [])
        frames.send_once(ours, encode("one", 1), reading[:1])
        frames.send_once(ours, encode("again none"), [])
        frames.send_once(ours, encode("two", 2), reading[1:])
        theirs.setblocking(False)
        cutter, came = Frames(), []
        while True:
            try:
                came += cutter.feed(*frames.receive_once(theirs))
            except BlockingIOError:
                break
    assert [(message, len(descriptors)) for message, descriptors in came] == [
        ("none", 0),
        ("one", 1),
        ("again none", 0),
        ("two", 2),
    ]
    for index, descriptor in enumerate([*came[1][1], *came[3][1]]):
        os.write(writing[index], b"%d" % index)
        assert os.read(descriptor, 9) == b"%d" % index
        assert not os.get_inheritable(descriptor)
        frames.close_all([descriptor, reading[index], writing[index]])


def test_a_message_whose_descriptors_had_no_room_comes_without_any_and_the_next_is_whole() -> None:
    cutter = Frames()
    reading, writing = pipe_over(2)
    came = cutter.feed(encode("lost", 2), reading[:1], True)
    came += cutter.feed(encode("found", 1), reading[1:], False)
    assert came == [("lost", ()), ("found", (reading[1],))]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading[0])
    frames.close_all([reading[1], *writing])


def test_a_message_without_the_descriptors_it_announces_is_a_lost_link() -> None:
    with pytest.raises(LinkLost, match="without its descriptors"):
        Frames().feed(encode("x", 1), [], False)


@pytest.mark.parametrize("nonsense", [b"\xff" * 9, frames._HEADER.pack(3, 0) + b"abc", encode("y", 1)])
def test_what_came_in_the_same_read_before_nonsense_leaves_no_descriptor_open(nonsense: bytes) -> None:
    cutter = Frames()
    reading, writing = pipe_over(2)
    cutter.feed(encode("x", 1)[:3], reading[:1], False)
    with pytest.raises(LinkLost):
        cutter.feed(encode("x", 1)[3:] + encode("z") + nonsense, [], False)
    with pytest.raises(LinkLost):
        Frames().feed(b"\xff" * 9, reading[1:], False)
    for descriptor in reading:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    frames.close_all(writing)


def test_closing_closes_descriptors_nobody_will_get() -> None:
    cutter = Frames()
    reading, writing = pipe_over(1)
    cutter.feed(encode("x", 1)[:4], reading, False)
    cutter.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading[0])
    frames.close_all([*reading, *writing])


def test_a_frame_is_pickled_with_protocol_5() -> None:
    assert encode([])[5:7] == pickle.PROTO + b"\x05"

"""The link: nothing is lost, mixed or waited for, whatever the kernel takes; questions get their answers."""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from proxy import frames, link
from proxy.control import Disable, Enable, Pause, Reload, Resume
from proxy.frames import close_all
from proxy.link import CallFailed, Calls, Link, LinkLost

pytestmark = pytest.mark.both_loops

DEADLINE = 5


class End:
    """One end of a link, and what came over it."""

    def __init__(self, sock: socket.socket) -> None:
        self.messages: list[object] = []
        self.descriptors: list[tuple[int, ...]] = []
        self.losses = 0
        self.news = asyncio.Event()
        self.link = Link(sock, self.receive, self.lost)
        self.calls = Calls(self.link)

    def receive(self, message: object, descriptors: tuple[int, ...]) -> None:
        if not self.calls.receive(message):
            self.messages.append(message)
            self.descriptors.append(descriptors)
        self.news.set()

    def lost(self) -> None:
        self.losses += 1
        self.calls.lost()
        self.news.set()

    async def wait_for(self, count: int) -> list[object]:
        async with asyncio.timeout(DEADLINE):
            while len(self.messages) < count:
                self.news.clear()
                await self.news.wait()
        return self.messages

    async def wait_for_loss(self) -> None:
        async with asyncio.timeout(DEADLINE):
            while not self.losses:
                self.news.clear()
                await self.news.wait()


@dataclass
class Pair:
    here: End
    there: End
    raw: socket.socket
    """The socket of the other end, for what no link would send."""


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    ours, theirs = socket.socketpair()
    pair = Pair(End(ours), End(theirs), theirs)
    pair.here.link.start()
    yield pair
    pair.here.link.close()
    pair.there.link.close()


async def test_messages_arrive_in_order_in_both_directions(pair: Pair) -> None:
    pair.there.link.start()
    for number in range(100):
        pair.here.link.send(number)
        pair.there.link.send(-number)
    assert await pair.there.wait_for(100) == list(range(100))
    assert await pair.here.wait_for(100) == [-number for number in range(100)]


async def test_what_the_kernel_does_not_take_is_queued_and_sent_later(pair: Pair) -> None:
    large = b"x" * 3_000_000
    pair.here.link.send(large)
    pair.here.link.send("behind")
    assert pair.here.link.unsent > 2_000_000
    pair.there.link.start()
    assert await pair.there.wait_for(2) == [large, "behind"]
    assert pair.here.link.unsent == 0


async def test_queued_descriptors_may_be_closed_by_the_sender_and_arrive_nevertheless(pair: Pair) -> None:
    pair.here.link.send(b"x" * 1_000_000)
    ends = []
    for number in range(20):
        reading, writing = os.pipe()
        pair.here.link.send(number, [reading])
        os.close(reading)
        ends.append(writing)
    pair.there.link.start()
    await pair.there.wait_for(21)
    for number, (descriptor,) in enumerate(pair.there.descriptors[1:]):
        os.write(ends[number], b"%d" % number)
        assert os.read(descriptor, 9) == b"%d" % number
        close_all([descriptor, ends[number]])
    assert pair.there.messages[1:] == list(range(20))


async def test_closing_with_a_full_queue_leaves_no_descriptor_behind(pair: Pair) -> None:
    before = len(os.listdir("/proc/self/fd"))
    reading, writing = os.pipe()
    pair.here.link.send(b"x" * 1_000_000)
    pair.here.link.send("never", [reading])
    close_all([reading, writing])
    assert len(os.listdir("/proc/self/fd")) == before + 1
    pair.here.link.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert pair.here.link.unsent == 0


async def test_who_asks_hears_when_the_kernel_has_all_of_a_message(pair: Pair) -> None:
    taken: list[str] = []
    pair.here.link.send("small", taken=lambda: taken.append("small"))
    assert taken == ["small"]
    pair.here.link.send(bytes(1_000_000), taken=lambda: taken.append("large"))
    pair.here.link.send("behind it", taken=lambda: taken.append("behind it"))
    await asyncio.sleep(0)
    assert taken == ["small"]
    pair.there.link.start()
    await pair.there.wait_for(3)
    assert taken == ["small", "large", "behind it"]


async def test_nobody_hears_of_messages_that_were_never_taken(pair: Pair) -> None:
    taken: list[str] = []
    pair.here.link.send(bytes(1_000_000), taken=lambda: taken.append("large"))
    pair.here.link.close()
    pair.here.link.send("too late", taken=lambda: taken.append("too late"))
    await asyncio.sleep(0)
    assert taken == []


async def test_what_the_kernel_refuses_with_room_for_bytes_is_tried_now_and_then(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.2

    def send(sock: socket.socket, data: memoryview, descriptors: Sequence[int]) -> int:
        nonlocal tries
        tries += 1
        if loop.time() < until:
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))
        return frames.send_once(sock, data, descriptors)

    monkeypatch.setattr(link, "send_once", send)
    pair.there.link.start()
    with socket.socket() as file:
        pair.here.link.send("with a descriptor", [file.fileno()])
    pair.here.link.send("behind it")
    assert await pair.there.wait_for(2) == ["with a descriptor", "behind it"]
    close_all(pair.there.descriptors[0])
    assert tries <= 0.2 / link.RETRY + 4
    assert not pair.here.link.unsent


async def test_a_link_may_be_closed_while_it_waits_to_try_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = asyncio.Queue[int]()

    def refuse(*_: object) -> int:
        tries.put_nowait(1)
        raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))

    monkeypatch.setattr(link, "send_once", refuse)
    pair.here.link.send("never taken")
    async with asyncio.timeout(DEADLINE):
        for _ in range(3):
            await tries.get()
    pair.here.link.close()
    await asyncio.sleep(2 * link.RETRY)
    assert tries.empty()


async def test_descriptors_of_which_not_all_can_be_copied_leave_no_copy(pair: Pair) -> None:
    pair.here.link.send(bytes(10_000_000))
    with socket.socket() as file:
        before = len(os.listdir("/proc/self/fd"))
        # The second of them is none.
        with pytest.raises(OSError, match="Bad file descriptor"):
            pair.here.link.send("lost", [file.fileno(), -1])
        assert len(os.listdir("/proc/self/fd")) == before
    pair.there.link.start()
    pair.here.link.send("next")
    assert (await pair.there.wait_for(2))[1] == "next"


async def test_what_was_sent_before_the_start_arrives(pair: Pair) -> None:
    pair.there.link.send(b"x" * 1_000_000)
    pair.there.link.send("early")
    pair.there.link.start()
    assert (await pair.here.wait_for(2))[1] == "early"


async def test_the_end_of_the_other_process_is_a_loss_said_once_and_behind_its_last_words(pair: Pair) -> None:
    pair.there.link.send("last words")
    pair.there.link.close()
    await pair.here.wait_for_loss()
    pair.here.link.send("into the void")
    assert pair.here.messages == ["last words"]
    assert pair.here.losses == 1
    assert pair.here.link.failure is None
    assert pair.there.losses == 0


async def test_an_end_that_has_left_something_unread_is_no_failure(pair: Pair) -> None:
    pair.here.link.send("unread")
    pair.raw.close()
    await pair.here.wait_for_loss()
    assert pair.here.link.failure is None


async def test_nonsense_is_a_loss_with_its_reason(pair: Pair) -> None:
    pair.raw.send(struct.pack("!IB", 2**32 - 1, 0))
    await pair.here.wait_for_loss()
    assert "4294967295" in str(pair.here.link.failure)


async def test_messages_behind_the_one_at_which_a_link_was_closed_are_dropped(pair: Pair) -> None:
    reading, writing = os.pipe()
    pair.there.link.send("end")
    pair.there.link.send("late", [reading])
    os.close(reading)
    closing = pair.here.link.close
    receive = pair.here.receive

    def receive_and_close(message: object, descriptors: tuple[int, ...]) -> None:
        receive(message, descriptors)
        closing()

    pair.here.link._receive = receive_and_close
    assert await pair.here.wait_for(1) == ["end"]
    # The descriptor on its way was closed with the link: nobody can read the pipe any more.
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)


async def test_a_question_gets_its_own_answer(pair: Pair) -> None:
    pair.there.link.start()

    async def later(question: Pause) -> object:
        await asyncio.sleep(0)
        return question.database

    pair.there.calls.answerers = {Pause: later, Resume: lambda question: question.database}
    answers = await asyncio.gather(
        pair.here.calls.ask(Pause("a")), pair.here.calls.ask(Resume("b")), pair.here.calls.ask(Pause("c"))
    )
    assert list(answers) == ["a", "b", "c"]


async def test_a_question_that_cannot_be_answered_fails_with_the_reason(pair: Pair) -> None:
    pair.there.link.start()

    def at_once(question: Enable) -> object:
        raise ValueError("not today")

    async def later(question: Disable) -> object:
        raise ValueError

    pair.there.calls.answerers = {Enable: at_once, Disable: later}
    with pytest.raises(CallFailed, match="not today"):
        await pair.here.calls.ask(Enable())
    with pytest.raises(CallFailed, match="ValueError"):
        await pair.here.calls.ask(Disable())
    with pytest.raises(CallFailed, match="nobody answers Reload"):
        await pair.here.calls.ask(Reload())


async def test_a_question_withdrawn_is_not_worked_on_any_more(pair: Pair) -> None:
    pair.there.link.start()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def forever(question: Pause) -> object:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return None

    pair.there.calls.answerers = {Pause: forever}
    asking = asyncio.ensure_future(pair.here.calls.ask(Pause()))
    async with asyncio.timeout(DEADLINE):
        await begun.wait()
        asking.cancel()
        await ended.wait()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_lost_link_answers_every_question_by_its_loss(pair: Pair) -> None:
    asking = asyncio.ensure_future(pair.here.calls.ask(Pause()))
    await asyncio.sleep(0)
    pair.there.link.close()
    with pytest.raises(LinkLost):
        await asking
    with pytest.raises(LinkLost):
        await pair.here.calls.ask(Pause())


async def test_a_lost_link_stops_the_work_on_its_questions(pair: Pair) -> None:
    ended = asyncio.Event()

    async def forever(question: object) -> object:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return None

    pair.here.calls.answerers = {Pause: forever}
    asking = asyncio.ensure_future(pair.there.calls.ask(Pause()))
    await asyncio.sleep(0)
    pair.there.link.send("behind the question")
    await pair.here.wait_for(1)
    await asyncio.sleep(0)
    pair.there.link.close()
    async with asyncio.timeout(DEADLINE):
        await ended.wait()
    asking.cancel()

"""Messages, and descriptors beside them, between the processes of one pooler.

Laws of this file: sending never blocks, what the kernel does not take is queued; once a link is lost it stays
lost. It knows no message but its own: questions and their answers.
"""

import asyncio
import inspect
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.frames import READ, Frames, LinkLost, close_all, encode, receive_once, send_once

__all__ = ["Answer", "Ask", "CallFailed", "Calls", "Link", "LinkLost", "Withdraw"]

READS: Final = 16
"""Reads in one turn of the loop at most."""
RETRY: Final = 0.01
"""When to try again where there is room for bytes, and the kernel takes none (s)."""


class CallFailed(Exception):
    """The other end could not answer a question; the text says why."""


@dataclass(slots=True)
class _Queued:
    """What is left of a message; its descriptors go with the first byte."""

    data: memoryview
    descriptors: tuple[int, ...]
    taken: Callable[[], None] | None


class Link:
    """One end of a connected AF_UNIX stream socket, on the running loop.

    `receive` gets each message and its descriptors, which are then its own to close, and none where there was
    no room for them; `lost` is called once, when the other end has gone or makes no sense, not after `close`.
    """

    def __init__(
        self,
        sock: socket.socket,
        receive: Callable[[object, tuple[int, ...]], None],
        lost: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self.unsent = 0
        self.failure: Exception | None = None
        """Why the link was lost, where it was more than the end of the other process."""
        self._sock = sock
        self._receive = receive
        self._lost = lost
        self._frames = Frames()
        self._early: deque[tuple[object, tuple[int, ...]]] = deque()
        self._queue: deque[_Queued] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False
        self._heard = 0

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._closed

    def wait(self) -> object:
        """Before the start: block until there is a message; None if the other end has gone."""
        self._sock.setblocking(True)
        try:
            while not self._early:
                data, descriptors, cut = receive_once(self._sock)
                if not data:
                    return None
                self._early.extend(self._frames.feed(data, descriptors, cut))
            return self._early.popleft()[0]
        except (LinkLost, OSError) as error:
            self.failure = error
            return None
        finally:
            self._sock.setblocking(False)

    def start(self) -> None:
        """Begin to read, and to write what was queued; a loop must be running."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._readable)
        if self._early:
            self._loop.call_soon(self._deliver_early)
        if self._queue:
            self._watch(self._loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_writer(self._sock.fileno(), self._writable)

    def send(
        self, message: object, descriptors: Sequence[int] = (), taken: Callable[[], None] | None = None
    ) -> None:
        """Send, or queue what the kernel does not take now. Descriptors stay the caller's to close.

        `taken` is called once the kernel has all of it: the other end can read it whatever becomes of us. On
        a lost link nothing happens: whoever waits for an effect hears of the loss. Raises OSError when a
        descriptor has to be queued and there is no room for its copy.
        """
        if self._closed:
            return
        data = memoryview(encode(message, len(descriptors)))
        if not self._queue:
            sent = self._try(data, descriptors)
            if sent == len(data):
                if taken is not None:
                    taken()
                return
            if sent:
                data, descriptors = data[sent:], ()
        self._queue.append(_Queued(data, _copies(descriptors), taken))
        self.unsent += len(data)
        if self._loop is not None and len(self._queue) == 1:
            self._watch(self._loop)

    def _try(self, data: memoryview, descriptors: Sequence[int]) -> int:
        try:
            return send_once(self._sock, data, descriptors)
        except OSError:
            # Full; or the other end has gone, which the reader will find.
            return 0

    def _writable(self) -> None:
        while self._queue:
            first = self._queue[0]
            sent = self._try(first.data, first.descriptors)
            if not sent:
                self._try_later()
                return
            close_all(first.descriptors)
            self.unsent -= sent
            first.data, first.descriptors = first.data[sent:], ()
            if first.data:
                return
            self._queue.popleft()
            if first.taken is not None:
                first.taken()
        if self._loop is not None:
            self._loop.remove_writer(self._sock.fileno())

    def _try_later(self) -> None:
        # The socket stays writable: it is the limit on descriptors on their way that was met, or memory.
        if self._loop is not None:
            self._loop.remove_writer(self._sock.fileno())
            self._retry = self._loop.call_later(RETRY, self._watch, self._loop)

    def _deliver_early(self) -> None:
        while self._early and not self._closed:
            self._receive(*self._early.popleft())

    def _readable(self) -> None:
        # What was read while waiting comes first.
        self._deliver_early()
        try:
            for _ in range(READS):
                if self._closed or not self._read():
                    return
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionResetError:
            # The other end is closed, with something of ours unread.
            self._end()
        except (LinkLost, OSError) as error:
            self.failure = error
            self._end()

    def _read(self) -> bool:
        """Read once and deliver; False when there is no more for now."""
        data, descriptors, cut = receive_once(self._sock)
        self._heard += len(data)
        if not data:
            close_all(descriptors)
            self._end()
            return False
        messages = self._frames.feed(data, descriptors, cut)
        for index, (message, theirs) in enumerate(messages):
            if self._closed:
                for _, left in messages[index:]:
                    close_all(left)
                return False
            self._receive(message, theirs)
        return len(data) == READ or bool(descriptors)

    def _end(self) -> None:
        if not self._closed:
            self.close()
            self._lost()

    def finish(self) -> None:
        """The other process has ended: take what it still had to say, and lose the link."""
        while not self._closed:
            before = self._heard
            self._readable()
            if self._heard == before:
                self._end()

    def close(self) -> None:
        """Close this end; what is still queued is dropped."""
        if self._closed:
            return
        self._closed = True
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
        if self._retry is not None:
            self._retry.cancel()
        self._sock.close()
        self._frames.close()
        for _, descriptors in self._early:
            close_all(descriptors)
        for queued in self._queue:
            close_all(queued.descriptors)
        self._early.clear()
        self._queue.clear()
        self.unsent = 0


def _copies(descriptors: Sequence[int]) -> tuple[int, ...]:
    """Copies of all of them, or of none. Raises OSError."""
    made = list[int]()
    try:
        for descriptor in descriptors:
            made.append(os.dup(descriptor))
    except OSError:
        close_all(made)
        raise
    return tuple(made)


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, answered by one `Answer` of the same number."""

    number: int
    body: object


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Who asked does not wait for the answer any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, or the reason why there is none."""

    number: int
    body: object
    failure: str | None = None


Answerer = Callable[[Any], object | Awaitable[object]]
"""Answers a question at once, or as a coroutine; what it raises is the text of CallFailed for who asked."""


class Calls:
    """Questions over a link, in both directions. `answerers` has a function for each type of question.

    Whoever owns the link gives each message to `receive` first and calls `lost` when the link is.
    """

    def __init__(self, link: Link, answerers: dict[type, Answerer] | None = None) -> None:
        self.answerers: dict[type, Answerer] = {} if answerers is None else answerers
        self._link = link
        self._last = 0
        self._asked: dict[int, asyncio.Future[object]] = {}
        self._answering: dict[int, asyncio.Future[object]] = {}

    async def ask(self, question: object) -> Any:
        """The other end's answer. Raises LinkLost, and CallFailed with the other end's reason.

        When cancelled, the other end stops working on it.
        """
        if self._link.closed:
            raise LinkLost("the other process has gone")
        self._last += 1
        number = self._last
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        self._link.send(Ask(number, question))
        try:
            return await future
        except asyncio.CancelledError:
            self._link.send(Withdraw(number))
            raise
        finally:
            del self._asked[number]

    def receive(self, message: object) -> bool:
        """Deal with a question or an answer; False for any other message."""
        match message:
            case Answer():
                self._answered(message)
            case Ask():
                self._question(message)
            case Withdraw():
                if (task := self._answering.get(message.number)) is not None:
                    task.cancel()
            case _:
                return False
        return True

    def _answered(self, answer: Answer) -> None:
        future = self._asked.get(answer.number)
        if future is None or future.done():
            return
        if answer.failure is None:
            future.set_result(answer.body)
        else:
            future.set_exception(CallFailed(answer.failure))

    def _question(self, ask: Ask) -> None:
        answerer = self.answerers.get(type(ask.body))
        if answerer is None:
            self._link.send(Answer(ask.number, None, f"nobody answers {type(ask.body).__name__}"))
            return
        try:
            answer = answerer(ask.body)
        except Exception as error:
            self._link.send(Answer(ask.number, None, str(error) or type(error).__name__))
            return
        if not inspect.isawaitable(answer):
            self._link.send(Answer(ask.number, answer))
            return
        task = asyncio.ensure_future(answer)
        self._answering[ask.number] = task
        task.add_done_callback(lambda done: self._answer_later(ask.number, done))

    def _answer_later(self, number: int, done: "asyncio.Future[object]") -> None:
        del self._answering[number]
        if done.cancelled():
            self._link.send(Answer(number, None, "the question was withdrawn"))
        elif (error := done.exception()) is not None:
            self._link.send(Answer(number, None, str(error) or type(error).__name__))
        else:
            self._link.send(Answer(number, done.result()))

    def lost(self) -> None:
        """The link is lost: nobody will answer, and nobody waits for answers of ours."""
        for future in self._asked.values():
            if not future.done():
                future.set_exception(LinkLost("the other process has gone"))
        for task in self._answering.values():
            task.cancel()

"""A login conversation on a connection, answered within the very callbacks that bring its messages.

To wake a task for each message would cost as much as the answer does. The task that drives it is woken once:
when all is said, or there is a key to derive.
"""

from collections.abc import Callable, Generator
from typing import Generic, TypeVar

from protocol.framer import Collector
from protocol.login import Derive, Reply, Step

T = TypeVar("T")


class Talk(Generic[T]):
    """`result` once it is `over`, or the `error` it ended with; `wanted` while a key is."""

    __slots__ = ("_collector", "_conversation", "_reply", "error", "over", "result", "wanted")

    result: T
    wanted: Derive

    def __init__(self, conversation: Generator[Step, Reply, T], collector: Collector) -> None:
        self._conversation = conversation
        self._collector = collector
        self._reply: Reply | None = None
        self.over = False
        self.error: Exception | None = None

    def failure(self) -> Exception:
        """The `error`, once: it holds the frames it went through, and they the client, so nobody keeps it."""
        error = self.error
        assert error is not None
        self.error = None
        return error

    def derived(self, key: bytes) -> None:
        """Here is the key that was wanted; `go_on` gives it to the conversation."""
        self._reply = key

    def go_on(self, write: Callable[[bytes], None]) -> bool:
        """Say and hear what can be; False when another message must come first."""
        reply, self._reply = self._reply, None
        try:
            step = next(self._conversation) if reply is None else self._conversation.send(reply)
            return self._follow(step, write)
        except StopIteration as end:
            self.result, self.over = end.value, True
        return True

    def hear(self, data: bytes, write: Callable[[bytes], None]) -> bool:
        """Something was received; as `go_on`. What goes wrong is kept in `error`."""
        try:
            self._collector.feed(data)
            message = self._collector.next()
            if message is None:
                return False
            return self._follow(self._conversation.send(message), write)
        except StopIteration as end:
            self.result, self.over = end.value, True
        except Exception as error:
            self.error = error
        return True

    def _follow(self, step: Step, write: Callable[[bytes], None]) -> bool:
        while not isinstance(step, Derive):
            if step:
                write(step)
            message = self._collector.next()
            if message is None:
                return False
            step = self._conversation.send(message)
        self.wanted = step
        return True

"""Drives a login conversation in a test: runs what it wants derived, remembers what it sent."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from protocol.conversation import Conversation, Reply, Step
from protocol.messages import Message
from protocol.scram import Derive

T = TypeVar("T")


class Talk(Generic[T]):
    """A conversation in progress: all that it `sent`, all that it had `derived`, whether it is `done`."""

    def __init__(self, conversation: Conversation[T]) -> None:
        self.sent: list[bytes] = []
        self.derived: list[Derive] = []
        self.done: bool = False
        self._conversation = conversation
        self._result: T | None = None
        self._advance(None)

    @property
    def result(self) -> T:
        """What the conversation returned."""
        assert self._result is not None, "the conversation goes on"
        return self._result

    @property
    def last(self) -> bytes:
        """What it sent last."""
        return self.sent[-1]

    def hear(self, *messages: Message) -> bytes:
        """Let it hear these messages; return what it sends after the last."""
        for message in messages:
            data = message.encode()
            self.hear_raw(data[0], data[5:])
        return self.last

    def hear_raw(self, tag: int, body: bytes) -> bytes:
        """Let it hear one message as tag and body; return what it sends then."""
        self._advance((tag, body))
        return self.last

    def _advance(self, reply: Reply | None) -> None:
        assert not self.done, "the conversation is over"
        try:
            step = self._send(reply)
            while isinstance(step, Derive):
                self.derived.append(step)
                step = self._send(step.run())
            self.sent.append(step)
        except StopIteration as end:
            self.done = True
            self._result = end.value

    def _send(self, reply: Reply | None) -> Step:
        return next(self._conversation) if reply is None else self._conversation.send(reply)


def bodies(data: bytes) -> list[tuple[int, bytes]]:
    """Split bytes into messages of tag and body."""
    messages = []
    while data:
        end = 1 + int.from_bytes(data[1:5], "big")
        messages.append((data[0], data[5:end]))
        data = data[end:]
    return messages


def tags_of(sent: Sequence[bytes]) -> bytes:
    """Return the tags of everything sent."""
    return bytes(tag for data in sent for tag, _ in bodies(data))

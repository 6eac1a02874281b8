"""Judging what a client has answered once more, by other secrets than it was asked with.

A secret that was remembered may have been changed since. Then the whole exchange is gone through again, as if
it had been begun with the new secret: if every question is the very same, the answers count.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from protocol.login import Conversation, Derive, Reply, Step

T = TypeVar("T")

Said = list[tuple[Step, Reply]]
"""What a client was sent, and what it answered."""


class AskedOtherwise(Exception):
    """With these secrets the client would have been asked something else: its answers prove nothing."""


def noted(conversation: Conversation[T], said: Said) -> Conversation[T]:
    """The same conversation; what is said in it is kept."""
    try:
        step = next(conversation)
        while True:
            reply = yield step
            if not isinstance(step, Derive):
                said.append((step, reply))
            step = conversation.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result


async def judged(
    conversation: Conversation[T], said: Said, derive: Callable[[Derive], Awaitable[bytes]]
) -> T:
    """What comes of a conversation in which the same is said. Raises AskedOtherwise, LoginFailed."""
    left = iter(said)
    try:
        step = next(conversation)
        while True:
            if isinstance(step, Derive):
                step = conversation.send(await derive(step))
                continue
            asked, reply = next(left, (None, b""))
            if asked != step:
                raise AskedOtherwise
            step = conversation.send(reply)
    except StopIteration as end:
        result: T = end.value
        return result

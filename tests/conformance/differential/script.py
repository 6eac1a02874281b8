"""What one client sends, message by message, where its stream is cut, and where it waits for replies.

Law: a script is plain data. Nothing random is left in it, so it can be played
again, shrunk and printed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from tests.support import messages as m
from tests.support.fault_proxy import Way
from tests.support.messages import Message
from tests.support.trace import lines_of


class Wait(IntEnum):
    """What the client does behind a message before it sends the next."""

    NO = 0
    REPLIES = 1
    """It reads every reply that must have come by now."""
    SILENCE = 2
    """And it listens for a moment whether more comes."""


@dataclass(frozen=True, slots=True)
class Step:
    """One message. `cuts`: where in it a new segment begins; `fails`: COPY fails at this data."""

    data: bytes
    wait: Wait = Wait.NO
    cuts: tuple[int, ...] = ()
    fails: bool = False

    @property
    def tag(self) -> str:
        return chr(self.data[0])

    @property
    def body(self) -> bytes:
        return self.data[5:]

    @property
    def calls_statement(self) -> bool:
        """Whether it is a Bind, or the Describe of a statement."""
        return self.tag == "B" or (self.tag == "D" and self.body[:1] == b"S")

    @property
    def names_statement(self) -> bool:
        """Whether it calls a named one."""
        if self.tag == "B":
            return bool(self.strings(2)[1])
        return self.calls_statement and self.body != b"S\0"

    def strings(self, count: int) -> list[str]:
        """The first strings of the body."""
        return [part.decode() for part in self.body.split(b"\0")[:count]]


class Turn(NamedTuple):
    """Segments to send, up to and with the step `last`, and then `wait`."""

    segments: list[bytes]
    last: int
    wait: Wait


@dataclass(frozen=True, slots=True)
class Script:
    """`steps` are what it is about; `closing` brings the session back to where it began."""

    seed: int
    steps: tuple[Step, ...]
    closing: tuple[Step, ...] = ()

    @property
    def all(self) -> tuple[Step, ...]:
        return self.steps + self.closing

    def turns(self) -> Iterator[Turn]:
        """The bytes from one wait to the next; the end of the script is one too."""
        segments = [b""]
        steps = self.all
        for number, step in enumerate(steps):
            at = 0
            for cut in step.cuts:
                segments[-1] += step.data[at:cut]
                segments.append(b"")
                at = cut
            segments[-1] += step.data[at:]
            if step.wait or number == len(steps) - 1:
                yield Turn([segment for segment in segments if segment], number, step.wait)
                segments = [b""]

    def lines(self, sent: int = -1) -> list[str]:
        """One line for each message, in the form of libpq's traces, with the waits and cuts.

        A line behind the message `sent` says that here the stream differed.
        """
        shown = []
        traced = trace(Way.TO_SERVER, [step.data for step in self.all])
        for number, (step, line) in enumerate(zip(self.all, traced, strict=True)):
            cuts = f"  (cut at {', '.join(map(str, step.cuts))})" if step.cuts else ""
            shown.append(f"{line}{cuts}")
            if number == sent:
                shown.append("-- so far it was sent when the difference was seen")
            if step.wait:
                shown.append(f"-- waits for {step.wait.name.lower()}")
        return shown


_LONGEST_LINE = 300


def trace(way: Way, messages: Sequence[bytes]) -> list[str]:
    """One line for each message, in the form of libpq's traces; very long ones are cut."""
    startup = (Way.TO_SERVER, m.startup({}))
    lines = lines_of([startup, *((way, data) for data in messages)])[1:]
    return [line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + " ..." for line in lines]


def trace_replies(replies: Sequence[Message]) -> list[str]:
    return trace(Way.TO_CLIENT, [m.message(reply.tag, reply.body) for reply in replies])

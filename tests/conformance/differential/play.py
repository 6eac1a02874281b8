"""Plays a script at PostgreSQL, which gives the expectation, and through a pooler, which has to meet it.

Law: nothing is waited for by luck. PostgreSQL's own replies say how many must have come at each wait; only
silence needs time, and is given little, at the waits that ask for it.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Self, cast

from tests.conformance.differential.account import Account, Due, Unexplained
from tests.conformance.differential.normal import Normaliser
from tests.conformance.differential.script import Script, Turn, Wait, trace_replies
from tests.support import messages as m
from tests.support.messages import Message

PATIENCE = 20.0
"""Seconds after which a reply that must come is missing."""
SILENCE = 0.01
"""Seconds to listen where nothing may come."""

_ASKS = "HSQF"
"""What PostgreSQL answers at once, without a Flush behind it."""

OTHER = "another reply than PostgreSQL's"
MORE = "a reply that PostgreSQL does not give"
MISSING = "a reply that PostgreSQL gives does not come"
EARLY = "a reply comes before PostgreSQL would send it"
UNASKED = "something was said, or the connection ended, after the script before, when nothing was asked for"
STAYS = "the connection stays, where PostgreSQL hangs up"
LEAVES = "the connection ends, where PostgreSQL stays"

Hear = Callable[[Message], None]


class Wire(asyncio.Protocol):
    """One logged-in connection; `hear` is told every message."""

    def __init__(self) -> None:
        self.closed = False
        self.unasked: list[Message] = []
        self.hear: Hear = self.unasked.append
        self._transport: asyncio.Transport
        self._buffer = b""
        self._changed: asyncio.Future[None] | None = None
        self._fault: Exception | None = None

    @classmethod
    async def open(cls, host: str, port: int, user: str, database: str) -> Self:
        """Connected, and logged in by trust."""
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(cls, host, port)
        greeting: list[Message] = []
        wire.hear = greeting.append
        wire.send(m.startup({"user": user, "database": database}))
        await wire.until(lambda: wire.closed or (bool(greeting) and greeting[-1].tag in b"ZE"))
        assert greeting, "hung up instead of a greeting"
        assert greeting[-1].tag == b"Z", m.fields_of(greeting[-1].body)
        wire.hear = wire.unasked.append
        return wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, end = 0, len(buffer)
        try:
            while end - at >= 5:
                stop = at + 1 + struct.unpack_from("!I", buffer, at + 1)[0]
                if stop > end:
                    break
                self.hear(Message(buffer[at : at + 1], buffer[at + 5 : stop]))
                at = stop
        except Exception as error:  # whatever is wrong with the reply, the player has to know
            self._fault = error
        self._buffer = buffer[at:]
        self._notify()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._notify()

    @property
    def restless(self) -> bool:
        """Whether anything happened while nothing was asked for."""
        return self.closed or bool(self.unasked)

    def _notify(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def send(self, data: bytes) -> None:
        if not self.closed:
            self._transport.write(data)

    async def until(self, met: Callable[[], bool], within: float = PATIENCE) -> bool:
        """Whether this came true in time; asked again whenever something was heard."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not met() and self._fault is None:
                    self._changed = asyncio.get_running_loop().create_future()
                    await self._changed
        if self._fault is not None:
            raise self._fault
        return met()

    def leave(self, *, politely: bool = True) -> None:
        if politely:
            self.send(m.terminate())
        self._transport.close()

    async def send_turn(self, turn: Turn) -> None:
        """Its segments, with others' turns in between."""
        for number, segment in enumerate(turn.segments):
            if number:
                await asyncio.sleep(0)
            self.send(segment)


@dataclass
class Expectation:
    """What PostgreSQL answered: the replies as they came and normalised, and at each wait what was due."""

    account: Account
    replies: list[Message]
    closed: bool
    due: dict[int, Due]


@dataclass
class Difference:
    """The first point at which the pooler was not PostgreSQL."""

    script: Script
    what: str
    expected: list[Message]
    got: list[Message] = field(default_factory=list)

    @property
    def kind(self) -> tuple[object, ...]:
        """What two differences with one cause have in common: the kinds of what came and what should."""
        at = first_that_differs(self.expected, self.got)
        return self.what, *(_kind(stream[at : at + 1]) for stream in (self.expected, self.got))


def first_that_differs(one: Sequence[Message], other: Sequence[Message]) -> int:
    """The number of equal messages at the beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (mine, yours) in pairs if mine != yours), min(len(one), len(other)))


def _kind(messages: Sequence[Message]) -> list[tuple[bytes, str]]:
    return [(tag, m.fields_of(body).get("C", "") if tag in b"EN" else "") for tag, body in messages]


class NotPostgres(AssertionError):
    """PostgreSQL itself did not answer as it should: the script, or the account, is wrong."""

    def __init__(self, script: Script, what: str) -> None:
        super().__init__("\n".join([f"seed {script.seed}: {what}", *script.lines()]))


async def expectation(wire: Wire, script: Script) -> Expectation:
    """Plays a script at PostgreSQL itself."""
    steps = script.all
    account = Account(steps)
    normalise = Normaliser()
    replies: list[Message] = []

    def hear(message: Message) -> None:
        account.feed(message)
        replies.append(normalise(message))

    if wire.restless:
        raise NotPostgres(script, f"before it came {trace_replies(wire.unasked)}")
    wire.hear = hear
    try:
        for turn in script.turns():
            last = turn.last
            account.sent(last)
            await wire.send_turn(turn)
            asks = steps[last].tag in _ASKS or last + 1 == len(steps)
            if asks and not await wire.until(partial(_told, wire, account, last)):
                raise NotPostgres(script, f"PostgreSQL owes a reply to {steps[last]}, number {last}")
    except Unexplained as error:
        raise NotPostgres(script, str(error)) from error
    if account.over:
        await wire.until(lambda: wire.closed)
    elif wire.closed:
        raise NotPostgres(script, "PostgreSQL hung up without a word")
    wire.hear = wire.unasked.append
    due = {turn.last: account.due(turn.last) for turn in script.turns() if turn.wait}
    return Expectation(account, replies, wire.closed, due)


def _told(wire: Wire, account: Account, request: int) -> bool:
    return wire.closed or account.done(request)


class Follower:
    """Hears what comes through the pooler and compares it with the expectation, message by message."""

    def __init__(self, script: Script, expected: Expectation) -> None:
        self.expected = expected
        self.got: list[Message] = []
        self.difference: Difference | None = None
        self._script = script
        self._normalise = Normaliser()

    def hear(self, message: Message) -> None:
        """The next reply."""
        self.got.append(self._normalise(message))
        number = len(self.got)
        if number > len(self.expected.replies):
            self.differs(MORE)
        elif self.got[-1] != self.expected.replies[number - 1]:
            self.differs(OTHER)

    def differs(self, what: str) -> None:
        """Note a difference, unless there was one already."""
        if self.difference is None:
            self.difference = Difference(self._script, what, self.expected.replies, self.got)

    def check(self, due: Due) -> None:
        """All that must come by now has come: nothing more may have."""
        if len(self.got) < due.must:
            self.differs(MISSING)
        elif len(self.got) > due.may:
            self.differs(EARLY)


async def follow(wire: Wire, script: Script, expected: Expectation) -> Difference | None:
    """Plays a script through the pooler; the first difference, or None."""
    follower = Follower(script, expected)
    if wire.restless:
        follower.got += wire.unasked
        follower.differs(UNASKED)
        return follower.difference
    wire.hear = follower.hear
    for turn in script.turns():
        await wire.send_turn(turn)
        if turn.wait:
            due = expected.due[turn.last]
            await _reach(wire, follower, due.must)
            await asyncio.sleep(SILENCE if turn.wait is Wait.SILENCE else 0)
            follower.check(due)
        if follower.difference is not None:
            return follower.difference
    if not await _reach(wire, follower, len(expected.replies)):
        follower.differs(MISSING)
    if expected.closed and not await wire.until(lambda: wire.closed):
        follower.differs(STAYS)
    elif wire.closed and not expected.closed:
        follower.differs(LEAVES)
    wire.hear = wire.unasked.append
    return follower.difference


async def _reach(wire: Wire, follower: Follower, count: int) -> bool:
    """Waits for so many replies, or for the first that is wrong."""
    await wire.until(lambda: len(follower.got) >= count or follower.difference is not None or wire.closed)
    return len(follower.got) >= count

"""Plays a script at PostgreSQL, which gives the expectation, and through a pooler, which has to meet it.

Law: nothing is waited for by luck. PostgreSQL's own replies say how many must have come at each wait; only
silence needs time, and is given little, at the waits that ask for it.
"""

import asyncio
from functools import partial

from tests.conformance.differential.account import Account, Unexplained
from tests.conformance.differential.compare import (
    LEAVES,
    MISSING,
    STAYS,
    UNASKED,
    Expectation,
    Follower,
)
from tests.conformance.differential.normal import Normaliser
from tests.conformance.differential.script import Script, Wait, trace_replies
from tests.conformance.differential.wire import Wire
from tests.support import messages as m
from tests.support.messages import Message

SILENCE = 0.01
"""Seconds to listen where nothing may come."""
SETTLED = 1.0
"""Seconds to wait for the end of a script whose replies were wrong."""
_END = "the end of it"

_ASKS = "HSQF"
"""What PostgreSQL answers at once, without a Flush behind it."""


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


async def follow(wire: Wire, script: Script, expected: Expectation) -> Follower:
    """Plays a script through the pooler, up to its end or to the first difference."""
    follower = Follower(script, expected)
    if wire.restless:
        follower.got += wire.unasked
        follower.differs(UNASKED)
        return follower
    wire.hear = follower.hear
    for turn in script.turns():
        follower.sent = turn.last
        await wire.send_turn(turn)
        if turn.wait:
            due = expected.due[turn.last]
            await _reach(wire, follower, due.must)
            await asyncio.sleep(SILENCE if turn.wait is Wait.SILENCE else 0)
            follower.check(due)
        if follower.over:
            return follower
    if not await _reach(wire, follower, len(expected.replies)):
        follower.differs(MISSING)
    elif expected.closed and not await wire.until(lambda: wire.closed):
        follower.differs(STAYS)
    elif wire.closed and not expected.closed:
        follower.differs(LEAVES)
    wire.hear = wire.unasked.append
    return follower


async def settle(wire: Wire, script: Script, sent: int) -> None:
    """Send what is left of a script, so that nothing of it goes on behind the back of the next.

    Replies are of no interest any more; only how far the session has come is.
    """
    seen: list[Message] = []
    wire.patience = SETTLED
    wire.hear = seen.append
    rest = [step.data for step in (*script.all[sent + 1 :], *script.closing)]
    wire.send(b"".join(rest) + m.query(f"select '{_END}'"))
    await wire.until(lambda: wire.closed or any(_END.encode() in message.body for message in seen))


async def _reach(wire: Wire, follower: Follower, count: int) -> bool:
    """Waits for so many replies, or for the first that is wrong; whether the replies came or need not."""
    await wire.until(lambda: follower.count >= count or follower.over or wire.closed)
    return follower.count >= count or follower.over

"""One timer for all who are logging in."""

import asyncio

from proxy.patience import Patience
from proxy.pool.units import SECOND
from tests.support.clock import Clock


class Somebody:
    """Hears when its time is over."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    def login_takes_too_long(self) -> None:
        self.over.set()


async def test_only_those_whose_time_is_over_are_told() -> None:
    clock = Clock()
    patience = Patience(clock)
    early, late, inside = Somebody(), Somebody(), Somebody()
    patience.begin(early, clock() + SECOND // 100)
    patience.begin(inside, clock() + SECOND // 100)
    patience.begin(late, clock() + 3600 * SECOND)
    patience.end(inside)
    clock.advance(1)
    await asyncio.wait_for(early.over.wait(), 5)
    assert not late.over.is_set()
    assert not inside.over.is_set()


async def test_who_comes_later_may_have_to_be_in_sooner() -> None:
    clock = Clock()
    patience = Patience(clock)
    slow, quick = Somebody(), Somebody()
    patience.begin(slow, clock() + 3600 * SECOND)
    patience.begin(quick, clock() + SECOND // 100)
    clock.advance(1)
    await asyncio.wait_for(quick.over.wait(), 5)
    assert not slow.over.is_set()


async def test_the_next_one_is_looked_after_when_the_first_is_told() -> None:
    clock = Clock()
    patience = Patience(clock)
    first, second = Somebody(), Somebody()
    patience.begin(first, clock() + SECOND // 100)
    patience.begin(second, clock() + SECOND + SECOND // 100)
    clock.advance(1)
    await asyncio.wait_for(first.over.wait(), 5)
    assert not second.over.is_set()
    clock.advance(1)
    await asyncio.wait_for(second.over.wait(), 5)


async def test_who_fails_keeps_nobody_else_waiting_for_ever() -> None:
    class Failing(Somebody):
        def login_takes_too_long(self) -> None:
            raise RuntimeError

    clock = Clock()
    patience = Patience(clock)
    others = Somebody(), Somebody()
    for one in (others[0], Failing(), others[1]):
        patience.begin(one, clock() + SECOND // 100)
    clock.advance(1)
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context["exception"]))
    for other in others:
        await asyncio.wait_for(other.over.wait(), 5)
    assert [type(error) for error in heard] == [RuntimeError]

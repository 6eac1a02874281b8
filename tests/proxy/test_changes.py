import asyncio

import pytest

from proxy.changes import Changes


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_holds_already_is_not_waited_for() -> None:
    await Changes().until(lambda: True)


async def test_a_notice_wakes_those_whose_condition_holds_and_no_others() -> None:
    changes = Changes()
    count = 2
    first = asyncio.create_task(changes.until(lambda: count < 2))
    second = asyncio.create_task(changes.until(lambda: count < 1))
    await settle()
    count = 1
    await settle()
    assert not first.done()
    changes.notify()
    await settle()
    assert first.done()
    assert not second.done()
    count = 0
    changes.notify()
    await second


async def test_two_notices_at_once_wake_once() -> None:
    changes = Changes()
    count = 1
    waiting = asyncio.create_task(changes.until(lambda: count == 0))
    await settle()
    changes.notify()
    changes.notify()
    await settle()
    assert not waiting.done()
    count = 0
    changes.notify()
    await waiting


async def test_who_was_cancelled_is_forgotten() -> None:
    changes = Changes()
    waiting = asyncio.create_task(changes.until(lambda: False))
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    changes.notify()


async def test_a_notice_that_nobody_waits_for_is_nothing() -> None:
    Changes().notify()

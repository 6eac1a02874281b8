"""Tasks are kept until they are done, and a failure is heard of once."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator

import pytest

from proxy.tasks import Tasks


class Reports:
    """What the loop was told of."""

    def __init__(self) -> None:
        self.errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, about: self.errors.append(about["exception"])
        )


@pytest.fixture
async def reports() -> AsyncIterator[Reports]:
    reports = Reports()
    yield reports
    asyncio.get_running_loop().set_exception_handler(None)


async def fail(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


async def over() -> None:
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()


async def test_a_task_is_kept_until_it_is_done() -> None:
    tasks, done = Tasks(), asyncio.Event()

    async def go_on() -> None:
        # Nobody but the task itself knows what it waits for, so that alone it could be collected.
        await asyncio.get_running_loop().create_future()

    known = weakref.ref(tasks.start(go_on()))
    await over()
    task = known()
    assert task is not None
    assert len(tasks) == 1
    task.add_done_callback(lambda _: done.set())
    tasks.cancel()
    await done.wait()
    assert not len(tasks)


async def test_a_failure_nobody_waits_for_is_reported_at_once_and_once(reports: Reports) -> None:
    tasks, error = Tasks(), ValueError("no")
    task = tasks.start(fail(error))
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert reports.errors == [error]
    del task
    await over()
    assert (reports.errors, len(tasks)) == ([error], 0)


async def test_a_failure_that_somebody_waits_for_is_his(reports: Reports) -> None:
    with pytest.raises(ValueError, match="no"):
        await Tasks().share(fail(ValueError("no")))
    await over()
    assert reports.errors == []


async def test_a_failure_whose_waiter_has_given_up_is_nobodys(reports: Reports) -> None:
    tasks = Tasks()
    tasks.share(fail(ValueError("no")))
    await over()
    assert (reports.errors, len(tasks)) == ([], 0)


async def test_all_can_be_given_up(reports: Reports) -> None:
    tasks, never = Tasks(), asyncio.Event()
    both = tasks.start(never.wait()), tasks.share(never.wait())
    await asyncio.sleep(0)
    tasks.cancel()
    await asyncio.wait(both)
    await over()
    assert all(task.cancelled() for task in both)
    assert (reports.errors, len(tasks)) == ([], 0)

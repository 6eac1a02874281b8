"""A coroutine that becomes a task only if it has to."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.eager import Eager


class Work:
    """A coroutine that says where it is; `wait` is what it does in the middle."""

    def __init__(self, wait: Callable[["Work"], Awaitable[object]]) -> None:
        self.said: list[str] = []
        self.eager = Eager(self._run(wait))

    async def _run(self, wait: Callable[["Work"], Awaitable[object]]) -> None:
        try:
            self.said.append("begun")
            await wait(self)
            self.said.append("over")
        except ValueError as error:
            self.said.append(str(error))
        finally:
            self.said.append("left")


async def pause(work: Work) -> None:
    await work.eager


async def test_it_runs_at_once_and_pauses_without_a_task() -> None:
    work = Work(pause)
    work.eager.start()
    assert work.said == ["begun"]
    work.eager.go_on()
    assert work.said == ["begun", "over", "left"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    work.eager.go_on()
    work.eager.cancel()
    assert work.said == ["begun", "over", "left"]


async def test_whatever_else_is_awaited_makes_it_a_task() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    work = Work(lambda work: future)
    work.eager.start()
    assert work.eager.is_task
    future.set_result(None)
    await all_done()
    assert work.said == ["begun", "over", "left"]


async def test_an_error_of_what_is_awaited_arrives() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    work = Work(lambda work: future)
    work.eager.start()
    future.set_exception(ValueError("no"))
    await all_done()
    assert work.said == ["begun", "no", "left"]


async def test_timeouts_work_in_a_task() -> None:
    async def long(work: Work) -> None:
        await work.eager.in_task()
        await work.eager.in_task()
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            work.said.append("too long")

    work = Work(long)
    work.eager.start()
    assert work.said == ["begun"]
    await all_done()
    assert work.said == ["begun", "too long", "over", "left"]


async def test_it_is_ended_where_it_pauses() -> None:
    work = Work(pause)
    work.eager.start()
    work.eager.cancel()
    assert work.said == ["begun", "left"]


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_it_is_ended_as_a_task_whether_that_has_begun_or_not(turns: int) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    work = Work(lambda work: future)
    work.eager.start()
    for _ in range(turns):
        await asyncio.sleep(0)
    work.eager.cancel()
    await all_done()
    assert work.said == ["begun", "left"]


async def test_what_it_does_itself_does_not_end_it() -> None:
    async def ends_itself(work: Work) -> None:
        work.eager.cancel()
        await work.eager
        work.eager.cancel()
        await work.eager.in_task()
        work.eager.cancel()
        await asyncio.sleep(0)

    work = Work(ends_itself)
    work.eager.start()
    work.eager.go_on()
    await all_done()
    assert work.said == ["begun", "over", "left"]


async def all_done() -> None:
    """All other tasks are."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=5)

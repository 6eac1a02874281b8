"""Tasks that go on by themselves: kept here until they are done, for the event loop itself keeps none.

Law of this file: a failure is heard of once, by whoever waits, or else in the log.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """Those of one owner. `len` is how many are not done yet."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begin what nobody has to wait for: should it fail, the loop reports it at once."""
        task = self.share(coroutine)
        task.add_done_callback(_report)
        return task

    def share(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begin what its caller waits for, who may give up: then its failure is nobody's."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Looked at, it is not reported when the task is collected.
            task.exception()

    def cancel(self) -> None:
        """Give up all that is not done yet."""
        for task in self._running:
            task.cancel()


def _report(task: "asyncio.Task[Any]") -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        about = {"message": "a task that nobody waits for has failed", "exception": error, "task": task}
        task.get_loop().call_exception_handler(about)

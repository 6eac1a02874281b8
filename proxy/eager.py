"""A coroutine that runs at once, and without a task for as long as all it waits for is its own connection.

A task costs its making, its place in the set of all tasks, and turns of the loop to start and to wake it:
much of what a login does. (The eager tasks of Python 3.12 save the start.)

Laws of this file:
- `await eager` pauses until `go_on`, which runs the next step within its call.
- Whatever else is awaited makes a task of what is left; from then on `is_task`, and nothing may await this.
- What looks for the current task (timeouts do) needs `await eager.in_task()` before it.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Final

_SWITCH: Final = object()


class Eager:
    """Runs one coroutine, which lets no exception out but a CancelledError."""

    __slots__ = ("_coroutine", "_paused", "_task", "begun", "cancelled")

    def __init__(self, coroutine: Coroutine[object, None, None]) -> None:
        self._coroutine: Coroutine[object, None, None] | None = coroutine
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        # Of the task.
        self.begun = self.cancelled = False

    @property
    def is_task(self) -> bool:
        """Whether a task runs the coroutine."""
        return self._task is not None

    def start(self) -> None:
        """Run it up to where it waits."""
        self._step(None)

    def go_on(self) -> None:
        """What it pauses for has come; nothing happens if it does not pause."""
        if self._paused:
            self._step(None)

    def cancel(self) -> None:
        """End it where it waits; nothing happens if this is called from within."""
        if self._paused:
            self._step(asyncio.CancelledError())
        elif self._task is not None and self._task is not asyncio.current_task():
            if self.begun:
                self._task.cancel()
            else:
                # It would end before it had ended the coroutine.
                self.cancelled = True

    def __await__(self) -> Generator[object, None, None]:
        self._paused = True
        yield self

    async def in_task(self) -> None:
        """Return in a task."""
        if self._task is None:
            await _Yield(_SWITCH)

    def _step(self, error: BaseException | None) -> None:
        coroutine = self._coroutine
        assert coroutine is not None
        self._paused = False
        try:
            awaited = coroutine.send(None) if error is None else coroutine.throw(error)
        except (StopIteration, asyncio.CancelledError):
            self._coroutine = None
            return
        if awaited is not self:
            self._coroutine = None
            self._task = asyncio.get_running_loop().create_task(self._finish(coroutine, awaited))

    async def _finish(self, coroutine: Coroutine[object, None, None], awaited: object) -> None:
        await _Rest(self, coroutine, awaited)


class _Yield:
    """Hands one object to whoever runs the coroutine."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __await__(self) -> Generator[object, None, None]:
        yield self._value


class _Rest:
    """What is left of a coroutine that has handed over `awaited`, for a task to await."""

    def __init__(self, eager: Eager, coroutine: Coroutine[object, None, None], awaited: object) -> None:
        self._eager = eager
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[object, None, None]:
        coroutine, awaited = self._coroutine, self._awaited
        self._eager.begun = True
        try:
            if self._eager.cancelled:
                awaited = coroutine.throw(asyncio.CancelledError())
            elif awaited is _SWITCH:
                awaited = coroutine.send(None)
            while True:
                try:
                    yield awaited
                except BaseException as error:
                    awaited = coroutine.throw(error)
                else:
                    awaited = coroutine.send(None)
        except StopIteration:
            return

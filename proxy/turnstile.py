"""How much of a turn of the event loop goes to clients that are logging in.

Laws of this file:
- What comes from a client that is not in yet goes through its gate; once it is in, nothing of this is left in
  its way.
- A turn has BUDGET for login steps. What is over it waits, first come first served, for turns to come, so
  that those who are in are served however many want to be.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns
from typing import Final

BUDGET: Final = 4_000_000
"""Of one turn, for login steps (ns)."""
LATER: Final = 100_000
"""What a step is taken to cost beyond what is seen of it: it may wake a task, which runs later (ns)."""
# While nobody waits, the budget is one of a stretch of time, which needs no call for each turn (ns).
_WINDOW: Final = 2 * BUDGET
# After so many steps there is something to tidy.
_TIDY: Final = 128
# A client of which this much waits is read no further.
_PAUSE: Final = 4096


class Turnstile:
    """Of one event loop. `tidy` is called now and then: each step leaves something behind."""

    def __init__(self, clock: Callable[[], int] = perf_counter_ns) -> None:
        self._clock = clock
        self.tidy: Callable[[], None] = lambda: None
        self._steps = 0
        self._queue: deque[Gate] = deque()
        self._left = BUDGET
        self._until = 0

    def __len__(self) -> int:
        return len(self._queue)

    def enter(self, gate: "Gate") -> None:
        """Let the gate deliver, now or when it is its turn."""
        now = self._clock()
        if now >= self._until and not self._queue:
            self._until = now + _WINDOW
            self._left = BUDGET
        if self._left <= 0 or self._queue:
            if not self._queue:
                asyncio.get_running_loop().call_soon(self._turn)
            self._queue.append(gate)
            return
        self._serve(gate)
        self._left -= self._clock() - now + LATER

    def _serve(self, gate: "Gate") -> None:
        gate.deliver()
        self._steps += 1
        if self._steps % _TIDY == 0:
            self.tidy()

    def _turn(self) -> None:
        """A turn of the loop has begun."""
        queue, clock = self._queue, self._clock
        left, now = BUDGET, clock()
        try:
            while queue and left > 0:
                self._serve(queue.popleft())
                before, now = now, clock()
                left -= now - before + LATER
        finally:
            # What comes in this turn besides, and is not kept waiting by others, has what is left.
            self._left, self._until = left, now + _WINDOW
            if queue:
                # Whatever became of one client: nobody else would see to the others.
                asyncio.get_running_loop().call_soon(self._turn)


class Gate(asyncio.Protocol):
    """Stands between a transport and what it delivers to, a connection or its TLS layer."""

    __slots__ = ("_ended", "_paused", "_target", "_transport", "_turnstile", "_waiting")

    def __init__(self, turnstile: Turnstile, target: asyncio.Protocol) -> None:
        self._turnstile = turnstile
        self._target = target
        self._transport: asyncio.Transport
        self._waiting: list[bytes] = []
        self._paused = self._ended = False

    def stand_before(self, target: asyncio.Protocol, received: bytes) -> None:
        """From now on deliver to `target`, which has put itself in our place: first what was received."""
        self._target = target
        self._transport.set_protocol(self)
        if self._waiting:
            self._waiting.insert(0, received)
        elif received:
            self.data_received(received)

    def open(self) -> None:
        """The client is in: take the gate away, and deliver at once what still waits."""
        self._transport.set_protocol(self._target)
        self.deliver()

    def deliver(self) -> None:
        """It is this client's turn; nothing happens if nothing waits any more."""
        if not self._waiting:
            return
        data = b"".join(self._waiting)
        self._waiting.clear()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        self._target.data_received(data)
        if self._ended:
            # Behind whatever those bytes have woken.
            asyncio.get_running_loop().call_soon(self._transport.close)

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass it on."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "pause_reading")
        self._transport = transport  # type: ignore[assignment]
        self._target.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Deliver it when it is this client's turn."""
        self._waiting.append(data)
        if len(self._waiting) > 1:
            if not self._paused and sum(map(len, self._waiting)) > _PAUSE:
                self._paused = True
                self._transport.pause_reading()
            return
        self._turnstile.enter(self)

    def eof_received(self) -> bool:
        """What the client said before it closed is still heard."""
        self._ended = bool(self._waiting)
        return self._ended

    def pause_writing(self) -> None:
        """Pass it on."""
        self._target.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._target.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on; what waits is of no interest any more."""
        self._waiting.clear()
        self._target.connection_lost(exc)

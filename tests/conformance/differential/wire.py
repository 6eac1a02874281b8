"""One connection of a player: it hears every message, and never waits by luck.

Law: a wait is for something to come true, asked whenever a message has come; its deadline is for what is
missing.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable
from typing import Self, cast

from tests.conformance.differential.script import Turn
from tests.support import messages as m
from tests.support.messages import Message

PATIENCE = 20.0
"""Seconds after which a reply that must come is missing."""

Hear = Callable[[Message], None]


class Wire(asyncio.Protocol):
    """One logged-in connection; `hear` is told every message."""

    def __init__(self) -> None:
        self.closed = False
        self.patience = PATIENCE
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

    async def until(self, met: Callable[[], bool]) -> bool:
        """Whether this came true in time; asked again whenever something was heard."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.patience):
                while not met() and self._fault is None:
                    self._changed = asyncio.get_running_loop().create_future()
                    await self._changed
        if self._fault is not None:
            raise self._fault
        return met()

    async def leave(self, *, politely: bool = True) -> None:
        if politely:
            self.send(m.terminate())
        self.hear = lambda message: None
        self._fault = None
        self._transport.close()
        await self.until(lambda: self.closed)

    async def send_turn(self, turn: Turn) -> None:
        """Its segments, with others' turns in between."""
        for number, segment in enumerate(turn.segments):
            if number:
                await asyncio.sleep(0)
            self.send(segment)

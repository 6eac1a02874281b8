"""Transports that keep what is written to them in a list: connections without sockets and without a loop.

Law: nothing here calls back by itself; a test says when bytes arrive and when a connection is lost.
"""

import asyncio
from collections.abc import Iterable


class ListTransport(asyncio.Transport):
    """`writes` holds one entry for each call that would be a system call, `parts` the objects given to it.

    `unsent` is what the kernel has not taken, in bytes; `ended` and `aborted` tell how our end was closed.
    """

    def __init__(self, extra: dict[str, object] | None = None) -> None:
        super().__init__(extra if extra is not None else {"peername": ("127.0.0.1", 50001)})
        self.writes: list[bytes] = []
        self.parts: list[list[bytes | bytearray | memoryview]] = []
        self.unsent = 0
        self.reading = True
        self.ended = False
        self.closed = False
        self.aborted = False
        self._taken = 0

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = b"".join(self.writes[self._taken :])
        self._taken = len(self.writes)
        return taken

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._put([data])

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._put(list(list_of_data))

    def _put(self, parts: list[bytes | bytearray | memoryview]) -> None:
        assert not self.ended, "written after the end of file"
        self.parts.append(parts)
        self.writes.append(b"".join(parts))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed without a pause"
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

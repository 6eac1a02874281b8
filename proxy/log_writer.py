"""A thread that writes log lines, and the places it writes to.

The law of this file: whoever logs never waits for a disk, a pipe or the syslog daemon. The queue in between
is bounded; what does not fit is dropped, counted and reported when there is room again.
"""

import contextlib
import logging
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from typing import Final, NamedTuple, Protocol, TextIO

QUEUE_LIMIT: Final = 10_000
BATCH_LIMIT: Final = 200
FLUSH_SECONDS: Final = 2.0
ATOMIC: Final = 4096
"""Bytes that a pipe takes in one piece (PIPE_BUF), on Linux."""

# RFC 5424, tables 1 and 2; what is missing counts as daemon and debug.
_FACILITIES: Final = {"user": 1, "daemon": 3, "auth": 4, "authpriv": 10} | {
    f"local{n}": 16 + n for n in range(8)
}
_SEVERITIES: Final = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}


class Line(NamedTuple):
    """A record as text: whole, and without time and process for syslog, which adds its own."""

    level: int
    text: str
    bare: str


class Sink(Protocol):
    """Where lines go. Its methods run in the writer's thread; they may block, and raise OSError."""

    def write(self, lines: Sequence[Line]) -> None: ...
    def reopen(self) -> None: ...
    def close(self) -> None: ...


def whole_lines(lines: Sequence[Line]) -> Iterator[str]:
    """The lines, as many together as go into a pipe in one piece: other processes write to it, too."""
    lot: list[str] = []
    size = 0
    for line in lines:
        text = f"{line.text}\n"
        length = len(text.encode("utf-8", "backslashreplace"))
        if lot and size + length > ATOMIC:
            yield "".join(lot)
            lot, size = [], 0
        lot.append(text)
        size += length
    if lot:
        yield "".join(lot)


class StreamSink:
    """An open text stream, stderr; it is neither opened nor closed here."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, lines: Sequence[Line]) -> None:
        for lot in whole_lines(lines):
            self._stream.write(lot)
            self._stream.flush()

    def reopen(self) -> None: ...

    def close(self) -> None: ...


class FileSink:
    """A file, opened for appending; the constructor raises OSError where that fails."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._file = self._open()

    def _open(self) -> FileIO:
        return open(self._path, "ab", buffering=0)

    def write(self, lines: Sequence[Line]) -> None:
        # What is appended by one call stays together, whoever else writes to the file.
        data = "".join(f"{line.text}\n" for line in lines).encode("utf-8", "backslashreplace")
        while data:
            data = data[self._file.write(data) or 0 :]

    def reopen(self) -> None:
        """Open the path anew, after log rotation; the old file stays in use where that fails."""
        fresh = self._open()
        self._file.close()
        self._file = fresh

    def close(self) -> None:
        self._file.close()


class SyslogSink:
    """The local syslog daemon, as RFC 3164 datagrams; the constructor raises OSError where none listens."""

    def __init__(self, facility: str, ident: str, address: str = "/dev/log") -> None:
        self._facility = _FACILITIES.get(facility, _FACILITIES["daemon"])
        self._ident = ident
        self._address = address
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            connection.connect(self._address)
        except OSError:
            connection.close()
            raise
        return connection

    def write(self, lines: Sequence[Line]) -> None:
        for line in lines:
            priority = self._facility * 8 + _SEVERITIES.get(line.level, 7)
            packet = f"<{priority}>{self._ident}[{os.getpid()}]: {line.bare}".encode(
                "utf-8", "backslashreplace"
            )
            try:
                self._socket.send(packet)
            except OSError:
                # The syslog daemon was restarted: its old socket is gone.
                self.reopen()
                self._socket.send(packet)

    def reopen(self) -> None:
        fresh = self._connect()
        self._socket.close()
        self._socket = fresh

    def close(self) -> None:
        self._socket.close()


class Writer:
    """The thread that writes, and its queue. Orders (flush, other sinks) go through the same queue as lines,
    so that they keep their place among them. When the queue is full, lines are dropped and counted."""

    def __init__(self) -> None:
        self.dropped = 0
        self._sinks: list[Sink] = []
        self._queue: queue.SimpleQueue[Line | Callable[[], None]] = queue.SimpleQueue()
        self._pid = 0

    def put(self, item: Line | Callable[[], None]) -> None:
        # A forked child has neither the thread nor a queue whose lock can be trusted.
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._queue = queue.SimpleQueue()
            threading.Thread(target=self._run, args=(self._queue,), name="log", daemon=True).start()
        if isinstance(item, Line) and self._queue.qsize() >= QUEUE_LIMIT:
            self.dropped += 1
        else:
            self._queue.put(item)

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until everything put so far is written; False if that takes longer than `seconds`."""
        if self._pid != os.getpid():
            return True
        done = threading.Event()
        self.put(done.set)
        return done.wait(seconds)

    def leave(self) -> None:
        """In a forked process: let go of what the other one writes to."""
        for sink in self._sinks:
            sink.close()
        self._sinks = []

    def use(self, sinks: list[Sink]) -> None:
        """Replace all sinks, after what was put so far."""

        def swap() -> None:
            old, self._sinks = self._sinks, sinks
            for sink in old:
                sink.close()

        self.put(swap)

    def reopen(self) -> None:
        self.put(self._reopen)

    def _reopen(self) -> None:
        for sink in self._sinks:
            try:
                sink.reopen()
            except OSError as exc:
                logging.getLogger(__name__).warning("could not reopen the log, the old one stays: %s", exc)

    def _run(self, items: queue.SimpleQueue[Line | Callable[[], None]]) -> None:
        while True:
            item = items.get()
            batch: list[Line] = []
            while isinstance(item, Line):
                batch.append(item)
                if len(batch) >= BATCH_LIMIT or items.empty():
                    break
                item = items.get()
            if batch:
                self._write(batch)
            if not isinstance(item, Line):
                # A full disk can make even closing a file fail; the thread must go on.
                with contextlib.suppress(OSError, ValueError):
                    item()

    def _write(self, batch: list[Line]) -> None:
        for sink in self._sinks:
            # A full disk or a closed pipe: there is no place left to say so.
            with contextlib.suppress(OSError, ValueError):
                sink.write(batch)
        if self.dropped:
            dropped, self.dropped = self.dropped, 0
            logging.getLogger(__name__).warning(
                "%d log lines dropped: the log is written too slowly", dropped
            )

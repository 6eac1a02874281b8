"""A loopback TCP proxy that misbehaves on demand, to stand between pooler and server.

Law: the verbs act on every connection, the present and the later ones, until
they are taken back; bytes are delayed, cut or lost, but never altered. Each
connection records what it took from either side, before any fault.
"""

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self

_POLL = 0.005
_TICK = 0.02


class Way(Enum):
    """A direction through the proxy."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


class End(Enum):
    """How a connection ends at a certain byte."""

    RESET = "reset"
    HALF_CLOSE = "half-close"
    STOP = "stop"


@dataclass
class Faults:
    """What is wrong at the moment."""

    slice_size: int = 0
    delay: float = 0.0
    hold_new: float = 0.0
    swallow_new: bool = False
    blackhole: set[Way] = field(default_factory=set)
    stop_at: dict[Way, int] = field(default_factory=dict)
    end_at: dict[Way, tuple[int, End]] = field(default_factory=dict)


class Link:
    """One proxied connection: the accepted socket and the one to the upstream."""

    def __init__(self, client: socket.socket, faults: Faults) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.faults = faults
        self.recorded: dict[Way, bytearray] = {Way.TO_SERVER: bytearray(), Way.TO_CLIENT: bytearray()}
        self.passed: dict[Way, int] = {Way.TO_SERVER: 0, Way.TO_CLIENT: 0}
        self.closed = threading.Event()
        self.stuck: set[Way] = set()
        self._deaf: set[Way] = set()

    def run(self, upstream: tuple[str, int]) -> None:
        """Connects (after `hold_new`), pumps both directions, ends when both have ended."""
        if self.faults.swallow_new:
            self.closed.wait()
        if self.closed.wait(self.faults.hold_new):
            self._finish()
            return
        try:
            self.server = socket.create_connection(upstream, 5)
        except OSError:
            self.reset()
            self._finish()
            return
        self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(
            target=self._pump, args=(Way.TO_CLIENT, self.server, self.client), daemon=True
        )
        back.start()
        self._pump(Way.TO_SERVER, self.client, self.server)
        back.join()
        self._finish()

    def _pump(self, way: Way, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := self._receive(source):
                self.recorded[way] += data
                self._deliver(way, data, sink)
            self._wait_while_blackholed(way)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.closed.set()

    def _receive(self, source: socket.socket) -> bytes:
        # Never blocks for long: a socket that another thread reads from cannot be closed with RST.
        while not select.select([source], [], [], _TICK)[0]:
            if self.closed.is_set():
                raise ConnectionAbortedError
        return source.recv(65536)

    def _send(self, piece: bytes, sink: socket.socket) -> None:
        view = memoryview(piece)
        while view:
            if self.closed.is_set():
                raise ConnectionAbortedError
            if select.select([], [sink], [], _TICK)[1]:
                view = view[sink.send(view, socket.MSG_DONTWAIT) :]

    def _deliver(self, way: Way, data: bytes, sink: socket.socket) -> None:
        while data:
            self._wait_while_blackholed(way)
            if self._ends_here(way):
                return
            piece, data = self._cut(way, data)
            if self.faults.delay:
                time.sleep(self.faults.delay)
            self._send(piece, sink)
            self.passed[way] += len(piece)
        self._ends_here(way)

    def _ends_here(self, way: Way) -> bool:
        """Ends what is to end at this byte; whether the rest is thrown away."""
        count, end = self.faults.end_at.get(way, (0, None))
        # Taken out by whoever comes first: it is for one connection only.
        if end is not None and self.passed[way] >= count and self.faults.end_at.pop(way, None) is not None:
            match end:
                case End.RESET:
                    self.reset()
                    raise ConnectionAbortedError
                case End.HALF_CLOSE:
                    self._deaf.add(way)
                    self.half_close(way)
                case End.STOP:
                    self.stuck.add(way)
                    self._wait_while_blackholed(way)
        return way in self._deaf

    def _cut(self, way: Way, data: bytes) -> tuple[bytes, bytes]:
        size = self.faults.slice_size or len(data)
        if way in self.faults.stop_at:
            size = min(size, self.faults.stop_at[way] - self.passed[way])
        # Another thread may take the order away, or give it, between any two lines here.
        count, _ = self.faults.end_at.get(way, (self.passed[way] + size, None))
        size = min(size, max(count - self.passed[way], 0))
        return data[:size], data[size:]

    def _wait_while_blackholed(self, way: Way) -> None:
        def stuck() -> bool:
            limit = self.faults.stop_at.get(way)
            return (
                way in self.stuck
                or way in self.faults.blackhole
                or (limit is not None and self.passed[way] >= limit)
            )

        while stuck():
            if self.closed.wait(_POLL):
                raise ConnectionAbortedError

    def half_close(self, way: Way) -> None:
        """Sends FIN onwards in one direction, as if its sender had finished."""
        sink = self.server if way is Way.TO_SERVER else self.client
        if sink is not None:
            sink.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST to both sides."""
        for end in (self.client, self.server):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.closed.set()

    def _finish(self) -> None:
        self.closed.set()
        self.client.close()
        if self.server is not None:
            self.server.close()


class FaultProxy:
    """Listens on a free loopback port and passes everything to `upstream`.

    `down()` makes the port refuse connections and resets the present ones,
    `up()` opens the same port again.
    """

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.upstream = upstream
        self.faults = Faults()
        self.links: list[Link] = []
        self._listener: socket.socket | None = None
        self.up()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- verbs -----------------------------------------------------------------------------------

    def slice(self, size: int) -> None:
        """Passes at most `size` bytes per write; 0 ends it."""
        self.faults.slice_size = size

    def delay(self, seconds: float) -> None:
        """Waits so long before every write."""
        self.faults.delay = seconds

    def stop_at(self, way: Way, count: int) -> None:
        """Each connection passes `count` bytes in this direction, then nothing more."""
        self.faults.stop_at[way] = count

    def end_at(self, way: Way, count: int, end: End) -> None:
        """The first connection that has passed `count` bytes in this direction ends there, and only that one.

        HALF_CLOSE and STOP end the one direction, RESET both.
        """
        self.faults.end_at[way] = count, end

    def blackhole(self, *ways: Way) -> None:
        """Keeps back what comes in these directions (default both), FIN included."""
        self.faults.blackhole = set(ways or Way)

    def hold_new(self, seconds: float) -> None:
        """New connections are accepted but reach the server only so much later."""
        self.faults.hold_new = seconds

    def swallow_new(self, on: bool) -> None:
        """New connections are accepted, and then nothing ever happens on them."""
        self.faults.swallow_new = on

    def half_close(self, way: Way) -> None:
        """Sends FIN onwards in one direction on every connection."""
        for link in self.alive():
            link.half_close(way)

    def reset(self) -> None:
        """RST to both sides of every connection."""
        for link in self.alive():
            link.reset()

    def heal(self) -> None:
        """Takes back every fault; what was kept back is passed on."""
        self.faults.slice_size, self.faults.delay = 0, 0.0
        self.faults.hold_new, self.faults.swallow_new = 0.0, False
        self.faults.blackhole, self.faults.stop_at, self.faults.end_at = set(), {}, {}
        for link in self.alive():
            link.stuck.clear()

    def alive(self) -> list[Link]:
        """The connections that have not ended."""
        return [link for link in self.links if not link.closed.is_set()]

    def down(self) -> None:
        """Refuses connections from now on and resets the present ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.reset()

    def up(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(512)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        self.down()

    # --- inside ----------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(client, self.faults)
            self.links.append(link)
            threading.Thread(target=link.run, args=(self.upstream,), daemon=True).start()


def wait_until(condition: Callable[[], bool], within: float, what: str) -> float:
    """Polls until true; returns the seconds it took, fails the test after `within` seconds.

    Who had to wait for the processor meanwhile looks once more when the time is over.
    """
    start = time.monotonic()
    while True:
        over = time.monotonic() - start >= within
        if condition():
            return time.monotonic() - start
        assert not over, f"not within {within} s: {what}"
        time.sleep(_POLL)

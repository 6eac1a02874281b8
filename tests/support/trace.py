"""Records what passes on both sides of a pooler, and writes it down in the format of libpq's traces.

Law: a relay notes bytes before it passes them on, so a message that answers another stands behind it. Traces
of two connections are never merged: which of them was first is often chance.
"""

import contextlib
import difflib
import re
import select
import socket
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final, Self

from protocol import tags
from protocol.trace import Trace
from tests.support.fault_proxy import Way

_ENCRYPTION: Final = {tags.SSL_REQUEST, tags.GSSENC_REQUEST}
_VARYING: Final = re.compile(r'^B\t\d+\t(ParameterStatus\t "server_version") ".*"$', re.MULTILINE)
_GREETING: Final = re.compile(
    r"(AuthenticationOk\n)(?:B\t\w+\tParameterStatus\t.*\n)+(B\t\d+\tBackendKeyData)"
)


class Recording:
    """One relayed connection, and in `pieces` what passed there, in order. `ended`: both sides have left."""

    def __init__(self, client: socket.socket, upstream: tuple[str, int]) -> None:
        self.pieces: list[tuple[Way, bytes]] = []
        self.ended = threading.Event()
        self._client = client
        self._upstream = upstream

    def run(self) -> None:
        """Pass bytes on until both sides have left."""
        try:
            with self._client as client, socket.create_connection(self._upstream, 5) as server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pass_on({client: (Way.TO_SERVER, server), server: (Way.TO_CLIENT, client)})
        finally:
            self.ended.set()

    def _pass_on(self, ways: dict[socket.socket, tuple[Way, socket.socket]]) -> None:
        while ways:
            for source in select.select([*ways], [], [])[0]:
                way, sink = ways[source]
                data = b""
                with contextlib.suppress(ConnectionError):
                    data = source.recv(65536)
                with contextlib.suppress(OSError):
                    if data:
                        self.pieces.append((way, data))
                        sink.sendall(data)
                    else:
                        del ways[source]
                        sink.shutdown(socket.SHUT_WR)


class Relay:
    """Listens on a free loopback port, passes everything to `upstream` and records each connection."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.recordings: list[Recording] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = "127.0.0.1", int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            recording = Recording(client, self.upstream)
            self.recordings.append(recording)
            threading.Thread(target=recording.run, daemon=True).start()

    def forget(self) -> None:
        """Drop the recordings since the last call of `take`, ended or not."""
        self.recordings = []

    def take(self, within: float = 5.0) -> list[Recording]:
        """The recordings since the last call, in the order of connecting, once all of them have ended.

        `within` bounds the wait for each, in seconds.
        """
        taken, self.recordings = self.recordings, []
        for recording in taken:
            assert recording.ended.wait(within), f"still connected: {lines_of(recording.pieces)}"
        return taken


class _Scribe:
    """Cuts the two directions of one connection into messages; each is told as soon as it is whole."""

    def __init__(self) -> None:
        self.unread = {way: b"" for way in Way}
        self._trace = Trace(regress=True)
        self._before_startup = True
        self._encryption_asked = False

    def next(self, way: Way) -> str | None:
        """The line of the next message in this direction; None while it is not whole."""
        if way is Way.TO_SERVER:
            return self._packet() if self._before_startup else self._message(way)
        if self._encryption_asked and self.unread[way]:
            self._encryption_asked = False
            return self._trace.answer(self._take(way, 1))
        return self._message(way)

    def _packet(self) -> str | None:
        packet = self._whole(Way.TO_SERVER, 0)
        if not packet:
            return None
        self._encryption_asked = int.from_bytes(packet[4:8], "big") in _ENCRYPTION
        self._before_startup = self._encryption_asked
        return self._trace.packet(packet)

    def _message(self, way: Way) -> str | None:
        data = self._whole(way, 1)
        if not data:
            return None
        told = self._trace.frontend if way is Way.TO_SERVER else self._trace.backend
        return told(data[0], data[5:])

    def _whole(self, way: Way, start: int) -> bytes:
        head = self.unread[way][: start + 4]
        size = start + int.from_bytes(head[start:], "big")
        return self._take(way, size) if len(head) == start + 4 and len(self.unread[way]) >= size else b""

    def _take(self, way: Way, size: int) -> bytes:
        taken, self.unread[way] = self.unread[way][:size], self.unread[way][size:]
        return taken


def lines_of(pieces: Iterable[tuple[Way, bytes]]) -> list[str]:
    """One line for each message; in the end one for the beginning of a message that never became whole."""
    scribe, lines = _Scribe(), list[str]()
    for way, data in pieces:
        scribe.unread[way] += data
        while (line := scribe.next(way)) is not None:
            lines.append(line)
    return lines + [f"cut off {way.value}: {data!r}" for way, data in scribe.unread.items() if data]


def transcript(
    sides: Mapping[str, Iterable[Recording]], names: Mapping[str, str], *, greetings: bool = True
) -> str:
    """What passed on either side: a heading and the lines of each connection.

    Hides what another run would have otherwise: object and process ids, secrets, places in the server's
    source and its version. `names` are replaced too, each by one of the same length, which the lengths of
    messages tell. Without `greetings`, what a server reports about itself in a login is left out.
    """
    parts: list[str] = []
    for side, recordings in sides.items():
        for number, recording in enumerate(recordings, 1):
            parts.append("\n".join([f"--- {side} {number}", *lines_of(recording.pieces)]))
    text = _VARYING.sub(r'B\tNN\t\1 "VVVV"', "\n\n".join(parts) + "\n")
    if not greetings:
        text = _GREETING.sub(r"\1...\n\2", text)
    for name, shown in names.items():
        assert len(name) == len(shown), f"{shown} is not as long as {name}"
        text = text.replace(f'"{name}"', f'"{shown}"')
    return text


def differences(expected: str, seen: str) -> str:
    """The lines that differ, with what stands around them; empty when nothing does."""
    before, after = (text.expandtabs(4).splitlines() for text in (expected, seen))
    return "\n".join(difflib.unified_diff(before, after, "expected", "seen", lineterm="", n=4))

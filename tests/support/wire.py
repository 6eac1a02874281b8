"""A raw, blocking PostgreSQL client for tests: it sends exactly what it is told.

Law: every wait has a deadline; running into it fails the test with what was
received so far. "Nothing comes" is asked with `silent_for`, "the other side
hangs up" with `closed_within`.
"""

import select
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support import messages as m
from tests.support.messages import Fields, Message


@dataclass
class Greeting:
    """What a server says at the end of a login."""

    parameters: dict[str, str] = field(default_factory=dict)
    pid: int = 0
    secret: bytes = b""
    notices: list[Fields] = field(default_factory=list)


class LoginRefused(AssertionError):
    """The login ended with an ErrorResponse."""

    def __init__(self, fields: Fields) -> None:
        super().__init__(f"{fields.get('S')} {fields.get('C')}: {fields.get('M')}")
        self.fields = fields


class Raw:
    """One connection. `timeout` (seconds) bounds every single wait."""

    def __init__(self, host: str, port: int, timeout: float = 10.0) -> None:
        self.address = (host, port)
        self.timeout = timeout
        self.greeting = Greeting()
        self._buffer = bytearray()
        self._socket = socket.create_connection((host, port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def local_port(self) -> int:
        return int(self._socket.getsockname()[1])

    # --- leaving ---------------------------------------------------------------------------------

    def close(self) -> None:
        """An ordinary close, without Terminate."""
        self._socket.close()

    def quit(self) -> None:
        """Terminate, then close: how a well-behaved client leaves."""
        self.send(m.terminate())
        self._socket.close()

    def reset(self) -> None:
        """Closes with RST instead of FIN, as when a client's machine kills the connection."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def half_close(self) -> None:
        """FIN in our direction only; still reads."""
        self._socket.shutdown(socket.SHUT_WR)

    # --- bytes -----------------------------------------------------------------------------------

    def send(self, *chunks: bytes) -> None:
        self._socket.settimeout(self.timeout)
        self._socket.sendall(b"".join(chunks))

    def send_quietly(self, *chunks: bytes) -> bool:
        """Sends; False when the other side has already hung up."""
        try:
            self.send(*chunks)
        except (ConnectionError, TimeoutError):
            return False
        return True

    def shrink_receive_buffer(self, size: int = 4096) -> None:
        """Makes the kernel keep little for us, so that not reading is noticed soon."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def take(self, count: int, deadline: float | None = None) -> bytes:
        """Exactly `count` bytes. `deadline` is on time.monotonic()'s clock."""
        limit = time.monotonic() + self.timeout if deadline is None else deadline
        while len(self._buffer) < count:
            self._fill(limit)
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _fill(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not self._readable(left):
            raise TimeoutError(f"nothing more within the deadline; so far {bytes(self._buffer[:200])!r}")
        data = self._socket.recv(65536)
        if not data:
            raise EOFError(f"closed by the other side; unread {bytes(self._buffer[:200])!r}")
        self._buffer += data

    def _readable(self, seconds: float) -> bool:
        # Not select(): thousands of clients have descriptors above its limit of 1024.
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    # --- messages --------------------------------------------------------------------------------

    def message(self, deadline: float | None = None) -> Message:
        limit = time.monotonic() + self.timeout if deadline is None else deadline
        header = self.take(5, limit)
        (length,) = struct.unpack("!I", header[1:])
        assert 4 <= length < 2**30, f"nonsense length {length} in {header!r}"
        return Message(header[:1], self.take(length - 4, limit))

    def until(self, *stop: bytes, within: float | None = None) -> list[Message]:
        """Messages up to and including the first whose tag is in `stop` (default ReadyForQuery)."""
        wanted = stop or (b"Z",)
        deadline = time.monotonic() + (self.timeout if within is None else within)
        seen: list[Message] = []
        while not seen or seen[-1].tag not in wanted:
            seen.append(self.message(deadline))
        return seen

    def until_closed(self, within: float | None = None) -> list[Message]:
        """All messages up to the end of the connection, by FIN or RST."""
        deadline = time.monotonic() + (self.timeout if within is None else within)
        seen: list[Message] = []
        while True:
            try:
                seen.append(self.message(deadline))
            except (EOFError, ConnectionError):
                assert not self._buffer, f"cut off in a message: {bytes(self._buffer[:200])!r}"
                return seen

    def silent_for(self, seconds: float) -> bool:
        """True when not one byte (and no end of file) arrives in that time."""
        return not self._buffer and not self._readable(seconds)

    def closed_within(self, seconds: float) -> bool:
        """True when the other side hangs up in that time without another byte."""
        return self.until_closed(within=seconds) == []

    # --- whole conversations ---------------------------------------------------------------------

    def login(
        self,
        user: str,
        database: str,
        parameters: Mapping[str, str | bytes] | None = None,
        *,
        version: int = m.PROTOCOL_3_0,
        answer: Callable[[Message], bytes] | None = None,
    ) -> Greeting:
        """Sends the startup packet and reads to ReadyForQuery; `answer` serves password requests."""
        names: dict[str, str | bytes] = {"user": user, "database": database, **(parameters or {})}
        self.send(m.startup(names, version=version))
        return self.finish_login(answer)

    def finish_login(self, answer: Callable[[Message], bytes] | None = None) -> Greeting:
        greeting = Greeting()
        while True:
            got = self.message()
            match got.tag:
                case b"E":
                    raise LoginRefused(m.fields_of(got.body))
                case b"R" if got.body[:4] not in (m.int32(0), m.int32(12)):
                    assert answer is not None, f"asked for a password: {got!r}"
                    self.send(answer(got))
                case b"S":
                    name, value, _ = got.body.split(b"\0", 2)
                    greeting.parameters[name.decode()] = value.decode()
                case b"K":
                    greeting.pid, greeting.secret = struct.unpack("!I", got.body[:4])[0], got.body[4:]
                case b"N":
                    greeting.notices.append(m.fields_of(got.body))
                case b"Z":
                    self.greeting = greeting
                    return greeting

    def ask(self, *chunks: bytes, within: float | None = None) -> list[Message]:
        """Sends and reads to the next ReadyForQuery."""
        self.send(*chunks)
        return self.until(within=within)

    def query(self, sql: str, within: float | None = None) -> list[Message]:
        return self.ask(m.query(sql), within=within)

    def rows(self, sql: str, within: float | None = None) -> list[list[str | None]]:
        """Rows of a simple query; an error fails the test."""
        got = self.query(sql, within)
        assert not m.errors(got), m.errors(got)
        return m.rows(got)

    def value(self, sql: str, within: float | None = None) -> str | None:
        """The first column of the only row."""
        ((value, *_),) = self.rows(sql, within)
        return value

    def error(self, sql: str) -> Fields:
        """The ERROR of a simple query, after which the connection is ready again."""
        got = self.query(sql)
        assert m.tags(got) == "EZ", got
        fields = m.fields_of(got[0].body)
        assert fields["S"] == "ERROR", fields
        return fields


def send_cancel(address: tuple[str, int], pid: int, secret: bytes, timeout: float = 30.0) -> None:
    """A CancelRequest over a connection of its own; fails if it is answered with even one byte."""
    with Raw(*address, timeout=timeout) as raw:
        raw.send(m.cancel_request(pid, secret))
        assert raw.closed_within(timeout), "a CancelRequest must not be answered"

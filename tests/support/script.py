"""A fake PostgreSQL server that plays a script on a thread for each connection.

Law: a script is a function of one `Conversation`; what it does not expect ends
that connection and is kept in `FakeServer.problems`, which `close()` raises. A
script may end a connection at any point by returning.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support import messages as m
from tests.support.certificates import common_name
from tests.support.messages import Message

STARTUP_PARAMETERS: Mapping[str, str] = {
    "application_name": "",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "default_transaction_read_only": "off",
    "in_hot_standby": "off",
    "integer_datetimes": "on",
    "IntervalStyle": "postgres",
    "is_superuser": "off",
    "server_encoding": "UTF8",
    "server_version": "16.0",
    "session_authorization": "fake",
    "standard_conforming_strings": "on",
    "TimeZone": "UTC",
}
"""What a stock server reports at login."""

_CANCEL, _SSL, _GSSENC = 80877102, 80877103, 80877104


class Unexpected(AssertionError):
    """The pooler sent something the script did not foresee."""


@dataclass
class Cancel:
    """A CancelRequest that was received."""

    pid: int
    secret: bytes


@dataclass
class Conversation:
    """One accepted connection, after its startup packet (for SSL and GSS requests see `FakeServer`).

    `shown` is the common name in the certificate that came with TLS, if one did.
    """

    server: "FakeServer"
    socket: socket.socket
    number: int
    startup: dict[str, str] = field(default_factory=dict)
    version: int = 0
    seen: list[Message] = field(default_factory=list)
    asked_for_tls: bool = False
    tls: str | None = None
    shown: str | None = None
    _buffer: bytearray = field(default_factory=bytearray)

    @property
    def pid(self) -> int:
        return 1000 + self.number

    @property
    def secret(self) -> bytes:
        return struct.pack("!I", 0xABC00000 + self.number)

    def shake_hands(self, context: ssl.SSLContext) -> None:
        """Go over to TLS. Of a failure the other side hears: a reset could overtake what TLS says of it."""
        secure = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        try:
            secure.do_handshake()
        except ssl.SSLError:
            self.socket = socket.socket(fileno=secure.detach())
            self.socket.settimeout(5)
            while self.socket.recv(65536):
                pass
            raise
        self.socket, self.tls = secure, secure.version()
        shown = secure.getpeercert(binary_form=True)
        self.shown = common_name(shown) if shown else None

    def take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._buffer += data
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def packet(self) -> bytes:
        """An untyped packet without its length."""
        (length,) = struct.unpack("!I", self.take(4))
        return self.take(length - 4)

    def read(self) -> Message:
        """The next message; EOFError when the pooler has hung up."""
        header = self.take(5)
        (length,) = struct.unpack("!I", header[1:])
        got = Message(header[:1], self.take(length - 4))
        self.seen.append(got)
        return got

    def expect(self, tag: bytes, text: bytes | None = None) -> Message:
        """The next message, which must have this tag and, if given, contain this text."""
        got = self.read()
        if got.tag != tag or (text is not None and text not in got.body):
            raise Unexpected(f"expected {tag!r} {text!r}, got {got!r}")
        return got

    def send(self, *chunks: bytes) -> None:
        self.socket.sendall(b"".join(chunks))

    def welcome(self, parameters: Mapping[str, str] | None = None) -> None:
        """AuthenticationOk, ParameterStatus for each, BackendKeyData, ReadyForQuery."""
        values = {**STARTUP_PARAMETERS, **(parameters or {})}
        for name in ("client_encoding", "DateStyle", "TimeZone", "application_name"):
            asked = {key.lower(): value for key, value in self.startup.items()}.get(name.lower())
            if asked is not None and name not in (parameters or {}):
                values[name] = asked
        statuses = [m.parameter_status(name, value) for name, value in values.items()]
        key = m.backend_key_data(self.pid, self.secret)
        self.send(m.authentication(0), *statuses, key, m.ready_for_query())

    def refuse(self, sqlstate: str, text: str) -> None:
        """A FATAL ErrorResponse; return from the script afterwards."""
        self.send(m.error_response(sqlstate, text, severity="FATAL"))

    def hears_the_end(self) -> bool:
        """Whether the other side ends the connection, and says nothing before."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def hang_up(self) -> None:
        """Ends the connection, from whichever thread."""
        self.socket.shutdown(socket.SHUT_RDWR)

    def answer(self, *values: str, status: bytes = b"I") -> None:
        """One row of text columns, CommandComplete and ReadyForQuery."""
        names = [f"c{n}" for n in range(len(values))]
        row = [m.row_description(names), m.data_row(values)]
        self.send(*row, m.command_complete("SELECT 1"), m.ready_for_query(status))

    def serve(self) -> None:
        """Answers every simple query with its own text as the only column, until Terminate or EOF.

        The empty query (the pooler's check), SET and DISCARD are answered as PostgreSQL does.
        """
        while True:
            got = self.read()
            if got.tag == b"X":
                return
            if got.tag != b"Q":
                raise Unexpected(f"the default script serves simple queries only, got {got!r}")
            sql = got.body.rstrip(b"\0").decode()
            verb = sql.split(" ", 1)[0].rstrip(";").upper()
            if not sql.strip("; "):
                self.send(m.message(b"I"), m.ready_for_query())
            elif verb in ("SET", "DISCARD", "RESET", "UNLISTEN"):
                self.send(m.command_complete(verb), m.ready_for_query())
            else:
                self.answer(sql)


Script = Callable[[Conversation], None]


def default_script(conversation: Conversation) -> None:
    """Lets anybody in and echoes queries."""
    conversation.welcome()
    conversation.serve()


class FakeServer:
    """Listens on a loopback port, free unless given; `script` may be replaced for later connections.

    `answer` is what an SSLRequest gets: after an S comes the handshake with `context`, without one nothing;
    after anything but S and N the script is not played. Failed handshakes are kept in `failures`. With
    `hangs_up` it ends every connection after the first byte.
    """

    def __init__(self, script: Script = default_script, host: str = "127.0.0.1", port: int = 0) -> None:
        self.script = script
        self.host = host
        self.conversations: list[Conversation] = []
        self.answer = b"N"
        self.context: ssl.SSLContext | None = None
        self.hangs_up = False
        self.requests = 0
        self.failures: list[str] = []
        self.cancels: list[Cancel] = []
        self.cancels_over_tls = 0
        self.problems: list[BaseException] = []
        self._unanswered: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server((self.host, port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up on everybody and raises the first problem of any script."""
        _shut(self._listener)
        with self._lock:
            for end in [*self._unanswered, *(each.socket for each in self.conversations)]:
                _shut(end)
        if self.problems:
            raise self.problems[0]

    def hang_up(self) -> None:
        """Ends the connections of all who wait for a handshake."""
        with self._lock:
            for waiting in self._unanswered:
                with contextlib.suppress(OSError):
                    waiting.shutdown(socket.SHUT_RDWR)

    def inject(self, data: bytes) -> None:
        """Says something in the clear to all who wait for a handshake."""
        with self._lock:
            for waiting in self._unanswered:
                waiting.sendall(data)

    def plain(self) -> int:
        """How many startup packets have arrived in the clear."""
        with self._lock:
            return sum(each.tls is None for each in self.conversations)

    def logins(self) -> int:
        """How many startup packets have arrived."""
        with self._lock:
            return len(self.conversations)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._run, args=(accepted,), daemon=True).start()

    def _run(self, accepted: socket.socket) -> None:
        conversation = Conversation(self, accepted, 0)
        try:
            if self._begin(conversation):
                self.script(conversation)
        except ssl.SSLError as error:
            self.failures.append(error.reason or str(error))
        except (EOFError, ConnectionError, OSError):
            pass
        except BaseException as problem:
            self.problems.append(problem)
        finally:
            _shut(conversation.socket)

    def _begin(self, conversation: Conversation) -> bool:
        """Reads up to the startup packet; False for a CancelRequest, and after a strange answer."""
        if self.hangs_up:
            conversation.socket.recv(1)
            self.requests += 1
            return False
        if self.context is not None and conversation.socket.recv(1, socket.MSG_PEEK) == b"\x16":
            conversation.shake_hands(self.context)
        while True:
            packet = conversation.packet()
            (code,) = struct.unpack("!I", packet[:4])
            if code == _SSL:
                self.requests += 1
                conversation.asked_for_tls = True
                # Looked at once: whoever hears the answer may change it for the next and hang up on this one.
                answer = self.answer
                if answer == b"N":
                    conversation.send(answer)
                elif answer == b"S" and self.context is not None:
                    conversation.send(answer)
                    conversation.shake_hands(self.context)
                else:
                    self._let_wait(conversation, answer)
                    return False
                continue
            if code == _GSSENC:
                conversation.send(b"N")
                continue
            if code == _CANCEL:
                self.cancels_over_tls += conversation.tls is not None
                self.cancels.append(Cancel(struct.unpack("!I", packet[4:8])[0], packet[8:]))
                return False
            words = packet[4:].split(b"\0")
            texts = [word.decode() for word in words[: len(words) - 2]]
            conversation.startup = dict(zip(texts[::2], texts[1::2], strict=True))
            conversation.version = code
            with self._lock:
                self.conversations.append(conversation)
                conversation.number = len(self.conversations)
            return True

    def _let_wait(self, conversation: Conversation, answer: bytes) -> None:
        """Say this and nothing more, and listen to whatever comes."""
        with self._lock:
            self._unanswered.append(conversation.socket)
        conversation.send(answer)
        while conversation.socket.recv(65536):
            pass


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()

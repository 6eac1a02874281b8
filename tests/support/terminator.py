"""A TLS terminator in front of a PostgreSQL that has no TLS of its own.

Law: it speaks TLS from the first byte (direct TLS, ALPN `postgresql`) or after an SSLRequest, as told, and
passes everything else on unchanged. What its clients showed in the handshake is kept.
"""

import contextlib
import select
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import messages as m
from tests.support.certificates import Files, common_name

ALPN = "postgresql"


@dataclass
class Handshake:
    """What one client showed: the host name it asked for (SNI), its ALPN, its certificate's common name."""

    direct: bool
    version: str | None
    host: str | None
    alpn: str | None
    subject: str | None


def server_context(files: Files, *, client_ca: Path | None = None, alpn: bool = True) -> ssl.SSLContext:
    """A server's context; with `client_ca` a client may show a certificate, which is then checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    if alpn:
        context.set_alpn_protocols([ALPN])
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class Terminator:
    """Listens on a free port of `host`. `context` may be replaced for later connections.

    `direct`: whether clients may begin with a handshake; `negotiated`: whether an SSLRequest gets an S. Those
    who ask for nothing are passed on in the clear.
    """

    def __init__(
        self,
        target: tuple[str, int],
        context: ssl.SSLContext,
        *,
        direct: bool = True,
        negotiated: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.context = context
        self.direct = direct
        self.negotiated = negotiated
        self.host = host
        self.handshakes: list[Handshake] = []
        self.failures: list[str] = []
        self.plain = 0
        self._target = target
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take no more clients and hang up on everybody."""
        _shut(self._listener)
        self._acceptor.join(10)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(10)

    def hang_up(self) -> None:
        """End all connections."""
        with self._lock:
            for each in self._open:
                _shut(each)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._run, args=(accepted,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, accepted: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._forget, accepted)
            self._remember(accepted)
            with contextlib.suppress(OSError, EOFError):
                client, begun = self._begin(accepted)
                stack.callback(client.close)
                upstream = stack.enter_context(socket.create_connection(self._target, 10))
                upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stack.callback(self._forget, upstream)
                self._remember(upstream)
                upstream.sendall(begun)
                _relay(client, upstream)

    def _remember(self, end: socket.socket) -> None:
        with self._lock:
            self._open.add(end)

    def _forget(self, end: socket.socket) -> None:
        with self._lock:
            self._open.discard(end)
            end.close()

    def _begin(self, accepted: socket.socket) -> tuple[socket.socket, bytes]:
        """The client after its handshake, if there is one, and what it has said in the clear."""
        if accepted.recv(1, socket.MSG_PEEK) == b"\x16":
            if not self.direct:
                raise EOFError
            return self._shake_hands(accepted, True), b""
        begun = accepted.recv(8, socket.MSG_WAITALL)
        if begun == m.ssl_request():
            accepted.sendall(b"S" if self.negotiated else b"N")
            if self.negotiated:
                return self._shake_hands(accepted, False), b""
            begun = b""
        self.plain += 1
        return accepted, begun

    def _shake_hands(self, accepted: socket.socket, direct: bool) -> ssl.SSLSocket:
        asked: list[str | None] = []
        self.context.sni_callback = lambda _, host, __: asked.append(host)
        try:
            client = self.context.wrap_socket(accepted.dup(), server_side=True)
        except ssl.SSLError as error:
            self.failures.append(error.reason or str(error))
            raise
        alpn = client.selected_alpn_protocol()
        shown = client.getpeercert(binary_form=True)
        subject = common_name(shown) if shown else None
        self.handshakes.append(Handshake(direct, client.version(), next(iter(asked), None), alpn, subject))
        if direct and alpn != ALPN:
            client.close()
            raise EOFError
        return client


def _relay(client: socket.socket, server: socket.socket) -> None:
    """Pass on what comes, until either side ends."""
    client.setblocking(False)
    server.setblocking(False)
    while True:
        pending = client.pending() if isinstance(client, ssl.SSLSocket) else 0
        readable = [client] if pending else select.select([client, server], [], [])[0]
        for one, other in ((client, server), (server, client)):
            if one in readable:
                try:
                    data = one.recv(65536)
                except (ssl.SSLWantReadError, BlockingIOError):
                    continue
                if not data:
                    return
                _send(other, data)


def _send(end: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[end.send(rest) :]
        except (ssl.SSLWantWriteError, BlockingIOError):
            select.select([], [end], [])
        except ssl.SSLWantReadError:
            select.select([end], [], [])


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)

"""A bare PostgreSQL client on a blocking socket: cheap, and independent of the code that is measured.

It logs in (trust, clear text or SCRAM-SHA-256), sends simple queries and COPY, and throws results away. SCRAM
keys are kept per password, salt and iterations, so that a login costs the server's side and not PBKDF2 here.
"""

import base64
import contextlib
import functools
import hashlib
import hmac
import os
import socket
import ssl
import struct
from collections.abc import Iterable
from typing import Self

_PROTOCOL_3_0 = 196608
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_RECEIVE = 64 * 1024
_READY = b"Z\0\0\0\x05I"


class ServerError(Exception):
    """The other side sent an ErrorResponse; the text is its message."""


@functools.lru_cache(maxsize=64)
def _keys(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    return client, hmac.digest(salted, b"Server Key", "sha256")


def verifier(password: str, salt: bytes, iterations: int = 4096) -> str:
    """The secret as PostgreSQL stores it (pg_authid.rolpassword): SCRAM-SHA-256$iterations:salt$keys."""
    client, server = _keys(password, salt, iterations)
    stored = base64.b64encode(hashlib.sha256(client).digest()).decode()
    return (
        f"SCRAM-SHA-256${iterations}:{base64.b64encode(salt).decode()}"
        f"${stored}:{base64.b64encode(server).decode()}"
    )


@functools.cache
def _anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Client:
    """One logged-in connection, `secure` over TLS; use as a context manager, or call `close`.

    Raises OSError when there is nobody, ServerError when the login or a query is refused.
    """

    def __init__(
        self, host: str, port: int, user: str, database: str, password: str = "", *, secure: bool = False
    ) -> None:
        self._buffer = bytearray()
        self._password = password
        family = socket.AF_UNIX if host.startswith("/") else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(30)
            self._socket.connect(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port))
            if family == socket.AF_INET:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if secure:
                self._encrypt()
            parameters = f"user\0{user}\0database\0{database}\0\0".encode()
            self._socket.sendall(struct.pack("!ii", 8 + len(parameters), _PROTOCOL_3_0) + parameters)
            self._login()
        except BaseException:
            self._socket.close()
            raise

    def _encrypt(self) -> None:
        self._socket.sendall(_SSL_REQUEST)
        if self._socket.recv(1) != b"S":
            raise ServerError("there is no TLS")
        self._socket = _anybody().wrap_socket(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say Terminate and close."""
        try:
            with contextlib.suppress(OSError):
                self._socket.sendall(b"X\0\0\0\x04")
        finally:
            self._socket.close()

    def query(self, text: str) -> None:
        """Run one simple query, rows are thrown away; raises ServerError with the first error."""
        self._send(b"Q", text.encode() + b"\0")
        self._until_ready()

    def drain(self, text: str) -> int:
        """Run one query whose data cannot contain a ReadyForQuery; returns the bytes of the reply.

        The reply is not framed, so that a result of megabytes costs this side nothing but its reads.
        """
        self._send(b"Q", text.encode() + b"\0")
        buffer = bytearray(_RECEIVE)
        tail = b""
        size = 0
        while not tail.endswith(_READY):
            count = self._socket.recv_into(buffer)
            if not count:
                raise ConnectionError("the server closed the connection")
            if not size and buffer[0] == ord("E"):
                raise ServerError(_error_text(bytes(buffer[5:count])))
            size += count
            tail = (tail + buffer[max(0, count - len(_READY)) : count])[-len(_READY) :]
        return size

    def copy_in(self, text: str, data: Iterable[bytes]) -> None:
        """COPY ... FROM STDIN: every item of `data` is one CopyData message."""
        self._send(b"Q", text.encode() + b"\0")
        self._until(b"G")
        for block in data:
            self._send(b"d", block)
        self._send(b"c", b"")
        self._until_ready()

    def _send(self, tag: bytes, body: bytes) -> None:
        self._socket.sendall(tag + struct.pack("!i", len(body) + 4) + body)

    def _message(self) -> tuple[bytes, bytes]:
        buffer = self._buffer
        while len(buffer) < 5 or len(buffer) < 1 + int.from_bytes(buffer[1:5], "big"):
            self._fill()
        end = 1 + int.from_bytes(buffer[1:5], "big")
        tag, body = bytes(buffer[:1]), bytes(buffer[5:end])
        del buffer[:end]
        return tag, body

    def _fill(self) -> None:
        data = self._socket.recv(_RECEIVE)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data

    def _until(self, wanted: bytes) -> bytes:
        """Skip messages up to one with this tag; an ErrorResponse on the way is raised."""
        while True:
            tag, body = self._message()
            if tag == wanted:
                return body
            if tag == b"E":
                raise ServerError(_error_text(body))

    def _until_ready(self) -> None:
        """Read to the end of the reply; the first error in it is raised then."""
        error = ""
        while True:
            tag, body = self._message()
            if tag == b"Z":
                break
            if tag == b"E":
                error = error or _error_text(body)
        if error:
            raise ServerError(error)

    def _login(self) -> None:
        while True:
            body = self._until(b"R")
            code = int.from_bytes(body[:4], "big")
            if code == 0:
                self._until(b"Z")
                return
            if code == 3:
                self._send(b"p", self._password.encode() + b"\0")
            elif code == 10:
                self._scram()
            else:
                raise ServerError(f"authentication request {code} is not one the bench knows")

    def _scram(self) -> None:
        nonce = base64.b64encode(os.urandom(18)).decode()
        bare = f"n=,r={nonce}"
        first = f"n,,{bare}".encode()
        self._send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
        challenge = self._until(b"R")[4:].decode()
        parts = dict(part.split("=", 1) for part in challenge.split(","))
        client, _ = _keys(self._password, base64.b64decode(parts["s"]), int(parts["i"]))
        unproven = f"c=biws,r={parts['r']}"
        stored = hashlib.sha256(client).digest()
        signature = hmac.digest(stored, f"{bare},{challenge},{unproven}".encode(), "sha256")
        proof = bytes(a ^ b for a, b in zip(client, signature, strict=True))
        self._send(b"p", f"{unproven},p={base64.b64encode(proof).decode()}".encode())
        self._until(b"R")


def _error_text(body: bytes) -> str:
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    return f"{fields.get(b'C', '?????')} {fields.get(b'M', 'no message')}"

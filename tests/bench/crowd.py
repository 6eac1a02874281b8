"""Clients for the storm: many logins at once by SCRAM-SHA-256, in the clear or by TLS, and some who work.

All of them live in one event loop and do as little as can be done, so that the pooler is what is measured.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import ssl
import struct
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.bench.client import _keys
from tests.bench.cluster import Address

_READY = b"Z\0\0\0\x05I"
_QUERY = b"Q\0\0\0\x0dselect 1\0"
_OK, _SASL, _CONTINUE, _FINAL = 0, 10, 11, 12


class Refused(Exception):
    """The login was answered with an error, or with the end of the connection."""


class Login(asyncio.Protocol):
    """One connection; `done` is set when it may ask, or cannot. Then `answered` is called at each reply."""

    def __init__(self, address: Address, context: ssl.SSLContext | None) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answered: asyncio.Future[None] | None = None
        self._address = address
        self._buffer = bytearray()
        self._bare = b""
        self._in = self._out = None
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._handshaking = context is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        if self._handshaking:
            self._shake_hands()
        else:
            self._begin()

    def data_received(self, data: bytes) -> None:
        try:
            self._receive(data)
        except Exception as error:
            self._failed(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._failed(exc or Refused("the connection was closed"))

    def ask(self) -> "asyncio.Future[None]":
        """Send a query; the result is there when the reply has been read."""
        self.answered = asyncio.get_running_loop().create_future()
        self._send(_QUERY)
        return self.answered

    def close(self) -> None:
        self._send(b"X\0\0\0\x04")
        self._transport.close()

    def _receive(self, data: bytes) -> None:
        if self._tls is not None:
            self._incoming.write(data)
            if self._handshaking:
                self._shake_hands()
                if self._handshaking:
                    return
            data = self._decrypted(self._tls)
        self._buffer += data
        if self.done.done():
            if self._buffer.endswith(_READY) and self.answered is not None and not self.answered.done():
                self._buffer.clear()
                self.answered.set_result(None)
            return
        while (message := self._message()) is not None:
            self._on_message(*message)

    def _shake_hands(self) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
            self._handshaking = False
        except ssl.SSLWantReadError:
            pass
        if self._outgoing.pending:
            self._transport.write(self._outgoing.read())
        if not self._handshaking:
            self._begin()

    def _decrypted(self, tls: ssl.SSLObject) -> bytes:
        parts = []
        try:
            while part := tls.read(65536):
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        return b"".join(parts)

    def _send(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        self._transport.write(data)

    def _message(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 5 or len(buffer) < (end := 1 + int.from_bytes(buffer[1:5], "big")):
            return None
        tag, body = buffer[0], bytes(buffer[5:end])
        del buffer[:end]
        return tag, body

    def _begin(self) -> None:
        parameters = f"user\0{self._address.user}\0database\0{self._address.database}\0\0".encode()
        self._send(struct.pack("!ii", 8 + len(parameters), 196608) + parameters)

    def _on_message(self, tag: int, body: bytes) -> None:
        if tag == ord("E"):
            raise Refused(body.decode(errors="replace"))
        if tag == ord("Z") and not self.done.done():
            self.done.set_result(None)
        elif tag == ord("R"):
            code = int.from_bytes(body[:4], "big")
            if code == _SASL:
                self._bare = b"n=,r=" + base64.b64encode(os.urandom(18))
                first = b"n,," + self._bare
                self._password(b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
            elif code == _CONTINUE:
                self._password(self._proof(body[4:]))
            elif code not in (_OK, _FINAL):
                raise Refused(f"authentication request {code}")

    def _password(self, data: bytes) -> None:
        self._send(b"p" + struct.pack("!i", len(data) + 4) + data)

    def _proof(self, challenge: bytes) -> bytes:
        parts = dict(part.split("=", 1) for part in challenge.decode().split(","))
        client, _ = _keys(self._address.password, base64.b64decode(parts["s"]), int(parts["i"]))
        unproven = f"c=biws,r={parts['r']}".encode()
        signature = hmac.digest(
            hashlib.sha256(client).digest(), b",".join((self._bare, challenge, unproven)), "sha256"
        )
        proof = bytes(a ^ b for a, b in zip(client, signature, strict=True))
        return unproven + b",p=" + base64.b64encode(proof)

    def _failed(self, error: Exception) -> None:
        for waiter in (self.done, self.answered):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)
                waiter.exception()


@dataclass(slots=True)
class Crowd:
    """What became of the logins and of those who worked meanwhile; times are seconds."""

    logins: list[float] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    quiet: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    took: float = 0.0


def trusting_context() -> ssl.SSLContext:
    """Whoever answers is believed: the storm is not about that."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["postgresql"])
    return context


async def log_in(address: Address, context: ssl.SSLContext | None = None) -> Login:
    """One client that is in. Raises OSError, Refused."""
    loop = asyncio.get_running_loop()
    _, login = await loop.create_connection(lambda: Login(address, context), address.host, address.port)
    await login.done
    return login


async def storm(
    address: Address,
    *,
    clients: int,
    workers: int,
    tls: bool = False,
    pause: float = 0.02,
    quiet: float = 1.0,
    patience: float = 120.0,
) -> Crowd:
    """Let `workers` ask again and again, `pause` apart; after `quiet` seconds `clients` log in at once."""
    context = trusting_context() if tls else None
    crowd = Crowd()
    inside = [await log_in(address, context) for _ in range(workers)]
    phase = [crowd.quiet]
    tasks = [asyncio.ensure_future(_work(login, phase, pause)) for login in inside]
    await asyncio.sleep(quiet)
    phase[0] = crowd.busy
    began = time.perf_counter()
    came = await asyncio.gather(*(_come(address, context, crowd, patience) for _ in range(clients)))
    crowd.took = time.perf_counter() - began
    phase.clear()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    crowd.lost.update(f"of those inside: {result!r}" for result in results if result is not None)
    for login in (*inside, *(one for one in came if one is not None)):
        login.close()
    return crowd


async def _work(login: Login, phase: list[list[float]], pause: float) -> None:
    """Ask again and again, and note how long each took in the phase there is; until there is none."""
    while phase:
        began = time.perf_counter()
        await login.ask()
        if phase:
            phase[0].append(time.perf_counter() - began)
        await asyncio.sleep(pause)


async def _come(
    address: Address, context: ssl.SSLContext | None, crowd: Crowd, patience: float
) -> Login | None:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(patience):
            login = await log_in(address, context)
    except (OSError, Refused, TimeoutError) as error:
        crowd.lost[repr(error)[:120]] += 1
        return None
    crowd.logins.append(time.perf_counter() - began)
    return login

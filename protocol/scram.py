"""SCRAM-SHA-256 (RFC 5802, RFC 7677), both sides, as PostgreSQL and libpq speak it.

The costly step, PBKDF2, never runs inside: whoever drives a login is asked for it by a `Derive`. Every
message is parsed strictly and capped in length, since both sides may be hostile; whatever is wrong with one
is a ScramError. Nothing here shows a key or a password in a repr. Channel binding is tls-server-end-point:
its data is an argument, absent where there is no TLS.
"""

import binascii
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final, Self

from .errors import ProtocolError

MECHANISM: Final = b"SCRAM-SHA-256"
MECHANISM_PLUS: Final = b"SCRAM-SHA-256-PLUS"
BINDING_TYPE: Final = b"tls-server-end-point"

DEFAULT_ITERATIONS: Final = 4096
MAX_ITERATIONS: Final = 100_000
"""More than this from a server is taken for an attack on our processor."""
MAX_STORED_ITERATIONS: Final = 2_000_000
"""More than this in a stored verifier, which PostgreSQL lets every role choose for itself, is one, too: a
password in clear text would be checked against it for minutes.
"""
MAX_MESSAGE: Final = 65_536
MAX_NONCE: Final = 1024
MAX_SALT: Final = 1024

_KEY_LENGTH: Final = 32
_PRINTABLE: Final = re.compile(rb"[!-~]{1,%d}" % MAX_NONCE)
_PREFIX: Final = b"SCRAM-SHA-256$"


class ScramError(ProtocolError):
    """A SCRAM message is malformed, or says what it must not."""


@dataclass(frozen=True)
class Derive:
    """A request for SaltedPassword = PBKDF2(password, salt, iterations); `password` is in normal form."""

    password: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    iterations: int

    def run(self) -> bytes:
        """Do it, here and now: 1 to 100 milliseconds of processor time, so not on the event loop."""
        return hashlib.pbkdf2_hmac("sha256", self.password, self.salt, self.iterations)


@dataclass(init=False, unsafe_hash=True)
class ScramVerifier:
    """What a server stores instead of a password: enough to check one, not enough to log in with."""

    iterations: int
    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    # What dataclasses write themselves is never compiled: each login would pay for it.
    def __init__(self, iterations: int, salt: bytes, stored_key: bytes, server_key: bytes) -> None:
        self.iterations = iterations
        self.salt = salt
        self.stored_key = stored_key
        self.server_key = server_key

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read PostgreSQL's form, `SCRAM-SHA-256$iterations:salt$stored:server`. Raises ValueError, also for
        more than MAX_STORED_ITERATIONS.
        """
        parts = text.removeprefix(_PREFIX).replace(b"$", b":").split(b":")
        if not text.startswith(_PREFIX) or len(parts) != 4:
            raise ValueError("not a SCRAM-SHA-256 verifier")
        try:
            iterations = _number(parts[0], MAX_STORED_ITERATIONS)
            salt, stored_key, server_key = [_decoded(part) for part in parts[1:]]
        except ScramError as error:
            raise ValueError(f"not a SCRAM-SHA-256 verifier: {error}") from None
        verifier = cls(iterations, salt, stored_key, server_key)
        if verifier.format() != text or not salt or {len(stored_key), len(server_key)} != {_KEY_LENGTH}:
            raise ValueError("not a SCRAM-SHA-256 verifier")
        return verifier

    def format(self) -> bytes:
        """Write PostgreSQL's form."""
        salt, stored_key, server_key = map(_encoded, (self.salt, self.stored_key, self.server_key))
        return b"%b%d:%b$%b:%b" % (_PREFIX, self.iterations, salt, stored_key, server_key)


@dataclass(init=False, unsafe_hash=True)
class ScramKeys:
    """Both keys of a password under one salt: enough to log in to a server that stores the same verifier."""

    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    iterations: int

    def __init__(self, client_key: bytes, server_key: bytes, salt: bytes, iterations: int) -> None:
        self.client_key = client_key
        self.server_key = server_key
        self.salt = salt
        self.iterations = iterations

    @classmethod
    def of(cls, salted_password: bytes, salt: bytes, iterations: int) -> Self:
        """Return the keys that follow from the answer to a Derive."""
        client_key, server_key = _hmac(salted_password, b"Client Key"), _hmac(salted_password, b"Server Key")
        return cls(client_key, server_key, salt, iterations)

    def verifier(self) -> ScramVerifier:
        """Return what a server would store of this password."""
        return ScramVerifier(self.iterations, self.salt, _sha256(self.client_key), self.server_key)


class ScramServer:
    """The server's side of one exchange: `first`, `final`, then `keys` for each verifier that may match.

    `salt` and `iterations` are announced to the client, so only verifiers that share them can match.
    `binding` is the channel binding data of this connection, None where it has none; `plus` says that the
    client chose SCRAM-SHA-256-PLUS.
    """

    def __init__(
        self,
        salt: bytes,
        iterations: int,
        *,
        nonce: str | None = None,
        binding: bytes | None = None,
        plus: bool = False,
    ) -> None:
        self._salt: bytes = salt
        self._iterations: int = iterations
        self._nonce: bytes = (nonce or new_nonce()).encode()
        self._binding: bytes | None = binding
        self._plus: bool = plus
        self._bound: bytes = _bound(binding, plus)
        self._channel: bytes = b""
        self._auth_message: bytes = b""
        self._proof: bytes = b""

    def first(self, client_first: bytes) -> bytes:
        """Read client-first-message, return server-first-message. Raises ScramError."""
        _check(client_first)
        flag, _, rest = client_first.partition(b",")
        authzid, _, bare = rest.partition(b",")
        self._check_flag(flag)
        if authzid:
            raise ScramError("SCRAM authorization identity is not supported")
        parts = bare.split(b",")
        _value(parts[0], b"n")  # libpq leaves it empty: the name is in the startup packet
        self._nonce = _nonce(_part(parts, 1, b"r")) + self._nonce
        _check_extensions(parts[2:])
        self._channel = _encoded(flag + b",," + self._bound)
        server_first = b"r=%b,s=%b,i=%d" % (self._nonce, _encoded(self._salt), self._iterations)
        self._auth_message = bare + b"," + server_first
        return server_first

    def _check_flag(self, flag: bytes) -> None:
        """Flag `y`: the client could bind but was not offered to. If it was, someone stands between us."""
        if self._plus:
            accepted = flag == b"p=" + BINDING_TYPE
        else:
            accepted = flag == b"n" or (flag == b"y" and self._binding is None)
        if not accepted:
            raise ScramError("SCRAM channel binding negotiation error")

    def final(self, client_final: bytes) -> None:
        """Read client-final-message, all but whether its proof is right. Raises ScramError."""
        _check(client_final)
        unproven, _, proof = client_final.rpartition(b",p=")
        parts = unproven.split(b",")
        channel, nonce = _value(parts[0], b"c"), _part(parts, 1, b"r")
        _check_extensions(parts[2:])
        if not hmac.compare_digest(channel, self._channel):
            raise ScramError("SCRAM channel binding check failed")
        if not hmac.compare_digest(nonce, self._nonce):
            raise ScramError("SCRAM nonce does not match")
        self._proof = _decoded(proof)
        if len(self._proof) != _KEY_LENGTH:
            raise ScramError("malformed SCRAM message (proof of a wrong length)")
        self._auth_message += b"," + unproven

    def keys(self, verifier: ScramVerifier) -> ScramKeys | None:
        """Return the keys that the proof reveals if it was made from `verifier`'s password, else None."""
        client_key = _xor(self._proof, _hmac(verifier.stored_key, self._auth_message))
        if not hmac.compare_digest(_sha256(client_key), verifier.stored_key):
            return None
        return ScramKeys(client_key, verifier.server_key, verifier.salt, verifier.iterations)

    def answer(self, keys: ScramKeys) -> bytes:
        """Return server-final-message: our own proof."""
        return b"v=" + _encoded(_hmac(keys.server_key, self._auth_message))


class ScramClient:
    """The client's side of one exchange: `first`, `challenge`, `final`, `verify`, in this order.

    `binding` is the channel binding data of this connection, None where it has none; `plus` says that we
    chose SCRAM-SHA-256-PLUS. With binding data but without `plus` the server is told that it offered none.
    """

    def __init__(self, *, nonce: str | None = None, binding: bytes | None = None, plus: bool = False) -> None:
        self._nonce: bytes = (nonce or new_nonce()).encode()
        flag = b"n" if binding is None else b"p=" + BINDING_TYPE if plus else b"y"
        self._header: bytes = flag + b",,"
        self._channel: bytes = _encoded(self._header + _bound(binding, plus))
        self._bare: bytes = b"n=,r=" + self._nonce
        self._auth_message: bytes = b""
        self._server_signature: bytes = b""

    def first(self) -> bytes:
        """Return client-first-message."""
        return self._header + self._bare

    def challenge(self, server_first: bytes, max_iterations: int = MAX_ITERATIONS) -> tuple[bytes, int]:
        """Read server-first-message, return salt and iterations (1..`max_iterations`). Raises ScramError."""
        _check(server_first)
        parts = server_first.split(b",")
        nonce = _nonce(_value(parts[0], b"r"))
        salt, iterations = _decoded(_part(parts, 1, b"s")), _number(_part(parts, 2, b"i"), max_iterations)
        if len(parts) != 3:
            raise ScramError("malformed SCRAM message (more than was expected)")
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ScramError("SCRAM nonce does not match")
        if not 0 < len(salt) <= MAX_SALT:
            raise ScramError("malformed SCRAM message (salt of a wrong length)")
        self._nonce = nonce
        self._auth_message = self._bare + b"," + server_first
        return salt, iterations

    def final(self, keys: ScramKeys) -> bytes:
        """Return client-final-message; `keys` are those of the salt and iterations of the challenge."""
        unproven = b"c=%b,r=%b" % (self._channel, self._nonce)
        auth_message = self._auth_message + b"," + unproven
        proof = _xor(keys.client_key, _hmac(_sha256(keys.client_key), auth_message))
        self._server_signature = _hmac(keys.server_key, auth_message)
        return unproven + b",p=" + _encoded(proof)

    def verify(self, server_final: bytes) -> None:
        """Read server-final-message. Raises ScramError unless it proves that the server knows us."""
        _check(server_final)
        if server_final.startswith(b"e="):
            raise ScramError("server refused the SCRAM exchange")
        if not hmac.compare_digest(_decoded(_value(server_final, b"v")), self._server_signature):
            raise ScramError("server does not know the password (wrong SCRAM signature)")


def new_nonce() -> str:
    """Return a fresh nonce: 18 random bytes in base64, as libpq's."""
    return _encoded(secrets.token_bytes(18)).decode()


def _bound(binding: bytes | None, plus: bool) -> bytes:
    """Return the data that goes into the channel binding attribute behind the header."""
    if not plus:
        return b""
    if binding is None:
        raise ValueError("SCRAM-SHA-256-PLUS without channel binding data")
    return binding


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _xor(left: bytes, right: bytes) -> bytes:
    # As numbers: a login has a few of these, and bytes one by one cost more than its hashes.
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(_KEY_LENGTH, "big")


def _encoded(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)


def _decoded(text: bytes) -> bytes:
    """Decode base64, and only what we would have written ourselves: no white space, no stray bits."""
    try:
        data = binascii.a2b_base64(text)
    except ValueError:
        data = b""
    if _encoded(data) != text:
        raise ScramError("malformed SCRAM message (invalid base64)")
    return data


def _number(text: bytes, maximum: int) -> int:
    if not text.isdigit() or len(text) > 10 or not 1 <= int(text) <= maximum:
        raise ScramError("malformed SCRAM message (invalid iteration count)")
    return int(text)


def _nonce(text: bytes) -> bytes:
    if _PRINTABLE.fullmatch(text) is None:
        raise ScramError("malformed SCRAM message (invalid nonce)")
    return text


def _check(message: bytes) -> None:
    if len(message) > MAX_MESSAGE or 0 in message:
        raise ScramError("malformed SCRAM message")


def _value(part: bytes, name: bytes) -> bytes:
    """Return the value of the attribute `name`; `part` must be it."""
    if not part.startswith(name + b"="):
        raise ScramError(f"malformed SCRAM message (attribute {name.decode()!r} expected)")
    return part[2:]


def _part(parts: list[bytes], at: int, name: bytes) -> bytes:
    return _value(parts[at] if at < len(parts) else b"", name)


def _check_extensions(parts: list[bytes]) -> None:
    """Optional extensions are ignored (RFC 5802, 5.1); a mandatory one or an early proof is not."""
    for part in parts:
        if not part[:1].isalpha() or part[1:2] != b"=" or part[:1] in b"mp":
            raise ScramError("malformed SCRAM message (invalid extension)")

"""What both login conversations are made of: steps, replies, and the ways to fail.

A conversation is a generator. It yields bytes to send (b"" for nothing) and is sent the next message as
(tag, body); or it yields a Derive and is sent the derived bytes. It returns its result or raises a LoginError
or a ProtocolError. Only `exchange` and `derive` yield, so only they know what comes back.
"""

from collections.abc import Generator
from enum import Enum, StrEnum
from typing import TypeAlias, TypeVar

from .report import ErrorResponse
from .saslprep import saslprep
from .scram import Derive

T = TypeVar("T")
Step: TypeAlias = bytes | Derive
Reply: TypeAlias = tuple[int, bytes] | bytes
Conversation: TypeAlias = Generator[Step, Reply, T]


class AuthMethod(StrEnum):
    """How a client proves who it is, or we to a server; the values are PgBouncer's names."""

    TRUST = "trust"
    ANY = "any"
    PLAIN = "plain"
    MD5 = "md5"
    SCRAM_SHA_256 = "scram-sha-256"


class ChannelBinding(Enum):
    """Whether a login at a server is tied to the TLS connection under it; the values are libpq's words."""

    DISABLE = "disable"
    PREFER = "prefer"
    REQUIRE = "require"


class LoginError(Exception):
    """A login that ended without anyone breaking the protocol."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate: str = sqlstate
        self.message: str = message


class LoginFailed(LoginError):
    """A client did not prove who it is; `message` is all that it may be told."""


class LoginImpossible(LoginError):
    """A server asks for what we cannot or may not give; nothing secret was sent."""


class ServerRefused(LoginError):
    """A server sent an ErrorResponse; `raw` is the whole message, to be shown to clients as it is."""

    def __init__(self, error: ErrorResponse, raw: bytes) -> None:
        super().__init__(error.sqlstate, error.message)
        self.error: ErrorResponse = error
        self.raw: bytes = raw


def exchange(data: bytes = b"") -> Generator[Step, Reply, tuple[int, bytes]]:
    """Send `data` and return the next message."""
    reply = yield data
    if isinstance(reply, tuple):
        return reply
    raise TypeError("a login that waits for a message was sent something else")


def derive(password: bytes, salt: bytes, iterations: int) -> Generator[Step, Reply, bytes]:
    """Return the SaltedPassword of `password`, which is brought to its normal form first."""
    reply = yield Derive(saslprep(password), salt, iterations)
    if isinstance(reply, bytes):
        return reply
    raise TypeError("a login that waits for a derived key was sent something else")

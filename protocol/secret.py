"""What is stored of a password, in PostgreSQL's three forms: itself, an MD5 hash, or a SCRAM verifier.

Which form a text has, the text tells (manual, "pg_authid"; PgBouncer, "Authentication file format"). No form
ever shows itself in a repr.
"""

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from .scram import ScramVerifier

_MD5_LENGTH: Final = 35
_HEX: Final = frozenset(b"0123456789abcdef")
# The same few are read at every login.
_verifier = functools.lru_cache(maxsize=1000)(ScramVerifier.parse)


@dataclass(frozen=True)
class PlainSecret:
    """The password itself; empty means that nobody can log in with it."""

    password: bytes = field(repr=False)


@dataclass(frozen=True)
class Md5Secret:
    """`digest` is md5(password + user name) in lower-case hexadecimal, without the word `md5`."""

    digest: bytes = field(repr=False)


Secret: TypeAlias = PlainSecret | Md5Secret | ScramVerifier


def is_empty(secret: Secret) -> bool:
    """Whether nobody can log in with it."""
    return isinstance(secret, PlainSecret) and not secret.password


def parse_secret(text: bytes) -> Secret:
    """Tell the form of a stored secret.

    Raises ValueError for a text that begins like a SCRAM verifier and is none: taking it for a password would
    let in whoever has seen the file.
    """
    if text.startswith(b"SCRAM-SHA-256$"):
        return _verifier(text)
    if len(text) == _MD5_LENGTH and text.startswith(b"md5") and _HEX.issuperset(text[3:]):
        return Md5Secret(text[3:])
    return PlainSecret(text)


def md5_secret(password: bytes, user: bytes) -> Md5Secret:
    """Hash a password as PostgreSQL stores it."""
    return Md5Secret(_md5(password + user))


def md5_response(secret: Md5Secret, salt: bytes) -> bytes:
    """Return the answer to AuthenticationMD5Password with this salt, without its terminator."""
    return b"md5" + _md5(secret.digest + salt)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()

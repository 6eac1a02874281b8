"""Passwords as objects that cannot be printed by accident, and the two ways a file may point at one."""

import hmac
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from .types import Kind

MASK = "***"
_REFERENCE = re.compile(r"\$(\$\{|\{([A-Za-z_][A-Za-z0-9_]*)\})")


class Secret:
    """A password or a stored form of one (md5..., SCRAM-SHA-256$...), as bytes.

    Printing, logging or dumping it shows `***`; only `reveal()` gives the bytes. It is never empty.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if not value:
            raise ValueError("must not be empty")
        if b"\0" in value:
            raise ValueError("must not contain a NUL character")
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return hmac.compare_digest(self._value, other._value) if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)


def to_secret(value: object) -> object:
    """Wrap text or bytes; text is taken as UTF-8."""
    if isinstance(value, str):
        return Secret(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, bytes):
        return Secret(value)
    if value is None or isinstance(value, Secret):
        return value
    raise ValueError("must be text")


# PostgreSQL's `SCRAM-SHA-256$iterations:salt$stored:server`; both keys have 32 bytes, in base64.
_VERIFIER = re.compile(
    rb"SCRAM-SHA-256\$[1-9][0-9]{0,9}:[A-Za-z0-9+/]+=*\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}="
)


def check_form(secret: Secret) -> Secret:
    """Return the secret; ValueError if it begins like a SCRAM verifier and is none.

    Nobody's password looks like that: a verifier was cut or mistyped, and would let in nobody.
    """
    value = secret.reveal()
    if value.startswith(b"SCRAM-SHA-256$") and not _VERIFIER.fullmatch(value):
        raise ValueError("the secret begins like a SCRAM-SHA-256 verifier, but is none")
    return secret


OptionalSecret = Annotated[
    Secret | None,
    BeforeValidator(to_secret),
    PlainSerializer(lambda value: None if value is None else MASK, return_type=str | None),
    WithJsonSchema({"type": "string", "writeOnly": True}),
    Kind("text", lambda value: MASK),
]


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replace each `${NAME}` by that environment variable; `$${` stands for a literal `${`.

    Raises ValueError naming the first variable that is not set.
    """

    def value_of(reference: re.Match[str]) -> str:
        name = reference[2]
        if name is None:
            return "${"
        if name not in environ:
            raise ValueError(f"the environment variable {name} is not set")
        return environ[name]

    return _REFERENCE.sub(value_of, text)

"""The kinds of values a setting can have: how each is read from text, checked, and shown.

Text is read by PgBouncer's rules (integers with C prefixes, seconds with fractions, words in any case); the
same fields also take the Python value itself, so that TOML and tests can hand one over. A `Kind` beside the
type says what the README calls it and how SHOW CONFIG prints it.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field

MAX_INT = 2**31 - 1
"""PgBouncer keeps its numbers in a C int."""

MAX_WORKERS = 64

_C_INTEGER = re.compile(r"([+-]?)(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})\Z")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,20}\Z")
_SECONDS = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\Z")
_OCTAL = re.compile(r"0[0-7]*\Z")
_TLS_VERSIONS = frozenset(
    {"all", "default", "legacy", "secure", "tlsv1", "tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"}
)
_AUTH_METHODS = frozenset({"scram-sha-256", "md5", "password", "none"})
"""libpq's words in require_auth, those of methods we speak."""
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class Choice(StrEnum):
    """One of a few words; upper and lower case are the same, as in PgBouncer."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        folded = value.lower() if isinstance(value, str) else None
        return next((member for member in cls if member.value == folded), None)


class PoolMode(Choice):
    """When a server goes back to its pool: at the end of the session, transaction or statement."""

    SESSION = "session"
    TRANSACTION = "transaction"
    STATEMENT = "statement"


class AuthType(Choice):
    """How a client proves who it is."""

    ANY = "any"
    TRUST = "trust"
    PLAIN = "plain"
    MD5 = "md5"
    SCRAM_SHA_256 = "scram-sha-256"
    CERT = "cert"
    PEER = "peer"
    HBA = "hba"
    LDAP = "ldap"
    PAM = "pam"


class SslMode(Choice):
    """libpq's six modes; from REQUIRE on, an unencrypted connection is an error."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"

    @property
    def required(self) -> bool:
        """Nothing goes out in the clear."""
        return self not in (SslMode.DISABLE, SslMode.ALLOW, SslMode.PREFER)

    @property
    def verifies(self) -> bool:
        """The other side's certificate is looked at."""
        return self in (SslMode.VERIFY_CA, SslMode.VERIFY_FULL)


class SslNegotiation(Choice):
    """How TLS begins: asked for by an SSLRequest, or with the first byte (PostgreSQL 17)."""

    POSTGRES = "postgres"
    DIRECT = "direct"


class TlsVersion(Choice):
    """libpq's words for one version of TLS."""

    V1_0 = "tlsv1"
    V1_1 = "tlsv1.1"
    V1_2 = "tlsv1.2"
    V1_3 = "tlsv1.3"


class LoadBalance(Choice):
    """Which of several hosts a new server connection goes to: the next one, or the last that worked."""

    ROUND_ROBIN = "round-robin"
    DISABLE = "disable"


class UnknownParameters(Choice):
    """What happens to startup parameters that are not tracked: end the login, or set them on servers."""

    REFUSE = "refuse"
    APPLY = "apply"


class EventLoop(Choice):
    UVLOOP = "uvloop"
    ASYNCIO = "asyncio"


class LogFormat(Choice):
    TEXT = "text"
    JSON = "json"


class ServerProtocol(Choice):
    """The newest protocol version that servers are asked for."""

    V3_0 = "3.0"
    V3_2 = "3.2"


class ChannelBinding(Choice):
    """libpq's three words for whether a login is tied to the TLS connection under it."""

    DISABLE = "disable"
    PREFER = "prefer"
    REQUIRE = "require"


class DheParams(Choice):
    AUTO = "auto"
    NONE = "none"
    LEGACY = "legacy"


class SyslogFacility(Choice):
    AUTH = "auth"
    AUTHPRIV = "authpriv"
    DAEMON = "daemon"
    USER = "user"
    LOCAL0 = "local0"
    LOCAL1 = "local1"
    LOCAL2 = "local2"
    LOCAL3 = "local3"
    LOCAL4 = "local4"
    LOCAL5 = "local5"
    LOCAL6 = "local6"
    LOCAL7 = "local7"


@dataclass(frozen=True, slots=True)
class Kind:
    """What the README calls a type of value, and how SHOW CONFIG prints one."""

    name: str
    show: Callable[[object], str] = str


def parse_flag(value: object) -> object:
    """Read 0/1, true/false, yes/no, on/off."""
    word = str(value).lower() if isinstance(value, str | int) else None
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"must be 0 or 1, not {excerpt(value)}")


def parse_c_integer(value: object) -> object:
    """Read a number as C's strtol with base 0 does: 0x means hexadecimal, a leading 0 octal."""
    if not isinstance(value, str):
        return _whole(value)
    found = _C_INTEGER.match(value)
    try:
        if found is None:
            raise ValueError
        digits = found[2]
        base = 16 if digits[:2].lower() == "0x" else 8 if digits.startswith("0") else 10
        return int(found[1] + digits, base)
    except ValueError:
        raise ValueError(f"must be a whole number, not {excerpt(value)}") from None


def parse_decimal(value: object) -> object:
    """Read a number as C's atoi does, except that anything after the digits is an error."""
    if not isinstance(value, str):
        return _whole(value)
    if _DECIMAL.match(value) is None:
        raise ValueError(f"must be a whole number, not {excerpt(value)}")
    return int(value)


def parse_seconds(value: object) -> object:
    """Read seconds, fractions allowed: "0.5", "15"."""
    if isinstance(value, str):
        if _SECONDS.match(value) is None:
            raise ValueError(f"must be a number of seconds, not {excerpt(value)}")
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number of seconds, not {excerpt(value)}")
    return value


def parse_workers(value: object) -> object:
    """Read a number of processes; "auto" is one for each processor that this process may run on."""
    if isinstance(value, str) and value.lower() == "auto":
        allowed = getattr(os, "sched_getaffinity", None)
        return min(len(allowed(0)) if allowed is not None else os.cpu_count() or 1, MAX_WORKERS)
    return parse_c_integer(value)


def parse_mode(value: object) -> object:
    """Read a file mode. Text must begin with 0: PgBouncer would read "770" as a decimal number."""
    if not isinstance(value, str):
        return _whole(value)
    if _OCTAL.match(value) is None:
        raise ValueError(f"must be an octal number with a leading zero such as 0770, not {excerpt(value)}")
    return int(value, 8)


def parse_words(value: object) -> object:
    """Split a comma list; quotes around the whole list or around one word are taken off."""
    if isinstance(value, str):
        words = (_unquote(word.strip()) for word in _unquote(value.strip()).split(","))
        return tuple(word for word in words if word)
    return value


def unset_if_empty(value: object) -> object:
    """An empty text means the same as not writing the key at all."""
    return None if value == "" else value


def inherit_if_negative(value: object) -> object:
    """In [databases] and [users] a number below 0 means: not set here."""
    return None if isinstance(value, int | float) and value < 0 else value


def check_tls_versions(words: tuple[str, ...]) -> tuple[str, ...]:
    """Know every word PgBouncer knows; `!` before one takes that version away."""
    for word in words:
        if word.lower().removeprefix("!") not in _TLS_VERSIONS:
            raise ValueError(f'"{word}" is not a TLS version')
    return words


def check_auth_methods(words: tuple[str, ...]) -> tuple[str, ...]:
    """Know the words; at least one, since a list that lets no server in is a mistake."""
    for word in words:
        if word.lower() not in _AUTH_METHODS:
            raise ValueError(f'"{word}" is none of {", ".join(sorted(_AUTH_METHODS))}')
    if not words:
        raise ValueError("must name at least one method")
    return tuple(word.lower() for word in words)


def refuse_nul(value: str) -> str:
    """Settings end up in C strings on the wire and in system calls, where a NUL would cut them."""
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    return value


def excerpt(value: object) -> str:
    """Return the value as a message shows it: quoted, and not endless."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {excerpt(value)}")
    return value


def _unquote(text: str) -> str:
    quote = text[:1]
    if len(text) >= 2 and quote in ("'", '"') and text.endswith(quote) and quote not in text[1:-1]:
        return text[1:-1]
    return text


def show_flag(value: object) -> str:
    return "1" if value else "0"


def show_seconds(value: object) -> str:
    return f"{value:.10g}"


def show_mode(value: object) -> str:
    return f"{value:04o}"


def show_words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


_Nul = AfterValidator(refuse_nul)
_Word = Annotated[str, _Nul]

Flag = Annotated[bool, BeforeValidator(parse_flag, bool | int | str), Kind("0 or 1", show_flag)]
Count = Annotated[int, BeforeValidator(parse_c_integer), Field(ge=0, le=MAX_INT), Kind("number")]
Positive = Annotated[int, BeforeValidator(parse_c_integer), Field(ge=1, le=MAX_INT), Kind("number")]
Port = Annotated[int, BeforeValidator(parse_c_integer), Field(ge=0, le=65535), Kind("number")]
Workers = Annotated[
    int,
    BeforeValidator(parse_workers, int | str),
    Field(ge=1, le=MAX_WORKERS),
    Kind("number or auto"),
]
Mode = Annotated[
    int,
    BeforeValidator(parse_mode, str | int),
    Field(ge=0, le=0o777),
    Kind("octal", show_mode),
]
Seconds = Annotated[
    float, BeforeValidator(parse_seconds), Field(ge=0, le=MAX_INT), Kind("seconds", show_seconds)
]
Words = Annotated[
    tuple[_Word, ...],
    BeforeValidator(parse_words, str | list[str]),
    Kind("list", show_words),
]
TlsVersions = Annotated[Words, AfterValidator(check_tls_versions)]
AuthMethods = Annotated[Words, AfterValidator(check_auth_methods)]
Text = Annotated[str, _Nul, Kind("text")]
OptionalText = Annotated[_Word | None, BeforeValidator(unset_if_empty), Kind("text")]

InheritedCount = Annotated[
    Annotated[int, Field(ge=0, le=MAX_INT)] | None,
    BeforeValidator(inherit_if_negative),
    BeforeValidator(lambda value: value if value is None else parse_decimal(value)),
    Kind("number"),
]
InheritedSeconds = Annotated[
    Annotated[float, Field(ge=0, le=MAX_INT)] | None,
    BeforeValidator(inherit_if_negative),
    BeforeValidator(lambda value: value if value is None else parse_seconds(value)),
    Kind("seconds", show_seconds),
]
ServerPort = Annotated[int, BeforeValidator(parse_decimal), Field(ge=1, le=65535), Kind("number")]

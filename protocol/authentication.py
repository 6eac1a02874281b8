"""The messages of tag `R`: what a server asks of a client before it lets it in.

They share one tag and differ in the Int32 that begins their body. `decode` finds the class; each class also
decodes itself and then insists on its own code. All are part of backend.py's vocabulary and exported there.
Source: PostgreSQL manual, "Message Formats", Authentication*.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Final, Self

from . import tags
from .errors import MalformedMessage, UnexpectedMessage
from .messages import Message
from .wire import Reader, put_int32, put_string

SALT_LENGTH: Final = 4
"""Bytes of the salt of AuthenticationMD5Password."""


class Authentication(Message):
    """An authentication request without further data, and the base of those with some."""

    __slots__ = ()

    tag: ClassVar[int] = tags.AUTHENTICATION
    code: ClassVar[int]

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        code = reader.int32()
        if code != cls.code:
            raise UnexpectedMessage(f"authentication request {code} instead of {cls.code}")
        return cls._read_data(reader)

    def _write(self, buffer: bytearray) -> None:
        put_int32(buffer, self.code)
        self._write_data(buffer)

    @classmethod
    def _read_data(cls, reader: Reader) -> Self:
        return cls()

    def _write_data(self, buffer: bytearray) -> None:
        """Append what follows the code: nothing, unless a class has data."""


@dataclass(frozen=True, slots=True)
class AuthenticationOk(Authentication):
    """The client is in."""

    code: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class AuthenticationKerberosV5(Authentication):
    """Kerberos V5, which no server offers any more."""

    code: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class AuthenticationCleartextPassword(Authentication):
    """Send the password as it is."""

    code: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class AuthenticationMD5Password(Authentication):
    """Send the password hashed with this salt of four bytes."""

    code: ClassVar[int] = 5
    salt: bytes

    @classmethod
    def _read_data(cls, reader: Reader) -> Self:
        return cls(reader.take(SALT_LENGTH))

    def _write_data(self, buffer: bytearray) -> None:
        if len(self.salt) != SALT_LENGTH:
            raise MalformedMessage(f"MD5 salt of {len(self.salt)} bytes")
        buffer += self.salt


@dataclass(frozen=True, slots=True)
class AuthenticationGSS(Authentication):
    """Begin GSSAPI."""

    code: ClassVar[int] = 7


@dataclass(frozen=True, slots=True)
class AuthenticationSSPI(Authentication):
    """Begin SSPI."""

    code: ClassVar[int] = 9


@dataclass(frozen=True, slots=True)
class AuthenticationSASL(Authentication):
    """Choose one of these SASL mechanisms, the preferred first."""

    code: ClassVar[int] = 10
    mechanisms: list[bytes]

    @classmethod
    def _read_data(cls, reader: Reader) -> Self:
        mechanisms: list[bytes] = []
        while name := reader.string():
            mechanisms.append(name)
        return cls(mechanisms)

    def _write_data(self, buffer: bytearray) -> None:
        for name in self.mechanisms:
            if not name:
                raise MalformedMessage("SASL mechanism without a name")
            put_string(buffer, name)
        buffer.append(0)


@dataclass(frozen=True, slots=True)
class _WithData(Authentication):
    data: bytes = field(repr=False)

    @classmethod
    def _read_data(cls, reader: Reader) -> Self:
        return cls(reader.rest())

    def _write_data(self, buffer: bytearray) -> None:
        buffer += self.data


@dataclass(frozen=True, slots=True)
class AuthenticationGSSContinue(_WithData):
    """More data of GSSAPI or SSPI."""

    code: ClassVar[int] = 8


@dataclass(frozen=True, slots=True)
class AuthenticationSASLContinue(_WithData):
    """More data of the SASL mechanism."""

    code: ClassVar[int] = 11


@dataclass(frozen=True, slots=True)
class AuthenticationSASLFinal(_WithData):
    """The last data of the SASL mechanism."""

    code: ClassVar[int] = 12


_ALL: Final[tuple[type[Authentication], ...]] = (
    AuthenticationOk,
    AuthenticationKerberosV5,
    AuthenticationCleartextPassword,
    AuthenticationMD5Password,
    AuthenticationGSS,
    AuthenticationGSSContinue,
    AuthenticationSSPI,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
)
REQUESTS: Final[Mapping[int, type[Authentication]]] = MappingProxyType({kind.code: kind for kind in _ALL})
"""The class of each authentication code."""


def decode(body: bytes) -> Authentication:
    """Decode any authentication request. Raises UnexpectedMessage for a code nobody knows, ProtocolError."""
    code = Reader(body).int32()
    kind = REQUESTS.get(code)
    if kind is None:
        raise UnexpectedMessage(f"unknown authentication request {code}")
    return kind.decode(body)

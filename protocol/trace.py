"""One line per message, in the format of libpq's PQtrace: direction, length, name, contents, between tabs.

So a trace taken at the pooler can be compared with one taken in an application. Two laws are ours: whatever a
message holds, its line is one line of printable ASCII; and no password, proof, salt or cancel secret is ever
in it. Source: libpq manual, "PQtrace", "PQsetTraceFlags".
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from . import tags
from .authentication import (
    AuthenticationCleartextPassword,
    AuthenticationGSS,
    AuthenticationGSSContinue,
    AuthenticationMD5Password,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSSPI,
)
from .errors import ProtocolError
from .wire import Reader

# What each letter of a layout stands for: b Byte1, h Int16, i Int32, s String, v length and value; o an Int32
# that differs from run to run; f the fields of a report, l a list of strings, p one of pairs; x bytes that
# are nobody's business. What is in [ ] comes as often as an Int16 in front says, in { } as an Int32 says.
_Layouts = Mapping[int, tuple[str, str]]

_FRONTEND: Final[_Layouts] = MappingProxyType(
    {
        tags.BIND: ("Bind", "ss[h][v][h]"),
        tags.CLOSE: ("Close", "bs"),
        tags.COPY_DATA: ("CopyData", ""),
        tags.COPY_DONE: ("CopyDone", ""),
        tags.COPY_FAIL: ("CopyFail", "s"),
        tags.DESCRIBE: ("Describe", "bs"),
        tags.EXECUTE: ("Execute", "si"),
        tags.FLUSH: ("Flush", ""),
        tags.FUNCTION_CALL: ("FunctionCall", "o[h][v]h"),
        tags.PARSE: ("Parse", "ss[o]"),
        tags.QUERY: ("Query", "s"),
        tags.SYNC: ("Sync", ""),
        tags.TERMINATE: ("Terminate", ""),
    }
)
_BACKEND: Final[_Layouts] = MappingProxyType(
    {
        tags.BACKEND_KEY_DATA: ("BackendKeyData", "ox"),
        tags.BIND_COMPLETE: ("BindComplete", ""),
        tags.CLOSE_COMPLETE: ("CloseComplete", ""),
        tags.COMMAND_COMPLETE: ("CommandComplete", "s"),
        tags.COPY_BOTH_RESPONSE: ("CopyBothResponse", "b[h]"),
        tags.COPY_DATA: ("CopyData", ""),
        tags.COPY_DONE: ("CopyDone", ""),
        tags.COPY_IN_RESPONSE: ("CopyInResponse", "b[h]"),
        tags.COPY_OUT_RESPONSE: ("CopyOutResponse", "b[h]"),
        tags.DATA_ROW: ("DataRow", "[v]"),
        tags.EMPTY_QUERY_RESPONSE: ("EmptyQueryResponse", ""),
        tags.ERROR_RESPONSE: ("ErrorResponse", "f"),
        tags.FUNCTION_CALL_RESPONSE: ("FunctionCallResponse", "v"),
        tags.NEGOTIATE_PROTOCOL_VERSION: ("NegotiateProtocolVersion", "i{s}"),
        tags.NOTICE_RESPONSE: ("NoticeResponse", "f"),
        tags.NOTIFICATION_RESPONSE: ("NotificationResponse", "oss"),
        tags.NO_DATA: ("NoData", ""),
        tags.PARAMETER_DESCRIPTION: ("ParameterDescription", "[o]"),
        tags.PARAMETER_STATUS: ("ParameterStatus", "ss"),
        tags.PARSE_COMPLETE: ("ParseComplete", ""),
        tags.PORTAL_SUSPENDED: ("PortalSuspended", ""),
        tags.READY_FOR_QUERY: ("ReadyForQuery", "b"),
        tags.ROW_DESCRIPTION: ("RowDescription", "[sohohih]"),
    }
)
_AUTHENTICATION: Final[_Layouts] = MappingProxyType(
    {
        0: ("AuthenticationOk", ""),
        2: ("AuthenticationKerberosV5", ""),
        3: ("AuthenticationCleartextPassword", ""),
        5: ("AuthenticationMD5Password", "x"),
        7: ("AuthenticationGSS", ""),
        8: ("AuthenticationGSSContinue", "x"),
        9: ("AuthenticationSSPI", ""),
        10: ("AuthenticationSASL", "l"),
        11: ("AuthenticationSASLContinue", "x"),
        12: ("AuthenticationSASLFinal", "x"),
    }
)
_RESPONSES: Final[_Layouts] = MappingProxyType(
    {
        AuthenticationCleartextPassword.code: ("PasswordMessage", "x"),
        AuthenticationMD5Password.code: ("PasswordMessage", "x"),
        AuthenticationGSS.code: ("GSSResponse", "x"),
        AuthenticationGSSContinue.code: ("GSSResponse", "x"),
        AuthenticationSSPI.code: ("GSSResponse", "x"),
        AuthenticationSASL.code: ("SASLInitialResponse", "x"),
        AuthenticationSASLContinue.code: ("SASLResponse", "x"),
    }
)
"""What the tag `p` means, by the authentication request it answers."""

_PACKETS: Final[_Layouts] = MappingProxyType(
    {
        tags.CANCEL_REQUEST: ("CancelRequest", "hhox"),
        tags.SSL_REQUEST: ("SSLRequest", "hh"),
        tags.GSSENC_REQUEST: ("GSSENCRequest", "hh"),
    }
)
_STARTUP: Final = ("StartupMessage", "hhp")
_UNKNOWN_RESPONSE: Final = ("UnknownAuthenticationResponse", "x")

_CLOSING: Final = {"[": "]", "{": "}"}
_VARYING_FIELDS: Final = b"FLR"


class Trace:
    """Traces one connection, both ways; it must see every message of the login to tell its answers apart.

    `regress` hides what differs from run to run (object ids, process ids, places in the source), as libpq's
    PQTRACE_REGRESS_MODE does.
    """

    def __init__(self, *, regress: bool = False) -> None:
        self._regress: bool = regress
        self._asked: int = -1

    def packet(self, packet: bytes) -> str:
        """Return the line of a packet without a tag, from its length on."""
        code = int.from_bytes(packet[4:8], "big")
        return self._line("F", len(packet), _PACKETS.get(code, _STARTUP), packet[4:])

    def answer(self, byte: bytes) -> str:
        """Return the line of the single byte that answers a request for encryption."""
        return self._line("B", len(byte), ("SSLResponse", "b"), byte)

    def frontend(self, tag: int, body: bytes) -> str:
        """Return the line of a message of the frontend."""
        if tag == tags.PASSWORD:
            known = _RESPONSES.get(self._asked, _UNKNOWN_RESPONSE)
        else:
            known = _FRONTEND.get(tag, _unknown(tag))
        return self._line("F", len(body) + 4, known, body)

    def backend(self, tag: int, body: bytes) -> str:
        """Return the line of a message of the backend."""
        if tag == tags.AUTHENTICATION:
            self._asked = int.from_bytes(body[:4], "big") if len(body) >= 4 else -1
            known = _AUTHENTICATION.get(self._asked, (f"Unknown authentication message {self._asked}", "x"))
            return self._line("B", len(body) + 4, known, body[4:])
        varies = self._regress and tag in (tags.ERROR_RESPONSE, tags.NOTICE_RESPONSE)
        return self._line("B", "NN" if varies else len(body) + 4, _BACKEND.get(tag, _unknown(tag)), body)

    def _line(self, direction: str, length: int | str, known: tuple[str, str], body: bytes) -> str:
        name, layout = known
        contents = _Contents(body, self._regress)
        if layout:
            try:
                contents.walk(layout)
                contents.reader.expect_end()
            except ProtocolError:
                contents.words.append("malformed")
        words = "".join(f" {word}" for word in contents.words)
        return f"{direction}\t{length}\t{name}" + (f"\t{words}" if layout else "")


def _unknown(tag: int) -> tuple[str, str]:
    return f"Unknown message: {tag:02x}", "x"


class _Contents:
    """Reads one body along its layout and collects what is to be shown of it."""

    def __init__(self, body: bytes, regress: bool) -> None:
        self.reader: Reader = Reader(body)
        self.words: list[str] = []
        self._regress: bool = regress

    def walk(self, layout: str) -> None:
        """Read what `layout` says, and show it."""
        at = 0
        while at < len(layout):
            letter = layout[at]
            if letter in _CLOSING:
                end = layout.index(_CLOSING[letter], at)
                self._repeat(letter, layout[at + 1 : end])
                at = end
            else:
                self._show(letter)
            at += 1

    def _repeat(self, bracket: str, layout: str) -> None:
        count = self.reader.uint16() if bracket == "[" else self.reader.int32()
        self.words.append(str(count))
        for _ in range(count):
            self.walk(layout)

    def _show(self, letter: str) -> None:
        match letter:
            case "b":
                self.words.append(_escaped(self.reader.take(1)))
            case "h":
                self.words.append(str(self.reader.uint16()))
            case "i":
                self.words.append(str(self.reader.int32()))
            case "o":
                number = self.reader.int32()
                self.words.append("NNNN" if self._regress else str(number))
            case "s":
                self._string()
            case "x":
                self.reader.rest()
                self.words.append("'BBBB'")
            case _:
                _LONGER[letter](self)

    def _string(self) -> bytes:
        text = self.reader.string()
        self.words.append(f'"{_escaped(text)}"')
        return text

    def value(self) -> None:
        """Show a value and its length, which is -1 for NULL."""
        length = self.reader.int32()
        self.words.append(str(length))
        if length != -1:
            self.words.append(f"'{_escaped(self.reader.take(length))}'")

    def fields(self) -> None:
        """Show the fields of an error or notice, and their terminator."""
        while code := self.reader.byte():
            self.words.append(_escaped(bytes([code])))
            self._string()
            if self._regress and code in _VARYING_FIELDS:
                self.words[-1] = '"SSSS"'
        self.words.append("\\x00")

    def strings(self) -> None:
        """Show strings up to and with the empty one."""
        while self._string():
            pass

    def pairs(self) -> None:
        """Show names and values up to the empty name."""
        while name := self.reader.string():
            self.words.append(f'"{_escaped(name)}"')
            self._string()


_LONGER: Final[Mapping[str, Callable[[_Contents], None]]] = MappingProxyType(
    {"v": _Contents.value, "f": _Contents.fields, "l": _Contents.strings, "p": _Contents.pairs}
)


def _escaped(data: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02x}" for byte in data)

"""One line per message, in the format of libpq's PQtrace: direction, length, name, contents, between tabs.

So a trace taken at the pooler can be compared with one taken in an application. Laws of ours: whatever a
message holds, its line is one line of printable ASCII; no password, proof, salt or cancel secret is ever in
it; and in a redacted trace nothing that a user wrote or stored, but the names of statements and portals.
Source: libpq manual, "PQtrace", "PQsetTraceFlags".
"""

import re
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
# are nobody's business; where users' data are, k a command tag and r the severity and SQLSTATE of a report.
# What is in [ ] comes as often as an Int16 in front says, in { } as an Int32 says.
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

_REDACTED_FRONTEND: Final[Mapping[int, str]] = MappingProxyType(
    {tags.BIND: "ssx", tags.COPY_FAIL: "x", tags.FUNCTION_CALL: "x", tags.PARSE: "sx", tags.QUERY: "x"}
)
_REDACTED_BACKEND: Final[Mapping[int, str]] = MappingProxyType(
    {
        tags.BACKEND_KEY_DATA: "x",
        tags.COMMAND_COMPLETE: "k",
        tags.COPY_BOTH_RESPONSE: "bhx",
        tags.COPY_IN_RESPONSE: "bhx",
        tags.COPY_OUT_RESPONSE: "bhx",
        tags.DATA_ROW: "x",
        tags.ERROR_RESPONSE: "r",
        tags.FUNCTION_CALL_RESPONSE: "x",
        tags.NEGOTIATE_PROTOCOL_VERSION: "x",
        tags.NOTICE_RESPONSE: "r",
        tags.NOTIFICATION_RESPONSE: "x",
        tags.PARAMETER_DESCRIPTION: "hx",
        tags.PARAMETER_STATUS: "x",
        tags.ROW_DESCRIPTION: "hx",
    }
)
"""What a redacted trace shows of a message that may hold data of a user."""

# What PostgreSQL says in these places; whoever broke the protocol may say something else.
_COMMAND_TAG: Final = re.compile(rb"[A-Z][A-Z ]{0,40}(?: \d{1,20}){0,2}")
_SAFE_FIELDS: Final[Mapping[int, re.Pattern[bytes]]] = MappingProxyType(
    {
        0x56: re.compile(rb"ERROR|FATAL|PANIC|WARNING|NOTICE|DEBUG|INFO|LOG"),
        0x43: re.compile(rb"[0-9A-Z]{5}"),
    }
)
# PostgreSQL itself looks at no more of a name (NAMEDATALEN - 1).
_NAME_MOST: Final = 63

_CLOSING: Final = {"[": "]", "{": "}"}
_VARYING_FIELDS: Final = b"FLR"


class Trace:
    """Traces one connection, both ways; it must see every message of the login to tell its answers apart.

    `regress` hides what differs from run to run (object ids, process ids, places in the source), as libpq's
    PQTRACE_REGRESS_MODE does. `redacted` hides what users wrote and stored. Where only the beginning of a
    message is there, `length` is what it says of its length.
    """

    def __init__(self, *, regress: bool = False, redacted: bool = False) -> None:
        self._regress: bool = regress
        self._redacted: bool = redacted
        self._asked: int = -1

    def packet(self, packet: bytes) -> str:
        """Return the line of a packet without a tag, from its length on."""
        code = int.from_bytes(packet[4:8], "big")
        known = _PACKETS.get(code, (_STARTUP[0], "hhx") if self._redacted else _STARTUP)
        return self._line("F", str(len(packet)), known, packet[4:])

    def answer(self, byte: bytes) -> str:
        """Return the line of the single byte that answers a request for encryption."""
        return self._line("B", str(len(byte)), ("SSLResponse", "b"), byte)

    def frontend(self, tag: int, body: bytes, length: int = 0) -> str:
        """Return the line of a message of the frontend."""
        if tag == tags.PASSWORD:
            known = _RESPONSES.get(self._asked, _UNKNOWN_RESPONSE)
        else:
            known = _FRONTEND.get(tag, _unknown(tag))
        if self._redacted:
            known = known[0], _REDACTED_FRONTEND.get(tag, known[1])
        whole = len(body) + 4
        return self._line("F", str(length or whole), known, body, cut=length > whole)

    def backend(self, tag: int, body: bytes, length: int = 0) -> str:
        """Return the line of a message of the backend."""
        whole = len(body) + 4
        if tag == tags.AUTHENTICATION:
            self._asked = int.from_bytes(body[:4], "big") if len(body) >= 4 else -1
            known = _AUTHENTICATION.get(self._asked, (f"Unknown authentication message {self._asked}", "x"))
            return self._line("B", str(length or whole), known, body[4:], cut=length > whole)
        known = _BACKEND.get(tag, _unknown(tag))
        if self._redacted:
            known = known[0], _REDACTED_BACKEND.get(tag, known[1])
        varies = self._regress and tag in (tags.ERROR_RESPONSE, tags.NOTICE_RESPONSE)
        return self._line("B", "NN" if varies else str(length or whole), known, body, cut=length > whole)

    def _line(
        self, direction: str, length: str, known: tuple[str, str], body: bytes, *, cut: bool = False
    ) -> str:
        name, layout = known
        contents = _Contents(body, self._regress, self._redacted)
        if layout:
            try:
                contents.walk(layout)
                contents.reader.expect_end()
            except ProtocolError:
                contents.words.append("..." if cut else "malformed")
        words = "".join(f" {word}" for word in contents.words)
        return f"{direction}\t{length}\t{name}" + (f"\t{words}" if layout else "")


def _unknown(tag: int) -> tuple[str, str]:
    return f"Unknown message: {tag:02x}", "x"


class _Contents:
    """Reads one body along its layout and collects what is to be shown of it."""

    def __init__(self, body: bytes, regress: bool, redacted: bool) -> None:
        self.reader: Reader = Reader(body)
        self.words: list[str] = []
        self._regress: bool = regress
        self._redacted: bool = redacted

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
        cut = self._redacted and len(text) > _NAME_MOST
        self.words.append(f'"{_escaped(text[:_NAME_MOST])}..."' if cut else f'"{_escaped(text)}"')
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

    def command_tag(self) -> None:
        """Show a string if it is a command tag."""
        text = self.reader.string()
        self.words.append(f'"{text.decode()}"' if _COMMAND_TAG.fullmatch(text) else "'BBBB'")

    def safe_fields(self) -> None:
        """Show those fields of a report in which PostgreSQL repeats nothing that a user said."""
        while code := self.reader.byte():
            text = self.reader.string()
            known = _SAFE_FIELDS.get(code)
            if known is not None and known.fullmatch(text):
                self.words += [chr(code), f'"{text.decode()}"']

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
    {
        "v": _Contents.value,
        "f": _Contents.fields,
        "k": _Contents.command_tag,
        "l": _Contents.strings,
        "p": _Contents.pairs,
        "r": _Contents.safe_fields,
    }
)


def _escaped(data: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02x}" for byte in data)

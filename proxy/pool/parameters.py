"""Settings of a session that follow it to whichever server it is lent.

*Tracked* parameters are those every server reports: their values are a tuple in the order of `Tracked.names`,
kept for each session and each server from ParameterStatus. *Applied* ones were asked for at login and are
reported by nobody: they are set on each server lent to the session and reset when the server goes to another.
Tuples are interned, so that the usual comparison is one of identity.
"""

from collections.abc import Iterable
from typing import Final

from protocol.frontend import Query

Values = tuple[bytes | None, ...]
"""Values of the tracked parameters; None where the server never reported one."""
Applied = tuple[tuple[bytes, bytes], ...]
"""Names (lower case) and values, in the order in which they were asked for."""

NOTHING_APPLIED: Final[Applied] = ()

CHANGED: Final = b"\0"
"""In the place of a value somebody may have changed: equal to none that a client can ask for."""

TRACKED: Final = (
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "standard_conforming_strings",
    "application_name",
)
"""What PgBouncer tracks, beside track_extra_parameters."""

# Beyond this many different combinations the table starts anew; comparisons then fall back to equality.
_INTERNED_MOST: Final = 10_000
_KNOWN_MOST: Final = 1_000
_ALIGNMENTS_MOST: Final = 1_000
_KNOWN_LONGEST: Final = 1_024

_IDENTITY: Final = frozenset((b"role", b"session_authorization"))

# Parameters whose value is a plain scalar for SET: what SET would quote twice or split goes through
# set_config.
_SCALAR: Final = frozenset(name.lower().encode() for name in (*TRACKED, "IntervalStyle"))


class Alignment:
    """What makes a server with some values one with others; `message` is empty where nothing needs to be set.

    `reply` is all that a server has said to it, and `values` what it had then: the same words say the same.
    """

    __slots__ = ("message", "reply", "values")

    def __init__(self, statements: bytes, values: Values) -> None:
        self.message = Query(statements).encode() if statements else b""
        self.reply = b""
        self.values = values

    def learn(self, reply: bytes, values: Values) -> None:
        """A server has said this, whole and in one piece, and has these values now."""
        if len(reply) <= _KNOWN_LONGEST:
            self.reply = reply
            self.values = values


class Tracked:
    """Which parameters are tracked, and the interned values of them."""

    __slots__ = (
        "_alignments",
        "_application",
        "_applied",
        "_index",
        "_parsing",
        "_values",
        "names",
        "unknown",
    )

    def __init__(self, extra: Iterable[str] = ()) -> None:
        names: dict[bytes, bytes] = {}
        for name in (*TRACKED, *extra):
            names.setdefault(name.lower().encode(), name.encode())
        self.names = tuple(names.values())
        self._index = {name: at for at, name in enumerate(names)}
        self._values: dict[Values, Values] = {}
        self._parsing: dict[Values, Values] = {}
        self._applied: dict[Applied, Applied] = {}
        self._alignments: dict[tuple[Values, Values], Alignment] = {}
        self._application = self._index[b"application_name"]
        self.unknown = self.intern((None,) * len(self.names))

    def index(self, name: bytes) -> int:
        """Position of a parameter (any case) in the tuples, or -1."""
        return self._index.get(name.lower(), -1)

    def intern(self, values: Values) -> Values:
        """The one tuple that stands for these values."""
        if len(self._values) >= _INTERNED_MOST:
            self._values.clear()
            self._parsing.clear()
        return self._values.setdefault(values, values)

    def parsing(self, values: Values) -> Values:
        """The one tuple that stands for what of these values may change how PostgreSQL reads a statement: all
        but the name of the application.
        """
        known = self._parsing.get(values)
        if known is None:
            at = self._application
            known = self._parsing[values] = self.intern((*values[:at], None, *values[at + 1 :]))
        return known

    def intern_applied(self, applied: Applied) -> Applied:
        """The one tuple that stands for these settings."""
        if not applied:
            return NOTHING_APPLIED
        if len(self._applied) >= _INTERNED_MOST:
            self._applied.clear()
        return self._applied.setdefault(applied, applied)

    def alignment(self, have: Values, want: Values, had: Applied, wanted: Applied) -> Alignment:
        """What `alignment` says, remembered where only values differ."""
        if had is not wanted:
            return Alignment(alignment(self.names, have, want, had, wanted), have)
        found = self._alignments.get((have, want))
        if found is None:
            if len(self._alignments) >= _ALIGNMENTS_MOST:
                self._alignments.clear()
            found = Alignment(alignment(self.names, have, want, had, wanted), have)
            self._alignments[have, want] = found
        return found

    def with_value(self, values: Values, at: int, value: bytes) -> Values:
        """These values with one of them replaced."""
        if values[at] == value:
            return values
        return self.intern((*values[:at], value, *values[at + 1 :]))

    def overlay(self, values: Values, over: dict[bytes, bytes]) -> Values:
        """These values with those of `over` (names in any case) in their places."""
        for name, value in over.items():
            at = self.index(name)
            if at >= 0:
                values = self.with_value(values, at, value)
        return values


class Accepted:
    """Which values servers of one pool have accepted, and in which form they report them.

    What one server accepts another may refuse: each pool asks its own, and asks anew when they change.
    """

    __slots__ = ("_forms",)

    def __init__(self) -> None:
        self._forms: dict[tuple[bytes, bytes], bytes] = {}

    def learn(self, name: bytes, asked: bytes, form: bytes) -> None:
        """A server accepted a value and reports it in this form. Long values are not worth remembering."""
        if len(asked) > _KNOWN_LONGEST:
            return
        if len(self._forms) >= _KNOWN_MOST:
            self._forms.clear()
        self._forms[name.lower(), asked] = form

    def form(self, name: bytes, asked: bytes) -> bytes | None:
        """The form in which servers report this value; None if none has been asked yet."""
        if name.lower() == b"application_name" and clean_application_name(asked) == asked:
            return asked
        return self._forms.get((name.lower(), asked))

    def forget(self) -> None:
        """The servers have changed."""
        self._forms.clear()


def clean_application_name(name: bytes) -> bytes:
    """The part of an application_name that PostgreSQL takes as it is: printable ASCII of at most 63 bytes
    (NAMEDATALEN - 1). For any other byte it puts something else, `?` before version 16 and `\\xNN` since.
    """
    return bytes(byte if 32 <= byte <= 126 else 0x3F for byte in name[:63])


def literal(value: bytes) -> bytes:
    """SQL text whose value is these bytes, whatever client_encoding and standard_conforming_strings are.

    Only plain ASCII goes between quotes: in some client encodings a backslash or a quote may be the second
    byte of a character. Anything else is taken as bytes of the database's encoding, as in a startup packet.
    """
    if value.isascii() and b"\\" not in value and b"\0" not in value:
        return b"'" + value.replace(b"'", b"''") + b"'"
    return (
        b"pg_catalog.convert_from(pg_catalog.decode('%s','hex'),pg_catalog.getdatabaseencoding())"
        % value.hex().encode()
    )


def identifier(name: bytes) -> bytes:
    """A parameter's name quoted for RESET, part by part."""
    return b".".join(b'"' + part.replace(b'"', b'""') + b'"' for part in name.split(b"."))


def setting(name: bytes, value: bytes) -> bytes:
    """One statement that sets a parameter for the session."""
    quoted = literal(value)
    if name.lower() in _SCALAR and quoted.startswith(b"'"):
        return b"SET " + name + b"=" + quoted
    return b"SELECT pg_catalog.set_config(" + literal(name) + b"," + quoted + b",false)"


def alignment(names: tuple[bytes, ...], have: Values, want: Values, had: Applied, wanted: Applied) -> bytes:
    """Statements that make a server with `have` and `had` one with `want` and `wanted`; empty if none is
    needed.

    They are one simple query, so that either all of them hold or none.
    """
    statements = []
    if had is not wanted and had != wanted:
        keep = {name for name, _ in wanted}
        # Who one is decides what one may set: the role of the client before goes first, whatever comes next.
        statements += [b"RESET " + name for name, _ in had if name in _IDENTITY]
        gone = (name for name, _ in had if name not in keep and name not in _IDENTITY)
        statements += [b"RESET " + identifier(name) for name in gone]
        statements += [setting(name, value) for name, value in wanted]
    if have is not want:
        for name, has, value in zip(names, have, want, strict=True):
            if has != value and value is not None:
                statements.append(setting(name, value))
    return b";".join(statements)

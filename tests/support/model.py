"""PostgreSQL as a state machine on bytes, as far as a pooler can tell it from the real one.

Law: an opinion of its own on the protocol, taken from the manual's chapter on the message flow, so that the
pooler's bookkeeping is compared with something that was not derived from it.

Queries are words: `begin`, `commit`, `rollback`, `fail`, `copy`, `zone X` (sets TimeZone); any other text is
echoed in a row together with the TimeZone of the backend. COPY data that contains `bad` fails.
"""

import struct

from tests.support import messages as m

_COPY_IN = m.message(b"G", b"\0\0\1\0\0")
_COPY_ERRORS = {"d": m.copy_error("23505", "duplicate"), "f": m.copy_refused("no")}


class Backend:
    """One session of PostgreSQL. `feed` takes what was sent to it and returns what it sends."""

    def __init__(self, zone: str = "UTC") -> None:
        self.zone = zone
        self.over = False
        self._before = zone
        self._status = "I"
        self._skipping = False
        self._copying = ""
        self._statement = ""
        self._input = bytearray()
        self._buffered: list[bytes] = []
        self._out: list[bytes] = []

    def feed(self, data: bytes) -> bytes:
        self._input += data
        while len(self._input) >= 5:
            tag, length = struct.unpack_from("!cI", self._input)
            if len(self._input) < length + 1 or self.over:
                break
            body = bytes(self._input[5 : length + 1])
            del self._input[: length + 1]
            self._take(tag.decode(), body)
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _take(self, tag: str, body: bytes) -> None:
        if tag == "X":
            self.over = True
        elif self._copying:
            self._copy(tag, body)
        elif tag in "dcf":
            return
        elif tag == "S":
            self._skipping = False
            self._ready()
        elif self._skipping:
            return
        elif tag == "Q":
            self._simple(body.rstrip(b"\0").decode())
        elif tag == "F":
            if self._allowed(""):
                self._say(m.message(b"V", m.int32(-1)))
            self._ready()
        elif tag == "H":
            self._flush()
        else:
            self._extended(tag, body)

    # What is said, and when it leaves.

    def _say(self, message: bytes) -> None:
        self._buffered.append(message)

    def _flush(self) -> None:
        self._out += self._buffered
        self._buffered.clear()

    def _ready(self) -> None:
        if self._status == "I":
            self._before = self.zone
        self._say(m.ready_for_query(self._status.encode()))
        self._flush()

    def _error(self, code: str, said: bytes = b"") -> None:
        if self._status == "I":
            self._set_zone(self._before)
        self._say(said or m.error_response(code, f"error {code}"))
        self._flush()
        if self._status == "T":
            self._status = "E"

    def _allowed(self, text: str) -> bool:
        """Whether the command may run: in a failed transaction only its end may."""
        if self._status == "E" and text not in ("commit", "rollback"):
            self._error("25P02")
            return False
        return True

    # The simple protocol.

    def _simple(self, text: str) -> None:
        for part in text.split(";"):
            if not self._allowed(part):
                break
            if not self._run(part, described=True):
                break
            if self._copying:
                self._copying = "simple"
                return
        self._ready()

    def _run(self, text: str, *, described: bool = False) -> bool:
        """Run one command; False if it failed."""
        verb, _, rest = text.partition(" ")
        if verb == "fail":
            self._error("22012")
            return False
        if verb == "copy":
            self._copying = "extended"
            self._say(_COPY_IN)
            self._flush()
        elif verb in ("begin", "commit", "rollback"):
            self._transaction(verb)
        elif verb == "zone":
            self._set_zone(rest)
            self._say(m.command_complete("SET"))
        elif text.startswith("SET TimeZone="):
            self._set_zone(text.split("'")[1])
            self._say(m.command_complete("SET"))
        else:
            if described:
                self._say(m.row_description(["c0"]))
            self._say(m.data_row([f"{text} in {self.zone}"]))
            self._say(m.command_complete("SELECT 1"))
        return True

    def _transaction(self, verb: str) -> None:
        if verb == "begin":
            self._status = "T"
            self._say(m.command_complete("BEGIN"))
            return
        back = verb == "rollback" or self._status == "E"
        if back and self._status != "I":
            self._set_zone(self._before)
        self._status = "I"
        self._before = self.zone
        self._say(m.command_complete("ROLLBACK" if back else "COMMIT"))

    def _set_zone(self, zone: str) -> None:
        if zone != self.zone:
            self.zone = zone
            self._say(m.parameter_status("TimeZone", zone))

    # The extended protocol.

    def _extended(self, tag: str, body: bytes) -> None:
        if tag == "P":
            text = body.split(b"\0")[1].decode()
            if text == "bad":
                self._fail("42601")
            elif self._checked(text):
                self._statement = text
                self._say(m.message(b"1"))
        elif not self._checked(self._statement if tag != "C" else "commit"):
            return
        elif tag == "B":
            self._say(m.message(b"2"))
        elif tag == "C":
            self._say(m.message(b"3"))
        elif tag == "D":
            plain = self._statement.split(" ")[0] not in (
                "begin",
                "commit",
                "rollback",
                "copy",
                "zone",
                "fail",
            )
            self._say(m.row_description(["c0"]) if plain else m.message(b"n"))
        elif not self._run(self._statement):
            self._skipping = True

    def _checked(self, text: str) -> bool:
        self._skipping = not self._allowed(text)
        return not self._skipping

    def _fail(self, code: str) -> None:
        self._error(code)
        self._skipping = True

    # COPY FROM STDIN.

    def _copy(self, tag: str, body: bytes) -> None:
        how = self._copying
        if tag in "SH" or (tag == "d" and b"bad" not in body):
            return
        self._copying = ""
        if tag == "c":
            self._say(m.command_complete("COPY 1"))
        else:
            self._error("", _COPY_ERRORS.get(tag, m.error_response("08P01", "in COPY")))
            self._skipping = how == "extended"
        if how == "simple":
            self._ready()

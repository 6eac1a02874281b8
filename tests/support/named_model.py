"""PostgreSQL's prepared statements as a state machine on bytes, in addition to what `model` knows.

Law: as there, an opinion of its own, taken from PostgreSQL's documentation and its behaviour. What a
statement answers tells its text, so that one client's statement is never taken for another's.

Queries are those of `model` and `deallocate NAME`, `deallocate all`, `discard all`, `prepare NAME as ...`.
"""

import re

from tests.support import messages as m
from tests.support.model import Backend

_SET = re.compile(r"set_config\('TimeZone','([^']*)',true\)")
_ENDS = ("commit", "rollback")
_WITHOUT_ROWS = ("begin", *_ENDS, "zone", "deallocate", "discard", "fail", "set")


class NamedBackend(Backend):
    """One session of PostgreSQL with statements and portals, by name."""

    def __init__(self, zone: str = "UTC") -> None:
        super().__init__(zone)
        self._statements: dict[str, str] = {}
        self._portals: dict[str, str] = {}
        self._reported = zone
        self._kept = zone
        self._lent = False

    def _complain(self, code: str, text: str) -> bool:
        """Fail, with an error of which the text matters; False."""
        if self._status == "I":
            self._set_zone(self._before)
        self._say(m.error_response(code, text))
        self._flush()
        if self._status == "T":
            self._status = "E"
        return False

    def _unknown(self, name: str) -> bool:
        what = f'prepared statement "{name}"' if name else "unnamed prepared statement"
        return self._complain("26000", f"{what} does not exist")

    def _ready(self) -> None:
        if self._status == "I":
            self._portals.clear()
            if self._lent:
                self._set_zone(self._before)
            self._lent = False
        if self.zone != self._reported:
            self._reported = self.zone
            self._say(m.parameter_status("TimeZone", self.zone))
        super()._ready()

    def _set_zone(self, zone: str) -> None:
        self.zone = zone

    def _allowed(self, text: str) -> bool:
        return super()._allowed(text.lower())

    def _simple(self, text: str) -> None:
        self._statements.pop("", None)
        self._portals.pop("", None)
        super()._simple(text)

    def _run(self, text: str, *, described: bool = False) -> bool:
        verb, _, rest = text.lower().partition(" ")
        if text.startswith("SELECT WHERE pg_catalog.concat("):
            return self._run_setting(text)
        if verb in ("deallocate", "prepare", "discard"):
            return self._run_on_statements(verb, rest)
        return super()._run(text if verb not in _ENDS else text.lower(), described=described)

    def _run_on_statements(self, verb: str, rest: str) -> bool:
        name = rest.split(" ")[0]
        if verb == "discard" and self._status != "I":
            return self._complain("25001", "DISCARD ALL cannot run inside a transaction block")
        if rest == "all":
            self._statements = {name: text for name, text in self._statements.items() if not name}
        elif verb == "prepare":
            self._statements[name] = rest
        elif self._statements.pop(name, None) is None:
            return self._unknown(name)
        tag = {"prepare": "PREPARE", "discard": "DISCARD ALL", "deallocate": "DEALLOCATE"}[verb]
        self._say(m.command_complete(tag + " ALL" * (rest == "all" and verb == "deallocate")))
        return True

    def _run_setting(self, text: str) -> bool:
        """The pooler's own: another zone until it is given back, or until the transaction ends."""
        wanted = _SET.search(text)
        self._lent = wanted is not None
        if wanted is None:
            self._set_zone(self._kept)
        else:
            self._kept = self.zone
            self._set_zone(wanted[1])
        self._say(m.command_complete("SELECT 0"))
        return True

    # The extended protocol.

    def _extended(self, tag: str, body: bytes) -> None:
        names = [part.decode() for part in body.split(b"\0")]
        done = {
            "P": lambda: self._parse(names[0], names[1]),
            "B": lambda: self._bind(names[0], names[1]),
            "D": lambda: self._describe(names[0][:1], names[0][1:]),
            "E": lambda: self._execute(names[0]),
            "C": lambda: self._close(names[0][:1], names[0][1:]),
        }[tag]()
        self._skipping = not done

    def _parse(self, name: str, text: str) -> bool:
        if not name:
            self._statements.pop("", None)
        if text in ("bad", "howdah"):
            return self._complain("42601", "syntax error")
        if not self._allowed(text):
            return False
        if name in self._statements:
            return self._complain("42P05", f'prepared statement "{name}" already exists')
        rows = text.lower().split(" ")[0] not in _WITHOUT_ROWS
        # As a literal of a time would, a text with a name keeps how it was read.
        self._statements[name] = f"{text} as read in {self.zone}" if name and rows else text
        self._say(m.message(b"1"))
        return True

    def _bind(self, portal: str, name: str) -> bool:
        if name not in self._statements:
            return self._unknown(name)
        text = self._statements[name]
        if not self._allowed(text):
            return False
        self._portals[portal] = text
        self._say(m.message(b"2"))
        return True

    def _describe(self, kind: str, name: str) -> bool:
        if kind == "S" and name not in self._statements:
            return self._unknown(name)
        text = self._statements[name] if kind == "S" else self._portals.get(name)
        if text is None:
            return self._complain("34000", "portal does not exist")
        rows = text.lower().split(" ")[0] not in _WITHOUT_ROWS
        if rows and not self._allowed(text):
            return False
        if kind == "S":
            self._say(m.message(b"t", b"\0\0"))
        self._say(m.row_description(["c0"]) if rows else m.message(b"n"))
        return True

    def _execute(self, portal: str) -> bool:
        text = self._portals.get(portal)
        if text is None:
            return self._complain("34000", "portal does not exist")
        return self._allowed(text) and self._run(text)

    def _close(self, kind: str, name: str) -> bool:
        (self._statements if kind == "S" else self._portals).pop(name, None)
        self._say(m.message(b"3"))
        return True

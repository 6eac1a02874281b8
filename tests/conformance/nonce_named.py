"""Named statements of one connection: the same few names mean different texts to every client.

Law: a name is prepared once ParseComplete has come for it, whatever else went
wrong, and until CloseComplete has. Each text says in its result which one it is.
"""

import random
from dataclasses import dataclass, field

from tests.conformance.nonce_requests import Request
from tests.support import messages as m

NAMES = 4
TEXTS = 6
"""Texts that all clients have in common, under one name or another."""
BROKEN, CLOSED = 0.1, 0.1
"""How often a group fails in the middle, and how often a name is given up before it is used."""

_TAKEN = '42P05 prepared statement "s0" already exists'
_NONSENSE = '42601 syntax error at or near "selekt"'


@dataclass
class NamedStatements:
    """Names and texts of one connection. `client` tells its own texts from those of others."""

    client: int
    prepared: dict[str, str] = field(default_factory=dict)
    _sent: list[tuple[str, str]] = field(default_factory=list)
    _generation: int = 0

    def request(self, dice: random.Random, nonce: str) -> tuple[Request, list[str]]:
        """A group of uses of one to three names, and the lines of its reply."""
        data, lines = b"", list[str]()
        self._sent = []
        coming = dict(self.prepared)
        for _ in range(dice.choice((1, 1, 2, 3))):
            number = dice.randrange(NAMES)
            more, told = self._use(number, coming, nonce, give_up=dice.random() < CLOSED)
            data, lines = data + more, lines + told
        if dice.random() < BROKEN:
            taken = "s0" in coming
            data += m.parse("s0", "select 'never'" if taken else "selekt")
            lines.append(f"E ERROR {_TAKEN if taken else _NONSENSE}")
            data += self._use(dice.randrange(NAMES), coming, nonce, give_up=True)[0]
        return Request(data + m.sync(), 1), [*lines, "Z I"]

    def _use(
        self, number: int, coming: dict[str, str], nonce: str, *, give_up: bool
    ) -> tuple[bytes, list[str]]:
        name = f"s{number}"
        data, lines = b"", list[str]()
        if name in coming and give_up:
            data, lines = m.close(b"S", name), ["3"]
            del coming[name]
            self._sent.append((name, ""))
        if name not in coming:
            self._generation += 1
            coming[name] = self._text(number)
            data += m.parse(name, f"select '{coming[name]}' || $1::text")
            lines.append("1")
            self._sent.append((name, coming[name]))
        data += m.bind("", name, [nonce]) + m.describe(b"P") + m.execute()
        return data, [*lines, "2", "T ?column?", f"D {coming[name]}{nonce}", "C SELECT 1"]

    def _text(self, number: int) -> str:
        if self.client % 2:
            return f"own {self.client} {number} {self._generation} "
        return f"common {(self.client + number + self._generation) % TEXTS} "

    def learn(self, lines: list[str]) -> None:
        """What a reply says about the names, also one that ended early."""
        for line in lines:
            if line not in ("1", "3") or not self._sent:
                continue
            name, text = self._sent.pop(0)
            if line == "1":
                self.prepared[name] = text
            else:
                self.prepared.pop(name, None)

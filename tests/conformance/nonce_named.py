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


@dataclass
class NamedStatements:
    """What one connection has prepared. `client` tells its own texts from those of others."""

    client: int
    _texts: dict[str, str] = field(default_factory=dict)
    _prepared: set[str] = field(default_factory=set)
    _generation: int = 0

    def request(self, dice: random.Random, nonce: str) -> tuple[str, Request, list[str]]:
        """A name, the request that uses it, and the lines of the reply."""
        number = dice.randrange(NAMES)
        name = f"s{number}"
        data, lines = b"", list[str]()
        if name in self._prepared and dice.random() < 0.1:
            data, lines = m.close(b"S", name), ["3"]
        if name not in self._prepared or data:
            self._generation += 1
            self._texts[name] = self._text(number)
            data += m.parse(name, f"select '{self._texts[name]}' || $1::text")
            lines.append("1")
        data += m.bind("", name, [nonce]) + m.describe(b"P") + m.execute() + m.sync()
        lines += ["2", "T ?column?", f"D {self._texts[name]}{nonce}", "C SELECT 1", "Z I"]
        return name, Request(data, 1), lines

    def _text(self, number: int) -> str:
        if self.client % 2:
            return f"own {self.client} {number} {self._generation} "
        return f"common {(self.client + number + self._generation) % TEXTS} "

    def learn(self, name: str, lines: list[str]) -> None:
        """What a reply says about the name, also one that ended early."""
        if "3" in lines:
            self._prepared.discard(name)
        if "1" in lines:
            self._prepared.add(name)

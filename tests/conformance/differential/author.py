"""Writes a script out of a seed.

Law: a seed, a slot and a mode make one script, always the same. The author knows what is allowed (`rules`)
and guesses what the server knows, only so that most of what it says makes sense; it never computes a reply.
"""

import random
from collections.abc import Callable, Sequence

from tests.conformance.differential import parts, texts
from tests.conformance.differential.rules import Mode, Rules, lawful
from tests.conformance.differential.script import Script, Step, Wait
from tests.conformance.differential.texts import Text, on
from tests.support import messages as m


def write(seed: int, slot: int, mode: Mode) -> Script:
    """The script of this seed on the tables of this slot."""
    attempt = 0
    while True:
        author = Author(random.Random(f"{seed} {mode} {attempt}"), seed, slot, mode)
        script = author.script()
        if lawful(script.all, mode):
            return script
        attempt += 1


class Author:
    """Writes one script, once."""

    def __init__(self, chance: random.Random, seed: int, slot: int, mode: Mode) -> None:
        self.chance = chance
        self.seed = seed
        self.slot = slot
        self.mode = mode
        self.rules = Rules(mode)
        self.steps: list[Step] = []
        self.known: dict[str, Text] = {}
        self.prepared = 0
        self._used: set[str] = set()
        self._waits = chance.choice((0.0, 0.1, 0.5, 0.9))
        self._cuts = chance.choice((0.0, 0.0, 0.1, 0.7))
        self._ddl = chance.random() < 0.15
        self._latin = chance.random() < 0.1

    def script(self) -> Script:
        chance = self.chance
        count = chance.choice((1, 2, 3, 3, 4, 5, 8)) if chance.random() < 0.98 else 40
        for _ in range(count):
            self.part()
            parts.end_copy(self)
            if count > 1 and chance.random() < 0.3:
                self.end()
        if chance.random() < 0.01:
            return Script(self.seed, (*self.steps, *self.breach()))
        return Script(self.seed, tuple(self.steps), tuple(self.closing()))

    def closing(self) -> list[Step]:
        """End what may be open, forget every name; the servers keep what they have prepared."""
        names = sorted(self._used)
        tidy = f"delete from t{self.slot}; reset all"
        if self._ddl:
            tidy = f"drop table if exists x{self.slot}; {tidy}"
        messages = [m.copy_fail("the end"), m.parse("", "select 1"), m.sync(), m.query("rollback")]
        messages += [m.close(b"S", name) for name in names]
        messages += [m.sync(), m.query(tidy)]
        return [Step(message) for message in messages]

    def breach(self) -> list[Step]:
        """A request in the middle of COPY data, which ends the connection."""
        copy = on(self.chance.choice(texts.COPIES[:3]).sql, self.slot)
        data = self.chance.choice(((), (m.copy_data(b"1"),)))
        messages = (m.parse("", "select 1"), m.sync(), m.query("rollback"), m.query(copy), *data)
        return [*map(Step, messages), Step(m.query("select 'in the middle of COPY data'"))]

    # --- one message -----------------------------------------------------------------------------

    def say(self, data: bytes, *, fails: bool = False, wait: bool = False) -> bool:
        """One message, with a wait behind it and cuts as chance has it; False where the rules forbid it."""
        if self.mode == "statement" and data[:1] in b"QF" and not (self.rules.clean or self.rules.copying):
            self.say(m.sync())
        step = Step(data, self._wait(wait), self._places(len(data)), fails)
        if not self.rules.allows(step):
            return False
        self.rules.take(step)
        self.steps.append(step)
        return True

    def _wait(self, wanted: bool) -> Wait:
        if not wanted and self.chance.random() >= self._waits:
            return Wait.NO
        return Wait.SILENCE if self.chance.random() < 0.15 else Wait.REPLIES

    def _places(self, length: int) -> tuple[int, ...]:
        if self.chance.random() >= self._cuts:
            return ()
        count = self.chance.choice((1, 1, 2))
        return tuple(sorted({self.chance.randrange(length) for _ in range(count)} - {0}))

    def text(self) -> Text:
        """A statement for Parse."""
        kinds: list[tuple[float, Sequence[Text]]] = [
            (8, texts.QUERIES),
            (5, texts.WRITES),
            (1.5, texts.FAILING),
            (1.5, (*texts.NOTICES, *[texts.LATIN] * self._latin)),
            (1, texts.COPIES[3:]),
        ]
        if self.mode != "statement":
            kinds += [(2, texts.TRANSACTIONS), (1, texts.SAVEPOINTS)]
        if self._ddl:
            kinds.append((6, texts.ON_X))
        weights = [weight for weight, _ in kinds]
        return self.chance.choice(self.chance.choices([kind for _, kind in kinds], weights)[0]).at(self.slot)

    def name(self) -> str:
        """A statement's: most often one that has been given."""
        if self.known and self.chance.random() < 0.92:
            return self.chance.choice(sorted(self.known))
        return self.new_name()

    def new_name(self) -> str:
        """A statement's, given or not."""
        return self.chance.choice([name for name in texts.NAMES if name.isascii() or not self._latin])

    def parse(self, name: str, text: Text) -> None:
        """Prepare; the author then takes the name for given."""
        self.say(m.parse(name, text.sql, self.chance.choice(text.types)))
        if name:
            self._used.add(name)
        if name and text.works:
            self.known.setdefault(name, text)

    def bind(self, portal: str, name: str, text: Text | None) -> bool:
        if text is None:
            values: texts.Values = ()
        else:
            values = self.chance.choice(text.good if self.chance.random() < 0.96 else text.bad)
        return self.say(m.bind(portal, name, values))

    def portal(self) -> str:
        return self.chance.choice(("", "", "", *texts.PORTALS))

    def end(self) -> None:
        """The end of a group."""
        if self.rules.interrupted:
            self.say(m.parse("", "select 1"))
        self.say(m.sync(), wait=self.chance.random() < 0.3)

    # --- parts -----------------------------------------------------------------------------------

    def part(self) -> None:
        """One of the shapes of which scripts consist."""
        shapes: list[tuple[float, Callable[[Author], None]]] = [
            (3, parts.simple),
            (4, parts.mixture),
            (4, parts.prepared),
            (2, parts.flushed),
            (2, parts.unnamed),
            (2.5, parts.copy_in),
            (1, parts.copy_out),
            (1, parts.call),
            (1, parts.stray),
            (1.5, parts.deallocate),
            (1, parts.zoned),
            (0.2, parts.long),
            (0.5, parts.sql_prepare),
        ]
        if self.mode != "statement":
            shapes.append((3, parts.block))
        if self._ddl:
            shapes.append((5, parts.ddl))
        self.chance.choices([shape for _, shape in shapes], [weight for weight, _ in shapes])[0](self)

    def sql(self) -> str:
        """A simple query."""
        chance = self.chance
        kind = chance.random()
        if kind < 0.5:
            return self._plain()
        if kind < 0.7:
            return on(chance.choice(texts.BATCHES), self.slot)
        if kind < 0.8 or self.mode == "statement":
            return on(chance.choice(texts.FAILING).sql, self.slot)
        if kind < 0.9:
            return chance.choice((*texts.TRANSACTIONS, *texts.SAVEPOINTS)).sql
        return on(chance.choice(texts.BLOCKS), self.slot)

    def _plain(self) -> str:
        every = (*texts.QUERIES, *texts.WRITES, *texts.NOTICES, *[texts.LATIN] * self._latin)
        return on(self.chance.choice([text.sql for text in every if "$1" not in text.sql]), self.slot)

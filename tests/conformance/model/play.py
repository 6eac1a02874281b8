"""Plays the steps at a target and compares every reply with what the model says.

Law: a step is over when its last ReadyForQuery has come; a reply that no way through the choices predicts
ends the run. At PostgreSQL itself there are no choices.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from tests.conformance.model.author import CLIENTS, ORDERS, Migration, Step, Talk, Trouble
from tests.conformance.model.catalogue import TABLES, World
from tests.conformance.model.choices import Choices, ways
from tests.conformance.model.messages import Extended, Flush, Query, Reply, Sync, heard, same
from tests.conformance.model.session import Group, Session
from tests.support import messages as m
from tests.support.server import Server
from tests.support.target import Target
from tests.support.wire import Raw

PATIENCE = 10.0
SETUP = """
create table model_deeds(n int);
grant all on model_deeds to public
"""


class Difference(AssertionError):
    """A reply that the model did not predict, to the step of this number."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


@dataclass
class Play:
    """Eight clients at one target. `trouble` does what a step of trouble says; without it all is strict."""

    target: Target
    database: str
    server: Server
    trouble: Callable[[str], None] | None = None
    world: World = field(default_factory=World)
    sessions: list[Session] = field(default_factory=list)
    clients: list[Raw] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    last: dict[int, list[str]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """Makes the tables, and lets the clients log in."""
        self.server.sql(SETUP)
        for number in range(CLIENTS):
            order = ORDERS[number % 2]
            self.sessions.append(Session(order))
            parameters = {"DateStyle": f"ISO, {order}"}
            self.clients.append(self.target.raw(self.database, parameters=parameters, timeout=PATIENCE))
            self.last[number] = []
        for table in TABLES:
            self.clients[0].rows(f"create table {table}(n int, word text)")
            self.clients[0].rows(f"insert into {table} values (1, '7')")
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.close()

    def run(self, steps: Iterable[Step]) -> None:
        for number, step in enumerate(steps):
            match step:
                case Talk():
                    self._talk(number, step)
                case Migration():
                    self._migrate(number, step)
                case Trouble() if self.trouble is not None:
                    self.trouble(step.kind)
                    self.counted[f"trouble: {step.kind}"] += 1

    # --- tables -------------------------------------------------------------------------------------------

    def _migrate(self, number: int, step: Migration) -> None:
        if step.client is None:
            self.server.sql(step.sql)
            self.world.elsewhere.add(step.table)
        else:
            self.sessions[step.client].statements.pop("", None)
            expected: list[Reply] = [*(("C", tag) for tag in step.tags), ("Z", "I")]
            got = heard(self.clients[step.client].ask(m.query(step.sql)))
            if not same(expected, got):
                raise Difference(number, self._report(number, step, [expected], got))
            self.world.elsewhere.clear()
        self.world.change(step.table, step.columns)
        self.counted["migration" if step.client is not None else "migration elsewhere"] += 1

    # --- clients ------------------------------------------------------------------------------------------

    def _talk(self, number: int, step: Talk) -> None:
        replies = self._asked(number, step)
        tried: list[list[Reply]] = []
        for way in ways(strict=self.trouble is None):
            session, world = copy.deepcopy((self.sessions[step.client], self.world))
            expected = predicted(session, world, step.messages, way)
            if same(expected, replies):
                self.sessions[step.client], self.world = session, world
                self._count(step, replies)
                return
            tried.append(expected)
        raise Difference(number, self._report(number, step, tried, replies))

    def _asked(self, number: int, step: Talk) -> list[Reply]:
        """Sends everything at once; what came up to the last ReadyForQuery."""
        client, got = self.clients[step.client], list[m.Message]()
        client.send(*(message.encode() for message in step.messages))
        try:
            for message in step.messages:
                if isinstance(message, Sync | Query):
                    got += client.until()
        except (TimeoutError, EOFError) as missing:
            report = self._report(number, step, [], heard(got))
            raise Difference(number, f"{report}\n  then:     {missing!r}") from None
        return heard(got)

    def _count(self, step: Talk, replies: Sequence[Reply]) -> None:
        self.counted.update(type(message).__name__ for message in step.messages)
        self.counted.update(f"error {reply[1]}" for reply in replies if reply[0] == "E")
        memory = self.last[step.client]
        memory.append(f"{step.messages} -> {replies}")
        del memory[:-6]

    def _report(self, number: int, step: Step, tried: Sequence[Sequence[Reply]], got: Sequence[Reply]) -> str:
        lines = [f"step {number} at {self.target.name}: {step}", f"  came:     {got}"]
        lines += [f"  expected: {expected}" for expected in tried[:4]]
        client = getattr(step, "client", None)
        if client is not None:
            lines += [f"  before:   {line}" for line in self.last[client]]
            lines.append(f"  model:    {self.sessions[client]}")
        return "\n".join([*lines, f"  tables:   {self.world}"])


def predicted(session: Session, world: World, messages: Sequence[object], way: Choices) -> list[Reply]:
    """What the model says to everything that was sent together."""
    replies: list[Reply] = []
    group: list[Extended] = []
    alone = sum(isinstance(message, Sync) for message in messages) == 1
    for message in messages:
        if isinstance(message, Query):
            replies += session.query(message)
        elif isinstance(message, Sync):
            whole = alone and not any(isinstance(each, Flush) for each in group)
            replies += session.group(Group(group, whole), world, way)
            group = []
        else:
            group.append(message)  # type: ignore[arg-type]
    return replies

"""Many attacks at once on one pooler, and the crowd in another pool that must not notice any.

Law: besides the clients concerned, everybody else is watched: a crowd with
nonces in a pool before a real PostgreSQL, the process, its log, its memory,
its descriptors.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.conformance.hostile import arena, scram
from tests.conformance.hostile.arena import Arena, Result
from tests.conformance.hostile.cases import cases as all_cases
from tests.conformance.hostile.host import Attack, Host
from tests.conformance.hostile.play import VICTIM, Play, record, record_login
from tests.conformance.hostile.seeds import draw
from tests.conformance.hostile.verdict import Verdict
from tests.support import standard
from tests.support.alive import BYSTANDER, stays_alive
from tests.support.attacks import Tally, crowd
from tests.support.choose_postgres import VARIABLE, Chooser
from tests.support.pooler import Pooler, Settings
from tests.support.server import Server

WIDTH = 8
"""Attacks at the same time."""
MEMORY = 64 * 2**20
"""Bytes by which the pooler may have grown in the end."""


@dataclass
class Outcome:
    """What became of all attacks and of everybody else."""

    results: list[Result] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    bystanders: Tally = field(default_factory=Tally)

    def report(self) -> str:
        """Every problem, then a few lines for people; the last one says it all."""
        ends = Counter(f"{r.verdict.outcome} {r.verdict.code}".strip() for r in self.results)
        answered = sum(result.answered for result in self.results)
        refused = sum(result.refused for result in self.results)
        lines = [
            f"the victims: {dict(ends.most_common())}",
            f"neighbours: {answered} own replies, {refused} clean errors",
            f"bystanders: {self.bystanders.answered} own replies, {self.bystanders.sent_away} sent away",
            f"{len(self.results)} attacks, {len(self.problems)} problems",
        ]
        return "\n".join([*self.problems, *lines])


@dataclass
class Ground:
    """Where attacks take place: a real PostgreSQL, what it said when it was asked, and a pooler."""

    server: Server
    pooler: Pooler
    host: Host
    plays: dict[str, Play]
    greeting: tuple[bytes, ...]

    def seeds(self, seeds: Iterable[int]) -> list[Attack]:
        return [draw(seed, self.plays, self.greeting) for seed in seeds]

    def cases(self) -> list[Attack]:
        return list(all_cases(self.plays, self.greeting))


@contextmanager
def ground(server: Server, settings: Settings | None = None) -> Iterator[Ground]:
    """A pooler with the hostile host behind every database but one."""
    server.sql(f"create table if not exists {VICTIM}(t text)")
    server.sql(f"grant all on {VICTIM} to public")
    plays, greeting = record(server), record_login(server)
    host = Host()
    entries = {"*": arena.entry(host, scram.PASSWORD), BYSTANDER: standard.entry(server)}
    chosen = {**arena.SETTINGS, **(settings or {})}
    pooler = standard.build(entries, chosen, arena.USERS, arena.SECRETS, user=server.user)
    with pooler:
        yield Ground(server, pooler, host, plays, greeting)
    host.server.close()


def fight(where: Ground, attacks: Sequence[Attack], width: int = WIDTH) -> Outcome:
    """Runs the attacks while the crowd goes on, then looks whether all is as before."""
    outcome = Outcome()
    memory = where.pooler.rss()
    place = Arena(where.pooler, where.host)
    try:
        with (
            stays_alive(where.pooler, where.server.busy_backends),
            crowd(where.pooler, BYSTANDER, 2) as outcome.bystanders,
            ThreadPoolExecutor(width) as pool,
        ):
            outcome.results += pool.map(_guarded(place), attacks)
    except AssertionError as error:
        outcome.problems.append(f"not alive: {error}")
    outcome.problems += _problems(outcome, where.pooler.rss() - memory)
    return outcome


def _guarded(place: Arena) -> Callable[[Attack], Result]:
    """An attack that cannot be run to its end is a problem and does not end the others."""

    def run(attack: Attack) -> Result:
        try:
            return place.run(attack)
        except (AssertionError, OSError, EOFError) as error:
            return Result(attack.name, Verdict("failed"), problems=[repr(error)])

    return run


def _problems(outcome: Outcome, grown: int) -> list[str]:
    found = [f"{result.name}: {problem}" for result in outcome.results for problem in result.problems]
    found += [f"a bystander {text}" for text in outcome.bystanders.foreign + outcome.bystanders.unanswered]
    if outcome.bystanders.sent_away:
        found.append(f"{outcome.bystanders.sent_away} bystanders were sent away")
    if grown > MEMORY:
        found.append(f"the pooler has grown by {grown} bytes")
    return found


def campaign(seeds: Iterable[int], *, cases: bool, settings: Settings | None = None) -> Outcome:
    """The long form, with a PostgreSQL of its own."""
    with Chooser(os.environ.get(VARIABLE)).choose()() as postgres:
        server = Server(postgres, postgres.new_database())
        try:
            with ground(server, settings) as where:
                attacks = (where.cases() if cases else []) + where.seeds(seeds)
                return fight(where, attacks)
        finally:
            server.close()

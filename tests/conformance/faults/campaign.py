"""Many trials at once, one on each lane, and everybody else watched meanwhile."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from tests.conformance.faults.lanes import Lane, Network, network
from tests.conformance.faults.trials import Result, Trial, Trials, cuts, harmless
from tests.support.alive import BYSTANDER, stays_alive
from tests.support.attacks import Tally, crowd
from tests.support.choose_postgres import VARIABLE, Chooser
from tests.support.pooler import Settings
from tests.support.server import Server


@dataclass
class Outcome:
    """What became of all trials and of everybody else."""

    results: list[Result] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    bystanders: Tally = field(default_factory=Tally)

    @property
    def problems(self) -> list[str]:
        """Everything that should not have been."""
        found = [f"{result.name}: {problem}" for result in self.results for problem in result.problems]
        found += [f"a bystander {text}" for text in self.bystanders.foreign + self.bystanders.unanswered]
        if self.bystanders.sent_away:
            found.append(f"{self.bystanders.sent_away} bystanders were sent away")
        return found + self.others

    def report(self) -> str:
        """Every problem, then a few lines for people; the last one says it all."""
        outcomes = Counter(result.outcome for result in self.results)
        lines = [
            f"outcomes: {dict(outcomes.most_common())}",
            f"bystanders: {self.bystanders.answered} own replies, {self.bystanders.sent_away} sent away",
            f"{len(self.results)} trials, {len(self.problems)} problems",
        ]
        return "\n".join([*self.problems, *lines])


def suffer(where: Network, trials: Iterable[Trial]) -> Outcome:
    """Runs the trials while the crowd goes on, then looks whether all is as before."""
    outcome, waiting = Outcome(), SimpleQueue[Trial]()
    for trial in trials:
        waiting.put(trial)
    judge = Trials(where)
    try:
        with (
            stays_alive(where.pooler, where.server.busy_backends),
            crowd(where.pooler, BYSTANDER, 2) as outcome.bystanders,
            ThreadPoolExecutor(len(where.lanes)) as pool,
        ):
            for results in pool.map(lambda lane: list(_take_turns(judge, lane, waiting)), where.lanes):
                outcome.results += results
    except AssertionError as error:
        outcome.others.append(f"not alive: {error}")
    return outcome


def _take_turns(judge: Trials, lane: Lane, waiting: "SimpleQueue[Trial]") -> Iterator[Result]:
    while True:
        try:
            trial = waiting.get_nowait()
        except Empty:
            return
        yield judge.run(lane, trial)


def campaign(step: int, settings: Settings | None = None) -> Outcome:
    """The long form, with a PostgreSQL of its own: every slicing, and a cut at every so-many-th byte."""
    with Chooser(os.environ.get(VARIABLE)).choose()() as postgres:
        server = Server(postgres, postgres.new_database())
        try:
            with network(server, settings) as where:
                return suffer(where, [*harmless(), *cuts(where, step)])
        finally:
            server.close()

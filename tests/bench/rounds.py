"""The turns: every round measures every target once (A B C A B C ...), so that all meet the same weather.

The targets of a workload live from its first round to its last, unless the workload wants them fresh. One
that does not start or fails is left out from then on, and the reason is part of the result.
"""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.bench.client import ServerError
from tests.bench.pgbench import PgbenchFailed
from tests.bench.targets import HOWDAH, PGBOUNCER, NotStarted, Target
from tests.bench.workloads import Tools, Values, Workload

Progress = Callable[[str], None]
_TROUBLE = (NotStarted, PgbenchFailed, ServerError, OSError, subprocess.TimeoutExpired)


@dataclass(slots=True)
class Measured:
    """One workload's figures, `values[target][metric]` in order of rounds, and why a target has none."""

    workload: Workload
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)

    def add(self, target: str, values: Values) -> None:
        """One more round of one target."""
        rows = self.values.setdefault(target, {})
        for metric, value in values.items():
            rows.setdefault(metric, []).append(value)

    def of(self, target: str, metric: str) -> list[float]:
        """All rounds of one figure; empty when it was not measured."""
        return self.values.get(target, {}).get(metric, [])


def reference(targets: Sequence[Target]) -> Target:
    """Who sets the pace: PgBouncer, else Howdah, else whoever there is."""
    by_name = {target.name: target for target in targets}
    return by_name.get(PGBOUNCER) or by_name.get(HOWDAH) or targets[0]


class Turns:
    """Runs one workload over its targets."""

    def __init__(
        self, workload: Workload, targets: Sequence[Target], tools: Tools, progress: Progress
    ) -> None:
        self._workload = workload
        self._targets = [
            target
            for target in targets
            if (target.name == HOWDAH if workload.alone else workload.direct or target.pooled)
        ]
        self._tools = tools
        self._progress = progress
        self._measured = Measured(workload)

    def run(self, rounds: int) -> Measured:
        """Measure every target `rounds` times; whatever happens, the targets are stopped in the end."""
        try:
            if not self._workload.fresh:
                for target in list(self._targets):
                    self._attempt(target, self._start)
            if self._targets:
                self._workload.prepare(self._tools, reference(self._targets))
            for number in range(1, rounds + 1):
                for target in list(self._targets):
                    self._progress(f"{self._workload.name}: round {number} of {rounds}, {target.name}")
                    self._attempt(target, self._fresh_turn if self._workload.fresh else self._turn)
        finally:
            for target in self._targets:
                target.stop()
        return self._measured

    def _attempt(self, target: Target, action: Callable[[Target], None]) -> None:
        try:
            action(target)
        except _TROUBLE as trouble:
            self._measured.troubles[target.name] = f"{type(trouble).__name__}: {trouble}"
            self._targets.remove(target)
            target.stop()

    def _start(self, target: Target) -> None:
        target.start(self._workload.settings)

    def _turn(self, target: Target) -> None:
        self._measured.add(target.name, self._workload.measure(self._tools, target, 0.0))

    def _fresh_turn(self, target: Target) -> None:
        first_login = target.start(self._workload.settings)
        try:
            values = self._workload.measure(self._tools, target, first_login)
        finally:
            target.stop()
        self._measured.add(target.name, values)

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

import pytest

from tests.bench.cluster import Address, Cluster
from tests.bench.pgbench import Pgbench, PgbenchFailed
from tests.bench.rounds import Turns, reference
from tests.bench.targets import HOWDAH, NOISE, PGBOUNCER, POSTGRESQL, NotStarted, Target
from tests.bench.workloads import Tools, Values, Workload


class FakeTarget:
    """Remembers what was done to it in a story shared by all."""

    def __init__(self, name: str, story: list[str], *, pooled: bool = True, starts: bool = True) -> None:
        self.name = name
        self.pooled = pooled
        self._story = story
        self._starts = starts

    def start(self, settings: Mapping[str, str]) -> float:
        self._story.append(f"start {self.name}")
        if not self._starts:
            raise NotStarted("port in use")
        return 0.25

    def stop(self) -> None:
        self._story.append(f"stop {self.name}")


@dataclass(kw_only=True)
class FakeWorkload(Workload):
    story: list[str]
    failing: str = ""

    def prepare(self, tools: Tools, reference: Target) -> None:
        self.story.append(f"prepare {reference.name}")

    def measure(self, tools: Tools, target: Target, first_login: float) -> Values:
        self.story.append(target.name)
        if target.name == self.failing:
            raise PgbenchFailed("broken")
        return {"tps": 100.0, "first_login": first_login}


@dataclass(kw_only=True)
class FreshWorkload(FakeWorkload):
    fresh: ClassVar[bool] = True
    direct: ClassVar[bool] = False


@dataclass(kw_only=True)
class AloneWorkload(FakeWorkload):
    alone: ClassVar[bool] = True


@pytest.fixture
def story() -> list[str]:
    return []


@pytest.fixture
def tools() -> Tools:
    address = Address("127.0.0.1", 1, "u", "d", "p")
    return Tools(Pgbench(Cluster(address, "15", Path("pgbench"), {}), Path()), 1)


def turns(workload: Workload, targets: list[FakeTarget], tools: Tools) -> Turns:
    return Turns(workload, cast("list[Target]", targets), tools, lambda text: None)


def test_every_round_measures_every_target_once(story: list[str], tools: Tools) -> None:
    targets = [FakeTarget(name, story) for name in "ABC"]
    measured = turns(FakeWorkload(name="w", title="", story=story), targets, tools).run(2)
    assert story == [
        *("start A", "start B", "start C", "prepare A"),
        *("A", "B", "C", "A", "B", "C"),
        *("stop A", "stop B", "stop C"),
    ]
    assert measured.of("B", "tps") == [100.0, 100.0]
    assert measured.of("B", "unknown") == []


def test_a_target_that_does_not_start_is_left_out_with_the_reason(story: list[str], tools: Tools) -> None:
    targets = [FakeTarget("A", story, starts=False), FakeTarget("B", story)]
    measured = turns(FakeWorkload(name="w", title="", story=story), targets, tools).run(1)
    assert story == ["start A", "stop A", "start B", "prepare B", "B", "stop B"]
    assert measured.troubles == {"A": "NotStarted: port in use"}


def test_a_target_that_fails_is_measured_no_more(story: list[str], tools: Tools) -> None:
    targets = [FakeTarget("A", story), FakeTarget("B", story)]
    workload = FakeWorkload(name="w", title="", story=story, failing="A")
    measured = turns(workload, targets, tools).run(2)
    assert story[3:] == ["A", "stop A", "B", "B", "stop B"]
    assert measured.troubles == {"A": "PgbenchFailed: broken"}
    assert "A" not in measured.values


def test_a_fresh_workload_starts_each_target_for_each_measurement(story: list[str], tools: Tools) -> None:
    targets = [FakeTarget("direct", story, pooled=False), FakeTarget("A", story), FakeTarget("B", story)]
    measured = turns(FreshWorkload(name="w", title="", story=story), targets, tools).run(1)
    assert story[1:7] == ["start A", "A", "stop A", "start B", "B", "stop B"]
    assert measured.of("A", "first_login") == [0.25]


def test_a_workload_that_compares_howdah_with_itself_measures_nobody_else(
    story: list[str], tools: Tools
) -> None:
    targets = [FakeTarget(name, story) for name in (POSTGRESQL, HOWDAH, PGBOUNCER)]
    turns(AloneWorkload(name="w", title="", story=story), targets, tools).run(1)
    assert story == [f"start {HOWDAH}", f"prepare {HOWDAH}", HOWDAH, f"stop {HOWDAH}"]


def test_targets_are_stopped_when_the_run_is_interrupted(story: list[str], tools: Tools) -> None:
    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    targets = [FakeTarget("A", story)]
    run = Turns(
        FakeWorkload(name="w", title="", story=story), cast("list[Target]", targets), tools, interrupt
    )
    with pytest.raises(KeyboardInterrupt):
        run.run(1)
    assert story[-1] == "stop A"


def test_a_workload_that_nobody_can_do_gives_nothing(story: list[str], tools: Tools) -> None:
    measured = turns(FakeWorkload(name="w", title="", story=story), [], tools).run(1)
    assert measured.values == {}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([POSTGRESQL, HOWDAH, PGBOUNCER, NOISE], PGBOUNCER),
        ([POSTGRESQL, HOWDAH], HOWDAH),
        ([POSTGRESQL], POSTGRESQL),
    ],
)
def test_pgbouncer_sets_the_pace_where_it_runs(names: list[str], expected: str) -> None:
    targets = [FakeTarget(name, []) for name in names]
    assert reference(cast("list[Target]", targets)).name == expected

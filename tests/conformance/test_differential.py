"""Random pipelines, at PostgreSQL and through the pooler; and a relay that lies, to prove what is compared.

`python -m tests.conformance.differential` is the long form; a seed that fails here is played again, and
shrunk, by its `--first SEED --seeds 1 --mode MODE`.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.conformance.differential import report
from tests.conformance.differential.account import Due
from tests.conformance.differential.author import write
from tests.conformance.differential.coverage import Coverage
from tests.conformance.differential.liar import LIES, Liar, Lie, another_value
from tests.conformance.differential.rules import Mode
from tests.conformance.differential.run import Lane, Run
from tests.conformance.differential.script import Script
from tests.conformance.differential.shrink import shrunk
from tests.conformance.differential.stage import SLOTS, Stage, on, opened
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.postgres import PostgresServer
from tests.support.standard import howdah_only

LOOP = str(Pooler.defaults["event_loop"])


async def played(stage: Stage, first: int, count: int) -> Run:
    """These seeds; fails at a difference."""
    run = Run(stage, Coverage(stage.mode))
    await run.seeds(first, count)
    assert run.broken is None, run.broken
    assert not run.differences, "\n".join(report.lines(run.differences[0]))
    return run


@howdah_only("other poolers do not promise it")
@pytest.mark.parametrize(("mode", "count"), [("transaction", 240), ("session", 60), ("statement", 60)])
async def test_pipelines_are_answered_as_by_postgresql(
    postgres: PostgresServer, mode: Mode, count: int
) -> None:
    with on(postgres, mode, LOOP) as stage:
        run = await played(stage, 0, count)
    if mode == "transaction":
        assert run.coverage.missing() == []
        assert stage.shaken >= 3, "no server had room for few statements, or none was another"


@pytest.fixture(scope="module")
def itself(postgres: PostgresServer) -> Iterator[Stage]:
    """PostgreSQL in both places."""
    with on(postgres, "transaction", LOOP, itself=True) as stage:
        yield stage


async def test_postgresql_is_like_itself(itself: Stage) -> None:
    run = await played(itself, 500, 60)
    assert run.coverage.allowed == {}


async def test_what_is_due_at_a_wait_is_what_postgresql_has_sent_when_the_client_leaves_there(
    itself: Stage,
) -> None:
    compared = 0
    for seed in range(0, 42):
        script = write(seed, seed % SLOTS, "transaction")
        lane = Lane(itself, seed % SLOTS)
        account = (await lane.expectation(script)).account
        await lane.leave()
        for request in range(seed % 7, len(script.steps), 7):
            if request not in account.in_copy:
                due, came = account.due(request), await until_terminated(itself, script, request)
                assert due.must <= came <= due.may, (request, script.lines(request))
                compared += due == Due(came, came)
    assert compared > 100


async def until_terminated(stage: Stage, script: Script, last: int) -> int:
    """How many replies come to the script up to this request, when Terminate follows instead of the rest."""
    wire = await opened(stage.other, stage.other.database)
    wire.send(b"".join(step.data for step in script.all[: last + 1]) + m.terminate())
    assert await wire.until(lambda: wire.closed)
    await stage.level(stage.other, script.seed % SLOTS)
    return len(wire.unasked)


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_found_out(itself: Stage, lie: str) -> None:
    tell, seen_as = LIES[lie]
    async with Liar(itself.other, tell) as liar:
        run = await lied_to(replace(itself, instead=liar))
    assert run.differences, "it was not found out"
    assert {difference.what for difference in run.differences} <= seen_as, report.lines(run.differences[0])


async def lied_to(stage: Stage) -> Run:
    run = Run(stage, Coverage(stage.mode), patience=0.5)
    await run.seeds(0, 90)
    return run


async def test_a_difference_is_shrunk_to_what_makes_it(itself: Stage) -> None:
    async with Liar(itself.other, lambda: Lie("D", another_value, honest=0)) as liar:
        stage = replace(itself, instead=liar)
        (found, *_) = (await lied_to(stage)).differences
        smaller = await shrunk(stage, found, seconds=20)
    assert smaller.kind == found.kind
    assert 1 <= len(smaller.script.steps) <= 6, "\n".join(report.lines(smaller))

"""Cancel requests over several workers, in short; the long run is `python -m tests.conformance.cancels`."""

import uvloop

from tests.conformance.cancels import Outcome, Plan, Run, build
from tests.support.server import Server
from tests.support.standard import howdah_only


@howdah_only("only Howdah has workers")
def test_cancel_requests_hit_whom_they_are_meant_for_and_nobody_else(server: Server) -> None:
    with build(server, workers=3, pool_size=4) as pooler:
        plan = Plan((pooler.host, pooler.port), server.user, cancels=300, clients=40, think=0.2, at_once=6)
        outcome = uvloop.run(Run(plan).live())
    assert outcome.strays == outcome.problems == [], outcome.report()
    assert outcome.sent >= 300
    assert len(outcome.delays) > 20 * outcome.without_effect, outcome.report()


def test_what_took_effect_too_late_or_not_at_all_counts_against_it() -> None:
    outcome = Outcome(delays=[0.001] * 97 + [0.3], without_effect=2)
    assert outcome.share == 0.97
    assert "97.00% took effect within 200 ms" in outcome.report()

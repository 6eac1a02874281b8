"""A server that does not keep to the protocol: its own client hears of it, and nobody else notices.

The long run, with 500 seeds, is `python -m tests.conformance.hostile`.
"""

from collections.abc import Iterator

import pytest

from tests.conformance.hostile.campaign import Ground, fight, ground
from tests.support.server import Server
from tests.support.standard import howdah_only

SEEDS = range(80)

pytestmark = [howdah_only("crashes some versions of PgBouncer"), pytest.mark.slow]


@pytest.fixture(scope="module")
def where(server: Server) -> Iterator[Ground]:
    with ground(server) as where:
        yield where


def test_every_way_to_break_the_protocol_concerns_nobody_but_the_client_it_was_meant_for(
    where: Ground,
) -> None:
    outcome = fight(where, where.cases())
    print(outcome.report())
    assert outcome.problems == []


def test_no_mutation_of_a_good_reply_reaches_anybody_else(where: Ground) -> None:
    outcome = fight(where, where.seeds(SEEDS))
    print(outcome.report())
    assert outcome.problems == []

"""A broken network on either side of the pooler: slices of one byte, delays, cuts at any byte.

The long run, with a cut at every eleventh byte, is `python -m tests.conformance.faults`.
"""

from collections.abc import Iterator

import pytest

from tests.conformance.faults.campaign import suffer
from tests.conformance.faults.lanes import Network, network
from tests.conformance.faults.trials import harmless, some_cuts
from tests.support.server import Server
from tests.support.standard import howdah_only

CUTS, SEED = 48, 20240229

pytestmark = [howdah_only("needs a query_timeout for some users only"), pytest.mark.slow]


@pytest.fixture(scope="module")
def where(server: Server) -> Iterator[Network]:
    with network(server) as where:
        yield where


def test_bytes_in_slices_of_any_size_and_late_ones_make_the_same_replies(where: Network) -> None:
    outcome = suffer(where, harmless())
    print(outcome.report())
    assert outcome.problems == []
    assert {result.outcome for result in outcome.results} == {"whole"}


def test_a_cut_at_any_byte_costs_its_own_client_only(where: Network) -> None:
    outcome = suffer(where, some_cuts(where, CUTS, SEED))
    print(outcome.report())
    assert outcome.problems == []

"""A client that prepares without end gets a clear error, and the pooler does not grow beyond its limit."""

import pytest

from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.standard import ONE, howdah_only
from tests.support.wire import Raw

pytestmark = [pytest.mark.usefixtures("alive"), howdah_only("the limits are ours")]

MIB = 1024 * 1024
OVERHEAD = 512
"""Bytes that count for a statement beside its text."""
NAMES = 20_000
BATCH = 200


def prepare(client: Raw, texts: list[str], start: int) -> list[m.Fields]:
    """Prepares each text under a name of its own, in a transaction of its own; the errors that came."""
    numbered = enumerate(texts, start)
    client.send(b"".join(m.parse(f"name_{at}", text) + m.sync() for at, text in numbered))
    return [fields for _ in texts for fields in m.errors(client.until(b"Z"))]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_client_prepared_statements": 2_000, "max_client_prepared_bytes": 0}, "select 1"),
        ({"max_client_prepared_statements": 0, "max_client_prepared_bytes": 2 * MIB}, "x" * 1_500),
    ],
    ids=["count", "bytes"],
)
def test_a_client_that_prepares_without_end_is_stopped_at_its_limit(
    pooler: Pooler, settings: dict[str, int], text: str
) -> None:
    with pooler.with_settings(**settings), pooler.raw(ONE) as client:
        client.value("select 1")
        before = pooler.rss()
        refused: list[m.Fields] = []
        for start in range(0, NAMES, BATCH):
            texts = [f"select {at} /* {text} */" for at in range(start, start + BATCH)]
            refused += prepare(client, texts, start)
        (name,) = (name for name, most in settings.items() if most)
        size = OVERHEAD + len(text) + 50
        limit = settings["max_client_prepared_bytes"] or settings[name] * size
        kept = NAMES - len(refused)

        assert {(fields["C"], fields["M"]) for fields in refused} == {
            ("53400", f"too many prepared statements (see {name})")
        }
        assert kept == settings[name] or (kept - 1) * (size - 50) <= limit <= (kept + 1) * size
        assert pooler.rss() - before <= 1.1 * limit + MIB
        assert client.value("select 2") == "2"

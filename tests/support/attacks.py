"""Clients in threads that attack a pooler, and judge every reply by a nonce of their own.

Law: an attack is bounded in time and ends by itself. A client that is sent away
is ordinary; a reply that is not the asker's, or no reply at all, is a finding.
"""

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.wire import Raw

_ANSWER_SECONDS = 10.0
_END_SECONDS = 30.0


@dataclass
class Tally:
    """What the crowd has seen. `answered` counts replies that carried the asker's nonce."""

    answered: int = 0
    sent_away: int = 0
    foreign: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)


def nonce() -> str:
    return secrets.token_hex(8)


def closed_ports(count: int) -> list[int]:
    """Loopback ports below the ephemeral range that nobody listens on; connecting is refused at once."""
    return list(range(1100, 1100 + count))


def _ask(client: Raw, dice: random.Random, tally: Tally) -> None:
    """One query of a random shape; its reply must be its own."""
    word = nonce()
    shape = dice.randrange(3)
    if shape == 0:
        got = client.query(f"select '{word}', pg_sleep(0.002)")
    elif shape == 1:
        got = client.ask(m.parse("", "select $1::text"), m.bind("", "", [word]), m.execute(), m.sync())
    else:
        client.query("begin")
        got = client.query(f"select '{word}'")
        client.query("commit")
    rows = m.rows(got)
    if rows and rows[0][0] != word:
        tally.foreign.append(f"asked {word}, got {rows[0][0]}")
    elif rows:
        tally.answered += 1


def _visit(pooler: Pooler, database: str, dice: random.Random, tally: Tally) -> None:
    """One connection: a few queries, then a good or a bad end."""
    with pooler.raw(database, timeout=_ANSWER_SECONDS) as client:
        for _ in range(dice.randrange(1, 6)):
            _ask(client, dice, tally)
        if dice.random() < 0.3:
            client.send(m.query("select pg_sleep(0.05)"))
            client.reset()


def _live(pooler: Pooler, database: str, dice: random.Random, over: threading.Event, tally: Tally) -> None:
    while not over.is_set():
        try:
            _visit(pooler, database, dice, tally)
        except TimeoutError as error:
            tally.unanswered.append(str(error))
        except (OSError, EOFError, AssertionError):
            tally.sent_away += 1


@contextmanager
def crowd(pooler: Pooler, database: str, clients: int, seed: int = 1) -> Iterator[Tally]:
    """So many clients live on the database while the body of the `with` attacks."""
    over, tally = threading.Event(), Tally()
    threads = [
        threading.Thread(target=_live, args=(pooler, database, random.Random(seed + number), over, tally))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        over.set()
        for thread in threads:
            thread.join(_END_SECONDS)
    assert not any(thread.is_alive() for thread in threads), "a client of the crowd hangs"


def for_seconds(seconds: float, pause: float, act: Callable[[], object]) -> None:
    """Repeats an act, with pauses, for that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        act()
        time.sleep(pause)

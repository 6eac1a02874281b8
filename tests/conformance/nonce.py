"""The nonce oracle: every query asks for a word of its own. `python -m tests.conformance.nonce` is long.

Two hundred clients share two servers, and everything that can go wrong does so
at once: query timeouts of 5 to 50 ms, cancels, clients that hang up, servers
that are terminated, PAUSE, RECONNECT, RELOAD. Law: 0 foreign words, 0 missing
replies, 0 that never come; and enough of what goes wrong to mean something.
"""

import argparse
import os
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import uvloop

from tests.conformance.expect import QUIET
from tests.conformance.nonce_crowd import CALM, HASTY, Crowd, Plan
from tests.conformance.nonce_oracle import Tally
from tests.conformance.nonce_requests import INBOX, Templates
from tests.support import standard
from tests.support.choose_postgres import VARIABLE, Chooser
from tests.support.pooler import Pooler, Settings
from tests.support.server import Server

CROWDED = "crowded"
POOL_SIZE = 2
LEAST = 1000
"""Of cancels that hit, timeouts that fired and servers that closed: fewer prove nothing in a long run."""
SHOWN = 20
"""Problems in a report; where there are more, they are alike."""

SETTINGS: Settings = {
    **QUIET,
    "query_wait_notify": 0,
    "max_client_conn": 2000,
    # Far fewer than there are texts, so that they push each other out.
    "max_prepared_statements": 20,
}
_SERVER_CLOSED = re.compile(r" S-\w+: .*closing because: (.*?)(?: \(age|$)", re.MULTILINE)


@dataclass
class Outcome:
    """What one run has seen."""

    tally: Tally
    servers_closed: Counter[str]
    seconds: float
    least: int = 0

    @property
    def problems(self) -> list[str]:
        tally = self.tally
        counted = {
            "cancels that hit": tally.cancels_that_hit,
            "timeouts": tally.timeouts + tally.timeouts_in_queue,
            "servers closed": self.servers_closed.total(),
        }
        few = [f"only {number} {what}" for what, number in counted.items() if number < self.least]
        return tally.problems + few

    def report(self) -> str:
        """The first problems, then a few lines for people; the last one says it all."""
        tally = self.tally
        lines = [
            f"{tally.requests.total()} requests, {tally.whole} replied to in full,"
            f" over {tally.logins} logins in {self.seconds:.1f} s",
            f"kinds: {dict(tally.requests.most_common())}",
            f"{tally.cancels_sent} cancels: {tally.cancels_that_hit} hit in PostgreSQL,"
            f" {tally.cancels_in_queue} in the queue; timeouts: {tally.timeouts} of running queries,"
            f" {tally.timeouts_in_queue} in the queue",
            f"{tally.lost} lost their server, {tally.left} hung up",
            f"servers closed: {dict(self.servers_closed.most_common())}",
            f"{tally.replies} replies: {len(tally.foreign)} foreign, {len(tally.missing)} missing,"
            f" {len(tally.hanging)} hanging; {tally.cancels_that_hit} cancels hit,"
            f" {tally.timeouts + tally.timeouts_in_queue} timeouts,"
            f" {self.servers_closed.total()} servers closed",
        ]
        return "\n".join([*self.problems[:SHOWN], *lines])


class Disturber(threading.Thread):
    """Ends servers, pauses, reconnects and reloads, again and again, until told to stop."""

    def __init__(self, pooler: Pooler, server: Server, seed: int) -> None:
        super().__init__()
        self._pooler, self._server = pooler, server
        self._dice = random.Random(seed)
        self._over = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.wait(self._dice.random() * 0.1):
                self._disturb()
        except BaseException as error:
            self.error = error

    def _disturb(self) -> None:
        match self._dice.randrange(8):
            case 0:
                self._pooler.admin("RECONNECT")
            case 1:
                self._pooler.admin("RELOAD")
            case 2:
                self._pooler.admin("PAUSE")
                self._pooler.admin("RESUME")
            case _:
                servers = self._server.backends(self._server.user)
                if servers:
                    self._server.sql("select pg_terminate_backend(%s)", [self._dice.choice(servers)])

    def stop(self) -> None:
        self._over.set()
        self.join()
        if self.error is not None:
            raise self.error


@contextmanager
def disturbed(pooler: Pooler, server: Server, seed: int, *, on: bool) -> Iterator[None]:
    """All of that for as long as the block lasts."""
    if not on:
        yield
        return
    disturber = Disturber(pooler, server, seed)
    disturber.start()
    try:
        yield
    finally:
        disturber.stop()


def build(server: Server, settings: Mapping[str, str | int | float] | None = None) -> Pooler:
    """A pooler with one crowded pool, into which users of different patience come."""
    entries = {CROWDED: standard.entry(server, pool_size=POOL_SIZE, user=server.user)}
    users = {name: {"query_timeout": seconds} for name, seconds in HASTY.items()}
    names = dict.fromkeys((CALM, *HASTY), "")
    return standard.build(entries, {**SETTINGS, **(settings or {})}, users, names, user=server.user)


def ask(pooler: Pooler, server: Server, plan: Plan, least: int = 0) -> Outcome:
    """The whole run on a pooler that has been started, and what is left behind."""
    server.sql(INBOX)
    templates = Templates(server)
    # The first login of all waits for a server, and the hasty would not wait with it.
    pooler.raw(CROWDED, CALM).close()
    crowd, mark, began = Crowd(plan, templates), pooler.log_mark(), time.monotonic()
    with disturbed(pooler, server, plan.seed, on=plan.disturbed):
        uvloop.run(crowd.live())
    seconds = time.monotonic() - began
    closed = Counter(_SERVER_CLOSED.findall(pooler.log(mark)))
    check_quiet(pooler, server)
    return Outcome(crowd.oracle.tally, closed, seconds, least)


def check_quiet(pooler: Pooler, server: Server) -> None:
    """Nothing is left behind, and the pool works."""
    server.wait_until_quiet(5.0)
    with pooler.raw(CROWDED, CALM) as raw:
        assert raw.value("select count(*) from inbox") == "0"
    assert len(pooler.show("SERVERS", database=CROWDED)) <= POOL_SIZE
    pooler.check_log()


def plan_for(pooler: Pooler, queries: int, seed: int, *, named: bool = True, disturbed: bool = True) -> Plan:
    return Plan((pooler.host, pooler.port), CROWDED, queries, seed, named=named, disturbed=disturbed)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.nonce")
    parser.add_argument("--queries", type=int, default=200_000, help="how many (default 200,000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--loop", choices=("uvloop", "asyncio"), default="uvloop", help="what turns the pooler"
    )
    parser.add_argument(
        "--named", action=argparse.BooleanOptionalAction, default=True, help="prepared by name"
    )
    parser.add_argument(
        "--disturb", action=argparse.BooleanOptionalAction, default=True, help="end servers etc."
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    least = LEAST if options.queries >= 200_000 else 0
    with Chooser(os.environ.get(VARIABLE)).choose()() as postgres:
        server = Server(postgres, postgres.new_database())
        with build(server, {"event_loop": options.loop}) as pooler:
            plan = plan_for(
                pooler, options.queries, options.seed, named=options.named, disturbed=options.disturb
            )
            outcome = ask(pooler, server, plan, least)
        server.close()
    print(outcome.report())
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Load under which processes are killed. `python -m tests.conformance.mayhem --seconds 900` is long.

Two hundred clients ask for words of their own, 64 move money between accounts, and every few seconds a worker
or a backend is killed. Law: 0 foreign words, 0 transfers lost or done twice, limits never exceeded, memory
and descriptors as at the start; then all of it ends by SIGTERM in the middle, with exit code 0.
"""

import argparse
import asyncio
import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import uvloop

from tests.conformance import bank, nonce
from tests.conformance.bank import Journal, Teller
from tests.conformance.nonce_crowd import CALM, HASTY, Crowd, Deaths, Plan
from tests.conformance.nonce_requests import INBOX, Templates
from tests.support import standard
from tests.support.choose_postgres import VARIABLE, Chooser
from tests.support.pooler import Pooler
from tests.support.server import Server

BANK: Final = "bank"
BANK_SIZE: Final = 8
CAP: Final = nonce.POOL_SIZE + BANK_SIZE
_SERVES: Final = re.compile(r"worker (\d+) \(process (\d+)\) serves")
_SETTLE: Final = 10.0
_LOOK: Final = 0.02
GROWTH: Final = 1.25
"""How much more memory all processes together may have at the end."""
FURTHER: Final = 8
"""How many more descriptors."""


@dataclass
class Outcome:
    """What one run has seen."""

    crowd: Crowd
    journal: Journal
    deaths: Deaths
    seconds: float = 0.0
    terminated: int = 0
    most: int = 0
    memory: tuple[int, int] = (0, 0)
    descriptors: tuple[int, int] = (0, 0)
    problems: list[str] = field(default_factory=list)

    def report(self) -> str:
        tally = self.crowd.oracle.tally
        problems = [*self.problems[: nonce.SHOWN], *tally.problems[: nonce.SHOWN]]
        lines = [
            f"{self.deaths.all} workers and {self.terminated} backends killed in {self.seconds:.0f} s",
            f"{tally.replies} replies over {tally.logins} logins: {len(tally.foreign)} foreign,"
            f" {len(tally.missing)} missing, {len(tally.hanging)} hanging;"
            f" {tally.orphaned} ended with their worker, {tally.lost} lost their server",
            f"transfers over {self.journal.logins} logins: {self.journal.counts()}",
            f"servers: at most {self.most} of {CAP}; memory {self.memory[0] >> 20} MiB and then"
            f" {self.memory[1] >> 20} MiB, descriptors {self.descriptors[0]} and then {self.descriptors[1]}",
            f"{len(self.problems) + len(tally.problems)} problems",
        ]
        return "\n".join([*problems, *lines])

    @property
    def failed(self) -> bool:
        return bool(self.problems or self.crowd.oracle.tally.problems)


class Processes:
    """The workers of a pooler, as its log names them."""

    def __init__(self, pooler: Pooler) -> None:
        self._pooler = pooler

    def workers(self) -> dict[int, int]:
        found = {int(number): int(pid) for number, pid in _SERVES.findall(self._pooler.log())}
        return {number: pid for number, pid in found.items() if _is_alive(pid)}

    def wait(self, count: int) -> dict[int, int]:
        deadline = time.monotonic() + _SETTLE
        while len(workers := self.workers()) < count:
            assert time.monotonic() < deadline, f"{count} workers wanted, there are {workers}"
            time.sleep(_LOOK)
        return workers

    def _pids(self) -> list[int]:
        return [self._pooler.pid, *self.workers().values()]

    def memory(self) -> int:
        """Bytes that are of one process only, and each process's part of what is shared."""
        return sum(_rollup(pid) for pid in self._pids())

    def descriptors(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self._pids())


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _rollup(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        found = re.search(r"^Pss:\s+(\d+) kB", rollup.read(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


class Killer(threading.Thread):
    """Kills a worker or a backend, again and again, and counts the servers meanwhile."""

    def __init__(
        self, processes: Processes, server: Server, outcome: Outcome, every: float, seed: int
    ) -> None:
        super().__init__()
        self._processes, self._server, self._outcome, self._every = processes, server, outcome, every
        self._dice = random.Random(seed)
        self._over = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            due = time.monotonic() + self._every
            while not self._over.wait(_LOOK):
                backends = self._server.backends(self._server.user)
                self._outcome.most = max(self._outcome.most, len(backends))
                if time.monotonic() >= due:
                    due += self._every
                    self._kill(backends)
        except BaseException as error:
            self._error = error

    def _kill(self, backends: list[int]) -> None:
        workers = self._processes.workers()
        if workers and self._dice.random() < 0.5:
            number = self._dice.choice(sorted(workers))
            self._outcome.deaths.count[number] += 1
            os.kill(workers[number], signal.SIGKILL)
        elif backends:
            self._outcome.terminated += 1
            self._server.sql("select pg_terminate_backend(%s)", [self._dice.choice(backends)])

    def stop(self) -> None:
        self._over.set()
        self.join()
        if self._error is not None:
            raise self._error


@contextmanager
def killing(
    processes: Processes, server: Server, outcome: Outcome, every: float, seed: int
) -> Iterator[None]:
    killer = Killer(processes, server, outcome, every, seed)
    killer.start()
    try:
        yield
    finally:
        killer.stop()


def build(server: Server, workers: int) -> Pooler:
    """A pooler with a crowded pool and the bank's."""
    entries = {
        nonce.CROWDED: standard.entry(server, pool_size=nonce.POOL_SIZE, user=server.user),
        BANK: standard.entry(server, pool_size=BANK_SIZE),
    }
    users = {name: {"query_timeout": seconds} for name, seconds in HASTY.items()}
    settings = {**nonce.SETTINGS, "workers": workers, "worker_timeout": 5}
    return standard.build(entries, settings, users, dict.fromkeys((CALM, *HASTY), ""), user=server.user)


class Mayhem:
    """One run at a pooler that has been started."""

    def __init__(
        self, pooler: Pooler, server: Server, seed: int, *, clients: int = 200, tellers: int = 64
    ) -> None:
        self._pooler, self._server, self._seed = pooler, server, seed
        server.sql(INBOX)
        bank.open_bank(server)
        deaths = Deaths()
        plan = Plan(self._address, nonce.CROWDED, sys.maxsize, seed, clients, disturbed=True, deaths=deaths)
        self.outcome = Outcome(Crowd(plan, Templates(server)), Journal(), deaths)
        login = {"user": server.user, "database": BANK}
        journal = self.outcome.journal
        self._tellers = [Teller(number, self._address, login, journal) for number in range(tellers)]
        self._processes = Processes(pooler)

    @property
    def _address(self) -> tuple[str, int]:
        return self._pooler.host, self._pooler.port

    def run(self, seconds: float, every: float, workers: int) -> Outcome:
        """All of it, the end as well."""
        self._processes.wait(workers)
        uvloop.run(self._live(min(2.0, seconds / 2)))
        memory, descriptors = self._quiet(workers)
        with killing(self._processes, self._server, self.outcome, every, self._seed):
            began = time.monotonic()
            uvloop.run(self._live(seconds))
            self.outcome.seconds = time.monotonic() - began
        after = self._quiet(workers)
        self.outcome.memory, self.outcome.descriptors = (memory, after[0]), (descriptors, after[1])
        uvloop.run(self._live(2.0, end=True))
        self._judge()
        return self.outcome

    async def _live(self, seconds: float, *, end: bool = False) -> None:
        """Everybody for so long. At the end a SIGTERM comes in the middle, and nobody is let in any more."""
        over, crowd = asyncio.Event(), self.outcome.crowd
        crowd.over = False
        async with asyncio.TaskGroup() as group:
            if not end:
                group.create_task(crowd.live())
            for teller in self._tellers:
                group.create_task(teller.live(over))
            await asyncio.sleep(seconds)
            if end:
                self._pooler.signal(signal.SIGTERM)
                await asyncio.sleep(seconds / 2)
            crowd.over = True
            over.set()

    def _quiet(self, workers: int) -> tuple[int, int]:
        """Memory and descriptors when nobody is there any more."""
        self._processes.wait(workers)
        nonce.check_quiet(self._pooler, self._server)
        self._pooler.admin("RECONNECT")
        self._pooler.admin("WAIT_CLOSE")
        return self._processes.memory(), self._processes.descriptors()

    def _judge(self) -> None:
        outcome = self.outcome
        code = self._pooler.wait()
        found = {
            f"exit code {code}": code != 0,
            f"{outcome.most} servers, where {CAP} are allowed": outcome.most > CAP,
            f"memory has grown: {outcome.memory}": outcome.memory[1] > outcome.memory[0] * GROWTH,
            f"descriptors are left: {outcome.descriptors}": outcome.descriptors[1]
            > outcome.descriptors[0] + FURTHER,
        }
        outcome.problems += [text for text, wrong in found.items() if wrong]
        self._server.wait_until_quiet(_SETTLE)
        outcome.problems += bank.audit(self._server, outcome.journal)


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.conformance.mayhem", description=__doc__)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--every", type=float, default=5.0, help="seconds between two kills")
    options.add_argument("--workers", type=int, default=4)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    with Chooser(os.environ.get(VARIABLE)).choose()() as postgres:
        server = Server(postgres, postgres.new_database())
        with build(server, given.workers) as pooler:
            outcome = Mayhem(pooler, server, given.seed).run(given.seconds, given.every, given.workers)
        server.close()
    print(outcome.report())
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())

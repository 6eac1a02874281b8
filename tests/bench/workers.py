"""What two workers cost over one: instructions per transaction of all processes of Howdah, by callgrind.

`python -m tests.bench.workers [--pool 16]`, two minutes. Callgrind makes Howdah some thirty times slower,
while what two workers do besides, about their shares, is done per second: so that is what is found out, and
`--rate` says how many transactions there are in a second. All clients ask all the time while it counts; what
one worker does per second for clients that ask nothing is counted, too, for it is no part of a transaction.
"""

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench import cluster, instructions, targets
from tests.bench.cluster import Address
from tests.bench.crowd import Login, log_in

BAR: Final = 1.02
"""Instructions per transaction with two workers, in those with one."""
_PATIENCE: Final = 120.0
# Time for every process to begin, or to write what it has counted (s).
_SETTLE: Final = 0.5
# Transactions of each client before it counts.
_WARM: Final = 40
_TOTAL: Final = re.compile(r"^summary: (\d+)", re.MULTILINE)
_SCRIPT: Final = """
import asyncio, ctypes, os, runpy, sys
requests = ctypes.CDLL({library!r})
run = asyncio.Runner.run

# What lies in a pipe wakes all who wait for it, until then it costs them nothing.
def on_word(name, act):
    loop = asyncio.get_running_loop()
    pipe = os.open({pipes!r} + name, os.O_RDONLY | os.O_NONBLOCK)
    def came():
        loop.remove_reader(pipe)
        act()
    loop.add_reader(pipe, came)

# Callgrind's kernel has no descriptors for processes: instead they would be looked for all the time.
def without_looking():
    import proxy.child
    proxy.child._LOOK = 60.0

async def both(main):
    without_looking()
    on_word("begin", requests.begin)
    on_word("end", lambda: requests.end(b"all"))
    return await main

asyncio.Runner.run = lambda self, main: run(self, both(main))
sys.argv[:] = sys.argv[1:]
if sys.argv[0] == "-m":
    runpy.run_module(sys.argv.pop(1), run_name="__main__")
else:
    sys.path[0] = os.path.dirname(sys.argv[0])
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """One run."""

    instructions: int
    transactions: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What one worker needs: for each transaction, and besides in each second."""

    each: float
    second: float

    def extra(self, two: Counted) -> float:
        """What two workers do in a second that one would not do for as many transactions."""
        return (two.instructions - self.each * two.transactions) / two.seconds - self.second

    def ratio(self, two: Counted, rate: float) -> float:
        """How many times as many two workers need where there are so many transactions in a second."""
        return 1 + self.extra(two) / (self.each * rate + self.second)


def cost(idle: Counted, one: Counted) -> Cost:
    """Of one worker, from how it was without transactions, and with them."""
    second = idle.instructions / idle.seconds
    return Cost((one.instructions - second * one.seconds) / one.transactions, second)


class Valgrind:
    """Callgrind over a process and those that it forks. They count from one word to another, both of which
    each event loop waits for at a pipe.
    """

    def __init__(self, folder: Path) -> None:
        valgrind, compiler = shutil.which("valgrind"), shutil.which("cc")
        if valgrind is None or compiler is None:
            raise instructions.CannotCount("needs valgrind and a C compiler")
        self._out = folder / "counted"
        self._out.mkdir()
        self._out.chmod(0o777)
        self._folder = folder
        for name in ("begin", "end"):
            os.mkfifo(folder / name)
            (folder / name).chmod(0o666)
        library, script = folder / "requests.so", folder / "counted.py"
        instructions.build_requests(compiler, library)
        script.write_text(_SCRIPT.format(library=str(library), pipes=f"{folder}/"))
        options = ["--tool=callgrind", "--instr-atstart=no", "--vgdb=no"]
        self.words = [valgrind, *options, f"--callgrind-out-file={self._out}/%p", sys.executable, str(script)]

    def _say(self, stack: contextlib.ExitStack, name: str) -> None:
        stack.enter_context((self._folder / name).open("wb", buffering=0)).write(b".")

    async def count(self, pids: Sequence[int], seconds: float, done: Callable[[], int]) -> Counted:
        """Instructions of all processes in so many seconds."""
        with contextlib.ExitStack() as open_pipes:
            began, before = time.monotonic(), done()
            self._say(open_pipes, "begin")
            await asyncio.sleep(seconds)
            self._say(open_pipes, "end")
            took, transactions = time.monotonic() - began, done() - before
            deadline = began + took + _PATIENCE
            while len(found := self._found()) < len(pids):
                if time.monotonic() > deadline:
                    raise instructions.CannotCount(f"{sorted(found)} of {pids} have counted")
                await asyncio.sleep(0.1)
        await asyncio.sleep(_SETTLE)
        found = self._found()
        print(
            f"{transactions} in {took:.1f} s:", *(f"{found[pid] / took:,.0f}/s" for pid in pids), flush=True
        )
        return Counted(sum(found.values()), transactions, took)

    def _found(self) -> dict[int, int]:
        found = {}
        for path in self._out.glob("*.*"):
            if total := _TOTAL.search(path.read_text()):
                found[int(path.name.partition(".")[0])] = int(total[1])
        return found


class Crowd:
    """Clients that ask all the time. `done`: how many transactions they have had."""

    def __init__(self, logins: Sequence[Login]) -> None:
        self.logins = logins
        self.done = 0

    async def ask(self) -> None:
        """Until cancelled."""
        await asyncio.gather(*map(self._ask, self.logins))

    async def _ask(self, login: Login) -> None:
        while True:
            await login.ask()
            self.done += 1


async def count(
    address: Address, valgrind: Valgrind, pids: Sequence[int], options: argparse.Namespace, *, idle: bool
) -> Counted:
    """Count while all clients ask, or none."""
    crowd = Crowd([await log_in(address) for _ in range(options.clients)])
    asking = asyncio.create_task(crowd.ask())
    try:
        while crowd.done < _WARM * options.clients:
            await asyncio.sleep(_SETTLE)
            if asking.done():
                asking.result()
        if idle:
            asking.cancel()
            await asyncio.sleep(_SETTLE)
        return await valgrind.count(pids, options.seconds, lambda: crowd.done)
    finally:
        asking.cancel()
        for login in crowd.logins:
            login.close()


def await_workers(howdah: targets.Pooler, workers: int) -> list[int]:
    """The processes that count: the one that was started, and so many workers."""
    assert howdah.pid is not None
    deadline = time.monotonic() + _PATIENCE
    serving = re.compile(r"worker \d+ \(process (\d+)\) serves")
    while len(found := serving.findall(howdah.log())) < workers:
        if time.monotonic() > deadline:
            raise instructions.CannotCount(howdah.log())
        time.sleep(0.1)
    return [howdah.pid, *map(int, found)]


def run(
    server: cluster.Cluster, folder: Path, program: list[str], workers: int, options: argparse.Namespace
) -> Counted:
    """Count with so many workers; 0 is one whose clients ask nothing."""
    folder.mkdir()
    folder.chmod(0o755)
    valgrind = Valgrind(folder)
    howdah = targets.howdah(server, folder, [*valgrind.words, *program[1:]])
    processes = max(workers, 1)
    howdah.start(
        {"default_pool_size": str(options.pool), "workers": str(processes), "worker_timeout": "60"}, _PATIENCE
    )
    try:
        # Beside the supervisor and the workers there is the template, which has no loop in which to count.
        pids = await_workers(howdah, 0 if processes == 1 else processes)
        return asyncio.run(count(howdah.address, valgrind, pids, options, idle=not workers))
    finally:
        howdah.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Count with one worker and with two."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.workers", description=__doc__)
    parser.add_argument("--pool", type=int, default=16, help="servers (default 16)")
    parser.add_argument("--clients", type=int, default=64, help="clients (default 64)")
    parser.add_argument("--seconds", type=float, default=10, help="time in which to count (default 10)")
    parser.add_argument("--rate", type=float, default=20_000, help="transactions per second (default 20000)")
    options = parser.parse_args(arguments)
    try:
        idle, one, two = measure(options)
    except (instructions.CannotCount, targets.NotStarted) as reason:
        print(f"not counted: {reason}", file=sys.stderr)
        return 1
    alone = cost(idle, one)
    times = alone.ratio(two, options.rate)
    print(f"{alone.each:,.0f} instructions per transaction, and {alone.second:,.0f} per second, with two")
    print(f"workers {alone.extra(two):,.0f} per second more:")
    print(f"{times:.3f} times as many at {options.rate:,.0f}/s, at most {BAR}")
    return int(times > BAR)


def measure(options: argparse.Namespace) -> list[Counted]:
    """One worker at rest, one at work, and two."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workers-")))
        folder.chmod(0o755)
        server = stack.enter_context(cluster.running())
        program = targets.howdah_program(folder)
        return [run(server, folder / str(workers), program, workers, options) for workers in range(3)]


if __name__ == "__main__":
    sys.exit(main())

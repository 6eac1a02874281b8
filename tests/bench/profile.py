"""Where Howdah spends its time under one workload: `python -m tests.bench.profile WORKLOAD [--seconds S]`.

Samples with py-spy where that is installed: it sees the daemon as it is, but by the clock on the wall, so
that a write that wakes another process on the same processor looks long. Else runs the daemon under cProfile,
which makes calls look dearer than they are. Prints the functions with the most time of their own.
"""

import argparse
import contextlib
import marshal
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import cluster
from tests.bench.catalogue import workloads
from tests.bench.pgbench import Pgbench
from tests.bench.targets import Pooler, howdah, howdah_program
from tests.bench.workloads import METRICS, Tools, Values, Workload

_SAMPLES_PER_SECOND = 500

# What cProfile writes: (file, line, name) -> (primitive calls, calls, own seconds, whole seconds, callers).
Stats = dict[tuple[str, int, str], tuple[int, int, float, float, object]]


@dataclass(frozen=True, slots=True)
class Line:
    """One function's share of the time: its own, and with what it called; between 0 and 1."""

    function: str
    own: float
    whole: float


def shares(stacks: Iterable[str]) -> list[Line]:
    """Add up collapsed stacks, as py-spy's raw format has them: `outer;inner;innermost COUNT`."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for text in stacks:
        stack, count = text.rsplit(" ", 1)
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    total = sum(own.values())
    return [Line(frame, own[frame] / total, whole[frame] / total) for frame, _ in whole.most_common()]


def profiled(path: Path) -> list[Line]:
    """The same shares from a file that cProfile wrote; imports are left out."""
    with path.open("rb") as file:
        # pstats would round to milliseconds and lose one of two functions of the same name.
        stats: Stats = marshal.load(file)
    kept = {key: times for key, times in stats.items() if "importlib" not in key[0]}
    total = sum(times[2] for times in kept.values()) or 1.0
    return [
        Line(f"{name} ({file_name})", times[2] / total, times[3] / total)
        for (file_name, _, name), times in kept.items()
    ]


def table(lines: Iterable[Line], top: int) -> str:
    """The `top` functions with most time of their own."""
    ordered = sorted(lines, key=lambda line: line.own, reverse=True)[:top]
    return "\n".join(
        [
            "    own    whole  function",
            *(f"{line.own:7.1%}  {line.whole:7.1%}  {line.function}" for line in ordered),
        ]
    )


@dataclass(frozen=True, slots=True)
class Profiler:
    """Runs one workload against a Howdah that is watched; `sampler` is py-spy's path, None for cProfile."""

    sampler: str | None
    output: Path

    def program(self) -> list[str]:
        """The daemon's command, under cProfile if need be."""
        if self.sampler:
            return howdah_program(self.output.parent, interpreted=True)
        # Written when the daemon ends, by the user it has become.
        self.output.touch()
        self.output.chmod(0o666)
        return [sys.executable, "-m", "cProfile", "-o", str(self.output), "-m", "proxy"]

    def run(self, workload: Workload, tools: Tools, target: Pooler) -> tuple[Values, list[Line]]:
        """Start the daemon, run the workload once, end the daemon."""
        first_login = target.start(workload.settings)
        try:
            workload.prepare(tools, target)
            with self._watching(target, tools.seconds):
                values = workload.measure(tools, target, first_login)
        finally:
            target.stop()
        if self.sampler:
            return values, shares(self.output.read_text().splitlines())
        return values, profiled(self.output)

    @contextlib.contextmanager
    def _watching(self, target: Pooler, seconds: int) -> Iterator[None]:
        if not self.sampler:
            yield
            return
        options = ["--gil", "--format", "raw", "--function", "--rate", str(_SAMPLES_PER_SECOND)]
        command = [self.sampler, "record", *options, "--duration", str(seconds), "--output", str(self.output)]
        watcher = subprocess.Popen(
            [*command, "--pid", str(target.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
            watcher.wait(60)
        finally:
            watcher.kill()
            watcher.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one workload and print its figures and the profile."""
    options = _parser().parse_args(arguments)
    workload = next(each for each in workloads() if each.name == options.workload)
    sampler = None if options.cprofile else _py_spy()
    print(f"{workload.name}: {workload.title}; {'py-spy' if sampler else 'cProfile'}, {options.seconds} s")
    with tempfile.TemporaryDirectory(prefix="bench-") as name, cluster.running() as postgres:
        folder = Path(name)
        folder.chmod(0o755)
        profiler = Profiler(sampler, folder / "profile")
        target = howdah(postgres, folder, profiler.program())
        tools = Tools(Pgbench(postgres, folder), options.seconds)
        values, lines = profiler.run(workload, tools, target)
    for metric, value in values.items():
        print(f"  {METRICS[metric].title.format(unit=workload.unit)}: {value * METRICS[metric].scale:,.2f}")
    print(table(lines, options.top))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("workload", choices=[workload.name for workload in workloads()])
    parser.add_argument("--seconds", type=int, default=5, metavar="S", help="how long (default 5)")
    parser.add_argument("--top", type=int, default=25, metavar="N", help="functions to print (default 25)")
    parser.add_argument("--cprofile", action="store_true", help="not py-spy, even where it is installed")
    return parser


def _py_spy() -> str | None:
    beside = str(Path(sys.executable).parent)
    return shutil.which("py-spy", path=f"{beside}:{os.environ.get('PATH', '')}")


if __name__ == "__main__":
    sys.exit(main())

"""The command line of the bench: `python -m tests.bench [--only NAME] [--rounds N] [--seconds S]`.

Prints one table per workload as soon as it is done. Everything is started on free ports of the loopback, kept
in a temporary folder and taken away again, also after Ctrl-C.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from tests.bench import cluster, report
from tests.bench.catalogue import workloads
from tests.bench.cluster import Cluster
from tests.bench.pgbench import Pgbench
from tests.bench.rounds import Measured, Turns
from tests.bench.targets import (
    HOWDAH,
    NOISE,
    PGBOUNCER,
    POSTGRESQL,
    Direct,
    Target,
    howdah,
    howdah_program,
    pgbouncer,
    pgbouncer_program,
)
from tests.bench.workloads import Tools, Workload

BASELINE = Path(__file__).with_name("baseline.json")
# Load average at the start above which other work is going on.
_QUIET = 0.7


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; 0 when every workload gave figures for every target, 1 when something was left out."""
    options = _parser().parse_args(arguments)
    if options.list:
        for workload in workloads():
            print(f"{workload.name:12} {'' if workload.usual else '(by name only) '}{workload.title}")
        return 0
    if options.quick:
        options.rounds, options.seconds = 3, 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        results = run(options)
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started has been ended", file=sys.stderr)
        return 130
    return 1 if any(one.troubles for one in results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = [workload.name for workload in workloads()]
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=names, help="one workload; repeatable"
    )
    parser.add_argument("--all", action="store_true", help="also the workloads that are usually left out")
    parser.add_argument("--list", action="store_true", help="name the workloads and end")
    parser.add_argument("--rounds", type=_positive, default=7, metavar="N", help="rounds (default 7)")
    parser.add_argument(
        "--seconds", type=_positive, default=2, metavar="S", help="per measurement (default 2)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="3 rounds of 1 second: shows that it runs, no more"
    )
    parser.add_argument("--interpreted", action="store_true", help="not the compiled build")
    parser.add_argument("--keep", action="store_true", help=f"keep the ratios in {BASELINE.name}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value there as well")
    without = (POSTGRESQL, HOWDAH, PGBOUNCER, NOISE)
    listed = ", ".join(without)
    parser.add_argument(
        "--without",
        metavar="TARGET",
        action="append",
        choices=without,
        default=[],
        help=f"leave out: {listed}",
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def chosen(only: Sequence[str] | None, everything: bool) -> list[Workload]:
    """The workloads to run: those named, else the usual ones, else all."""
    if only:
        return [workload for workload in workloads() if workload.name in only]
    return [workload for workload in workloads() if workload.usual or everything]


def run(options: argparse.Namespace) -> list[Measured]:
    """Measure, print, and write the JSON file also of a run that was interrupted."""
    load = os.getloadavg()[0]
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else None
    results: list[Measured] = []
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        folder.chmod(0o755)
        postgres = stack.enter_context(cluster.running())
        tools = Tools(Pgbench(postgres, folder), options.seconds)
        program = howdah_program(folder, interpreted=options.interpreted)
        targets = _targets(postgres, folder, program, options.without)
        about = {**_about(postgres, options), "build": build(program), "load": load}
        print(_headline(about))
        if load > _QUIET:
            print(f"the machine is busy (load {load:.1f}), which slows interpreted code more than PgBouncer")
        if options.json is not None:
            stack.callback(lambda: _write(options.json, report.as_json(results, about)))
        if options.keep:
            stack.callback(lambda: _write(BASELINE, report.renewed(baseline, report.as_json(results, about))))
        for workload in chosen(options.only, options.all):
            results.append(Turns(workload, targets, tools, _progress).run(options.rounds))
            _progress("")
            print("\n" + report.table(results[-1], baseline), flush=True)
    print(f"\n{time.monotonic() - began:.0f} s in all")
    return results


def build(program: Sequence[str]) -> str:
    """What is measured as Howdah, in its own words."""
    done = subprocess.run(
        [*program, "-V"], cwd=BASELINE.parents[2], capture_output=True, text=True, check=False, timeout=60
    )
    found = re.search(r"^compiled: (.*)", done.stdout, re.MULTILINE)
    return {"yes": "compiled", "no": "interpreted"}.get(found[1] if found else "", "of an unknown build")


def _targets(postgres: Cluster, folder: Path, program: list[str], without: Sequence[str]) -> list[Target]:
    found: list[Target] = [Direct(postgres), howdah(postgres, folder, program)]
    for name in (PGBOUNCER, NOISE):
        target = pgbouncer(name, postgres, folder)
        if target is not None:
            found.append(target)
    if len(found) == 2:
        print(
            "no pgbouncer on PATH or in /usr/sbin: no ratios (Debian and Ubuntu: apt-get install pgbouncer)"
        )
    return [target for target in found if target.name not in without]


def _about(postgres: Cluster, options: argparse.Namespace) -> dict[str, object]:
    return {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "uvloop": metadata.version("uvloop"),
        "postgresql": postgres.release,
        "pgbouncer": _first_line([pgbouncer_program() or "pgbouncer", "--version"]),
        "commit": _git("describe", "--always", "--dirty"),
        "baseline": _git("log", "-1", "--format=%h of %cs", "--", BASELINE.name),
    }


def _git(*words: str) -> str | None:
    return _first_line(["git", "-C", str(BASELINE.parent), *words])


def _first_line(command: Sequence[str]) -> str | None:
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return output.splitlines()[0] if output else None


def _headline(about: dict[str, object]) -> str:
    given = os.environ.get("HOWDAH_BENCH_COMMAND")
    of = f" ({given})" if given else ""
    return (
        f"{about['rounds']} rounds of {about['seconds']} s in turns, {about['processors']} processors; "
        f"median (quartiles)\nratio: {HOWDAH} over {PGBOUNCER}, noise: a second {PGBOUNCER} over the first\n"
        f"baseline: the ratio kept by commit {about['baseline'] or '(none yet)'}, and whether the quartiles "
        "have left it behind\n"
        f"Howdah: {about['build']}{of}; Python {about['python']}, uvloop {about['uvloop']}, "
        f"PostgreSQL {about['postgresql']}, {about['pgbouncer']}"
    )


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())

"""Runs a target in a process of its own, and reads what became of it.

Law: the same seed and number of inputs give the same run.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.fuzz.seeds import seeds_of

ROOT = Path(__file__).parents[3]
INPUT_SECONDS = 5
"""Longer than this no reader may take for one input."""
_MOST_BYTES = 1024


@dataclass
class Outcome:
    """What became of one target: `input` is what broke its promise, if anything did."""

    name: str
    inputs: int
    coverage: int
    good: bool
    report: str
    input: bytes | None = None


def available() -> bool:
    """Whether the fuzzer is installed here."""
    return importlib.util.find_spec("atheris") is not None


def names() -> list[str]:
    """The targets of a run."""
    from tests.conformance.fuzz.targets import EVERY

    return EVERY


def fuzz(name: str, found: Path, *, runs: int = -1, seconds: int = 0, seed: int = 1) -> Outcome:
    """Fuzzes one target for so many inputs, or seconds; 0 is no limit of time."""
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(seeds_of(name)):
            Path(corpus, f"seed-{number}").write_bytes(data)
        prefix = found / (re.sub(r"\W+", "-", name) + "-")
        flags = [
            f"-runs={runs}",
            f"-max_total_time={seconds}",
            f"-seed={seed}",
            f"-max_len={_MOST_BYTES}",
            f"-timeout={INPUT_SECONDS}",
            f"-artifact_prefix={prefix}",
            "-reload=0",
        ]
        command = [sys.executable, "-m", "tests.conformance.fuzz.child", name, *flags, corpus]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            errors="backslashreplace",
            check=False,
        )
    return read(name, done.returncode, done.stdout + done.stderr)


def fuzz_all(found: Path, *, runs: int, jobs: int) -> Iterator[Outcome]:
    """Every target, some at a time."""
    with ThreadPoolExecutor(jobs) as threads:
        yield from threads.map(lambda name: fuzz(name, found, runs=runs), names())


def read(name: str, code: int, output: str) -> Outcome:
    """What libFuzzer has printed."""
    states = re.findall(
        r"^#(\d+)\s+(?:INITED|NEW|REDUCE|pulse|DONE|RELOAD).*?cov: (\d+)", output, re.MULTILINE
    )
    inputs, coverage = map(int, states[-1]) if states else (0, 0)
    kept = re.search(r"Test unit written to (\S+)", output)
    data = Path(kept[1]).read_bytes() if kept else None
    good = code == 0 and inputs > 0
    return Outcome(name, inputs, coverage, good, "" if good else told(output), data)


def told(output: str) -> str:
    """The exception, or what libFuzzer has to say without one."""
    _, exception, behind = output.partition("Uncaught Python exception")
    if exception:
        return behind.partition("INFO:")[0].strip(" =:\n")
    return "\n".join(line for line in output.splitlines() if "ERROR" in line or "SUMMARY" in line)

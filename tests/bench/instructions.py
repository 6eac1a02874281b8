"""How many instructions of the processor a transaction takes inside the process, counted by callgrind.

The same on every run, unlike time: what differs between machines is the interpreter and the C compiler, which
`counted_by` names. A run of twice as many transactions less one of as many leaves out what is not theirs.
"""

import ctypes
import gc
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from tests.bench.micro import World, exchanges, ready

_FEW, _MANY = 4, 40
# Now and then the allocator takes new memory, which is nobody's: of several series the shortest counts.
_TIMES = 3
# Transactions with more bytes than this are done fewer times.
_LARGE = 10_000
_REQUESTS = """
#include <valgrind/callgrind.h>
void begin(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void end(const char *name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""
_DUMP = re.compile(
    r"^desc: Trigger: Client Request: (.+)/(\d+)$.*?^summary: (\d+)$", re.MULTILINE | re.DOTALL
)


class CannotCount(Exception):
    """What this machine lacks."""


def counted_by() -> str:
    """All on whose account instructions differ: they are compared where this is the same."""
    parts = [
        f"CPython {platform.python_version()} of {platform.python_compiler()}",
        " ".join(platform.libc_ver()),
        f"mypy {version('mypy')}",
        *(_first_line(program) for program in ("cc", "valgrind")),
        platform.machine(),
    ]
    return ", ".join(parts)


def _first_line(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        return f"no {program}"
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return said.partition("\n")[0]


def count(folder: Path) -> Mapping[str, float]:
    """Instructions per transaction, by its name, of the build in `folder`; raises CannotCount."""
    valgrind, compiler = shutil.which("valgrind"), shutil.which("cc")
    if valgrind is None or compiler is None:
        raise CannotCount("needs valgrind and a C compiler")
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        library = Path(scratch, "requests.so")
        build_requests(compiler, library)
        options = ["--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={scratch}/out"]
        done = subprocess.run(
            [valgrind, *options, sys.executable, "-m", "tests.bench.instructions", library],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode != 0:
            raise AssertionError(done.stderr[-4000:])
        return per_transaction([path.read_text() for path in Path(scratch).glob("out*")])


def build_requests(compiler: str, library: Path) -> None:
    """A library by which a process under callgrind says when to count. Raises CannotCount."""
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-x", "c", "-o", library, "-"],
        input=_REQUESTS.encode(),
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if built.returncode != 0:
        raise CannotCount("needs valgrind's headers and a C compiler")


def per_transaction(dumps: list[str]) -> Mapping[str, float]:
    """What callgrind wrote down at each end of a series, as the difference of a long one and a short."""
    series: dict[str, dict[int, int]] = {}
    for dump in dumps:
        if found := _DUMP.search(dump):
            totals = series.setdefault(found[1], {})
            totals[int(found[2])] = min(int(found[3]), totals.get(int(found[2]), sys.maxsize))
    return {
        name: (totals[max(totals)] - totals[min(totals)]) / (max(totals) - min(totals))
        for name, totals in series.items()
    }


def _run_under_callgrind(library: str) -> None:
    requests = ctypes.CDLL(library)
    gc.disable()
    for exchange in exchanges():
        world: World = ready(exchange)
        size = sum(map(len, (*exchange.request, *exchange.reply)))
        short = _FEW if size > _LARGE else _MANY
        for times in (short, 2 * short) * _TIMES:
            requests.begin()
            world.run(exchange, times)
            requests.end(f"{exchange.name}/{times}".encode())
        world.check()


if __name__ == "__main__":
    _run_under_callgrind(sys.argv[1])

"""Programs that are run to their end, and those that are ended."""

import subprocess
import sys
import time
from pathlib import Path

from tests.conformance import programs
from tests.support.fault_proxy import wait_until
from tests.support.pooler import ROOT

TIDY = """
import pathlib, sys, time
begun, cleaned = map(pathlib.Path, sys.argv[1:])
try:
    begun.touch()
    time.sleep(60)
finally:
    cleaned.touch()
"""


def test_its_exit_code_and_all_it_prints_are_returned() -> None:
    text = "import os, sys; print(os.environ['WORD']); print('err', file=sys.stderr); sys.exit(3)"
    done = programs.run([sys.executable, "-c", text], {"WORD": "out"})
    assert done.code == 3
    assert sorted(done.said.split()) == ["err", "out"]


def test_an_overdue_program_is_ended() -> None:
    started = time.monotonic()
    done = programs.run([sys.executable, "-c", "import time; time.sleep(60)"], within=0.5)
    assert done.code != 0
    assert time.monotonic() - started < 20


def test_a_program_that_is_ended_may_clean_up(tmp_path: Path) -> None:
    begun, cleaned = tmp_path / "begun", tmp_path / "cleaned"
    with subprocess.Popen([sys.executable, "-c", TIDY, str(begun), str(cleaned)]) as process:
        wait_until(begun.exists, 30, "begun")
        programs.end(process)
    assert cleaned.exists()


def test_an_interrupt_is_passed_on_and_the_program_may_clean_up(tmp_path: Path) -> None:
    """The interrupt comes to a whole interpreter that runs the program, as Ctrl-C does."""
    begun, cleaned = tmp_path / "begun", tmp_path / "cleaned"
    inner = [sys.executable, "-c", TIDY, str(begun), str(cleaned)]
    outer = [sys.executable, "-c", f"from tests.conformance import programs; programs.run({inner!r})"]
    with subprocess.Popen(outer, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        wait_until(begun.exists, 30, "begun")
        programs.end(process)
    assert cleaned.exists()

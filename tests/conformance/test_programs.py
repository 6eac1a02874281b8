"""Programs that are run to their end, and those that are ended."""

import sys
import threading
import time
from pathlib import Path

from tests.conformance import programs
from tests.support.fault_proxy import wait_until

TIDY = """
import pathlib, sys, time
try:
    print("begun", flush=True)
    pathlib.Path(sys.argv[1]).write_text("begun")
    time.sleep(60)
finally:
    print("cleaned up")
"""


def test_its_exit_code_and_all_it_prints_are_returned() -> None:
    text = "import os, sys; print(os.environ['WORD']); print('err', file=sys.stderr); sys.exit(3)"
    done = programs.run([sys.executable, "-c", text], {"WORD": "out"})
    assert done.code == 3
    assert sorted(done.said.split()) == ["err", "out"]


def test_an_overdue_program_may_clean_up(tmp_path: Path) -> None:
    started = time.monotonic()
    done = programs.run([sys.executable, "-c", TIDY, str(tmp_path / "begun")], within=1)
    assert "cleaned up" in done.said
    assert done.code != 0
    assert time.monotonic() - started < 20


def test_an_interrupt_is_passed_on_and_the_program_may_clean_up(tmp_path: Path) -> None:
    """The interrupt comes to a whole interpreter that runs the program, as Ctrl-C does."""
    begun, cleaned = tmp_path / "begun", tmp_path / "cleaned"
    inner = TIDY.replace('print("cleaned up")', f"pathlib.Path({str(cleaned)!r}).touch()")
    outer = (
        f"from tests.conformance import programs; programs.run({[sys.executable, '-c', inner, str(begun)]!r})"
    )
    thread = threading.Thread(
        target=programs.run, args=([sys.executable, "-c", outer],), kwargs={"within": 3.0}
    )
    thread.start()
    wait_until(begun.exists, 10, "begun")
    thread.join(20)
    assert cleaned.exists()

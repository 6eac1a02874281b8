"""Runs a program that starts others, and gives it time to take them away again.

Law: an interrupted or overdue program gets one SIGINT, and is killed only when
that was not enough; it has a session of its own, so that Ctrl-C reaches it once.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.support.pooler import ROOT

_CLEANING_UP_SECONDS = 30.0


@dataclass(frozen=True)
class Done:
    """The exit code, and everything that was printed."""

    code: int
    said: str


def run(
    command: Sequence[str], environment: Mapping[str, str] | None = None, *, within: float | None = None
) -> Done:
    """Runs it in the repository's folder to its end, or to the end of its time."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            process.wait(within)
        except subprocess.TimeoutExpired:
            end(process)
        except BaseException:
            end(process)
            raise
        output.seek(0)
        return Done(process.returncode, output.read().decode(errors="replace"))


def end(process: "subprocess.Popen[bytes]") -> None:
    """Interrupt a program, and kill it if that does not end it in time."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_CLEANING_UP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""Starting and ending daemons for the bench: in a session of their own, by pid, never by name."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.bench.accounting import family


def start(command: Sequence[str | Path], log: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start a daemon that Ctrl-C does not reach (the bench ends it); what it prints goes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes], ask: signal.Signals, patience: float = 5.0) -> None:
    """Ask the process to end, wait `patience` seconds, then kill it and its descendants."""
    if process.poll() is not None:
        return
    process.send_signal(ask)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        for member in family(process.pid):
            os.kill(member, signal.SIGKILL)
        process.wait()

"""One temporary folder per process for servers and what they need, gone when the process is gone.

Law: whatever ends this process, SIGKILL included, no server and no file stays behind. A guard, a small shell
in a session of its own, waits for the end of its input, which comes when this process closes it or dies.
"""

import atexit
import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

# A unix socket's path holds 103 bytes on macOS, 107 on Linux; ours adds 40 to the temporary folder's.
LONGEST_PARENT = 60

GUARD = """
read -r end
for file in "$1"/*/data/postmaster.pid; do
  [ -f "$file" ] && kill -QUIT "$(head -n 1 "$file")"
done 2>/dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf "$1" 2>/dev/null && exit 0
  sleep 0.2
done
"""


class Scratch:
    """A folder that any account may pass through, and the guard that removes it."""

    def __init__(self) -> None:
        parent = tempfile.gettempdir()
        short = parent if len(os.fsencode(parent)) <= LONGEST_PARENT else "/tmp"
        self.root = Path(tempfile.mkdtemp(prefix="howdah-", dir=short))
        self.root.chmod(0o711)
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", self.root],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self._numbers = 0
        self._lock = threading.Lock()

    def folder(self) -> Path:
        """A new folder below the root, with a short name."""
        with self._lock:
            self._numbers += 1
            path = self.root / str(self._numbers)
        path.mkdir(mode=0o755)
        return path

    def close(self) -> None:
        """Remove everything now; servers that still run are stopped at once."""
        if self._guard.stdin is not None:
            with contextlib.suppress(OSError):
                self._guard.stdin.close()
        self._guard.wait(timeout=30)
        shutil.rmtree(self.root, ignore_errors=True)


_scratch: tuple[int, Scratch] | None = None
_lock = threading.Lock()


def scratch() -> Scratch:
    """This process's scratch folder; a forked child gets one of its own."""
    global _scratch
    with _lock:
        if _scratch is None or _scratch[0] != os.getpid():
            _scratch = (os.getpid(), Scratch())
            atexit.register(_close, *_scratch)
        return _scratch[1]


def _close(pid: int, mine: Scratch) -> None:
    # A forked child inherits the registration, and must not remove its parent's folder.
    if os.getpid() == pid:
        mine.close()

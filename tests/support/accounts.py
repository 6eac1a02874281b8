"""Running Python as somebody else, for what must work both as root and as an ordinary user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.demo.binaries import Account, run_as, server_account

ROOT = Path(__file__).parents[2]
NEEDS_ROOT = "needs root, and a Python that an ordinary user can run"


def ordinary_account() -> Account:
    """An account without rights; skips unless we are root."""
    account = server_account()
    if account is None:
        pytest.skip(NEEDS_ROOT)
    return account


def run_python(script: str, account: Account | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script that imports `proxy`, as `account` or as ourselves; skips where it has no Python."""
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            probe = run_as(account, [python, "-c", "import proxy.demo.postgres"], environment=environment)
        except OSError:
            continue
        if probe.returncode == 0:
            return run_as(account, [python, "-W", "error", "-c", script], environment=environment)
    pytest.skip(NEEDS_ROOT)

"""Copies of the product and of its tests, in folders that go away again.

Law: whoever runs there finds nothing of the original; see the law of the package.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.mutants.fault import Fault
from tests.support.pooler import ROOT

FOLDERS = ("protocol", "config", "proxy", "tests")
FILES = ("pyproject.toml",)
_HALF_WRITTEN = shutil.ignore_patterns("*.pyc.*")
"""What somebody is compiling at the moment."""


@contextlib.contextmanager
def copied(fault: Fault | None = None) -> Iterator[Path]:
    """A folder with a copy, the fault in it. Raises Lost."""
    folder = Path(tempfile.mkdtemp(prefix="howdah-mutant-"))
    try:
        # The daemon reads it also when it is no longer root.
        folder.chmod(0o755)
        for name in FOLDERS:
            shutil.copytree(ROOT / name, folder / name, ignore=_HALF_WRITTEN)
        for name in FILES:
            shutil.copy2(ROOT / name, folder / name)
        if fault is not None:
            spoil(folder / fault.file, fault)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def spoil(path: Path, fault: Fault) -> None:
    path.write_text(fault.applied(path.read_text()))
    # What was compiled from the original must not be taken for it.
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()

"""The pump for tests of it: what is installed, or else compiled here and now, away from the work tree."""

import importlib.util
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pytest

SOURCE = Path(__file__).parents[2] / "proxy" / "pump.c"


def pump_module() -> ModuleType:
    """The module `proxy.pump`; skips the test where there is no compiler for it."""
    module = _found()
    if module is None:
        pytest.skip("needs a C compiler")
    return module


@cache
def _found() -> ModuleType | None:
    if importlib.util.find_spec("proxy.pump") is not None:
        return importlib.import_module("proxy.pump")
    with TemporaryDirectory() as folder:
        library = Path(folder) / f"pump{sysconfig.get_config_var('EXT_SUFFIX')}"
        command = [
            "cc",
            "-O1",
            "-g",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-parameter",
            "-shared",
            "-fPIC",
        ]
        command += ["-Wno-missing-field-initializers", "-Wno-cast-function-type"]
        command += [f"-I{sysconfig.get_path('include')}", str(SOURCE), "-o", str(library)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        except FileNotFoundError:
            return None
        if "Python.h" in done.stderr or sys.platform != "linux":
            return None
        assert done.returncode == 0, done.stderr
        spec = importlib.util.spec_from_file_location("proxy.pump", library)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

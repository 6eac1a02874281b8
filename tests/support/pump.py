"""The pump for tests of it: what is installed, or else compiled here and now, away from the work tree."""

import importlib.util
import select
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pytest

from tests.support.sockets import Noted, tcp_pair

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


class Turned:
    """A pump without a loop: a test says when it is time for a turn, or for what was to be called soon."""

    def __init__(self, module: ModuleType) -> None:
        self.soon: list[object] = []
        self.reports: list[Exception] = []
        self.pump = module.Pump(self.soon.append, lambda error, wire: self.reports.append(error))
        self.far: list[socket.socket] = []

    def wire(self, *, stays: bool = False) -> Noted:
        ours, theirs = tcp_pair()
        self.far.append(theirs)
        protocol = Noted(stays=stays)
        self.pump.adopt(ours, protocol)
        return protocol

    def due(self) -> bool:
        """Whether the loop would be told that there is something to do."""
        return bool(select.select([self.pump.fileno()], [], [], 0)[0])

    def turn(self) -> None:
        """Wait until there is something to do, and do it."""
        assert select.select([self.pump.fileno()], [], [], 5)[0]
        self.pump.turn()

    def settle(self) -> None:
        soon, self.soon[:] = list(self.soon), []
        for each in soon:
            each()  # type: ignore[operator]


@contextmanager
def turning() -> Iterator[Turned]:
    """One for a test, which ends with all that it has begun."""
    turned = Turned(pump_module())
    yield turned
    for sock in turned.far:
        sock.close()
    while len(turned.pump):
        if turned.due():
            turned.pump.turn()
        turned.settle()

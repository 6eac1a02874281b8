"""The machine's own addresses are known with their networks."""

import ctypes
import os
import subprocess
from ipaddress import ip_interface

import pytest

from proxy import interfaces as module
from proxy.interfaces import interfaces


def test_the_loopback_is_among_the_interfaces() -> None:
    assert ip_interface("127.0.0.1/8") in interfaces()


def test_no_program_is_started_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(os, "system", start)
    monkeypatch.setattr(os, "popen", start)
    assert interfaces()


def test_a_refusal_of_the_system_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def getifaddrs(self, first: object) -> int:
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Library())
    with pytest.raises(OSError, match="cannot be listed"):
        module.interfaces()

"""Ports of the loopback for what is started later.

Law: no two processes of one test run are given the same port. They are taken in turn from below those that
the kernel hands out by itself, and each process of the run has a part of its own.
"""

import itertools
import os
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path

_LOWEST = 10_000
_PARTS = 8
_KERNELS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def part(name: str, end: int) -> range:
    """The ports below `end` for the process of this name: gw0, gw1, ... or, for the only one, none."""
    number = re.search(r"\d+$", name)
    size = (end - _LOWEST) // _PARTS
    first = _LOWEST + (int(number[0]) % _PARTS if number else 0) * size
    return range(first, first + size)


def _in_turn() -> Iterator[int]:
    end = int(_KERNELS.read_text().split()[0]) if _KERNELS.exists() else 32_768
    mine = part(os.environ.get("PYTEST_XDIST_WORKER", ""), max(end, _LOWEST + _PARTS * 100))
    # Elsewhere on this machine another run may be under way.
    first = random.SystemRandom().randrange(len(mine))
    return itertools.cycle([*mine[first:], *mine[:first]])


_ports = _in_turn()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free a moment ago."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in _ports:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise AssertionError("the ports never end")

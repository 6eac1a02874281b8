"""What processes cost, read from /proc: CPU time and resident memory of a process and its descendants.

CPU comes from the clock the kernel keeps for every process (nanoseconds, all threads, also those that ended);
the division into user and system from /proc/PID/stat (10 ms steps). Children that ended and were waited for
stay in the sum. Nothing here slows down or signals the processes measured.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU time in seconds; `total` is exact, `user` and `system` are the kernel's division in ticks."""

    total: float
    user: float
    system: float

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        return Cpu(self.total - earlier.total, self.user - earlier.user, self.system - earlier.system)


NOTHING = Cpu(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that the bench needs; times in seconds."""

    parent: int
    user: float
    system: float
    reaped: float


def parse_stat(text: str) -> Stat:
    """Read one line of /proc/PID/stat (proc(5)); the command's name may contain blanks and brackets."""
    fields = text[text.rindex(")") + 2 :].split()
    user, system, reaped_user, reaped_system = (int(field) * _TICK for field in fields[11:15])
    return Stat(int(fields[1]), user, system, reaped_user + reaped_system)


def read_stat(pid: int) -> Stat | None:
    """The process's accounts, or None when it has ended."""
    try:
        return parse_stat((_PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def family(pid: int) -> list[int]:
    """The process and all its living descendants, oldest generation first."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (stat := read_stat(int(entry.name))) is not None:
            children.setdefault(stat.parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return found


def cpu(pid: int) -> Cpu:
    """CPU used so far by the process and its descendants."""
    total = user = system = 0.0
    for member in family(pid):
        stat = read_stat(member)
        if stat is None:
            continue
        user += stat.user
        system += stat.system
        total += stat.reaped + _process_clock(member, stat.user + stat.system)
    return Cpu(total, user, system)


def _process_clock(pid: int, otherwise: float) -> float:
    # clock_getcpuclockid(3) for a process is only arithmetic on the pid; Python offers it for threads alone.
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return otherwise


def resident(pid: int) -> int:
    """Resident memory in bytes of the process and its descendants, shared pages counted once per process."""
    pages = 0
    for member in family(pid):
        try:
            pages += int((_PROC / str(member) / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * _PAGE

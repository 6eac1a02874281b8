import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import accounting

TICK = 1 / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_command_name_with_blanks_and_brackets_does_not_shift_the_fields() -> None:
    stat = accounting.parse_stat("42 (a) b (c)) S 7 42 42 0 -1 4194304 9 8 7 6 100 50 30 20 20 0 1 0 5 0 0\n")
    assert stat.parent == 7
    assert (stat.user, stat.system, stat.reaped) == pytest.approx((100 * TICK, 50 * TICK, 50 * TICK))


def test_a_family_is_the_process_and_its_descendants(child: subprocess.Popen[bytes]) -> None:
    members = accounting.family(os.getpid())
    assert members[0] == os.getpid()
    assert child.pid in members
    assert os.getppid() not in members
    assert accounting.family(child.pid) == [child.pid]


def test_cpu_grows_by_what_was_computed() -> None:
    before, clock = accounting.cpu(os.getpid()), time.process_time()
    while time.process_time() - clock < 0.05:
        pass
    spent = accounting.cpu(os.getpid()) - before
    assert 0.05 <= spent.total < 5


def test_a_child_that_ended_stays_in_the_sum() -> None:
    before = accounting.cpu(os.getpid())
    subprocess.run([sys.executable, "-c", "for _ in range(10**7): pass"], check=True)
    assert (accounting.cpu(os.getpid()) - before).total >= 2 * TICK


def test_a_process_that_ended_costs_nothing(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    assert accounting.read_stat(child.pid) is None
    assert accounting.cpu(child.pid).total == 0
    assert accounting.resident(child.pid) == 0


def test_resident_memory_is_what_the_kernel_says() -> None:
    kilobytes = 0
    for pid in accounting.family(os.getpid()):
        status = Path(f"/proc/{pid}/status").read_text()
        kilobytes += int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert accounting.resident(os.getpid()) == pytest.approx(kilobytes * 1024, rel=0.3)

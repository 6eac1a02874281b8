"""What a login tells by its length: `python -m tests.bench.timing [--logins N]`.

Interleaves failing SCRAM logins of a known and of an unknown user, over the wire at a pooler of its own, and
prints the medians; their difference must stay below 5 %.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import cluster
from tests.bench.client import Client, ServerError
from tests.bench.cluster import Address
from tests.bench.storm import pooler

BAR = 0.05
"""By how much the median of one may differ from that of the other."""
UNKNOWN = b"stranger"


def difference(known: list[float], unknown: list[float]) -> float:
    """Of the medians, as a share."""
    one, other = statistics.median(known), statistics.median(unknown)
    return abs(one - other) / max(one, other)


def interleaved(
    measure: Callable[[bytes], float], count: int, users: tuple[bytes, bytes]
) -> tuple[list[float], list[float]]:
    """What `measure` says of two users, by turns, each first as often as the other."""
    found: dict[bytes, list[float]] = {user: [] for user in users}
    for number in range(count):
        for user in users if number % 2 else users[::-1]:
            found[user].append(measure(user))
    return found[users[0]], found[users[1]]


def wire(address: Address, count: int) -> tuple[list[float], list[float]]:
    """Time on the wall of failing logins."""

    def of(user: bytes) -> float:
        began = time.perf_counter()
        with contextlib.suppress(ServerError, OSError):
            Client(address.host, address.port, user.decode(), address.database, "wrong").close()
        return time.perf_counter() - began

    users = address.user.encode(), UNKNOWN
    interleaved(of, 20, users)
    return interleaved(of, count, users)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.timing", description=__doc__)
    parser.add_argument("--logins", type=int, default=2000, help="in all (default 2000)")
    count = parser.parse_args().logins // 2
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="timing-")))
        folder.chmod(0o755)
        postgres = stack.enter_context(cluster.running())
        address = stack.enter_context(pooler(postgres.address, folder))
        known, unknown = wire(address, count)
    share = difference(known, unknown)
    for name, values in (("known", known), ("unknown", unknown)):
        print(f"{name:8} {len(values)} logins, median {statistics.median(values) * 1e6:.0f} µs")
    print(f"medians differ by {share:.1%}: {'passed' if share < BAR else 'FAILED'}")
    return int(share >= BAR)


if __name__ == "__main__":
    sys.exit(main())

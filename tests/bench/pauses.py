"""How long the turns of the loop are while an operator looks: `python -m tests.bench.pauses [--clients N]`.

So many clients stay, each having asked once; then the console, /metrics and a reload are asked for, several
times each. Howdah times each turn of its loop by the CPU it takes; printed is the longest by question.
"""

import argparse
import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import uvloop

from config import load
from proxy.worker import Worker
from tests.bench import cluster, processes
from tests.bench.client import verifier
from tests.bench.cluster import SALT, Address
from tests.bench.connections import allow_files
from tests.bench.storm import LONGEST_TURN
from tests.bench.targets import ini
from tests.support.ports import free_port

_REPOSITORY = Path(__file__).resolve().parents[2]
_PATIENCE = 15.0


def main() -> int:
    """Print a line per question; 1 if a turn was longer than the bar."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pauses", description=__doc__)
    parser.add_argument("--clients", type=int, default=10_000, help="that stay (default 10,000)")
    parser.add_argument("--times", type=int, default=5, help="that each question is put (default 5)")
    parser.add_argument("--daemon", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.daemon is not None:
        return uvloop.run(timed_daemon(options.daemon))
    allow_files(options.clients + 500)
    longest = 0.0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pauses-")))
        folder.chmod(0o755)
        postgres = stack.enter_context(cluster.running())
        daemon = stack.enter_context(_running(postgres.address, folder))
        for _ in range(options.clients):
            stack.enter_context(daemon.address.connect()).query("select 1")
        print(f"{options.clients} clients; longest turn of each, ms of CPU")
        for name, ask in questions(daemon).items():
            turns = [daemon.longest_turn(ask) for _ in range(options.times)]
            longest = max(longest, *turns)
            print(f"{name:24} " + " ".join(f"{turn * 1e3:6.1f}" for turn in turns), flush=True)
    return int(longest > LONGEST_TURN)


class Daemon:
    """Howdah in a process of its own, which says how long its turns were."""

    def __init__(
        self, address: Address, metrics: int, process: "subprocess.Popen[bytes]", said: Path
    ) -> None:
        self.address, self.metrics = address, metrics
        self._process, self._said, self._read = process, said, 0

    def longest_turn(self, ask: Callable[[], None]) -> float:
        """Of those during a question, in seconds."""
        self._lap()
        ask()
        return self._lap()

    def _lap(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        deadline = time.monotonic() + _PATIENCE
        while len(lines := self._said.read_text().splitlines()) <= self._read:
            assert time.monotonic() < deadline, "the daemon does not answer"
            time.sleep(0.01)
        self._read = len(lines)
        return float(lines[-1])


def questions(daemon: Daemon) -> Mapping[str, Callable[[], None]]:
    """What an operator does."""

    def console(command: str) -> Callable[[], None]:
        def ask() -> None:
            address = daemon.address
            with psycopg.connect(
                host=address.host,
                port=address.port,
                user=address.user,
                dbname="pgbouncer",
                password=address.password,
                autocommit=True,
            ) as connection:
                connection.execute(command.encode())

        return ask

    def scrape() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{daemon.metrics}/metrics") as page:
            page.read()

    shown = ("CLIENTS", "SERVERS", "SOCKETS", "POOLS", "LISTS", "USERS", "STATS", "MEM", "TLS")
    found = {"nothing": lambda: time.sleep(1.0), "/metrics": scrape, "RELOAD": console("RELOAD")}
    return found | {f"SHOW {what}": console(f"SHOW {what}") for what in shown}


@contextlib.contextmanager
def _running(server: Address, folder: Path) -> Iterator[Daemon]:
    port, metrics = free_port(), free_port()
    config, said, log = folder / "pgbouncer.ini", folder / "turns", folder / "log"
    (folder / "users.txt").write_text(f'"{server.user}" "{verifier(server.password, SALT)}"\n')
    values = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": str(folder / "users.txt"),
        "admin_users": server.user,
        "pool_mode": "transaction",
        "default_pool_size": "20",
        "max_client_conn": "20000",
        "metrics_port": str(metrics),
        "log_connections": "0",
        "log_disconnections": "0",
    }
    config.write_text(ini(server, values))
    said.touch()
    with log.open("wb") as errors, said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.pauses", "--daemon", str(config)],
            cwd=_REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
    try:
        address = Address("127.0.0.1", port, server.user, server.database, server.password)
        _await_login(address, process, log)
        yield Daemon(address, metrics, process, said)
    finally:
        processes.end(process, signal.SIGKILL)


def _await_login(address: Address, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            address.connect().close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(log.read_text()[-2000:]) from None
            time.sleep(0.02)


async def timed_daemon(config: Path) -> int:
    """Run Howdah; at each line of its input print the longest turn since the one before."""
    loop = asyncio.get_running_loop()
    longest, last = 0.0, time.thread_time()

    def turn() -> None:
        nonlocal longest, last
        now = time.thread_time()
        longest, last = max(longest, now - last), now
        loop.call_soon(turn)

    def lap() -> None:
        nonlocal longest
        if not sys.stdin.buffer.readline():
            loop.remove_reader(sys.stdin)
            return
        print(longest, flush=True)
        longest = 0.0

    loop.call_soon(turn)
    loop.add_reader(sys.stdin, lap)
    return await Worker(load(str(config)), str(config)).main()


if __name__ == "__main__":
    sys.exit(main())

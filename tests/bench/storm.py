"""Thousands of logins at once: `python -m tests.bench.storm [--clients N] [--tls] [--pgbouncer]`.

Howdah runs in a process of its own in which every turn of the event loop is timed (CPU of its thread), while
some clients, who are in already, go on working. Prints what became of all of them, and says whether a login
was lost or a turn was longer than the bar.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sized
from pathlib import Path

import uvloop

from config import load
from proxy.demo.binaries import server_account
from proxy.demo.postgres import free_port
from proxy.worker import Worker
from tests.bench import cluster, processes
from tests.bench.client import verifier
from tests.bench.cluster import SALT, Address
from tests.bench.connections import allow_files
from tests.bench.crowd import Crowd, storm
from tests.bench.figures import percentile
from tests.bench.targets import ini, pgbouncer_program
from tests.support.certificates import Authority, Kind

LONGEST_TURN = 0.020
"""Seconds of CPU that one turn may take."""
_REPOSITORY = Path(__file__).resolve().parents[2]
_PATIENCE = 15.0
# So many fewer clients than before mean that they are leaving.
_LEAVING = 20


def main() -> int:
    options = _parser().parse_args()
    if options.daemon is not None:
        return timed_daemon(options.daemon, options.turns)
    allow_files(2 * (options.clients + options.workers) + 200)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="storm-")))
        folder.chmod(0o755)
        postgres = stack.enter_context(cluster.running())
        key = options.key if options.tls else None
        with pooler(postgres.address, folder, pgbouncer=options.pgbouncer, key=key) as address:
            crowd = uvloop.run(
                storm(address, clients=options.clients, workers=options.workers, tls=options.tls)
            )
        print(told(crowd, options.clients))
        longest = 0.0
        if not options.pgbouncer:
            turns = json.loads((folder / "turns").read_text())
            longest = turns["longest"]
            print(f"turns of the loop, ms of CPU: longest {longest * 1e3:.1f}, " + turns["text"])
    failed = bool(crowd.lost) or longest > LONGEST_TURN
    print("FAILED" if failed else "passed")
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.storm", description=__doc__)
    parser.add_argument("--clients", type=int, default=5000, help="that log in at once (default 5000)")
    parser.add_argument(
        "--workers", type=int, default=200, help="that are in and go on working (default 200)"
    )
    parser.add_argument("--tls", action="store_true", help="all of them by TLS")
    parser.add_argument("--key", choices=("ec", "rsa"), default="ec", help="of the certificate (default ec)")
    parser.add_argument("--pgbouncer", action="store_true", help="PgBouncer in Howdah's place")
    parser.add_argument("--daemon", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--turns", type=Path, help=argparse.SUPPRESS)
    return parser


def told(crowd: Crowd, clients: int) -> str:
    """What became of the logins and of those who worked."""
    lines = [f"{len(crowd.logins)} of {clients} logins in {crowd.took:.2f} s"]
    lines += [f"LOST {count}: {text}" for text, count in crowd.lost.most_common(5)]
    named = {"login": crowd.logins, "query before": crowd.quiet, "query meanwhile": crowd.busy}
    for name, values in named.items():
        if values:
            middle, most = (percentile(sorted(values), share) * 1e3 for share in (0.5, 0.99))
            figures = f"p50 {middle:.1f}, p99 {most:.1f}, max {max(values) * 1e3:.1f}"
            lines.append(f"{name}: {len(values)}, ms: {figures}")
    return "\n".join(lines)


@contextlib.contextmanager
def pooler(
    server: Address, folder: Path, *, pgbouncer: bool = False, key: Kind | None = None
) -> Iterator[Address]:
    """The pooler under the storm, and its address."""
    port = free_port()
    config = folder / "pgbouncer.ini"
    values = _settings(server, folder, port, key)
    if not pgbouncer:
        values["metrics_addr"] = ""
    config.write_text(ini(server, values))
    turns = ["-m", "tests.bench.storm", "--daemon", str(config), "--turns", str(folder / "turns")]
    account = server_account()
    become = ["-u", account.name] if account else []
    program = [pgbouncer_program() or "pgbouncer", *become, str(config)]
    process = processes.start(program if pgbouncer else [sys.executable, *turns], folder / "log", _REPOSITORY)
    try:
        address = Address("127.0.0.1", port, server.user, server.database, server.password)
        _await_listening(address, time.monotonic() + _PATIENCE, folder / "log")
        yield address
    finally:
        processes.end(process, signal.SIGTERM if pgbouncer else signal.SIGQUIT)


def _settings(server: Address, folder: Path, port: int, key: Kind | None) -> dict[str, str]:
    values = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": str(folder / "users.txt"),
        "pool_mode": "transaction",
        "default_pool_size": "20",
        "max_client_conn": "20000",
        "listen_backlog": "1024",
    }
    (folder / "users.txt").write_text(f'"{server.user}" "{verifier(server.password, SALT)}"\n')
    if key is not None:
        files = Authority().server("localhost", kind=key).write(folder, "pooler")
        values |= {
            "client_tls_sslmode": "require",
            "client_tls_cert_file": str(files.certificate),
            "client_tls_key_file": str(files.key),
        }
    return values


def _await_listening(address: Address, deadline: float, log: Path) -> None:
    while True:
        try:
            socket.create_connection((address.host, address.port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(log.read_text()[-2000:]) from None
            time.sleep(0.02)


# In the daemon.


class Turns:
    """Times the turns of the running loop by the CPU they take, and keeps it turning for that, until the
    clients begin to leave.
    """

    def __init__(self, clients: Sized) -> None:
        self.longest = 0.0
        self.bins = {1: 0, 2: 0, 5: 0, 10: 0, 20: 0, 10**9: 0}
        self._clients = clients
        self._most = 0
        self._loop = asyncio.get_running_loop()
        self._last = time.thread_time()
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        now = time.thread_time()
        took, self._last = now - self._last, now
        present = len(self._clients)
        self._most = max(self._most, present)
        if present < self._most - _LEAVING:
            return
        self.longest = max(self.longest, took)
        for most in self.bins:
            if took * 1e3 < most:
                self.bins[most] += 1
                break
        self._loop.call_soon(self._turn)

    def as_json(self) -> str:
        """For the process that looks at them."""
        text = ", ".join(f"{count} below {most}" for most, count in self.bins.items() if most < 10**9)
        return json.dumps({"longest": self.longest, "text": f"{text}, {self.bins[10**9]} longer"})


def timed_daemon(config: Path, result: Path) -> int:
    """Run Howdah with its turns timed; what they took is written when it ends."""

    async def run() -> int:
        worker.append(Worker(load(str(config)), str(config)))
        asyncio.get_running_loop().call_later(1, begin)
        return await worker[0].main()

    def begin() -> None:
        found.append(Turns(worker[0].lobby.clients))

    worker: list[Worker] = []
    found: list[Turns] = []
    try:
        return uvloop.run(run())
    finally:
        if found:
            result.write_text(found[0].as_json())


if __name__ == "__main__":
    sys.exit(main())

"""`howdah demo`: many clients, first on PostgreSQL directly, then through the pooler, with live figures.

The law of this file: whatever happens, Ctrl-C included, every process and every file of the demo is gone when
it returns. Nothing outside its scratch folder is written.
"""

import argparse
import asyncio
import contextlib
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import uvloop

from config.settings import Settings
from proxy.arguments import Parser
from proxy.demo import view
from proxy.demo.binaries import NoPostgres, find
from proxy.demo.client import Address, Client, Refused
from proxy.demo.daemon import PREFERRED_PORT, Daemon, DaemonFailed, Pooling, choose_port
from proxy.demo.load import SCHEMA, Load, Plan
from proxy.demo.postgres import Cluster, PostgresFailed, Role, quote_identifier
from proxy.process import raise_fd_limit

T = TypeVar("T")

NAME = "demo"
DIRECT_SECONDS = 5.0
REFRESH_SECONDS = 1.0
SPARE_CLIENTS = 100
CLOSE_SECONDS = 10.0


def main(arguments: Sequence[str]) -> int:
    """Run the demo until Ctrl-C or the end of --seconds; returns the exit code."""
    options = _parse(arguments)
    raise_fd_limit()
    with _every_signal_interrupts():
        try:
            return _demo(options)
        except KeyboardInterrupt:
            print("\nCleaning up.")
            return 0
        except (NoPostgres, PostgresFailed, DaemonFailed, Refused, OSError) as exc:
            print(f"howdah demo: {exc}", file=sys.stderr)
            return 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="howdah demo", description="Many clients on few server connections of a real PostgreSQL, live."
    )
    positive = _number(1)
    parser.add_argument("--clients", type=positive, default=500, metavar="N", help="clients (default 500)")
    parser.add_argument("--servers", type=positive, default=10, metavar="N", help="pool size (default 10)")
    parser.add_argument(
        "--workers",
        type=_workers,
        default="1",
        metavar="N",
        help="processes of the pooler, or auto (default 1)",
    )
    parser.add_argument("--seconds", type=positive, metavar="N", help="end after this long (default: Ctrl-C)")
    parser.add_argument("--port", type=positive, metavar="N", help="the pooler's port (default 6432 if free)")
    parser.add_argument(
        "--think", type=_number(0), default=500, metavar="MS", help="pause between transactions (default 500)"
    )
    return parser.parse_args(arguments)


def _workers(text: str) -> str:
    Settings.model_validate({"workers": text})
    return text


def _number(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise ValueError
        return value

    return number


@contextlib.contextmanager
def _every_signal_interrupts() -> Iterator[None]:
    """Make SIGTERM and a closed terminal end the demo as Ctrl-C does, with everything cleaned up."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    # A shell starts background jobs with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _demo(options: argparse.Namespace) -> int:
    binaries = find()
    port = choose_port(options.port or PREFERRED_PORT)
    if options.port not in (None, port):
        raise DaemonFailed(f"port {options.port} is in use")
    plan = Plan(options.clients, options.think / 1000)
    password = secrets.token_urlsafe(9)
    _say(f"PostgreSQL {binaries.release} ({binaries.origin}) starts, with a database for the demo ...")
    with Cluster(binaries, roles=[Role(NAME, password)]) as cluster:
        _prepare(cluster)
        server = Address(cluster.host, cluster.port, NAME, NAME, password)
        limit = cluster.sql("SHOW max_connections")
        _say(f"\n1. {plan.clients} clients directly on PostgreSQL, max_connections = {limit}\n")
        _run(_directly(server, plan))
        _wait_for_backends(cluster)
        pooling = Pooling(options.servers, plan.clients + SPARE_CLIENTS, {"workers": options.workers})
        with Daemon(server, port, pooling) as daemon:
            _say(
                f"\n2. {plan.clients} clients through Howdah, pool_mode = transaction, "
                f"default_pool_size = {options.servers}, workers = {options.workers}\n"
            )
            psql = "psql" if shutil.which("psql") else str(binaries.path("psql"))
            _say(invitation(daemon, psql, options.seconds))
            try:
                return _run(_pooled(daemon, plan, options.seconds))
            except (Refused, OSError) as exc:
                daemon.stop()
                raise DaemonFailed(f"{exc}; the end of howdah's log:\n{daemon.log_tail()}") from exc


def _prepare(cluster: Cluster) -> None:
    name = quote_identifier(NAME)
    cluster.sql(f"CREATE DATABASE {name} OWNER {name}")
    cluster.sql(f"SET ROLE {name}; {SCHEMA}", NAME)


def _wait_for_backends(cluster: Cluster) -> None:
    """PostgreSQL needs a moment to see that the direct clients are gone; their slots are ours then."""
    deadline = time.monotonic() + CLOSE_SECONDS
    left = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{NAME}'"
    while cluster.sql(left) != "0" and time.monotonic() < deadline:
        time.sleep(0.05)


def invitation(daemon: Daemon, psql: str, seconds: int | None) -> str:
    """The lines to paste into a shell while the demo runs."""
    end = f"It ends after {seconds} s, or by Ctrl-C." if seconds else "Ctrl-C ends it."
    return (
        f"   the database   {psql} '{daemon.address.uri()}'\n"
        f"   the console    {psql} '{daemon.console.uri()}' -c 'SHOW POOLS'\n"
        f"   the metrics    curl http://{daemon.address.host}:{daemon.metrics_port}/metrics\n"
        f"   {end}\n"
    )


async def _directly(server: Address, plan: Plan) -> None:
    load = Load(server, plan)
    table = view.Table(sys.stdout)
    try:
        await load.start()
        _say(f"   {load.connected} clients are in, {load.refused} were refused:")
        _report(load)
        _say("")
        table.begin()
        for _ in range(round(DIRECT_SECONDS / REFRESH_SECONDS)):
            await asyncio.sleep(REFRESH_SECONDS)
            table.show(view.Figures.of_load(load.connected, load.look()))
    finally:
        await load.stop()


async def _pooled(daemon: Daemon, plan: Plan, seconds: int | None) -> int:
    load = Load(daemon.address, plan)
    console = await Client.open(daemon.console)
    try:
        await load.start()
        _report(load)
        await _watch(console, daemon.address.database, load, seconds)
    finally:
        await load.stop()
        await console.close()
    clients = plan.clients - load.refused
    _say(f"\n   {load.transactions:,} transactions of {clients} clients, {load.failures.total()} failed.")
    _report(load)
    return 1 if load.refused or load.failures or not load.transactions else 0


async def _watch(console: Client, database: str, load: Load, seconds: int | None) -> None:
    table = view.Table(sys.stdout)
    table.begin()
    end = time.monotonic() + seconds if seconds else None
    at, count = time.monotonic(), await _transactions(console, database)
    while end is None or time.monotonic() < end:
        await asyncio.sleep(REFRESH_SECONDS)
        pools = [pool for pool in await console.query("SHOW POOLS") if pool["database"] == database]
        now, counted = time.monotonic(), await _transactions(console, database)
        table.show(view.Figures.of_pools(pools, (counted - count) / (now - at), load.look()))
        at, count = now, counted


async def _transactions(console: Client, database: str) -> int:
    stats = await console.query("SHOW STATS")
    return sum(int(row["total_xact_count"] or 0) for row in stats if row["database"] == database)


def _report(load: Load) -> None:
    for line in view.refusals(load.refusals + load.failures):
        _say(f"   {line}")


def _run(main: Coroutine[Any, Any, T]) -> T:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main)
    finally:
        main.close()  # It has not begun where Ctrl-C came while the loop was made.


def _say(text: str) -> None:
    print(text, flush=True)

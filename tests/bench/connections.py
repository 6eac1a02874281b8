"""Workloads about connections instead of transactions: starting, logging in, being idle, and COPY.

They use the bench's own bare client, one after the other; what it costs itself is the same for every target.
"""

import contextlib
import itertools
import resource
import time
from dataclasses import dataclass
from typing import ClassVar

import psycopg

from tests.bench import accounting
from tests.bench.client import Client
from tests.bench.cluster import Address
from tests.bench.figures import percentile
from tests.bench.targets import Target
from tests.bench.workloads import Meter, Tools, Values, Workload, per_transaction

_SPARE_FILES = 100
_BLOCK = b"".join(b"%063d\n" % number for number in range(1024))
_BLOCKS = 1600


@dataclass(kw_only=True)
class Start(Workload):
    """A pooler from nothing: time to the first login, memory when that client has left."""

    fresh: ClassVar[bool] = True
    direct: ClassVar[bool] = False

    def measure(self, tools: Tools, target: Target, first_login: float) -> Values:
        if target.pid is None:
            return {}
        time.sleep(0.2)
        return {"first_login": first_login, "resident": accounting.resident(target.pid)}


@dataclass(kw_only=True)
class Login(Workload):
    """Connect, log in, leave; one after the other. A transaction is one login.

    `libpq`: by what applications use, which derives its keys anew at each login.
    """

    libpq: bool = False

    def measure(self, tools: Tools, target: Target, first_login: float) -> Values:
        connect = _by_libpq if self.libpq else Address.connect
        meter = Meter(target)
        began = time.perf_counter()
        took = []
        while (now := time.perf_counter()) < began + tools.seconds:
            connect(target.address).close()
            took.append(time.perf_counter() - now)
        spent = meter.since()
        rate = len(took) / (time.perf_counter() - began)
        took.sort()
        latencies = {"p50": percentile(took, 0.5), "p99": percentile(took, 0.99)}
        return per_transaction(spent, len(took)) | {"tps": rate} | latencies


def _by_libpq(address: Address) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        dbname=address.database,
        password=address.password,
        sslmode="disable",
    )


@dataclass(kw_only=True)
class Idle(Workload):
    """Many clients that only stay: what each adds to the pooler's memory, before and after one query.

    `secure`: over TLS.
    """

    clients: int = 5000
    secure: bool = False
    fresh: ClassVar[bool] = True
    direct: ClassVar[bool] = False

    def measure(self, tools: Tools, target: Target, first_login: float) -> Values:
        if target.pid is None:
            return {}
        allow_files(self.clients + _SPARE_FILES)
        with contextlib.ExitStack() as stack:
            before = accounting.resident(target.pid)
            clients: list[Client] = []
            for _ in range(self.clients):
                clients.append(stack.enter_context(target.address.connect(secure=self.secure)))
            logged_in = accounting.resident(target.pid)
            for client in clients:
                client.query("select 1")
            used = accounting.resident(target.pid)
        return {"idle": (logged_in - before) / self.clients, "used": (used - before) / self.clients}


@dataclass(kw_only=True)
class Copy(Workload):
    """COPY of 100 MB again and again, in or out. A transaction is one such COPY."""

    out: bool

    def measure(self, tools: Tools, target: Target, first_login: float) -> Values:
        with target.address.connect() as client:
            client.query("select 1")
            meter = Meter(target)
            began = time.perf_counter()
            count = 0
            while time.perf_counter() < began + tools.seconds:
                self._once(client)
                count += 1
            rate = count / (time.perf_counter() - began)
            return per_transaction(meter.since(), count) | {"tps": rate}

    def _once(self, client: Client) -> None:
        if self.out:
            client.drain("copy (select repeat('x', 63) from generate_series(1, 1638400)) to stdout")
            return
        client.query("begin; truncate sink")
        client.copy_in("copy sink from stdin", itertools.repeat(_BLOCK, _BLOCKS))
        client.query("commit")


def allow_files(count: int) -> None:
    """Let this process and its children have so many; raises OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise OSError(f"{count} open files are needed, the hard limit (ulimit -Hn) is {hard}")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))

"""What a workload is, and the two made with pgbench: as fast as it goes, and at half of capacity.

A workload names the poolers' settings and measures one target at a time; `rounds` takes care of the turns.
CPU is counted per transaction: the price of logging in is measured by a run of one transaction per client
just before, which also opens the servers, and taken off.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from tests.bench import accounting
from tests.bench.pgbench import Load, Outcome, Pgbench
from tests.bench.targets import Target

Values = dict[str, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the report: words (`{unit}` is the workload's), factor from measured to printed, digits.

    `more`: the more the better, and a bar is the lowest ratio wanted.
    """

    title: str
    scale: float = 1.0
    digits: int = 0
    more: bool = False


METRICS: Mapping[str, Metric] = {
    "cpu": Metric("CPU per {unit}, µs", 1e6, 1),
    "user": Metric("  of it in user space, µs", 1e6, 1),
    "over": Metric("CPU per {unit} over the other load's", digits=2),
    "tps": Metric("{unit}s/s", more=True),
    "p50": Metric("p50, ms", 1e3, 2),
    "p99": Metric("p99, ms", 1e3, 2),
    "p999": Metric("p99.9, ms", 1e3, 2),
    "idle": Metric("bytes per idle client, logged in"),
    "used": Metric("bytes per idle client, after a query"),
    "first_login": Metric("start to first login, ms", 1e3),
    "resident": Metric("resident without clients, MiB", 1 / 1024**2, 1),
    "failed": Metric("failed {unit}s"),
}


@dataclass(frozen=True, slots=True)
class Tools:
    """What a measurement may use: pgbench, and how long one measurement should take, in seconds."""

    pgbench: Pgbench
    seconds: int


class Meter:
    """CPU of a target from now on; PostgreSQL itself has no pooler and so no figures."""

    def __init__(self, target: Target) -> None:
        self._pid = target.pid
        self._before = self._now()

    def _now(self) -> accounting.Cpu:
        return accounting.NOTHING if self._pid is None else accounting.cpu(self._pid)

    def since(self) -> accounting.Cpu:
        """What was used since this meter was made."""
        return self._now() - self._before


def per_transaction(spent: accounting.Cpu, transactions: int, logins: float = 0.0) -> Values:
    """The CPU figures of a pooler; none for nothing spent.

    `logins`: seconds of CPU to take off. User space gets its share by the kernel's coarse division.
    """
    each = (spent.total - logins) / transactions if transactions > 0 else 0.0
    if each <= 0:
        return {}
    ticked = spent.user + spent.system
    return {"cpu": each, "user": each * spent.user / ticked if ticked else 0.0}


@dataclass(kw_only=True)
class Workload(abc.ABC):
    """A named piece of work. By metric, `bars` are the ratios to PgBouncer wanted, `limits` the values.

    `unit`: what a transaction is called here. `usual`: part of a run that names none. `fresh`: every
    measurement wants a newly started target. `direct`: PostgreSQL without a pooler can be measured too.
    `alone`: Howdah is compared with itself, nobody else is measured.
    """

    name: str
    title: str
    settings: Mapping[str, str] = field(default_factory=dict)
    bars: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    unit: str = "transaction"
    usual: bool = True
    fresh: ClassVar[bool] = False
    direct: ClassVar[bool] = True
    alone: ClassVar[bool] = False

    def prepare(self, tools: Tools, reference: Target) -> None:  # noqa: B027 - most have nothing to prepare
        """Called once before the rounds; `reference` is what ratios are taken over, where it runs."""

    @abc.abstractmethod
    def measure(self, tools: Tools, target: Target, first_login: float) -> Values:
        """One measurement of one target, by metric; `first_login` is what its start took, in seconds."""


def drive(tools: Tools, target: Target, load: Load, rate: float = 0.0) -> tuple[Outcome, Values]:
    """pgbench's load on the target, and what it cost there."""
    logins = Meter(target)
    opening = tools.pgbench.run(load, target.address)
    login_cost = logins.since().total
    meter = Meter(target)
    outcome = tools.pgbench.run(load, target.address, seconds=tools.seconds, rate=rate)
    values = per_transaction(meter.since(), outcome.done - opening.done, login_cost)
    values["tps"] = outcome.rate
    if outcome.failed:
        values["failed"] = outcome.failed
    return outcome, values


@dataclass(kw_only=True)
class Throughput(Workload):
    """pgbench as fast as it goes."""

    load: Load

    def measure(self, tools: Tools, target: Target, first_login: float) -> Values:
        return drive(tools, target, self.load)[1]


@dataclass(kw_only=True)
class Encrypted(Throughput):
    """The same over TLS, which a pgbench of the system can and that of the embedded wheel cannot."""

    direct: ClassVar[bool] = False


@dataclass(kw_only=True)
class Compared(Workload):
    """One load and, right after it, another that it is compared with."""

    load: Load
    other: Load
    alone: ClassVar[bool] = True

    def measure(self, tools: Tools, target: Target, first_login: float) -> Values:
        values = drive(tools, target, self.load)[1]
        other = drive(tools, target, self.other)[1]
        if "cpu" in values and "cpu" in other:
            values["over"] = values["cpu"] / other["cpu"]
        return values


@dataclass(kw_only=True)
class Latency(Workload):
    """pgbench at half of what the reference can do; every target is offered the same."""

    load: Load
    rate: float = 0.0

    def prepare(self, tools: Tools, reference: Target) -> None:
        self.rate = tools.pgbench.run(self.load, reference.address, seconds=tools.seconds).rate / 2

    def measure(self, tools: Tools, target: Target, first_login: float) -> Values:
        outcome, values = drive(tools, target, self.load, self.rate)
        shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
        return values | {name: outcome.latency(share) for name, share in shares.items()}

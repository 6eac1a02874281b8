"""Running pgbench: one or several processes at once against one address, their reports and logs added up."""

import contextlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.cluster import Address, Cluster
from tests.bench.figures import percentile

_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What pgbench is to do.

    `script` is the text of a transaction script (None: the built-in select-only), `mode` the query mode.
    Every mapping in `environments` starts one process of `clients` connections with those variables.
    """

    clients: int
    mode: str = "simple"
    script: str | None = None
    environments: tuple[Mapping[str, str], ...] = field(default=({},))

    @property
    def connections(self) -> int:
        return self.clients * len(self.environments)

    @property
    def secure(self) -> bool:
        """Over TLS."""
        return any("PGSSLMODE" in environment for environment in self.environments)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What pgbench reported: transactions done and failed, per second, and sorted latencies in seconds."""

    done: int
    failed: int
    rate: float
    latencies: tuple[float, ...] = ()

    def latency(self, fraction: float) -> float:
        """A percentile in seconds; NaN unless the run was logged."""
        return percentile(self.latencies, fraction)


class PgbenchFailed(Exception):
    """pgbench ended with an error; the text is what it printed."""


def parse_report(text: str) -> Outcome:
    """Read pgbench's closing report (PostgreSQL 13 and later; before 15 nothing is said of failures)."""
    done = re.search(r"transactions actually processed: (\d+)", text)
    rate = re.search(r"^tps = ([\d.]+)", text, re.MULTILINE)
    failed = re.search(r"number of failed transactions: (\d+)", text)
    if done is None:
        raise PgbenchFailed(text)
    # There is no rate when the time was over before all clients were connected.
    return Outcome(int(done[1]), int(failed[1]) if failed else 0, float(rate[1]) if rate else 0.0)


def parse_log(lines: Iterator[str]) -> list[float]:
    """Latencies in seconds from pgbench's transaction log, with -R measured from the scheduled start.

    Field 3 is the time in microseconds; it is a word for a transaction that failed or was skipped.
    """
    found = []
    for line in lines:
        time = line.split(" ", 3)[2]
        if time.isdigit():
            found.append(int(time) / 1e6)
    return found


class Pgbench:
    """pgbench of one cluster, writing its scripts and logs below `folder`."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._script = folder / "script.sql"

    def run(self, load: Load, address: Address, *, seconds: int = 0, rate: float = 0.0) -> Outcome:
        """Run for `seconds`, or one transaction per client when 0.

        With `rate` (transactions/s over all processes) the start times are scheduled and latencies logged.
        Raises PgbenchFailed.
        """
        command = self._command(load, address, seconds, rate)
        outcomes = []
        with contextlib.ExitStack() as stack:
            running = [
                stack.enter_context(self._started(command, address, environment))
                for environment in load.environments
            ]
            for process in running:
                output, errors = process.communicate(timeout=seconds + _PATIENCE)
                if process.returncode:
                    raise PgbenchFailed(errors + output)
                outcomes.append(parse_report(output))
        return Outcome(
            sum(outcome.done for outcome in outcomes),
            sum(outcome.failed for outcome in outcomes),
            sum(outcome.rate for outcome in outcomes),
            tuple(sorted(self._take_logs())),
        )

    def _command(self, load: Load, address: Address, seconds: int, rate: float) -> list[str]:
        program = self._cluster.pgbench
        if load.secure and self._cluster.secure_pgbench is not None:
            program = self._cluster.secure_pgbench
        command = [str(program), "-n", "-M", load.mode, "-c", str(load.clients)]
        command += ["-T", str(seconds)] if seconds else ["-t", "1"]
        if rate:
            share = rate / len(load.environments)
            command += ["-R", f"{share:.1f}", "--log", f"--log-prefix={self._folder / 'latency'}"]
        if load.script is None:
            command += ["-b", "select-only"]
        else:
            self._script.write_text(load.script)
            command += ["-f", str(self._script)]
        return [*command, "-h", address.host, "-p", str(address.port), "-U", address.user, address.database]

    @contextlib.contextmanager
    def _started(
        self, command: list[str], address: Address, environment: Mapping[str, str]
    ) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            command,
            env={**self._cluster.environment, "PGPASSWORD": address.password, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def _take_logs(self) -> list[float]:
        found: list[float] = []
        for path in self._folder.glob("latency.*"):
            with path.open() as lines:
                found += parse_log(lines)
            path.unlink()
        return found

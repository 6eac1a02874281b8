"""What clients who do nothing cost those who work: the same load beside many of them and without."""

import contextlib
from dataclasses import dataclass
from typing import ClassVar

from tests.bench.connections import allow_files
from tests.bench.pgbench import Load
from tests.bench.targets import Target
from tests.bench.workloads import Tools, Values, Workload, drive


@dataclass(kw_only=True)
class Surrounded(Workload):
    """CPU per transaction beside `idle` clients over that before they come and after they have left."""

    load: Load
    idle: int = 10_000
    alone: ClassVar[bool] = True

    def measure(self, tools: Tools, target: Target, first_login: float) -> Values:
        allow_files(self.idle + 500)
        before = drive(tools, target, self.load)[1]
        with contextlib.ExitStack() as stack:
            for _ in range(self.idle):
                stack.enter_context(target.address.connect())
            values = drive(tools, target, self.load)[1]
        after = drive(tools, target, self.load)[1]
        if all("cpu" in each for each in (before, values, after)):
            values["over"] = 2 * values["cpu"] / (before["cpu"] + after["cpu"])
        return values

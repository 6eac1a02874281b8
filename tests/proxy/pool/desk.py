"""The ledger over several workers, which are the test."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.pool.interfaces import PoolKey
from proxy.pool.leasing import Claim, Grant, Report
from proxy.pool.ledger import Limits
from proxy.pool.shares import Shares
from tests.support.clock import Clock

A, B, C = PoolKey("app", "alice"), PoolKey("app", "bob"), PoolKey("other", "alice")
FREE = Limits(0, 0, 0, 0)


@dataclass
class Desk:
    """The ledger, and what it says to whom."""

    limits: dict[PoolKey, Limits] = field(default_factory=dict)
    default: Limits = FREE
    said: list[tuple[int, Any]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.shares = Shares(lambda key: self.limits.get(key, self.default), self._send)
        self.descriptors: list[int] = []

    def _send(self, worker: int, message: Any, descriptors: Sequence[int]) -> None:
        self.said.append((worker, message))
        self.descriptors.extend(descriptors)

    def hears(self, worker: int, message: Any, *descriptors: int) -> list[tuple[int, Any]]:
        """A worker says something; returns the answers, claims left out."""
        self.shares.receive(worker, message, descriptors, self.clock())
        return self.answers()

    def answers(self) -> list[tuple[int, Any]]:
        said = [(worker, message) for worker, message in self.said if not isinstance(message, Claim)]
        self.said.clear()
        return said

    def wants(self, worker: int, key: PoolKey = A, lacking: int = 1, **more: Any) -> list[tuple[int, Any]]:
        return self.hears(worker, Report(key, lacking, **({"since": self.clock(), "load": lacking} | more)))

    def holds(self, worker: int, count: int, key: PoolKey = A, **report: Any) -> None:
        """The worker has been granted so many, and reports how it stands."""
        for _ in range(count):
            assert self.wants(worker, key) == [(worker, Grant(key))]
        assert self.hears(worker, Report(key, 0, **report)) == []

    def after(self, ns: int) -> list[tuple[int, Any]]:
        self.clock.now += ns
        self.shares.sweep(self.clock())
        return self.answers()

"""A worker of which the test is the ledger."""

from dataclasses import replace
from typing import Any

from proxy.pool.interfaces import PoolKey
from proxy.pool.leases import LOOK_AGAIN
from proxy.pool.leasing import Grant, Report
from proxy.pool.pool import Pool
from tests.support.clock import SECOND
from tests.support.crew import Crew, Hand
from tests.support.doubles import FakeSession, make_settings

A = PoolKey("app", "alice")


class Bench:
    """One worker, whose ledger is the test."""

    def __init__(self, **settings: object) -> None:
        self.crew = Crew(1, make_settings(**settings))
        self.hand: Hand = self.crew.hands[1]
        self.leases = self.hand.leases
        self.clock = self.crew.clock

    @property
    def pool(self) -> Pool:
        return self.hand.pool()

    def said(self) -> list[Any]:
        """What the worker has said since it was last asked."""
        said = [message for message, _ in self.hand.outbox]
        self.hand.outbox.clear()
        return said

    def hears(self, message: Any, *descriptors: int) -> list[Any]:
        self.leases.receive(message, descriptors)
        return self.said()

    def looks(self, seconds: float = LOOK_AGAIN / SECOND) -> list[Any]:
        self.clock.advance(seconds)
        self.hand.run_timers()
        return self.said()

    def lends(self, count: int = 1) -> list[FakeSession]:
        """So many clients with servers."""
        sessions = [self.hand.session() for _ in range(count)]
        for session in sessions:
            session.asks()
            self.hears(Grant(A))
            self.hand.settle()
            assert session.server is not None
        self.said()
        return sessions


def lacking(count: int, bench: Bench, **more: Any) -> Report:
    return replace(Report(A, count, since=bench.clock(), load=count), **more)

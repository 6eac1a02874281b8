"""When a host that could not be reached may be tried again.

While a host fails, one connection at a time probes it for everybody: the first after 50 ms, then doubling up
to 1 s, each wait shortened at random by up to a quarter so that several poolers do not knock at the same
moment.
"""

from typing import Final, Protocol

FIRST: Final = 50_000_000
"""Wait after the first failure, in nanoseconds."""
LONGEST: Final = 1_000_000_000
"""Longest wait between two probes, in nanoseconds."""


class Random(Protocol):
    """What is asked of a source of randomness."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class Backoff:
    """Of one host. Times are nanoseconds of the clock the caller uses throughout."""

    __slots__ = ("_random", "_wait", "error", "probing", "retry_at")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._wait = 0
        self.probing = False
        self.retry_at = 0
        self.error = ""

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._wait > 0

    def may_try(self, now: int) -> bool:
        """Whether a connection may be tried now: always while all is well, else one probe when its time
        has come.
        """
        return not self._wait or (not self.probing and now >= self.retry_at)

    def started(self) -> None:
        """An attempt begins."""
        if self._wait:
            self.probing = True

    def succeeded(self) -> None:
        """The host answered; also when it refused the login, for then it is reachable."""
        self._wait = 0
        self.probing = False
        self.error = ""

    def failed(self, now: int, error: str) -> None:
        """The host did not answer, or is not ready to; `error` is kept for whoever asks why."""
        self.error = error
        if self._wait and now < self.retry_at and not self.probing:
            # One of several attempts that were under way when the first of them failed: no probe has failed
            # yet.
            return
        self.probing = False
        self._wait = min(self._wait * 2, LONGEST) if self._wait else FIRST
        self.retry_at = now + int(self._wait * (1 - self._random.random() / 4))

    def abandoned(self) -> None:
        """An attempt ended without an answer about the host (it was given up by us)."""
        self.probing = False

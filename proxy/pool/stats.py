"""Counters of a pool: plain integers, added to on the hot path, read by snapshots.

Names are the columns of SHOW STATS_TOTALS; times are nanoseconds here and microseconds where they are shown.
"""

from typing import Final

COUNTERS: Final = (
    "server_assignment_count",
    "xact_count",
    "query_count",
    "bytes_received",
    "bytes_sent",
    "xact_time",
    "query_time",
    "wait_time",
    "client_parse_count",
    "server_parse_count",
    "bind_count",
    "client_login_count",
)


class Stats:
    """Totals since the start, and what they were at the two last ends of a stats_period."""

    __slots__ = (*COUNTERS, "_last", "_previous")

    server_assignment_count: int
    xact_count: int
    query_count: int
    bytes_received: int
    bytes_sent: int
    xact_time: int
    query_time: int
    wait_time: int
    client_parse_count: int
    server_parse_count: int
    bind_count: int
    client_login_count: int

    def __init__(self) -> None:
        for name in COUNTERS:
            setattr(self, name, 0)
        zero = (0,) * len(COUNTERS)
        self._last: tuple[int, ...] = zero
        self._previous: tuple[int, ...] = zero

    def totals(self) -> tuple[int, ...]:
        """All counters in the order of COUNTERS."""
        return tuple(getattr(self, name) for name in COUNTERS)

    def end_period(self) -> None:
        """A stats_period has ended: what came in it is what averages are made of until the next end."""
        self._previous = self._last
        self._last = self.totals()

    def last_period(self) -> tuple[int, ...]:
        """What each counter grew by in the last full stats_period."""
        return tuple(now - before for now, before in zip(self._last, self._previous, strict=True))

    def add(self, other: "Stats") -> None:
        """Add the counters of a pool that goes away, so that the totals of its database never fall."""
        for name in COUNTERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self._last = tuple(a + b for a, b in zip(self._last, other._last, strict=True))
        self._previous = tuple(a + b for a, b in zip(self._previous, other._previous, strict=True))

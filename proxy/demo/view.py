"""What the demo shows: one line of figures, in place on a terminal and line after line elsewhere.

The law of this file: it only formats; figures come from the load and from the pooler's console.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from proxy.demo.client import Row
from proxy.demo.load import Interval

COLUMNS: Final = (
    ("clients", 9),
    ("active", 8),
    ("waiting", 9),
    ("server connections", 20),
    ("transactions/s", 16),
    ("p50", 11),
    ("p99", 11),
)
BUSY_STATES: Final = ("sv_active", "sv_active_cancel", "sv_being_canceled")
SERVER_STATES: Final = (*BUSY_STATES, "sv_idle", "sv_used", "sv_tested", "sv_login")


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of the table. `active` clients have a server at this moment, `waiting` ones would like one."""

    clients: int
    active: int
    waiting: int
    servers: int
    transactions: float
    p50: float | None
    p99: float | None

    @classmethod
    def of_load(cls, connected: int, interval: Interval) -> "Figures":
        """Without a pooler every client has a server connection of its own."""
        p50, p99 = interval.percentile(50), interval.percentile(99)
        return cls(connected, connected, 0, connected, interval.per_second, p50, p99)

    @classmethod
    def of_pools(cls, pools: Sequence[Row], rate: float, interval: Interval) -> "Figures":
        """From the rows of SHOW POOLS for our database; `rate` is transactions per second from SHOW STATS."""

        def total(*columns: str) -> int:
            return sum(int(pool[column] or 0) for pool in pools for column in columns)

        return cls(
            clients=total("cl_active", "cl_waiting"),
            active=total("sv_active"),
            waiting=total("cl_waiting"),
            servers=total(*SERVER_STATES),
            transactions=rate,
            p50=interval.percentile(50),
            p99=interval.percentile(99),
        )

    def line(self) -> str:
        cells = (
            f"{self.clients:,}",
            f"{self.active:,}",
            f"{self.waiting:,}",
            f"{self.servers:,}",
            f"{self.transactions:,.0f}",
            milliseconds(self.p50),
            milliseconds(self.p99),
        )
        return "".join(cell.rjust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True))


def milliseconds(seconds: float | None) -> str:
    """Seconds as milliseconds with a sensible number of digits; a dash for none."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds * 1000:,.0f} ms"


def header() -> str:
    return "".join(name.rjust(width) for name, width in COLUMNS)


class Table:
    """The live table. On a terminal the last line is replaced, elsewhere each line stays."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._in_place = out.isatty()
        self._shown = False

    def begin(self) -> None:
        """Print the head of a new table."""
        print(header(), file=self._out, flush=True)
        self._shown = False

    def show(self, figures: Figures) -> None:
        # One line up, to its beginning, and clear it.
        again = "\x1b[F\x1b[K" if self._in_place and self._shown else ""
        print(f"{again}{figures.line()}", file=self._out, flush=True)
        self._shown = True


def refusals(counts: Mapping[str, int]) -> list[str]:
    """A line for each answer that turned clients away, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"  {count:,} x  {text}" for text, count in ordered]

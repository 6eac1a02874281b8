"""Numbers out of rounds: medians, quartiles, ratios by round, percentiles of latency.

A ratio is taken within a round, where both targets met the same weather, and only then is the median taken;
a ratio of two medians would mix rounds.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Median with lower and upper quartile of `count` rounds."""

    median: float
    low: float
    high: float
    count: int

    def as_json(self) -> dict[str, float | int]:
        return {"median": self.median, "low": self.low, "high": self.high, "rounds": self.count}


def spread(values: Sequence[float]) -> Spread | None:
    """Median and quartiles; None without values. Quartiles include the extremes (a round is no sample)."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    if len(finite) == 1:
        return Spread(finite[0], finite[0], finite[0], 1)
    low, median, high = statistics.quantiles(finite, n=4, method="inclusive")
    return Spread(median, low, high, len(finite))


def ratios(values: Sequence[float], over: Sequence[float]) -> list[float]:
    """Round by round, value over reference; rounds whose reference is zero are left out."""
    return [value / reference for value, reference in zip(values, over, strict=False) if reference]


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The nearest-rank percentile of sorted values; NaN without values."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]

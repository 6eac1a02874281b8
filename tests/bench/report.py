"""What a run says: a table for people, a tree of plain values for JSON, and a comparison with an earlier run.

Ratios are Howdah over PgBouncer, round by round; "noise" is the second PgBouncer over the first, and a ratio
says nothing beyond it. Nothing is judged here but printed beside the bar that is wanted.
"""

from collections.abc import Mapping, Sequence
from typing import cast

from tests.bench.figures import Spread, ratios, spread
from tests.bench.rounds import Measured
from tests.bench.targets import HOWDAH, NOISE, PGBOUNCER, POSTGRESQL
from tests.bench.workloads import METRICS, Metric

FORMAT = 1
Json = Mapping[str, object]

_TARGETS = (POSTGRESQL, HOWDAH, PGBOUNCER)
_HEADINGS = ("", *_TARGETS, "ratio", "noise", "bar", "baseline")


def table(measured: Measured, baseline: Json | None = None) -> str:
    """One workload as lines of text: a row per figure, each the median with its quartiles."""
    rows: list[tuple[str, ...]] = [_HEADINGS]
    for name, metric in METRICS.items():
        if any(measured.of(target, name) for target in _TARGETS):
            rows.append(_row(measured, name, metric, baseline))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [f"{measured.workload.name}: {measured.workload.title}"]
    for row in rows:
        first, *others = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([f"  {first}", *others]).rstrip())
    lines += [f"  {target}: left out, {why}" for target, why in measured.troubles.items()]
    return "\n".join(lines)


def _row(measured: Measured, name: str, metric: Metric, baseline: Json | None) -> tuple[str, ...]:
    cells = [_value(spread(measured.of(target, name)), metric) for target in _TARGETS]
    workload = measured.workload
    bar = f"{'>= ' if metric.more else ''}{workload.bars[name]:.2f}" if name in workload.bars else ""
    if name in workload.limits:
        bar = f"{workload.limits[name] * metric.scale:,.{metric.digits}f}"
    before = baseline_ratio(baseline, workload.name, name)
    present = ratio(measured, HOWDAH, name)
    return (
        metric.title.format(unit=workload.unit),
        *cells,
        _ratio(present),
        _ratio(ratio(measured, NOISE, name)),
        bar,
        "" if before is None else f"{before.median:.2f}{_changed(before, present, metric)}",
    )


def _changed(before: Spread, now: Spread | None, metric: Metric) -> str:
    """A word where the quartiles of both have nothing in common."""
    if now is None or (now.low <= before.high and before.low <= now.high):
        return ""
    return " better" if (now.median > before.median) is metric.more else " WORSE"


def ratio(measured: Measured, target: str, metric: str) -> Spread | None:
    """A target's figure over PgBouncer's; None when either was not measured."""
    return spread(ratios(measured.of(target, metric), measured.of(PGBOUNCER, metric)))


def _value(value: Spread | None, metric: Metric) -> str:
    if value is None:
        return "-"
    median, low, high = (
        f"{figure * metric.scale:,.{metric.digits}f}" for figure in (value.median, value.low, value.high)
    )
    return f"{median} ({low}..{high})"


def _ratio(value: Spread | None) -> str:
    return "-" if value is None else f"{value.median:.2f} ({value.low:.2f}..{value.high:.2f})"


def as_json(results: Sequence[Measured], about: Mapping[str, object]) -> dict[str, object]:
    """The whole run: every value of every round in seconds, bytes or counts, with medians and ratios."""
    return {
        "format": FORMAT,
        **about,
        "workloads": {one.workload.name: _workload_json(one) for one in results},
    }


def _workload_json(measured: Measured) -> dict[str, object]:
    targets: dict[str, object] = {
        target: {
            metric: {**summary.as_json(), "values": values}
            for metric, values in rows.items()
            if (summary := spread(values)) is not None
        }
        for target, rows in measured.values.items()
    }
    return {
        "title": measured.workload.title,
        "targets": targets,
        "ratios": _ratios_json(measured, HOWDAH),
        "noise": _ratios_json(measured, NOISE),
        "troubles": measured.troubles,
    }


def _ratios_json(measured: Measured, target: str) -> dict[str, object]:
    found = {metric: ratio(measured, target, metric) for metric in measured.values.get(target, {})}
    return {metric: value.as_json() for metric, value in found.items() if value is not None}


def baseline_ratio(baseline: Json | None, workload: str, metric: str) -> Spread | None:
    """The ratio that an earlier run kept for this figure; None when it has none."""
    place: object = baseline
    for key in ("workloads", workload, "ratios", metric):
        if not isinstance(place, Mapping):
            return None
        place = cast(Json, place).get(key)
    if not isinstance(place, Mapping) or not place:
        return None
    return Spread(place["median"], place["low"], place["high"], place["rounds"])


def renewed(baseline: Json | None, run: Json) -> dict[str, object]:
    """What is kept of a run: what it ran on, and the ratios and the noise of each workload.

    Workloads that were not run stay as they were.
    """
    workloads: dict[str, object] = dict(cast(Json, (baseline or {}).get("workloads", {})))
    for name, one in cast(Mapping[str, Json], run["workloads"]).items():
        workloads[name] = {key: one[key] for key in ("title", "ratios", "noise")}
    return {**{key: run[key] for key in run if key != "workloads"}, "workloads": workloads}

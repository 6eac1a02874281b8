import json

import pytest

from tests.bench import report
from tests.bench.connections import Start
from tests.bench.rounds import Measured
from tests.bench.targets import HOWDAH, NOISE, PGBOUNCER, POSTGRESQL


@pytest.fixture
def measured() -> Measured:
    workload = Start(name="example", title="an example", bars={"cpu": 1.5}, limits={"first_login": 1.5})
    result = Measured(workload)
    for cpu in (20e-6, 22e-6, 24e-6):
        result.add(PGBOUNCER, {"cpu": cpu, "tps": 1000.0, "first_login": 0.01})
        result.add(HOWDAH, {"cpu": 2 * cpu, "tps": 1500.0, "first_login": 0.3})
        result.add(NOISE, {"cpu": 1.1 * cpu, "tps": 1000.0, "first_login": 0.01})
    result.add(POSTGRESQL, {"tps": 123456.0})
    return result


def row(text: str, title: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.strip().startswith(title))
    return line.split(title)[1].split()


def test_a_row_has_medians_with_quartiles_ratio_noise_and_bar(measured: Measured) -> None:
    text = report.table(measured)
    assert text.startswith("example: an example\n")
    assert row(text, "CPU per transaction, µs") == [
        *("-", "44.0", "(42.0..46.0)", "22.0", "(21.0..23.0)"),
        *("2.00", "(2.00..2.00)", "1.10", "(1.10..1.10)", "1.50"),
    ]


def test_a_limit_is_printed_in_the_unit_of_its_row(measured: Measured) -> None:
    assert row(report.table(measured), "start to first login, ms")[-1] == "1,500"


def test_rows_that_nobody_measured_are_not_printed(measured: Measured) -> None:
    assert "p99" not in report.table(measured)


def test_a_target_that_was_left_out_is_named_with_the_reason(measured: Measured) -> None:
    measured.troubles[HOWDAH] = "NotStarted: port in use"
    assert "Howdah: left out, NotStarted: port in use" in report.table(measured)


def test_the_ratio_of_an_earlier_run_stands_beside_the_present_one(measured: Measured) -> None:
    baseline = report.renewed(None, json.loads(json.dumps(report.as_json([measured], {}))))
    assert row(report.table(measured, baseline), "CPU per transaction, µs")[-1] == "2.00"


@pytest.mark.parametrize(
    ("figure", "kept", "word"),
    [("cpu", 1.75, "WORSE"), ("cpu", 2.25, "better"), ("tps", 1.25, "better"), ("tps", 1.75, "WORSE")],
)
def test_what_has_changed_beyond_its_quartiles_is_said(
    measured: Measured, figure: str, kept: float, word: str
) -> None:
    baseline = json.loads(json.dumps(report.as_json([measured], {})))
    ratio = baseline["workloads"]["example"]["ratios"][figure]
    ratio |= {"median": kept, "low": kept - 0.1, "high": kept + 0.1}
    title = {"cpu": "CPU per transaction, µs", "tps": "transactions/s"}[figure]
    assert row(report.table(measured, baseline), title)[-2:] == [f"{kept:.2f}", word]


def test_where_more_is_better_the_bar_is_the_least(measured: Measured) -> None:
    measured.workload.bars = {"tps": 0.95}
    assert row(report.table(measured), "transactions/s")[-2:] == [">=", "0.95"]


def test_a_renewed_baseline_keeps_the_workloads_that_were_not_run(measured: Measured) -> None:
    run = report.as_json([measured], {"rounds": 3})
    kept = report.renewed({"rounds": 7, "workloads": {"other": {"ratios": {}}}}, run)
    assert kept["rounds"] == 3
    workloads = kept["workloads"]
    assert isinstance(workloads, dict)
    assert workloads.keys() == {"other", "example"}
    assert workloads["example"].keys() == {"title", "ratios", "noise"}


def test_json_holds_every_value_and_the_ratios(measured: Measured) -> None:
    whole = report.as_json([measured], {"rounds": 3})
    tree = json.loads(json.dumps(whole))
    example = tree["workloads"]["example"]
    assert tree["rounds"] == 3
    assert example["targets"][HOWDAH]["tps"]["values"] == [1500.0, 1500.0, 1500.0]
    assert example["ratios"]["tps"] == {"median": 1.5, "low": 1.5, "high": 1.5, "rounds": 3}
    assert example["noise"]["cpu"]["median"] == pytest.approx(1.1)


@pytest.mark.parametrize(
    "baseline", [None, {}, {"workloads": []}, {"workloads": {"w": {"ratios": {"cpu": {}}}}}]
)
def test_a_baseline_without_the_figure_has_no_ratio(baseline: report.Json | None) -> None:
    assert report.baseline_ratio(baseline, "w", "cpu") is None

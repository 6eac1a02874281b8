import pytest

from tests.bench.__main__ import chosen, main
from tests.bench.catalogue import workloads
from tests.bench.workloads import METRICS


def test_workloads_have_names_of_their_own() -> None:
    names = [workload.name for workload in workloads()]
    assert len(set(names)) == len(names)


def test_bars_and_limits_name_figures_that_are_printed() -> None:
    for workload in workloads():
        assert {*workload.bars, *workload.limits} <= METRICS.keys()


def test_a_run_that_names_none_has_the_usual_workloads() -> None:
    usual = [workload.name for workload in chosen(None, everything=False)]
    assert "simple" in usual
    assert "tls-rows" not in usual
    assert "tls-rows" in [workload.name for workload in chosen(None, everything=True)]


def test_a_workload_can_be_named_whether_usual_or_not() -> None:
    assert [workload.name for workload in chosen(["tls-rows"], everything=False)] == ["tls-rows"]


def test_the_list_names_every_workload(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert all(workload.name in printed for workload in workloads())


@pytest.mark.parametrize("arguments", [["--only", "no-such"], ["--rounds", "0"], ["--without", "nobody"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "error: argument" in capsys.readouterr().err

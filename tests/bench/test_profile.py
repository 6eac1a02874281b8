import cProfile
from pathlib import Path

import pytest

from tests.bench.profile import Line, profiled, shares, table


def spin() -> int:
    return sum(range(1000))


def test_own_time_is_the_innermost_frame_and_whole_time_every_frame_once() -> None:
    lines = {line.function: line for line in shares(["run;feed;check 3", "run;feed 1", "run;run 4"])}
    assert lines["run"] == Line("run", own=0.5, whole=1.0)
    assert lines["feed"] == Line("feed", own=0.125, whole=0.5)
    assert lines["check"] == Line("check", own=0.375, whole=0.375)


def test_no_samples_are_no_lines() -> None:
    assert shares([]) == []


def test_a_file_of_cprofile_gives_shares_of_all_time(tmp_path: Path) -> None:
    profile = cProfile.Profile()
    profile.runcall(spin)
    profile.dump_stats(tmp_path / "stats")
    lines = profiled(tmp_path / "stats")
    assert sum(line.own for line in lines) == pytest.approx(1)
    assert any(line.function.startswith("spin (") for line in lines)


def test_the_table_has_the_dearest_functions_first() -> None:
    text = table([Line("a", 0.1, 0.9), Line("b", 0.6, 0.6), Line("c", 0.3, 0.3)], top=2)
    assert [row.split()[-1] for row in text.splitlines()] == ["function", "b", "c"]

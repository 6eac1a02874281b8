"""A bounded run of the fuzzer, always the same, and the proof that it finds what is there to be found."""

from pathlib import Path

import pytest

from tests.conformance.fuzz.run import Outcome, available, fuzz, fuzz_all, names, read
from tests.conformance.fuzz.seeds import seeds_of
from tests.conformance.fuzz.source import Source, cut, stream
from tests.conformance.fuzz.targets import PLANTED, TARGETS

NEEDS_FUZZER = pytest.mark.skipif(not available(), reason="atheris is not built for this machine")

RUNS = 2_000
JOBS = 2


@pytest.mark.parametrize("name", names())
def test_every_seed_keeps_the_promises_also_cut_short_and_overwritten(name: str) -> None:
    """Without the fuzzer: so this is tried on every machine."""
    for seed in seeds_of(name):
        for stop in range(len(seed) + 1):
            TARGETS[name](seed[:stop])
        for at in range(len(seed)):
            for byte in (0, 0x7F, 0x80, 0xFF):
                TARGETS[name](seed[:at] + bytes((byte,)) + seed[at + 1 :])


@NEEDS_FUZZER
@pytest.mark.slow
def test_nothing_breaks_its_promises_in_a_short_run(tmp_path: Path) -> None:
    outcomes = list(fuzz_all(tmp_path, runs=RUNS, jobs=JOBS))
    assert [each.name for each in outcomes] == names()
    broken = [f"{each.name}: {each.report} {each.input!r}" for each in outcomes if not each.good]
    assert not broken, "\n".join(broken)
    assert min(each.inputs for each in outcomes) >= RUNS
    assert min(each.coverage for each in outcomes) > 0


@NEEDS_FUZZER
def test_a_fault_behind_lengths_and_counts_is_found(tmp_path: Path) -> None:
    outcome = fuzz(PLANTED, tmp_path, runs=100_000)
    assert not outcome.good
    assert "IndexError: the planted fault" in outcome.report
    assert outcome.input is not None
    with pytest.raises(IndexError):
        TARGETS[PLANTED](outcome.input)


def test_a_run_that_was_ended_from_outside_is_no_success() -> None:
    output = "#2\tINITED cov: 7 ft: 7 corp: 1/1b exec/s: 0 rss: 41Mb\n==1== ERROR: libFuzzer: timeout\n"
    assert read("x", -9, output) == Outcome("x", 2, 7, False, "==1== ERROR: libFuzzer: timeout")
    assert not read("x", 0, "").good


def test_a_source_makes_streams_that_are_nearly_right() -> None:
    right = stream(Source(bytes((0, 1, 2)) + b"ab"), [0x51, 0x53])
    assert right == b"S\0\0\0\x06ab"
    assert stream(Source(bytes((14, 0, 1)) + b"a" + bytes((6,))), [0x51]) == b"Q\xff\xff\xff\xffa"
    assert stream(Source(bytes((12, 0, 0, 3))), [0x48]) == b"H\0\0\0\x04" * 3
    assert [*cut(b"abcdef", [1, 2])] == [b"a", b"bc", b"d", b"ef"]

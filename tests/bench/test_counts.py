import pytest

from tests.bench import counts, instructions, micro
from tests.bench.counts import Change, changes, table
from tests.support.compiled import ROOT


def test_no_transaction_takes_more_calls_or_writes() -> None:
    try:
        found = counts.compared_calls()
    except instructions.CannotCount as reason:
        pytest.skip(str(reason))
    assert not found, table(found)


@pytest.mark.slow
def test_no_transaction_takes_more_instructions_interpreted() -> None:
    try:
        found = counts.compared_instructions(counts.INTERPRETED, ROOT)
    except instructions.CannotCount as reason:
        pytest.skip(str(reason))
    assert not found, table(found)


def test_every_transaction_has_its_numbers() -> None:
    names = {exchange.name for exchange in micro.exchanges()}
    for kind in ("calls", "writes", counts.INTERPRETED, counts.COMPILED):
        assert counts.kept(kind).keys() == names


@pytest.mark.parametrize("kind", ["calls", "writes", counts.INTERPRETED, counts.COMPILED])
def test_ten_thousand_idle_clients_cost_a_transaction_next_to_nothing(kind: str) -> None:
    kept = counts.kept(kind)
    assert kept["simple, crowd"] <= 1.02 * kept["simple"]


def test_what_is_worse_at_all_is_found() -> None:
    assert changes("calls", {"simple": 22}, {"simple": 23}) == [Change("calls", "simple", 22, 23)]
    assert changes("calls", {"simple": 22}, {"simple": 22}) == []


def test_what_is_a_little_better_is_let_be() -> None:
    assert changes("calls", {"simple": 100}, {"simple": 98}) == []
    assert changes("calls", {"simple": 100}, {"simple": 96}) == [Change("calls", "simple", 100, 96)]


def test_instructions_may_be_blurred() -> None:
    assert changes("instructions", {"simple": 1000}, {"simple": 1004}, 0.005) == []
    assert changes("instructions", {"simple": 1000}, {"simple": 1006}, 0.005) != []


def test_a_transaction_nobody_has_counted_is_found() -> None:
    assert changes("calls", {}, {"simple": 22}) == [Change("calls", "simple", None, 22)]


def test_the_table_says_what_was_and_what_is_and_how_to_keep_it() -> None:
    text = table([Change("calls", "simple", 20, 22), Change("calls", "new", None, 1)])
    heading, worse, new, *advice = text.splitlines()[1:]
    assert heading.split() == ["per", "transaction", "before", "now"]
    assert worse.split() == ["calls", "simple", "20", "22", "+10.0%", "worse"]
    assert new.split() == ["calls", "new", "-", "1", "new"]
    assert any("tests.bench.counts --write" in line for line in advice)
    assert table([]) == ""


def test_what_a_long_series_has_more_than_a_short_is_per_transaction() -> None:
    dump = "version: 1\ndesc: Trigger: Client Request: {}\n\nevents: Ir\nsummary: {}\n"
    last = "desc: Trigger: Program termination\n"
    dumps = [dump.format("simple/40", 1040), dump.format("simple/80", 2040), last]
    dumps += [dump.format("simple/40", 1090), dump.format("simple/80", 9040)]
    assert instructions.per_transaction(dumps) == {"simple": 25.0}


def test_where_another_python_counted_calls_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "_python", lambda: "4.0")
    with pytest.raises(instructions.CannotCount, match="calls were counted with Python"):
        counts.compared_calls()


def test_where_others_counted_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "counted_by", lambda: "somebody else")
    with pytest.raises(instructions.CannotCount, match="instructions were counted with"):
        counts.compared_instructions(counts.INTERPRETED, ROOT)

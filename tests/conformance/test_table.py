"""The table and its verdict: it fails where a case fails, and only there."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conformance import __main__ as program
from tests.conformance import sections
from tests.conformance.outcomes import Outcome, Result, Results
from tests.conformance.sections import Section
from tests.conformance.table import LIST, Column, listed, notes, shortfalls, table
from tests.conformance.targets import TARGETS, Played, Target

CASES = {"O01": "connects and closes", "O02": "says nothing"}


def results(*outcomes: Outcome) -> Results:
    return {case: Result(outcome, (f"why {outcome}",)) for case, outcome in zip(CASES, outcomes, strict=True)}


def columns(postgresql: Outcome, howdah: Outcome) -> list[Column]:
    """The second case as given, the first one passed by both."""
    return [
        Column("PostgreSQL", results(Outcome.PASS, postgresql), reference=True),
        Column("PgBouncer", results(Outcome.FAIL, Outcome.FAIL)),
        Column("Howdah", results(Outcome.PASS, howdah), judged=True),
    ]


def test_the_table_has_a_line_for_each_case_and_counts_those_passed() -> None:
    lines = table(CASES, columns(Outcome.NO_SENSE, Outcome.MISSING)).splitlines()
    assert lines[0].split() == ["case", "input", "PostgreSQL", "PgBouncer", "Howdah"]
    assert lines[1] == "O01   connects and closes  pass        FAIL       pass"
    assert lines[2] == "O02   says nothing         -           FAIL       missing"
    assert lines[3].split() == ["passed", "1", "of", "1", "0", "of", "2", "1", "of", "2"]


@pytest.mark.parametrize("postgresql", [Outcome.PASS, Outcome.NO_SENSE, Outcome.UNTRIED, Outcome.MISSING])
@pytest.mark.parametrize("howdah", list(Outcome))
def test_howdah_has_to_pass_whatever_postgresql_does_not_fail(postgresql: Outcome, howdah: Outcome) -> None:
    short = shortfalls(CASES, columns(postgresql, howdah))
    assert bool(short) is (howdah is not Outcome.PASS)
    assert all(line.startswith("O02  Howdah") for line in short)


@pytest.mark.parametrize("howdah", list(Outcome))
def test_a_case_that_postgresql_fails_is_wrong_whatever_howdah_does(howdah: Outcome) -> None:
    assert shortfalls(CASES, columns(Outcome.FAIL, howdah)) == [
        "O02  PostgreSQL itself fails it, so the case is wrong"
    ]


def test_pgbouncer_may_fail_what_it_likes() -> None:
    assert shortfalls(CASES, columns(Outcome.PASS, Outcome.PASS)) == []


def test_without_a_column_for_postgresql_howdah_still_has_to_pass() -> None:
    assert len(shortfalls(CASES, columns(Outcome.PASS, Outcome.FAIL)[1:])) == 1


def test_a_case_without_any_result_was_not_tried() -> None:
    column = Column("Howdah", {}, judged=True)
    assert len(shortfalls(CASES, [column])) == 2
    assert table(CASES, [column]).splitlines()[1].endswith("untried")


def test_every_cell_but_pass_and_dash_has_its_reason_below_the_table() -> None:
    shown = columns(Outcome.NO_SENSE, Outcome.MISSING)
    assert notes(CASES, shown) == ["O01  PgBouncer: why FAIL", "O02  PgBouncer: why FAIL"]
    assert shortfalls(CASES, shown) == ["O02  Howdah lacks what it asks for: why missing"]


def test_the_list_is_read_with_its_inputs() -> None:
    cases = listed(LIST.read_text())
    assert len(cases) == 60
    assert cases["O01"] == "connects and closes"


# --- the program -----------------------------------------------------------------------------------


class Canned(Target):
    """A target whose run has already been."""

    def play(self, cases: Sequence[str] = (), *, folder: Path = Path()) -> Played:
        outcome = Outcome(self.environment["outcome"])
        return Played({case: Result(outcome) for case in listed(LIST.read_text())}, "said")


def canned(monkeypatch: pytest.MonkeyPatch, **outcomes: Outcome) -> None:
    targets = [
        Canned(
            target.name,
            target.title,
            {"outcome": outcomes.get(target.name.replace("-", "_"), Outcome.PASS)},
            judged=target.judged,
            reference=target.reference,
        )
        for target in TARGETS
    ]
    monkeypatch.setattr(program, "TARGETS", targets)


def test_the_program_succeeds_when_howdah_passes_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    canned(monkeypatch, pgbouncer=Outcome.FAIL)
    assert program.main(["--sections"]) == 0
    said = capsys.readouterr().out
    assert "Howdah (uvloop)" in said.splitlines()[0]
    assert said.splitlines()[-1].startswith("pass, ")


@pytest.mark.parametrize("name", ["howdah_uvloop", "howdah_asyncio"])
@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.MISSING, Outcome.UNTRIED])
def test_the_program_fails_when_howdah_fails_a_case(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, outcome: Outcome
) -> None:
    canned(monkeypatch, **{name: outcome})
    assert program.main(["--sections"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAIL, ")


def test_one_case_can_be_asked_for_and_brings_no_further_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    canned(monkeypatch)
    assert program.main(["--case", "O31", "--targets", "howdah-uvloop"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("O31 ")
    assert len(lines) == 5


def test_a_case_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(SystemExit):
        program.main(["--case", "O61"])


def test_what_is_not_installed_has_no_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = Canned("pgbouncer", "PgBouncer", {}, lambda: None)
    monkeypatch.setattr(program, "TARGETS", [absent])
    program.main(["--sections"])
    assert "PgBouncer is not installed here" in capsys.readouterr().out


def test_the_output_of_each_run_can_be_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    canned(monkeypatch)
    program.main(["--sections", "--logs", str(tmp_path / "logs")])
    assert (tmp_path / "logs" / "pgbouncer.txt").read_text() == "said"


# --- the further parts -----------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable package, also for processes that are started from here."""
    folder = tmp_path / f"parts_of_{tmp_path.name}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return folder


def test_a_part_is_judged_by_its_exit_code_and_shown_by_its_last_line(package: Path) -> None:
    (package / "good.py").write_text("print('first'); print('20000 pipelines, 0 differences'); print()")
    (package / "bad.py").write_text("import sys; print('1 difference'); sys.exit(3)")
    good, bad = (sections.run(name, package.name) for name in ("good", "bad"))
    assert not good.failed
    assert good.line() == "good          pass  20000 pipelines, 0 differences"
    assert bad.failed
    assert bad.line() == "bad           FAIL (exit code 3)  1 difference"
    assert bad.tail == ["1 difference"]


def test_a_part_that_raises_has_failed_and_shows_its_error(package: Path) -> None:
    (package / "broken.py").write_text("raise RuntimeError('boom')")
    section = sections.run("broken", package.name)
    assert section.failed
    assert section.last_line == "RuntimeError: boom"


def test_a_part_that_is_not_written_yet_is_said_to_be_so_and_fails_nothing(package: Path) -> None:
    (package / "begun").mkdir()
    (package / "begun" / "__init__.py").touch()
    for name in ("begun", "absent"):
        section = sections.run(name, package.name)
        assert not section.failed
        assert section.line().split(maxsplit=1) == [name, "not there yet"]


def test_a_part_may_be_a_package(package: Path) -> None:
    (package / "whole").mkdir()
    (package / "whole" / "__init__.py").touch()
    (package / "whole" / "__main__.py").write_text("print('whole')")
    assert sections.run("whole", package.name).last_line == "whole"


def test_the_program_fails_when_a_part_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    canned(monkeypatch)
    monkeypatch.setattr(
        sections, "run", lambda name: Section(name, int(name == "nonce"), "3 foreign", ("3 foreign",))
    )
    assert program.main(["--targets"]) == 1
    said = capsys.readouterr().out
    assert "nonce         FAIL (exit code 1)  3 foreign" in said
    assert "differential  pass" in said

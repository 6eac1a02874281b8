import os
import stat
from pathlib import Path

import pytest

from tests.bench.cluster import Address, Cluster
from tests.bench.pgbench import Load, Pgbench, PgbenchFailed, parse_log, parse_report

REPORT = """pgbench (15.4)
transaction type: <builtin: select only>
number of clients: 4
number of transactions actually processed: 50123
number of failed transactions: 3 (0.006%)
latency average = 0.159 ms
initial connection time = 2.400 ms
tps = 25061.500000 (without initial connection time)
"""
ADDRESS = Address("127.0.0.1", 6432, "alice", "app", "secret")


def pgbench_that(folder: Path, script: str) -> Pgbench:
    """Our runner over a stand-in for pgbench: a shell script."""
    program = folder / "pgbench"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(stat.S_IRWXU)
    (folder / "report").write_text(REPORT)
    return Pgbench(Cluster(ADDRESS, "15.4", program, {"PATH": os.environ["PATH"]}), folder)


def test_a_report_tells_transactions_failures_and_rate() -> None:
    outcome = parse_report(REPORT)
    assert (outcome.done, outcome.failed, outcome.rate) == (50123, 3, 25061.5)


def test_a_report_without_a_line_on_failures_has_none() -> None:
    lines = [line for line in REPORT.splitlines() if "failed" not in line]
    assert parse_report("\n".join(lines)).failed == 0


def test_a_run_that_was_over_before_it_began_has_no_rate() -> None:
    outcome = parse_report("number of transactions actually processed: 0\n")
    assert (outcome.done, outcome.rate) == (0, 0.0)


def test_a_report_without_figures_is_a_failure() -> None:
    with pytest.raises(PgbenchFailed, match="nothing"):
        parse_report("nothing of the kind")


def test_latencies_of_a_log_are_in_seconds_and_failed_transactions_have_none() -> None:
    lines = ["0 1 2500 0 1700000000 17 0\n", "1 1 failed 0 1700000000 18 0\n", "1 2 100 0 1700000000 19 5\n"]
    assert parse_log(iter(lines)) == [0.0025, 0.0001]


def test_several_processes_are_added_up(tmp_path: Path) -> None:
    runner = pgbench_that(tmp_path, f'echo "$PGAPPNAME" >> {tmp_path}/names; cat {tmp_path}/report')
    load = Load(4, environments=({"PGAPPNAME": "one"}, {"PGAPPNAME": "two"}))
    outcome = runner.run(load, ADDRESS, seconds=1)
    assert (outcome.done, outcome.failed, outcome.rate) == (100246, 6, 50123.0)
    assert sorted((tmp_path / "names").read_text().split()) == ["one", "two"]
    assert load.connections == 8


def test_a_run_without_a_duration_is_one_transaction_per_client(tmp_path: Path) -> None:
    runner = pgbench_that(tmp_path, f"printf '%s ' \"$@\" > {tmp_path}/words; cat {tmp_path}/report")
    runner.run(Load(3, "prepared"), ADDRESS)
    expected = "-n -M prepared -c 3 -t 1 -b select-only -h 127.0.0.1 -p 6432 -U alice app "
    assert (tmp_path / "words").read_text() == expected


def test_a_script_is_handed_over_as_a_file(tmp_path: Path) -> None:
    runner = pgbench_that(
        tmp_path, f'while [ "$1" != -f ]; do shift; done; cp "$2" {tmp_path}/seen; cat {tmp_path}/report'
    )
    runner.run(Load(1, script="select 42;\n"), ADDRESS, seconds=1)
    assert (tmp_path / "seen").read_text() == "select 42;\n"


def test_a_rate_is_shared_by_the_processes_and_their_logs_are_read_and_removed(tmp_path: Path) -> None:
    runner = pgbench_that(
        tmp_path,
        f"""while [ "$1" != -R ]; do shift; done
        echo "0 1 $(printf %.0f "$2") 0 1700000000 17 0" > {tmp_path}/latency.$$
        cat {tmp_path}/report""",
    )
    outcome = runner.run(Load(1, environments=({}, {})), ADDRESS, seconds=1, rate=3000)
    assert outcome.latencies == (0.0015, 0.0015)
    assert outcome.latency(0.99) == 0.0015
    assert list(tmp_path.glob("latency.*")) == []


def test_over_tls_a_pgbench_runs_that_can(tmp_path: Path) -> None:
    pgbench_that(tmp_path, f"cat {tmp_path}/report")
    cluster = Cluster(ADDRESS, "15.4", Path("/bin/false"), {}, secure_pgbench=tmp_path / "pgbench")
    load = Load(1, environments=({"PGSSLMODE": "require"},))
    assert Pgbench(cluster, tmp_path).run(load, ADDRESS).done == 50123
    with pytest.raises(PgbenchFailed):
        Pgbench(cluster, tmp_path).run(Load(1), ADDRESS)


def test_what_pgbench_said_is_in_the_error(tmp_path: Path) -> None:
    runner = pgbench_that(tmp_path, "echo 'connection refused' >&2; exit 1")
    with pytest.raises(PgbenchFailed, match="connection refused"):
        runner.run(Load(1), ADDRESS, seconds=1)


def test_the_other_processes_are_ended_when_one_fails(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    runner = pgbench_that(
        tmp_path,
        f"""if [ -n "$FAIL" ]; then while [ ! -f {pid} ]; do sleep 0.01; done; exit 1; fi
        echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 60""",
    )
    with pytest.raises(PgbenchFailed):
        runner.run(Load(1, environments=({"FAIL": "1"}, {})), ADDRESS, seconds=1)
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()

"""The command line: flags, refusals, what the daemon is told, exit codes. The daemon is a stand-in."""

import os
import re
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import proxy
from config import Problem, Report, Settings, Severity, load
from proxy import cli, log, process
from proxy.process import FdLimit, ProcessError

SETTINGS = Settings.model_validate({})


@dataclass
class Daemon:
    """Stands for proxy.worker: remembers how it was run, and answers with an exit code."""

    exit_code: int = 0
    runs: list[tuple[str, bool, int]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    at_run: Callable[[Settings], None] = lambda _: None

    def run(self, settings: Settings, path: str, *, quiet: bool, verbose: int) -> int:
        self.steps.append("run")
        self.runs.append((path, quiet, verbose))
        self.at_run(settings)
        return self.exit_code


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """A daemon that does nothing, in a process that is not root and writes no log."""
    stand_in = Daemon()
    module = types.ModuleType("proxy.worker")
    monkeypatch.setattr(module, "run", stand_in.run, raising=False)
    monkeypatch.setitem(sys.modules, "proxy.worker", module)
    monkeypatch.setattr(proxy, "worker", module, raising=False)
    monkeypatch.setattr(process, "is_root", lambda: False)
    monkeypatch.setattr(process, "become_user", lambda name: stand_in.steps.append(f"become {name}"))
    monkeypatch.setattr(process, "daemonize", lambda: stand_in.steps.append("daemonize"))
    monkeypatch.setattr(process, "raise_fd_limit", lambda: FdLimit(4096, 4096))
    monkeypatch.setattr(log, "setup", lambda settings, *, quiet, verbose: stand_in.steps.append("log"))
    return stand_in


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., str]:
    """Write an ini file with these lines in its main section; returns its path."""

    def write(*lines: str) -> str:
        path = tmp_path / "pgbouncer.ini"
        head = ["[databases]", "app = host=127.0.0.1 user=app", "[pgbouncer]"]
        path.write_text("\n".join([*head, *lines, "auth_type = any", ""]))
        return str(path)

    return write


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


# --- version and help


def test_the_version_says_what_we_are_and_what_we_run_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-V"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert re.match(r"PgBouncer \d+\.\d+\.\d+ \(Howdah \d+\.\d+\.\d+", first)
    assert [line.split(": ")[0] for line in rest] == ["python", "event loop", "openssl", "compiled", "pump"]
    assert f" {sys.version_info.major}.{sys.version_info.minor}." in rest[0]


def test_help_and_version_import_neither_settings_nor_event_loop() -> None:
    code = """
import sys
from proxy import cli
cli.main(["-V"])
heavy = {"pydantic", "uvloop", "asyncio", "aiohttp", "config"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_lookup_that_hangs_does_not_keep_a_daemon_that_has_ended() -> None:
    code = """
import threading
from concurrent.futures import ThreadPoolExecutor
from proxy import cli
def main():
    ThreadPoolExecutor().submit(threading.Event().wait)
    print("stopped")
    return 3
cli.main = main
cli.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (3, "stopped\n")


def test_the_package_can_be_run_and_help_names_flags_and_subcommands() -> None:
    done = python("-m", "proxy", "-h")
    assert done.returncode == 0
    for word in ("-d", "-R", "-v", "-q", "-u USER", "-V", "-h", "CONFIG", "howdah demo", "howdah check"):
        assert word in done.stdout


def test_a_start_without_configuration_gives_a_hint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([]) == 1
    assert "see howdah -h for usage" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--nonsense"], ["a.ini", "b.ini"], ["check"], ["check", "a", "b"]])
def test_a_mistake_on_the_command_line_ends_with_exit_code_1(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 1
    assert "Try `howdah" in capsys.readouterr().err


# --- starting


def test_the_daemon_gets_settings_path_and_flags(daemon: Daemon, config: Callable[..., str]) -> None:
    path = config("max_client_conn = 7")
    seen: list[int] = []
    daemon.at_run = lambda settings: seen.append(settings.max_client_conn)
    assert cli.main(["-q", "-vv", path]) == 0
    assert daemon.runs == [(path, True, 2)]
    assert seen == [7]


def test_the_exit_code_is_the_daemons(daemon: Daemon, config: Callable[..., str]) -> None:
    daemon.exit_code = 3
    assert cli.main([config()]) == 3


def test_a_bad_configuration_is_explained_with_file_and_line(
    daemon: Daemon, config: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = config("max_client_con = 7", "pool_mode = sometimes")
    assert cli.main([path]) == 1
    error = capsys.readouterr().err
    assert f"{path}:4: max_client_con: " in error
    assert 'did you mean "max_client_conn"?' in error
    assert f"{path}:5: pool_mode: " in error
    assert daemon.runs == []


def test_root_is_refused_unless_told_whom_to_become(
    daemon: Daemon,
    config: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(process, "is_root", lambda: True)
    assert cli.main([config()]) == 1
    assert "should not run as root" in capsys.readouterr().err
    assert daemon.steps == []


def test_naming_root_as_the_user_to_become_does_not_help(
    daemon: Daemon, config: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "is_root", lambda: True)
    assert cli.main(["-u", "root", config()]) == 1
    assert daemon.steps == ["become root"]


@pytest.mark.parametrize(
    ("flags", "line", "user"),
    [(["-u", "alice"], "", "alice"), ([], "user = bob", "bob"), (["-u", "alice"], "user = bob", "alice")],
)
def test_the_user_comes_from_the_flag_before_the_configuration(
    daemon: Daemon, config: Callable[..., str], flags: list[str], line: str, user: str
) -> None:
    assert cli.main([*flags, config(line)]) == 0
    assert daemon.steps == [f"become {user}", "log", "run"]


@pytest.mark.parametrize(
    ("lines", "modules"),
    [
        (["event_loop = uvloop"], ["proxy.metrics.http", "uvloop"]),
        (["event_loop = asyncio", "metrics_addr ="], []),
    ],
)
def test_what_is_needed_later_is_imported_before_the_user_changes(
    daemon: Daemon,
    config: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    modules: list[str],
) -> None:
    path = config(*lines)
    monkeypatch.setattr("importlib.import_module", daemon.steps.append)
    assert cli.main(["-u", "alice", path]) == 0
    assert daemon.steps == [*cli.NEEDED_LATER, *modules, "become alice", "log", "run"]


def test_a_user_that_cannot_be_become_stops_the_start(
    daemon: Daemon,
    config: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(name: str) -> None:
        raise ProcessError(f"could not find user '{name}' to switch to")

    monkeypatch.setattr(process, "become_user", refuse)
    assert cli.main(["-u", "nemo", config()]) == 1
    assert capsys.readouterr().err == "howdah: could not find user 'nemo' to switch to\n"


def test_reboot_is_accepted_and_answered_with_a_warning(
    daemon: Daemon, config: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    assert cli.main(["-R", config()]) == 0
    assert "so_reuseport" in caplog.text
    assert len(daemon.runs) == 1


def test_warnings_about_the_configuration_are_logged(
    daemon: Daemon,
    config: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    problem = Problem("p.ini", 3, "pkt_buf", "has no effect", Severity.WARNING)
    monkeypatch.setattr("config.read", lambda path: Report(SETTINGS, [problem]))
    assert cli.main([config()]) == 0
    assert "p.ini:3: warning: pkt_buf: has no effect" in caplog.messages


def test_an_interrupt_before_the_daemon_listens_to_signals_is_no_traceback(
    daemon: Daemon, config: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(settings: Settings) -> None:
        raise KeyboardInterrupt

    daemon.at_run = interrupt
    assert cli.main([config()]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_log_that_cannot_be_opened_stops_the_start(
    daemon: Daemon, config: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([config(f"logfile = {tmp_path}/no/howdah.log")]) == 1
    assert "could not open the log" in capsys.readouterr().err
    assert daemon.steps == []


# --- background and pid file


def test_the_background_needs_a_pid_file(
    daemon: Daemon, config: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["-d", config("logfile = /dev/null")]) == 1
    assert "-d needs pidfile" in capsys.readouterr().err
    assert daemon.steps == []


def test_the_background_needs_a_log(
    daemon: Daemon, config: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["-d", config(f"pidfile = {tmp_path}/pid")]) == 1
    assert "-d needs logfile or syslog" in capsys.readouterr().err
    assert daemon.steps == []


def test_the_daemon_in_the_background_has_a_pid_file_and_no_stderr(
    daemon: Daemon, config: Callable[..., str], tmp_path: Path
) -> None:
    pidfile = tmp_path / "pid"
    seen: list[str] = []
    daemon.at_run = lambda settings: seen.append(pidfile.read_text())
    path = config(f"pidfile = {pidfile}", f"logfile = {tmp_path}/log")
    assert cli.main(["-d", path]) == 0
    assert daemon.steps == ["daemonize", "log", "run"]
    assert daemon.runs == [(path, True, 0)]
    assert seen == [f"{os.getpid()}\n"]
    assert not pidfile.exists()


def test_a_daemon_that_fails_logs_why_and_leaves_no_pid_file(
    daemon: Daemon, config: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(settings: Settings) -> None:
        raise RuntimeError("bug")

    daemon.at_run = fail
    assert cli.main([config(f"pidfile = {tmp_path}/pid")]) == 1
    (record,) = (record for record in caplog.records if record.levelname == "CRITICAL")
    assert record.exc_info is not None
    assert not (tmp_path / "pid").exists()


def test_a_second_daemon_with_the_same_pid_file_is_refused(
    daemon: Daemon, config: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pidfile = tmp_path / "pid"
    pidfile.write_text(f"{os.getppid()}\n")
    assert cli.main([config(f"pidfile = {pidfile}")]) == 1
    assert "another instance?" in capsys.readouterr().err
    assert pidfile.exists()
    assert daemon.steps == []


# --- file descriptors


def test_the_start_logs_the_descriptor_limit_as_pgbouncer_does(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    cli.report_limits(SETTINGS)
    line = caplog.messages[0]
    pattern = (
        r"kernel file descriptor limit: -?\d+ \(hard: -?\d+\); max_client_conn: 100, max expected fd use: 116"
    )
    assert re.fullmatch(pattern, line)


def test_a_limit_too_low_for_the_settings_is_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "raise_fd_limit", lambda: FdLimit(100, 100))
    cli.report_limits(SETTINGS)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.clear()
    monkeypatch.setattr(process, "raise_fd_limit", lambda: FdLimit(-1, -1))
    cli.report_limits(SETTINGS)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("settings", "servers"),
    [
        ({"databases": {"app": {}}}, 20),
        ({"databases": {"app": {}}, "credentials": {"a": "x", "b": "y"}}, 40),
        ({"databases": {"app": {"user": "one"}}, "credentials": {"a": "x", "b": "y"}}, 20),
        ({"databases": {"app": {"pool_size": 5}, "*": {}}, "reserve_pool_size": 3}, 31),
        ({"databases": {"app": {"pool_size": 0}}}, 0),
        ({"databases": {"app": {"max_db_connections": 7}}}, 7),
        ({"databases": {"app": {"pool_size": 4}}, "max_db_connections": 7}, 4),
    ],
)
def test_expected_descriptors_count_clients_and_all_pools(settings: dict[str, object], servers: int) -> None:
    assert cli.expected_descriptors(Settings.model_validate(settings)) == 100 + cli.OWN_DESCRIPTORS + servers


# --- check


def test_check_is_content_with_a_good_configuration(
    config: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = config("pool_mode = transaction")
    assert load(path).pool_mode == "transaction"
    assert cli.main(["check", path]) == 0
    assert capsys.readouterr().out == f"{path}: ok\n"


def test_check_prints_every_problem_and_exits_1(
    config: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = config("pool_mod = transaction", "listen_port = many")
    assert cli.main(["check", path]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{path}:4: pool_mod: ")
    assert 'did you mean "pool_mode"?' in first
    assert second.startswith(f"{path}:5: listen_port: ")


def test_check_of_a_missing_file_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(tmp_path / "none.ini")]) == 1
    assert "none.ini" in capsys.readouterr().out


def test_a_warning_does_not_fail_the_check(
    config: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = config("listen_port = 0")
    assert cli.main(["check", path]) == 0
    assert capsys.readouterr().out == f"{path}:4: warning: listen_port: 0 takes any free port\n{path}: ok\n"


def test_check_looks_into_the_files_of_certificates(
    config: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "server.crt"
    bad.write_text("no certificate\n")
    files = f"client_tls_cert_file = {bad}", f"client_tls_key_file = {bad}"
    path = config("client_tls_sslmode = require", *files)
    assert cli.main(["check", path]) == 1
    problem = f"{bad}: client_tls_cert_file: holds no certificate that can be read\n"
    assert capsys.readouterr().out.endswith(problem)


def test_a_bad_certificate_stops_the_start(
    daemon: Daemon, config: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "server.crt"
    files = f"client_tls_cert_file = {missing}", f"client_tls_key_file = {missing}"
    path = config("client_tls_sslmode = require", *files)
    assert cli.main([path]) == 1
    assert not daemon.runs
    problem = f"howdah: {missing}: client_tls_cert_file: cannot be read: No such file or directory\n"
    assert capsys.readouterr().err == problem


def test_demo_gets_the_rest_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequence[str]] = []

    def run_demo(arguments: Sequence[str]) -> int:
        seen.append(arguments)
        return 5

    module = types.ModuleType("proxy.demo.command")
    monkeypatch.setattr(module, "main", run_demo, raising=False)
    monkeypatch.setitem(sys.modules, "proxy.demo.command", module)
    assert cli.main(["demo", "--seconds", "1"]) == 5
    assert seen == [["--seconds", "1"]]

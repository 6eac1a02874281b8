"""The command line, and the forms in which settings may be given."""

import os
import pwd
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Launch
from tests.support.fault_proxy import wait_until
from tests.support.pooler import ROOT, Pooler, StartFailed, ordinary_user, run_to_the_end
from tests.support.server import Server
from tests.support.standard import APP, build, databases, howdah_only

pytestmark = [howdah_only("Howdah's own process"), pytest.mark.usefixtures("started_anew")]


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version_begins_as_pgbouncers_does(flag: str) -> None:
    done = run_to_the_end(flag)
    assert done.returncode == 0
    assert done.stdout.startswith("PgBouncer 1.")


def test_the_console_says_the_version_of_the_command_line(launch: Launch) -> None:
    assert launch().admin("SHOW VERSION")[0]["version"] == run_to_the_end("-V").stdout.splitlines()[0]


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_the_flags(flag: str) -> None:
    done = run_to_the_end(flag)
    assert done.returncode == 0
    for word in ("-d", "-R", "-q", "-v", "-u", "-V"):
        assert word in done.stdout


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    done = run_to_the_end(str(tmp_path / "nothing.ini"))
    assert done.returncode == 1
    assert "nothing.ini" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_config_is_named_with_file_line_and_key(server: Server) -> None:
    pooler = build(databases(server), {"default_pool_sizes": 3}, user=server.user)
    with pytest.raises(StartFailed) as caught:
        pooler.start()
    assert re.search(r"pgbouncer\.ini.*\d+.*default_pool_sizes", str(caught.value))
    assert "default_pool_size" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    pooler.stop()


def test_check_prints_the_problems_and_exits_with_one(server: Server) -> None:
    pooler = build(databases(server), {"pool_mode": "sometimes"}, user=server.user)
    done = run_to_the_end("check", str(pooler.config))
    assert done.returncode == 1
    assert "pool_mode" in done.stdout + done.stderr
    pooler.settings["pool_mode"] = "session"
    pooler.write_config()
    assert run_to_the_end("check", str(pooler.config)).returncode == 0
    pooler.stop()


def test_what_is_not_supported_stops_the_start(server: Server) -> None:
    for key, value in (("auth_type", "pam"), ("peer_id", "3"), ("resolv_conf", "/etc/resolv.conf")):
        pooler = build(databases(server), {key: value}, user=server.user)
        with pytest.raises(StartFailed, match=key):
            pooler.start()
        pooler.stop()


@pytest.mark.skipif(os.getuid() != 0, reason="only root is refused")
def test_root_is_refused_unless_told_whom_to_become(server: Server) -> None:
    pooler = build(databases(server), user=server.user)
    done = run_to_the_end(str(pooler.config))
    assert done.returncode == 1
    assert "root" in done.stderr + done.stdout
    user = ordinary_user()
    assert user is not None
    pooler.settings["user"] = user
    pooler.write_config()
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", str(pooler.config)], cwd=ROOT, stderr=subprocess.DEVNULL
    ) as process:
        wait_until(pooler.listening, 10, "listening")
        assert Path(f"/proc/{process.pid}").stat().st_uid == pwd.getpwnam(user).pw_uid
        process.send_signal(signal.SIGQUIT)
    pooler.stop()


def test_a_port_in_use_is_an_error(launch: Launch, server: Server) -> None:
    first = launch()
    second = build(databases(server), {"listen_port": first.port}, user=server.user)
    second.start(wait=False)
    assert second.wait(10) == 1
    assert str(first.port) in second.log()
    assert "Traceback" not in second.log()
    second.stop()


# --- other ways to say it --------------------------------------------------------------------------------


def toml_text(pooler: Pooler, server: Server, **more: str) -> str:
    """The same settings as TOML, with nothing but what a start needs."""
    lines = [
        "[howdah]",
        'listen_addr = "127.0.0.1"',
        f"listen_port = {pooler.port}",
        'unix_socket_dir = ""',
        'metrics_addr = ""',
        'auth_type = "trust"',
        f'auth_file = "{pooler.settings["auth_file"]}"',
        'pool_mode = "transaction"',
        *(f"{key} = {value}" for key, value in more.items()),
        f"[databases.{APP}]",
        f'host = "{server.host}"',
        f"port = {server.port}",
        f'dbname = "{server.database}"',
    ]
    return "\n".join(lines) + "\n"


def test_a_toml_file_says_the_same(server: Server) -> None:
    """There, startup parameters that are not known are applied by default."""
    pooler = build(databases(server), user=server.user)
    pooler.config = pooler.directory / "howdah.toml"
    pooler.config.write_text(toml_text(pooler, server))
    with pooler, pooler.raw(APP, parameters={"statement_timeout": "4321"}) as client:
        assert client.value("show statement_timeout") == "4321ms"


def test_the_environment_overrides_the_file(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOWDAH__DEFAULT_POOL_SIZE", "17")
    with build(databases(server), user=server.user) as pooler:
        assert pooler.show("CONFIG", key="default_pool_size")[0]["value"] == "17"


def test_flags_for_more_and_less_output_are_taken(server: Server) -> None:
    pooler = build(databases(server), user=server.user)
    command = [*pooler.command()[:-1], "-v", "-v", str(pooler.config)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("process up" in line for line in process.stderr)
        process.send_signal(signal.SIGQUIT)
        process.communicate(timeout=10)
        assert process.returncode == 0
    pooler.stop()

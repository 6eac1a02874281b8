"""The demo's pooler process: its configuration, its start, and that nothing of it stays behind."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import config
from proxy.demo import daemon as demo_daemon
from proxy.demo.client import Address
from proxy.demo.daemon import Daemon, DaemonFailed, Pooling, choose_port
from proxy.demo.postgres import HOST
from tests.support.ports import free_port

SERVER = Address(HOST, 5433, "demo", "alice", "pass")
POOLING = Pooling(servers=10, clients=600, extra={"query_wait_timeout": 7})


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_preferred_port_is_taken_unless_somebody_listens_there() -> None:
    free = free_port()
    assert choose_port(free) == free
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert choose_port(port) not in (port, 0)


def test_the_configuration_is_one_that_howdah_itself_accepts() -> None:
    daemon = Daemon(SERVER, 6000, POOLING)
    settings = config.load(str(daemon.config), environ={})
    assert (settings.listen_addr, settings.listen_port) == ((HOST,), 6000)
    assert (settings.pool_mode, settings.default_pool_size, settings.max_client_conn) == (
        "transaction",
        10,
        600,
    )
    assert settings.query_wait_timeout == 7
    assert (settings.databases["demo"].host, settings.databases["demo"].port) == (HOST, 5433)
    assert [secret.reveal() for secret in settings.credentials["alice"]] == [b"pass"]
    assert settings.admin_users == ("alice",)
    assert settings.metrics_port == daemon.metrics_port
    assert daemon.config.stat().st_mode & 0o077 == 0


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A program that is started in howdah's place; write its source to the path."""
    script = tmp_path / "stand_in.py"
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return script


LISTENS = """
import json, os, signal, socket, sys
port = int([line for line in open(sys.argv[-1]) if line.startswith("listen_port")][0].split("=")[1])
alive = open(os.environ["FIFO"], "w") if "FIFO" in os.environ else None
server = socket.create_server(("127.0.0.1", port))
print(json.dumps(sys.argv[1:]), os.environ["PYTHONPATH"], flush=True)
while True:
    signal.pause()
"""


def test_the_daemon_is_started_as_a_user_would_and_ended_at_once(stand_in: Path) -> None:
    stand_in.write_text(LISTENS)
    with Daemon(SERVER, free_port(), POOLING) as daemon:
        assert daemon._process is not None
        pid = daemon._process.pid
        said = daemon.log_tail()
        assert '"-P", "-m", "proxy"' in said
        assert f'"{daemon.config}"' in said
        assert ('"-u"' in said) == (os.geteuid() == 0)
        assert str(Path(demo_daemon.__file__).parents[2]) in said
        assert not gone(pid)
    assert gone(pid)


def test_a_daemon_that_ends_at_once_is_reported_with_its_last_words(stand_in: Path) -> None:
    stand_in.write_text("import sys; print('no such setting'); sys.exit(3)")
    with pytest.raises(DaemonFailed, match="exit code 3:\nno such setting"):
        Daemon(SERVER, free_port(), POOLING).start()


def test_a_daemon_that_does_not_listen_in_time_is_ended(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_daemon, "START_SECONDS", 0.1)
    stand_in.write_text("import signal\nsignal.pause()")
    daemon = Daemon(SERVER, free_port(), POOLING)
    with pytest.raises(DaemonFailed, match="does not listen"):
        daemon.start()
    assert daemon._process is None


def test_a_daemon_that_does_not_obey_is_killed(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_daemon, "STOP_SECONDS", 0.1)
    stand_in.write_text("import signal\nsignal.signal(signal.SIGQUIT, signal.SIG_IGN)\n" + LISTENS)
    daemon = Daemon(SERVER, free_port(), POOLING)
    daemon.start()
    assert daemon._process is not None
    pid = daemon._process.pid
    daemon.stop()
    assert gone(pid)
    daemon.stop()


def test_the_daemon_does_not_outlive_a_demo_that_is_killed(stand_in: Path) -> None:
    stand_in.write_text(LISTENS)
    code = f"""
import os, signal, sys
from proxy.demo.client import Address
from proxy.demo.daemon import Daemon, Pooling
sys.executable = {sys.executable!r}
daemon = Daemon(Address("127.0.0.1", 5433, "demo", "alice", "pass"), {free_port()}, Pooling(1, 1, {{}}))
daemon.start()
os.kill(os.getpid(), signal.SIGKILL)
"""
    # The stand-in holds the pipe open as long as it lives: its end tells that it is gone, without a clock.
    fifo = stand_in.parent / "alive"
    os.mkfifo(fifo)
    real = (stand_in.parent / "python").read_text().split()[2]
    environ = os.environ | {"FIFO": str(fifo)}
    with subprocess.Popen([real, "-c", code], env=environ) as demo, fifo.open() as alive:
        assert demo.wait() == -signal.SIGKILL
        assert alive.read() == ""

"""The pooler as a child process: the real daemon, with a configuration of its own.

The law of this file: it starts what a user would start, `howdah CONFIG`, and nothing of it outlives the demo,
however the demo ends.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from proxy.demo.binaries import Account, server_account
from proxy.demo.client import Address
from proxy.demo.postgres import HOST, free_port
from proxy.demo.scratch import scratch

START_SECONDS = 15.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02
PREFERRED_PORT = 6432
PREFERRED_METRICS_PORT = 9127
GUARD = 'read -r end; kill -QUIT "$1"'


class DaemonFailed(Exception):
    """The daemon did not come up; the text carries the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Pooling:
    """What the demo tells the pooler: server connections, the most clients, and further settings."""

    servers: int
    clients: int
    extra: Mapping[str, str | int]


def choose_port(preferred: int) -> int:
    """The preferred port if nobody listens there, else a free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, preferred))
        except OSError:
            return free_port()
    return preferred


class Daemon:
    """Howdah in front of one database, in transaction mode; `with Daemon(...) as daemon:` runs it."""

    def __init__(self, server: Address, port: int, pooling: Pooling) -> None:
        self.address = Address(HOST, port, server.database, server.user, server.password)
        self.console = Address(HOST, port, "pgbouncer", server.user, server.password)
        self.metrics_port = choose_port(PREFERRED_METRICS_PORT)
        self.folder = scratch().folder()
        self.config = self.folder / "howdah.toml"
        self._account = server_account()
        self._write(self.config, self._settings(server, pooling))
        self._write(self.folder / "userlist.txt", f'"{server.user}" "{server.password}"\n')
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and wait until it listens; raises DaemonFailed with what it said instead."""
        try:
            self._launch()
            self._wait_until_it_listens()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it at once; its clients should be gone by now."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                # It leads a group of its own: its workers, too.
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
        self._process = self._guard = None

    def log_tail(self, lines: int = 15) -> str:
        """The last lines that it logged."""
        with contextlib.suppress(OSError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _settings(self, server: Address, pooling: Pooling) -> str:
        main: dict[str, str | int] = {
            "listen_addr": HOST,
            "listen_port": self.address.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(self.folder / "userlist.txt"),
            "admin_users": server.user,
            "pool_mode": "transaction",
            "default_pool_size": pooling.servers,
            "max_client_conn": pooling.clients,
            "metrics_addr": HOST,
            "metrics_port": self.metrics_port,
            **pooling.extra,
        }
        database: dict[str, str | int] = {"host": server.host, "port": server.port}
        return f"[howdah]\n{_toml(main)}\n[databases.{server.database}]\n{_toml(database)}"

    def _launch(self) -> None:
        become = ["-u", self._account.name] if self._account else []
        # -P and the path: whatever lies in the directory the demo was started from must not be imported.
        place = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([place, *filter(None, [os.environ.get("PYTHONPATH")])])
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "proxy", *become, str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _wait_until_it_listens(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                raise DaemonFailed(f"howdah ended with exit code {code}:\n{self.log_tail()}")
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.address.port), 1):
                return
            time.sleep(POLL_SECONDS)
        raise DaemonFailed(f"howdah does not listen after {START_SECONDS:.0f} s:\n{self.log_tail()}")

    def _write(self, path: Path, text: str) -> None:
        path.touch(mode=0o600)
        path.write_text(text)
        _give(path, self._account)


def _toml(values: Mapping[str, str | int]) -> str:
    """The lines of a TOML table; JSON's strings and numbers are TOML's."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def _give(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)

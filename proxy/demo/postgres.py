"""A PostgreSQL server of our own, for the demo and the tests.

Law: it touches nothing that is not its own: a new data directory below the process's scratch folder, a free
port on the loopback address, random passwords, its own pg_hba.conf; and it ends with the process that started
it. Its data is expendable: fsync is off. Every call blocks; from a coroutine use `asyncio.to_thread`.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from proxy.demo.binaries import Account, Binaries, clean_environment, run_as, server_account, within_reach
from proxy.demo.scratch import scratch

HOST = "127.0.0.1"
SUPERUSER = "postgres"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.01

DEFAULT_HBA = (
    "local all all scram-sha-256",
    "host all all 127.0.0.1/32 scram-sha-256",
    "host all all ::1/128 scram-sha-256",
    "host replication all 127.0.0.1/32 scram-sha-256",
)
DEFAULT_SETTINGS = {
    "listen_addresses": HOST,
    "shared_buffers": "16MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
StopMode = Literal["smart", "fast", "immediate"]


class PostgresFailed(Exception):
    """A program of PostgreSQL failed; the text carries the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role made before the first start; `encryption` says how its password is stored."""

    name: str
    password: str | None = None
    options: str = "LOGIN"
    encryption: Literal["scram-sha-256", "md5"] = "scram-sha-256"

    def statements(self) -> list[str]:
        """The SQL that makes it."""
        secret = f" PASSWORD {quote_literal(self.password)}" if self.password is not None else ""
        verb = "ALTER" if self.name == SUPERUSER else "CREATE"
        return [
            f"SET password_encryption = {quote_literal(self.encryption)}",
            f"{verb} ROLE {quote_identifier(self.name)} {self.options}{secret}",
        ]


class Cluster:
    """One server with its own data directory, from `start` until `close`.

    `settings` go onto the server's command line and win over DEFAULT_SETTINGS; `hba` are the lines of its
    pg_hba.conf; `tls` names a certificate and its key (PEM) and needs a server built with TLS. Without `port`
    a free one is taken, and kept over restarts. Raises PostgresFailed, with the end of the log if any.
    """

    def __init__(
        self,
        binaries: Binaries,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] = DEFAULT_HBA,
        roles: Sequence[Role] = (),
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.account = server_account()
        self.binaries = within_reach(binaries, self.account, scratch().root)
        self.host = HOST
        self.port = port or free_port()
        self.superuser = SUPERUSER
        self.password = secrets.token_urlsafe(12)
        self.folder = scratch().folder()
        self.settings = DEFAULT_SETTINGS | dict(settings or {})
        self._port_is_free_to_change = port is None
        self._process: subprocess.Popen[bytes] | None = None
        for name, mode in (("data", 0o700), ("run", 0o755)):
            (self.folder / name).mkdir(mode=mode)
            _own(self.folder / name, self.account)
        self.log.touch(mode=0o600)
        self.write_hba(hba)
        if tls is not None:
            self._install_tls(*tls)
        self._clone_template([Role(SUPERUSER, self.password), *roles])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def socket_directory(self) -> Path:
        """Where its unix socket is; anybody may connect to it, as far as pg_hba.conf lets him in."""
        return self.folder / "run"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's process id; PostgresFailed when it does not run."""
        if self._process is None or not self.running:
            raise PostgresFailed(f"PostgreSQL on port {self.port} does not run")
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it accepts connections; nothing to do while it runs."""
        deadline = time.monotonic() + START_SECONDS
        while not self.running:
            before = len(self.log_text())
            self._process = self._launch()
            if self._became_ready(self._process, deadline):
                self._port_is_free_to_change = False
                return
            said = self.log_text()[before:]
            self._end(signal.SIGQUIT)
            if time.monotonic() > deadline or not self._may_try_again(said):
                raise PostgresFailed(
                    f"PostgreSQL {self.binaries.release} did not start:\n{said or self.log_tail()}"
                )

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop and wait for the end; `smart` waits for clients, `immediate` lets the next start recover."""
        self._end(STOP_SIGNALS[mode])

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop, then start again on the same port with the present settings."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill the postmaster as a crash would (SIGKILL); its backends follow as they notice."""
        self._end(signal.SIGKILL)

    def kill_backend(self, pid: int) -> None:
        """Kill one backend with SIGKILL; the postmaster then ends all others and recovers."""
        os.kill(pid, signal.SIGKILL)

    def reload(self) -> None:
        """Make it read pg_hba.conf and its settings again; returns before it has."""
        os.kill(self.pid, signal.SIGHUP)

    def write_hba(self, lines: Sequence[str]) -> None:
        """Replace pg_hba.conf; a running server obeys after `reload`."""
        self._write("pg_hba.conf", "".join(f"{line}\n" for line in lines))

    def close(self) -> None:
        """Stop at once and remove every file."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_text(self) -> str:
        """The whole server log so far."""
        with contextlib.suppress(FileNotFoundError):
            return self.log.read_text(errors="replace")
        return ""

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the server log."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def dsn(self, database: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """A libpq connection string over TCP; for the superuser unless another is named."""
        if user is None:
            user, password = self.superuser, self.password
        parts = {
            "host": self.host,
            "port": str(self.port),
            "dbname": database,
            "user": user,
            "password": password,
        }
        return " ".join(
            f"{key}={_quote_parameter(value)}" for key, value in parts.items() if value is not None
        )

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run SQL as the superuser through psql: rows as lines, columns parted by `|`.

        Raises PostgresFailed with the server's message.
        """
        target = (
            f"host={self.host} port={self.port} user={self.superuser} dbname={_quote_parameter(database)}"
        )
        done = run_as(
            None,
            [self.binaries.path("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-", target],
            text=statement,
            environment=clean_environment() | {"PGPASSWORD": self.password},
        )
        if done.returncode != 0:
            raise PostgresFailed(done.stderr.strip())
        return done.stdout.rstrip("\n")

    def _launch(self) -> subprocess.Popen[bytes]:
        settings = self.settings | {
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_directory),
            "hba_file": str(self.folder / "pg_hba.conf"),
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [self.binaries.path("postgres"), "-D", self.data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=clean_environment(),
                user=self.account.uid if self.account else None,
                group=self.account.gid if self.account else None,
                extra_groups=[] if self.account else None,
                start_new_session=True,
            )

    def _became_ready(self, process: subprocess.Popen[bytes], deadline: float) -> bool:
        # The eighth line of postmaster.pid is the server's own word for its state, and costs no connection.
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                lines = (self.data / "postmaster.pid").read_text().splitlines()
                if len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                    return True
            time.sleep(POLL_SECONDS)
        return False

    def _may_try_again(self, said: str) -> bool:
        if "Address already in use" in said and self._port_is_free_to_change:
            self.port = free_port()
            return True
        # After a crash the last backends may need a moment to notice and let go of the shared memory.
        return "shared memory block" in said and "still in use" in said

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _clone_template(self, roles: Sequence[Role]) -> None:
        copied = run_as(self.account, ["cp", "-Rp", f"{_template(self.binaries)}/.", self.data])
        if copied.returncode != 0:
            raise PostgresFailed(f"cannot copy the data directory: {copied.stderr.strip()}")
        # Single-user mode sets the passwords before anything listens: there is no moment without them.
        statements = "".join(f"{each};\n\n" for role in roles for each in role.statements())
        options = ["--single", "-j", "-D", str(self.data), "-c", "fsync=off", "postgres"]
        done = run_as(self.account, [self.binaries.path("postgres"), *options], text=statements)
        if done.returncode != 0 or "ERROR:" in done.stderr:
            raise PostgresFailed(f"cannot make the roles: {done.stderr.strip()[-2000:]}")

    def _install_tls(self, certificate: Path, key: Path) -> None:
        for name, source in (("server.crt", certificate), ("server.key", key)):
            self._write(name, source.read_text(), mode=0o600)
        files = {
            "ssl_cert_file": str(self.folder / "server.crt"),
            "ssl_key_file": str(self.folder / "server.key"),
        }
        self.settings = {"ssl": "on", **files, **self.settings}

    def _write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.folder / name
        new = path.with_suffix(".new")
        new.touch(mode=mode)
        new.write_text(text)
        _own(new, self.account)
        new.replace(path)


_templates: dict[Path, Path] = {}
_template_lock = threading.Lock()


def _template(binaries: Binaries) -> Path:
    """A fresh data directory of this release, made once per process (about 0.5 s) and copied from then on."""
    with _template_lock:
        if binaries.directory not in _templates:
            account = server_account()
            folder = scratch().folder()
            _own(folder, account)
            options = ["-U", SUPERUSER, "--encoding=UTF8", "--no-locale", "--auth=reject", "--no-sync"]
            done = run_as(account, [binaries.path("initdb"), "-D", folder / "template", *options])
            if done.returncode != 0:
                raise PostgresFailed(f"initdb failed: {done.stdout[-1000:]}{done.stderr[-2000:]}")
            _templates[binaries.directory] = folder / "template"
        return _templates[binaries.directory]


def free_port() -> int:
    """A TCP port on the loopback address that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def quote_literal(text: str) -> str:
    """Text as an SQL string constant; ValueError for NUL, which PostgreSQL cannot hold."""
    if "\0" in text:
        raise ValueError("a PostgreSQL string holds no NUL")
    escaped = text.replace("'", "''").replace("\\", "\\\\")
    return f"E'{escaped}'" if "\\" in text else f"'{escaped}'"


def quote_identifier(text: str) -> str:
    """Text as a quoted SQL identifier; ValueError if it is empty or holds NUL."""
    if not text or "\0" in text:
        raise ValueError("an identifier is neither empty nor holds NUL")
    escaped = text.replace('"', '""')
    return f'"{escaped}"'


def _quote_parameter(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _own(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)

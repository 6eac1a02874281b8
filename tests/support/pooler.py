"""Runs a pooler as a process of its own: Howdah, or PgBouncer to compare with.

Law: nothing but PgBouncer's command line, its ini file, its signals, its
console and /proc is used, so the tests also run with PgBouncer in Howdah's
place. A pooler must end with exit code 0 and a log without tracebacks.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import psycopg
from psycopg.rows import dict_row

from tests.support import warm
from tests.support.ports import free_port
from tests.support.target import Target

ROOT = Path(__file__).resolve().parents[2]
Value = str | int | float
Settings = Mapping[str, Value]
Sections = Mapping[str, Settings]
Row = dict[str, object]

CONSOLE = "pgbouncer"
"""The database whose clients talk to the pooler itself."""

ADMIN, STATS = "boss", "watcher"
"""Members of admin_users and of stats_users."""
PASSWORDS = {ADMIN: "boss-secret", STATS: "watcher-secret"}
"""Asked for only where the auth_type of a test asks for passwords."""

BAD_LOG = re.compile(r"Traceback|never retrieved|never awaited|\bCRITICAL\b")
"""What no log may contain."""

PATIENCE = 10.0
"""Seconds in which a busy machine gets round to anything."""
_START_SECONDS = 30.0
_STOP_SECONDS = 30.0


class StartFailed(AssertionError):
    """The process ended before it accepted connections; the message carries its log."""


def run_to_the_end(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs `python -m proxy` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def ordinary_user() -> str | None:
    """Whom a process started by root is to become; None when we are not root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def family(pid: int) -> Iterator[int]:
    """The process and all that come from it."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from family(int(child))


def quoted(value: Value) -> str:
    """A value in a `[databases]` or `[users]` line."""
    text = str(value)
    return text if re.fullmatch(r"[\w.:/@+-]+", text) else "'" + text.replace("'", "''") + "'"


def ini_text(settings: Settings, databases: Sections, users: Sections) -> str:
    """A pgbouncer.ini."""

    def entries(section: Sections) -> list[str]:
        return [
            f"{name} = " + " ".join(f"{key}={quoted(value)}" for key, value in entry.items())
            for name, entry in section.items()
        ]

    lines = ["[databases]", *entries(databases), "", "[users]", *entries(users), "", "[pgbouncer]"]
    lines += [f"{key} = {value}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


class Pooler(Target):
    """Our own daemon. `settings` override sensible ones for tests; `databases` as in the ini."""

    kind = "howdah"
    may_fork: ClassVar[bool] = True
    """Whether a process that has imported it already may be forked to be the daemon."""
    defaults: ClassVar[Settings] = {
        "metrics_addr": "",
        "event_loop": os.environ.get("HOWDAH_TEST_EVENT_LOOP", "uvloop"),
        "workers": os.environ.get("HOWDAH_TEST_WORKERS", "1"),
    }

    def __init__(
        self,
        databases: Sections,
        settings: Settings | None = None,
        users: Sections | None = None,
        secrets: Mapping[str, str] | None = None,
        *,
        user: str,
    ) -> None:
        super().__init__(self.kind, "127.0.0.1", free_port(), user, next(iter(databases)))
        self.directory = Path(tempfile.mkdtemp(prefix="howdah-test-"))
        self.directory.chmod(0o755)
        self.config = self.directory / "pgbouncer.ini"
        self.log_path = self.directory / "log"
        self.databases = {name: dict(entry) for name, entry in databases.items()}
        self.users = {name: dict(entry) for name, entry in (users or {}).items()}
        self.secrets = {user: "", **PASSWORDS, **(secrets or {})}
        self.settings: dict[str, Value] = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(self.directory / "userlist.txt"),
            "admin_users": ADMIN,
            "stats_users": STATS,
            "pool_mode": "transaction",
            "max_client_conn": 1000,
            **self.defaults,
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | warm.Forked | None = None
        self.write_config()

    # --- process ---------------------------------------------------------------------------------

    def command(self) -> list[str]:
        return [sys.executable, "-m", "proxy", *self.privileges(), str(self.config)]

    def privileges(self) -> list[str]:
        """`-u USER` when started by root."""
        user = ordinary_user()
        return ["-u", user] if user else []

    def start(self, *, wait: bool = True) -> Self:
        """Starts the process; returns when it accepts connections."""
        with self.log_path.open("ab") as log:
            command, alone = self.command(), str(self.settings.get("workers", 1)) == "1"
            forked = warm.start(command, ROOT, log) if self.may_fork and alone else None
            self._process = forked or subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        if wait:
            self.wait_until_accepting()
        return self

    def wait_until_accepting(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise StartFailed(f"exit code {self.process.returncode}\n{self.log()}")
            try:
                self._knock()
            except OSError:
                assert time.monotonic() < deadline, f"does not accept connections\n{self.log()}"
                time.sleep(0.02)
            else:
                return

    def _knock(self) -> None:
        """Raises OSError unless all that it is to listen on takes connections."""
        socket.create_connection((self.host, self.port), 1).close()
        directory = str(self.settings["unix_socket_dir"])
        if directory and not directory.startswith("@"):
            with socket.socket(socket.AF_UNIX) as knocking:
                knocking.connect(f"{directory}/.s.PGSQL.{self.port}")

    def listening(self) -> bool:
        """Whether its TCP port takes connections."""
        try:
            socket.create_connection((self.host, self.port), 1).close()
        except ConnectionError:
            return False
        return True

    @property
    def process(self) -> "subprocess.Popen[bytes] | warm.Forked":
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, within: float = _STOP_SECONDS) -> int:
        """The exit code, once the process has ended."""
        return self.process.wait(within)

    def stop(self) -> None:
        """Ends the process at once and checks how it went; the directory disappears."""
        try:
            if self.running():
                self.signal(signal.SIGQUIT)
                code = self.wait()
                assert code == 0, f"exit code {code}\n{self.log_tail()}"
            self.check_log()
        finally:
            if self.running():
                self.process.kill()
                self.process.wait()
            shutil.rmtree(self.directory, ignore_errors=True)

    def check_log(self, since: int = 0) -> None:
        """Fails on tracebacks and on asyncio's complaints."""
        found = BAD_LOG.search(self.log(since))
        assert found is None, f"{found[0]!r} in the log:\n{self.log_tail(200)}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(f"--- log of {self.kind} ---\n{self.log_tail(80)}")
        self.stop()

    # --- configuration ---------------------------------------------------------------------------

    def write_config(self) -> None:
        self.config.write_text(ini_text(self.settings, self.databases, self.users))
        lines = [f'"{name}" "{secret}"' for name, secret in self.secrets.items()]
        Path(str(self.settings["auth_file"])).write_text("\n".join(lines) + "\n")

    @contextmanager
    def with_settings(self, **changes: Value) -> Iterator[None]:
        """Other settings, by RELOAD, for the time of the `with`."""
        before = dict(self.settings)
        self.settings.update(changes)
        self.reload()
        try:
            yield
        finally:
            self.settings = before
            if self.running():
                self.reload()

    def reload(self) -> None:
        """Writes the files and has them read again."""
        self.write_config()
        self.admin("RELOAD")

    # --- looking at it ---------------------------------------------------------------------------

    def admin(self, sql: str, user: str = ADMIN) -> list[Row]:
        """Runs a console command by the simple protocol; rows as dicts."""
        with psycopg.connect(
            self.conninfo(CONSOLE, user, password=PASSWORDS[user]), autocommit=True, row_factory=dict_row
        ) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def show(self, what: str, **where: object) -> list[Row]:
        """Rows of SHOW, those only whose columns have the given values."""
        rows = self.admin(f"SHOW {what}")
        return [row for row in rows if all(row[key] == value for key, value in where.items())]

    def pool(self, database: str, user: str | None = None) -> dict[str, int]:
        """The numbers of one line of SHOW POOLS; zeros when there is no such pool yet."""
        rows = self.show("POOLS", database=database, user=user or self.user)
        numbers = {key: value for row in rows for key, value in row.items() if isinstance(value, int)}
        return numbers or dict.fromkeys(("cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_used"), 0)

    def wait_for_pool(self, database: str, within: float = PATIENCE, **numbers: int) -> None:
        """Waits until these columns of SHOW POOLS have these values."""
        deadline = time.monotonic() + within
        while True:
            over = time.monotonic() > deadline
            pool = self.pool(database)
            if all(pool.get(key, 0) == value for key, value in numbers.items()):
                return
            assert not over, f"pool {database}: wanted {numbers}, is {pool}"
            time.sleep(0.02)

    def cpu_seconds(self) -> float:
        """CPU time all its processes have used so far, which a busy machine does not stretch."""
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in family(self.pid)]
        return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")

    def rss(self) -> int:
        """Resident memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def fds(self) -> int:
        """Open file descriptors of all its processes. Needs the right to look into them."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in family(self.pid))

    # --- log -------------------------------------------------------------------------------------

    def log(self, since: int = 0) -> str:
        """The log from a byte position on; see `log_mark`."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "backslashreplace")

    def log_mark(self) -> int:
        return self.log_path.stat().st_size

    def log_tail(self, lines: int = 60) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def wait_for_log(self, pattern: str, within: float = PATIENCE, since: int = 0) -> str:
        """Waits for a line in the log that the pattern is found in; returns what matched."""
        deadline = time.monotonic() + within
        while True:
            over = time.monotonic() > deadline
            found = re.search(pattern, self.log(since))
            if found is not None:
                return found[0]
            assert not over, f"{pattern!r} not in the log:\n{self.log_tail()}"
            time.sleep(0.02)

    @contextmanager
    def log_contains(
        self, pattern: str, times: int | None = None, within: float = PATIENCE
    ) -> Iterator[None]:
        """The log lines written meanwhile contain the pattern (so many times, or at least once)."""
        mark = self.log_mark()
        yield
        if times == 0:
            found = re.findall(pattern, self.log(mark))
            assert not found, f"{pattern!r} is in the log:\n{self.log_tail()}"
            return
        self.wait_for_log(pattern, within, mark)
        if times is not None:
            found = re.findall(pattern, self.log(mark))
            assert len(found) == times, f"{pattern!r} {len(found)} times in the log:\n{self.log_tail()}"


class PgBouncer(Pooler):
    """Debian's PgBouncer in the same role; `find` says where it is."""

    kind = "pgbouncer"
    defaults: ClassVar[Settings] = {"ignore_startup_parameters": "extra_float_digits"}

    def command(self) -> list[str]:
        executable = self.find()
        assert executable is not None, "PgBouncer is not installed"
        return [executable, *self.privileges(), str(self.config)]

    @staticmethod
    def find() -> str | None:
        return shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")

    def stop(self) -> None:
        """SIGKILL: old versions report a fast exit as a failure, and their manners are not our concern."""
        if self.running():
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

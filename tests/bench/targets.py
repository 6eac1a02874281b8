"""What is measured: PostgreSQL itself, Howdah, PgBouncer, and a second PgBouncer for the noise.

Both poolers are driven by the same pgbouncer.ini. A target is started with the settings of one workload and
gives an address to connect to and, for poolers, a pid whose family is the pooler.
"""

import dataclasses
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

from proxy.demo.binaries import server_account
from proxy.demo.postgres import free_port
from tests.bench import processes
from tests.bench.client import ServerError, verifier
from tests.bench.cluster import SALT, Address, Cluster
from tests.support import compiled
from tests.support.certificates import self_signed

POSTGRESQL = "PostgreSQL"
HOWDAH = "Howdah"
PGBOUNCER = "PgBouncer"
NOISE = "PgBouncer again"

_START_SECONDS = 15.0
_POLL_SECONDS = 0.002
_REPOSITORY = Path(__file__).resolve().parents[2]


class NotStarted(Exception):
    """A target did not accept logins in time; the text is the end of its log."""


class Direct:
    """PostgreSQL without a pooler."""

    name = POSTGRESQL
    pooled = False
    pid: int | None = None

    def __init__(self, cluster: Cluster) -> None:
        self.address = cluster.address

    def start(self, settings: Mapping[str, str]) -> float:
        """Nothing to start; returns 0."""
        return 0.0

    def stop(self) -> None:
        """Nothing to stop: the cluster has an owner."""


class Pooler:
    """A pooler that is started with a pgbouncer.ini in a folder of its own.

    `program` is the command without its arguments, `goodbye` the signal that ends it at once.
    """

    pooled = True

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        folder: Path,
        *,
        program: list[str],
        goodbye: signal.Signals,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.address = cluster.address
        self._server = cluster.address
        self._program = program
        self._goodbye = goodbye
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = folder / name.lower().replace(" ", "-")
        self._folder.mkdir(mode=0o755)
        self._write_secrets()

    @property
    def pid(self) -> int | None:
        """The process whose family is the pooler; None while stopped."""
        return None if self._process is None else self._process.pid

    def start(self, settings: Mapping[str, str], patience: float = _START_SECONDS) -> float:
        """Start with these settings and return the seconds until the first login was done.

        `{folder}` in a value stands for the folder of the secrets. Raises NotStarted.
        """
        port = free_port()
        config = self._folder / "pgbouncer.ini"
        values = {**_defaults(port), **self._settings, **settings}
        config.write_text(ini(self._server, values).replace("{folder}", str(self._folder)))
        self.address = dataclasses.replace(self._server, port=port)
        account = server_account()
        become = ["-u", account.name] if account else []
        began = time.perf_counter()
        self._process = processes.start(
            [*self._program, *become, str(config)], self._folder / "log", _REPOSITORY
        )
        self._await_login(self._process, began + patience)
        return time.perf_counter() - began

    def stop(self) -> None:
        """End the pooler at once."""
        process, self._process = self._process, None
        if process is not None:
            processes.end(process, self._goodbye)

    def log(self) -> str:
        """What the pooler printed since its last start."""
        return (self._folder / "log").read_text(errors="replace")

    def log_tail(self) -> str:
        """The end of what the pooler printed since its last start."""
        return "\n".join(self.log().splitlines()[-10:])

    def _await_login(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        while True:
            try:
                self.address.connect().close()
                return
            except (OSError, ServerError) as error:
                if process.poll() is not None or time.perf_counter() > deadline:
                    self.stop()
                    raise NotStarted(f"{self.name}: {error}\n{self.log_tail()}") from None
            time.sleep(_POLL_SECONDS)

    def _write_secrets(self) -> None:
        user, password = self._server.user, self._server.password
        for file, secret in (("users.txt", password), ("verifiers.txt", verifier(password, SALT))):
            (self._folder / file).write_text(f'"{user}" "{secret}"\n')
        self_signed().write(self._folder, "pooler")


Target = Direct | Pooler


def pgbouncer_program() -> str | None:
    """PgBouncer's executable, also where /usr/sbin is not on PATH; None without."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def pgbouncer_release() -> tuple[int, ...] | None:
    """Of PgBouncer as installed; None without."""
    program = pgbouncer_program()
    if program is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


def pgbouncer(name: str, cluster: Cluster, folder: Path) -> Pooler | None:
    """PgBouncer as installed on the system; None without."""
    program = pgbouncer_program()
    if program is None:
        return None
    # SIGTERM means "at once" up to 1.22 and "wait for clients" later; no client is left when it is sent.
    return Pooler(name, cluster, folder, program=[program], goodbye=signal.SIGTERM)


def howdah_program(folder: Path, *, interpreted: bool = False) -> list[str]:
    """The command in HOWDAH_BENCH_COMMAND; else this work tree, compiled if it can be and is wanted.

    `folder`: where to unpack the compiled build.
    """
    if given := os.environ.get("HOWDAH_BENCH_COMMAND"):
        return shlex.split(given)
    try:
        wheel = None if interpreted else compiled.kept_wheel()
    except compiled.CannotCompile as reason:
        print(f"not compiled: {reason}", file=sys.stderr)
        wheel = None
    if wheel is None:
        return [sys.executable, "-m", "proxy"]
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "build")
    start = folder / "build" / "start.py"
    start.write_text("import sys\n\nfrom proxy.cli import main\n\nsys.exit(main())\n")
    return [sys.executable, str(start)]


def howdah(cluster: Cluster, folder: Path, program: list[str]) -> Pooler:
    """Howdah, started by the words of `program`."""
    settings = {"metrics_port": str(free_port())}
    return Pooler(HOWDAH, cluster, folder, program=program, goodbye=signal.SIGQUIT, settings=settings)


def _defaults(port: int) -> dict[str, str]:
    return {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "trust",
        "auth_file": "{folder}/users.txt",
        "pool_mode": "transaction",
        "default_pool_size": "16",
        "max_client_conn": "6000",
        "log_connections": "0",
        "log_disconnections": "0",
        "ignore_startup_parameters": "extra_float_digits",
    }


def ini(server: Address, values: Mapping[str, str]) -> str:
    """The text of a pgbouncer.ini with one database that leads to `server`."""
    lines = ["[databases]", f"{server.database} = host={server.host} port={server.port}", "[pgbouncer]"]
    lines += [f"{key} = {value}" for key, value in values.items()]
    return "\n".join(lines) + "\n"

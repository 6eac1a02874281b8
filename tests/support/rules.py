"""A pooler with rules of its own: auth_hba_file and auth_ident_file, and how to change them.

Law: the first rule lets the console's users in, so that a test can always look and reload.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from tests.support.pooler import ADMIN, STATS, Pooler

CONSOLE_RULE = f"host pgbouncer {ADMIN},{STATS} all trust"


class Rules:
    """Two files in a folder that the pooler may look into; in `sockets` it may make its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="howdah-rules-"))
        self.folder.chmod(0o755)
        self.hba = self.folder / "hba.conf"
        self.ident = self.folder / "ident.conf"
        self.sockets = self.folder / "sockets"
        self.sockets.mkdir()
        self.sockets.chmod(0o777)
        self.write()

    def write(self, *rules: str, maps: tuple[str, ...] = ()) -> None:
        """The rules, behind the one for the console, and the lines of the maps."""
        self.hba.write_text("\n".join((CONSOLE_RULE, *rules)) + "\n")
        self.ident.write_text("\n".join(maps) + "\n")

    @property
    def settings(self) -> dict[str, str]:
        return {"auth_type": "hba", "auth_hba_file": str(self.hba), "auth_ident_file": str(self.ident)}

    @contextmanager
    def at(self, pooler: Pooler, *rules: str, maps: tuple[str, ...] = ()) -> Iterator[None]:
        """These rules, by RELOAD, for the time of the `with`; none afterwards."""
        self.write(*rules, maps=maps)
        pooler.admin("RELOAD")
        try:
            yield
        finally:
            self.write()
            pooler.admin("RELOAD")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder)


def refusal(pooler: Pooler, database: str, user: str, **options: str | int) -> str:
    """Why libpq is not let in; empty if it is, and served."""
    try:
        with pooler.connect(database, user, **options) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    except psycopg.OperationalError as error:
        return str(error).partition("FATAL:  ")[2].strip() or str(error)
    return ""

"""One entry of [users], and the auth file: who is known, with which secrets.

`None` means "not set here". The auth file is PgBouncer's userlist.txt: `"user" "secret"` per line.
"""

import re
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from .problems import Problem
from .secret import Secret, check_form
from .section import Section, live
from .types import InheritedCount, InheritedSeconds, PoolMode

MAX_USER_NAME = 127
MAX_SECRET = 65_530
"""Limits of PgBouncer, in bytes."""

Credentials = dict[str, tuple[Secret, ...]]
"""User name to secrets. Names that are not UTF-8 are kept by surrogate escapes."""

_LINE = re.compile(rb'[ \t\v\f]*"((?:[^"\0]|"")*+)"[^"]*"((?:[^"]|"")*+)"')
# Possessive: a doubled quote is always one quote of the name, never its end and the begin of the secret.


def check_user_name(name: str) -> str:
    if not 0 < len(name.encode("utf-8", "surrogateescape")) <= MAX_USER_NAME:
        raise ValueError(f"a user name has 1 to {MAX_USER_NAME} bytes")
    return name


UserName = Annotated[str, AfterValidator(check_user_name)]


class UserSettings(Section):
    """What is different for one user."""

    aliases: ClassVar[dict[str, str]] = {"reserve_pool": "reserve_pool_size"}

    pool_size: InheritedCount = live(None, "servers per pool; 0 is unlimited")
    reserve_pool_size: InheritedCount = live(None, "further servers for a pool whose clients wait too long")
    pool_mode: PoolMode | None = live(None, "when a server goes back to its pool")
    max_user_connections: InheritedCount = live(None, "servers over all databases; 0: the global setting")
    max_user_client_connections: InheritedCount = live(None, "clients; 0: the global setting")
    query_timeout: InheritedSeconds = live(None, "end clients whose query runs longer; 0: the global setting")
    query_wait_timeout: InheritedSeconds = live(None, "end clients that get no server in time; 0 is never")
    idle_transaction_timeout: InheritedSeconds = live(
        None, "end clients idle in a transaction; 0: the global setting"
    )
    transaction_timeout: InheritedSeconds = live(
        None, "end clients whose transaction lasts longer; 0: the global setting"
    )
    client_idle_timeout: InheritedSeconds = live(
        None, "end clients that ask for nothing; 0: the global setting"
    )


def parse_auth_file(data: bytes, file: str) -> tuple[Credentials, list[Problem]]:
    """Read a userlist: `"user" "secret"`, `""` for a quote, the rest of the line is ignored.

    Blank lines and lines that begin with `;` or `#` are skipped. Several lines for one user give it several
    secrets, tried in that order; an empty secret makes the user known without a way to log in by password.
    A line that cannot be read is a problem and is left out.
    """
    found: dict[str, list[Secret]] = {}
    problems: list[Problem] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        stripped = line.strip()
        if not stripped or stripped[:1] in (b";", b"#"):
            continue
        try:
            name, secret = _parse_line(line)
        except ValueError as error:
            problems.append(Problem(file, number, "auth_file", str(error)))
            continue
        secrets = found.setdefault(name, [])
        if secret is not None and secret not in secrets:
            secrets.append(secret)
    return {name: tuple(secrets) for name, secrets in found.items()}, problems


def _parse_line(line: bytes) -> tuple[str, Secret | None]:
    match = _LINE.match(line)
    if match is None:
        raise ValueError('expected "user" "secret"')
    name, secret = (field.replace(b'""', b'"') for field in match.groups())
    if len(secret) > MAX_SECRET:
        raise ValueError(f"the secret has more than {MAX_SECRET} bytes")
    name_text = check_user_name(name.decode("utf-8", "surrogateescape"))
    return name_text, check_form(Secret(secret)) if secret else None

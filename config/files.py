"""Find and read the files that the settings name."""

import os
from typing import TYPE_CHECKING

from .problems import Problem
from .users import Credentials, parse_auth_file

if TYPE_CHECKING:
    from .settings import Settings


def find_beside(path: str, including: str | None) -> str:
    """Resolve a path named inside the file `including`.

    As PgBouncer does it is taken relative to the working directory; where nothing is there, relative to the
    file that names it.
    """
    if including is None or os.path.exists(path):
        return path
    beside = os.path.join(os.path.dirname(including), path)
    return beside if os.path.exists(beside) else path


def read_auth_file(settings: "Settings") -> tuple[Credentials, list[Problem]]:
    """Return the users and secrets of `settings.auth_file` (none when it is unset), and what is wrong in it.

    PgBouncer goes on without a file it cannot read; here that is a problem, because nobody could log in.
    """
    if settings.auth_file is None:
        return {}, []
    path = find_beside(settings.auth_file, settings.conffile)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        return {}, [Problem(path, 0, "auth_file", f"cannot be read: {error.strerror}")]
    return parse_auth_file(data, path)

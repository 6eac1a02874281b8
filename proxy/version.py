"""What we call ourselves: our version, and that of the PgBouncer whose place we take.

Monitoring tools parse the first two words of `SHOW VERSION`, so these stay PgBouncer's.
"""

from typing import Final

VERSION: Final = "0.1.0"
PGBOUNCER_VERSION: Final = "1.25.2"


def version_text(*, compiled: bool = False) -> str:
    """The text of SHOW VERSION and of `--version`, such as `PgBouncer 1.25.2 (Howdah 0.1.0)`.

    `compiled` says that the hot files run as compiled modules.
    """
    return f"PgBouncer {PGBOUNCER_VERSION} (Howdah {VERSION}{', compiled' if compiled else ''})"

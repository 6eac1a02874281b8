"""What we call ourselves: our version, and that of the PgBouncer whose place we take.

Monitoring tools parse the first two words of `SHOW VERSION`, so these stay PgBouncer's.
"""

import functools
import importlib.util
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Final

VERSION: Final = "0.1.0"
PGBOUNCER_VERSION: Final = "1.25.2"


def version_text(*, compiled: bool = False, pump: bool = False) -> str:
    """The text of SHOW VERSION and of `--version`, such as `PgBouncer 1.25.2 (Howdah 0.1.0)`.

    `compiled` says that the hot files run as compiled modules, `pump` that connections run on the pump.
    """
    parts = [f"Howdah {VERSION}"] + ["compiled"] * compiled + ["pump"] * pump
    return f"PgBouncer {PGBOUNCER_VERSION} ({', '.join(parts)})"


@functools.cache
def is_pump_built() -> bool:
    """Whether there is a pump for uvloop to host."""
    return importlib.util.find_spec("proxy.pump") is not None


def is_compiled() -> bool:
    """Whether the hot files run as compiled modules."""
    spec = importlib.util.find_spec("protocol.framer")
    return spec is not None and str(spec.origin).endswith(tuple(EXTENSION_SUFFIXES))

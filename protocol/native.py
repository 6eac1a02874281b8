"""Names that mean something to the compiler of the hot files (see setup.py) and nothing to the interpreter.

Law: not compiled itself, and nothing is needed for it where the daemon runs.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mypy_extensions import i64 as i64
    from mypy_extensions import mypyc_attr as mypyc_attr
else:
    T = TypeVar("T")

    i64 = int
    """A number in a register. Only in annotations: calling it would cost the interpreter a call."""

    def mypyc_attr(**_: object) -> Callable[[T], T]:
        """What the compiler shall do with a class."""
        return lambda decorated: decorated

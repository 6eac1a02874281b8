"""What is suspicious about settings that are valid one by one."""

from collections.abc import Mapping

from .problems import Problem
from .settings import Settings


def hints(settings: Settings, places: Mapping[tuple[str, ...], Problem], file: str | None) -> list[Problem]:
    return []

"""Read TOML, and find out on which line each key stands (which `tomllib` does not tell)."""

import re
import tomllib
from collections.abc import Mapping

from .problems import Problem

Path = tuple[str, ...]
_AT_LINE = re.compile(r"\s*\(at line (\d+), column \d+\)|\s*\(at end of document\)")


def read_toml(path: str) -> tuple[dict[str, object], dict[Path, int], list[Problem]]:
    """Return the tables, the line of each key by its path, and what is wrong with the file as a whole."""
    try:
        with open(path, "rb") as file:
            text = file.read().removeprefix(b"\xef\xbb\xbf").decode()
        return tomllib.loads(text), find_lines(text), []
    except OSError as error:
        return {}, {}, [Problem(path, 0, "", f"cannot be read: {error.strerror}")]
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return {}, {}, [Problem(path, line, "", "is not UTF-8")]
    except tomllib.TOMLDecodeError as error:
        where = _AT_LINE.search(str(error))
        line = int(where[1]) if where and where[1] else text.count("\n") + 1
        message = _AT_LINE.sub("", str(error))
        return {}, {}, [Problem(path, line, "", f"is not TOML: {message}")]


def find_lines(text: str) -> dict[Path, int]:
    """Map key paths to line numbers, by looking at each line on its own.

    Good enough to point at: a line inside a multi-line string may be taken for a key, but a path that is
    asked for exists, and the first line that sets it wins.
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            table = _path_of(stripped) or table
            lines.setdefault(table, number)
        elif "=" in stripped and not stripped.startswith("#"):
            key = _path_of(stripped.split("=", 1)[0] + " = 0")
            if key:
                lines.setdefault(table + key, number)
    return lines


def _path_of(line: str) -> Path:
    """Return the path that one line of TOML creates, () when the line does not stand on its own."""
    try:
        found: object = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while isinstance(found, Mapping) and found:
        key, found = next(iter(found.items()))
        path.append(str(key))
    return tuple(path)

"""Load the settings: merge the layers, check everything, and say all that is wrong at once."""

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from . import hints
from .files import find_beside, read_auth_file, read_rule_files
from .keys import Keys
from .messages import message_of
from .problems import ConfigError, Problem, Severity, find_place
from .settings import Settings
from .source import ENTRY_SECTIONS, EnvironmentLayer, IniLayer, Layer, Merged, OverrideLayer, TomlLayer
from .toml import Path
from .types import parse_flag


@dataclass(frozen=True, slots=True)
class Report:
    """What reading gave: the settings as far as they are valid, and everything worth saying about them.

    Wrong values are left out of `settings` (their defaults stand in), so use it only if `errors` is empty.
    """

    settings: Settings
    problems: list[Problem]

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity is Severity.ERROR]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity is Severity.WARNING]


def load(
    path: str | None,
    *,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of the file (TOML by its suffix, else ini), the environment and the overrides.

    `path` None means no file. `environ` defaults to the process's. Raises ConfigError with every error.
    """
    report = read(path, overrides=overrides, environ=environ)
    if report.errors:
        raise ConfigError(report.errors)
    return report.settings


def check(path: str, *, environ: Mapping[str, str] | None = None) -> list[Problem]:
    """Return all errors and warnings about the file, in its order."""
    return read(path, environ=environ).problems


def read(
    path: str | None,
    *,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Report:
    """Like `load`, but return warnings and errors beside the settings instead of raising."""
    environ = os.environ if environ is None else environ
    layers = [OverrideLayer(overrides or {}), EnvironmentLayer(environ)]
    if path is not None:
        layers.append(_file_layer(path, environ, layers))
    places: dict[Path, Problem] = {}
    for layer in reversed(layers):
        places.update(layer.places)
    values = dict(Merged(layers=layers).model_extra or {})  # type: ignore[call-arg]
    if path is not None:
        values.setdefault("conffile", path)
    problems = [problem for layer in layers for problem in layer.problems]
    settings, invalid = validate(values, places, path)
    credentials, unreadable = read_auth_file(settings)
    rules, mappings, unclear = read_rule_files(settings)
    settings = settings.model_copy(update={"credentials": credentials, "hba": rules, "ident": mappings})
    problems += invalid + unreadable + unclear + hints.hints(settings, places, path)
    return Report(
        settings, sorted(problems, key=lambda problem: (problem.file != path, problem.file, problem.line))
    )


def _file_layer(path: str, environ: Mapping[str, str], stronger: list[Layer]) -> Layer:
    layer = TomlLayer(path) if path.endswith(".toml") else IniLayer(path)
    said = [source.values["expand_env"] for source in [*stronger, layer] if "expand_env" in source.values]
    if isinstance(layer, TomlLayer) or (said and _is_true(said[0])):
        layer.expand(environ, lambda name: _read_secret(find_beside(name, path)))
    return layer


def _is_true(value: object) -> bool:
    try:
        return parse_flag(value) is True
    except ValueError:
        return False


def _read_secret(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read().removesuffix(b"\n").removesuffix(b"\r")


def validate(
    values: dict[str, Any], places: Mapping[Path, Problem], file: str | None
) -> tuple[Settings, list[Problem]]:
    """Return settings from the valid ones among the values, and a problem for each other."""
    values = copy.deepcopy(values)
    problems: list[Problem] = []
    while True:
        try:
            return Settings.model_validate(values), problems
        except ValidationError as error:
            found = [(tuple(map(str, item["loc"])), item) for item in error.errors()]
            problems += [_located(item, path, places, file) for path, item in found]
            wrong = {_existing(values, path) for path, _ in found}
            for path in sorted(wrong, key=len, reverse=True):
                _table_of(values, path).pop(path[-1])


def _located(item: ErrorDetails, path: Path, places: Mapping[Path, Problem], file: str | None) -> Problem:
    place = find_place(path, places) or Problem(file or "settings", 0, path[0], "")
    return Problem(place.file, place.line, place.key, message_of(item, _model_of(path)))


def _model_of(path: Path) -> type[BaseModel]:
    return ENTRY_SECTIONS[path[0]] if len(path) > 1 and path[0] in ENTRY_SECTIONS else Keys


def _existing(values: dict[str, Any], path: Path) -> Path:
    """Return the longest beginning of the path that leads to a value."""
    table: Any = values
    for depth, name in enumerate(path):
        if not isinstance(table, dict) or name not in table:
            return path[:depth]
        table = table[name]
    return path


def _table_of(values: dict[str, Any], path: Path) -> dict[str, Any]:
    for name in path[:-1]:
        values = values[name]
    return values

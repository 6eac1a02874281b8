"""Where settings come from: layers of raw values, each remembering where every value was written.

The layers are sources of pydantic-settings, which merges them: overrides beat the environment, which beats
the file. What the merged values mean is not judged here, but by `Settings`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .databases import DatabaseSettings, PeerSettings, parse_connection_string
from .ini import Entry, IniFile
from .keys import Keys
from .messages import spellings
from .problems import Problem, Severity, did_you_mean
from .secret import Secret, expand, to_secret
from .section import Section
from .toml import Path, read_toml
from .users import UserSettings

MAIN_SECTIONS = ("pgbouncer", "howdah")
ENTRY_SECTIONS: dict[str, type[Section]] = {
    "databases": DatabaseSettings,
    "users": UserSettings,
    "peers": PeerSettings,
}
PREFIX = "HOWDAH__"
_SECRETS = ("password", "mock_authentication_nonce")
FILE_PREFIX = "file:"


class Merged(BaseSettings):
    """What the layers say together; `Merged(layers=(strongest, ..., weakest)).model_extra` has it."""

    model_config = SettingsConfigDict(extra="allow")

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: type[BaseSettings], init_settings: Any, **_: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return tuple(init_settings.init_kwargs["layers"])


class Layer(PydanticBaseSettingsSource):
    """Raw values of one source: keys of the main section, and "databases", "users", "peers" as tables.

    `places` has, for each path, a `Problem` without a message: where it was written, under which name.
    """

    def __init__(self) -> None:
        super().__init__(Merged)
        self.values: dict[str, Any] = {}
        self.places: dict[Path, Problem] = {}
        self.problems: list[Problem] = []

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        # From here on libraries handle the values, and they log: no password leaves as plain text.
        for entry in self.values.get("databases", {}).values():
            if isinstance(entry, dict) and isinstance(entry.get("password"), str) and entry["password"]:
                entry["password"] = to_secret(entry["password"])
        return self.values

    def put(self, path: Path, value: object, place: Problem) -> None:
        """Note a value, under the real name of its key."""
        model = ENTRY_SECTIONS[path[0]] if len(path) > 1 else Keys
        path = (*path[:-1], _real_name(model, path[-1]))
        table = self.values
        for name in path[:-1]:
            if not isinstance(table.get(name), dict):
                table[name] = {}
            table = table[name]
        table[path[-1]] = value
        self.places[path] = place

    def put_key(self, key: str, value: object, place: Problem) -> None:
        """Note a value of the main section, if there is such a key."""
        if key in Keys.model_fields or key in Keys.aliases:
            self.put((key,), value, place)
        else:
            self.problem(place, f"unknown setting{did_you_mean(key, spellings(Keys))}")

    def put_entry(self, section: str, name: str, value: object, place: Problem) -> None:
        """Note a whole entry of [databases], [users] or [peers]: a table or a connection string."""
        if (section, name) in self.places:
            self.forget((section, name))
        self.places[section, name] = place
        self.places.setdefault((section,), place)
        table = self.values.setdefault(section, {})
        if isinstance(value, str):
            table[name] = {}
            self._put_connection_string(section, name, value, place)
        elif isinstance(value, Mapping):
            table[name] = {}
            for key, item in value.items():
                self.put((section, name, key), item, _at(place, key))
        else:
            table[name] = value

    def _put_connection_string(self, section: str, name: str, text: str, place: Problem) -> None:
        try:
            for key, value in parse_connection_string(text):
                self.put((section, name, key), value, _at(place, key))
        except ValueError as error:
            self.problem(place, str(error))

    def forget(self, path: Path) -> None:
        self.places = {at: place for at, place in self.places.items() if at[: len(path)] != path}

    def problem(self, place: Problem, message: str, severity: Severity = Severity.ERROR) -> None:
        self.problems.append(Problem(place.file, place.line, place.key, message, severity))

    def expand(self, environ: Mapping[str, str], read_file: Callable[[str], bytes]) -> None:
        """Replace `${NAME}` in all texts, and a secret `file:PATH` by what is in that file."""
        for path, place in self.places.items():
            table: Any = self.values
            for name in path[:-1]:
                table = table[name]
            try:
                value = _expanded(table[path[-1]], environ)
                if path[-1] in _SECRETS and isinstance(value, str) and value.startswith(FILE_PREFIX):
                    value = Secret(read_file(value.removeprefix(FILE_PREFIX)))
                table[path[-1]] = value
            except OSError as error:
                self.problem(place, f"{error.filename} cannot be read: {error.strerror}")
            except ValueError as error:
                self.problem(place, str(error))


class OverrideLayer(Layer):
    """Values handed over by the caller."""

    def __init__(self, overrides: Mapping[str, object]) -> None:
        super().__init__()
        for key, value in overrides.items():
            place = Problem("override", 0, key, "")
            if key in ENTRY_SECTIONS and isinstance(value, Mapping):
                for name, entry in value.items():
                    self.put_entry(key, name, entry, _at(place, f"{key}.{name}"))
            elif key in ENTRY_SECTIONS:
                self.problem(place, "must be a table of settings")
            else:
                self.put_key(key, value, place)


class IniLayer(Layer):
    """An ini file and its includes."""

    def __init__(self, path: str) -> None:
        super().__init__()
        ini = IniFile()
        ini.read(path)
        self.problems = ini.problems
        mains = 0
        for entry in ini.entries:
            place = Problem(entry.file, entry.line, entry.name or f"[{entry.section}]", "")
            if entry.name:
                self._add(entry, entry.name, place)
            elif entry.section in MAIN_SECTIONS:
                mains += 1
                if mains > 1:
                    self.problem(
                        place,
                        "stands here again; PgBouncer would forget what the first one said, here both count",
                        Severity.WARNING,
                    )
            elif entry.section not in ENTRY_SECTIONS:
                self.problem(place, f"unknown section{did_you_mean(entry.section, _sections())}")

    def _add(self, entry: Entry, name: str, place: Problem) -> None:
        path: Path = (entry.section, name) if entry.section in ENTRY_SECTIONS else (name,)
        before = self.places.get(path)
        if before is not None:
            self.problem(place, f"is set again, {before.file}:{before.line} counts no more", Severity.WARNING)
        if entry.section in MAIN_SECTIONS:
            self.put_key(name, entry.value, place)
        elif entry.section in ENTRY_SECTIONS:
            self.put_entry(entry.section, name, entry.value, place)


class TomlLayer(Layer):
    """A TOML file."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._file = path
        tables, self._lines, self.problems = read_toml(path)
        if not self.problems:
            self.values["unknown_startup_parameters"] = "apply"
        for section, table in tables.items():
            place = self._place((section,), section)
            if section not in _sections():
                where = did_you_mean(section, _sections())
                if section in Keys.model_fields:
                    where = ", write it below [howdah]"
                self.problem(place, f"unknown section{where}")
            elif not isinstance(table, dict):
                self.problem(place, "must be a table")
            elif section in MAIN_SECTIONS:
                self._put_main(section, table)
            else:
                for name, entry in table.items():
                    self._put_toml_entry(section, name, entry)

    def _put_main(self, section: str, table: dict[str, object]) -> None:
        for key, value in table.items():
            place = self._place((section, key), key)
            if (key,) in self.places:
                self.problem(place, "is set in [howdah] and in [pgbouncer]")
            if key == "expand_env":
                self.problem(place, "is for ini files; TOML always expands")
            self.put_key(key, value, place)

    def _put_toml_entry(self, section: str, name: str, entry: object) -> None:
        self.put_entry(section, name, entry, self._place((section, name), f"{section}.{name}"))
        if isinstance(entry, dict):
            for key in entry:
                real = _real_name(ENTRY_SECTIONS[section], key)
                self.places[section, name, real] = self._place((section, name, key), key)

    def _place(self, path: Path, key: str) -> Problem:
        while path and path not in self._lines:
            path = path[:-1]
        return Problem(self._file, self._lines.get(path, 0), key, "")


class EnvironmentLayer(Layer):
    """Variables that begin with HOWDAH__: HOWDAH__POOL_MODE, HOWDAH__DATABASES__APP__HOST and so on.

    The name of a database or user is lower-cased when it is all capitals, else kept. A whole entry is a
    connection string in HOWDAH__DATABASES__APP, a whole section a JSON object in HOWDAH__DATABASES.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__()
        for variable in sorted(name for name in environ if name.startswith(PREFIX)):
            parts = variable.removeprefix(PREFIX).split("__")
            place = Problem("environment", 0, variable, "")
            section = parts[0].lower()
            if section not in ENTRY_SECTIONS:
                self.put_key("__".join(parts).lower(), environ[variable], place)
            elif len(parts) == 1:
                self._put_section(section, environ[variable], place)
            else:
                self._put_part(section, parts[1:], environ[variable], place)

    def _put_section(self, section: str, text: str, place: Problem) -> None:
        try:
            table = json.loads(text)
        except ValueError:
            table = None
        if not isinstance(table, dict):
            self.problem(place, 'must be a JSON object such as {"app": {"host": "db1"}}')
            return
        for name, entry in table.items():
            self.put_entry(section, name, entry, place)

    def _put_part(self, section: str, parts: list[str], value: str, place: Problem) -> None:
        model = ENTRY_SECTIONS[section]
        key = parts[-1].lower()
        if len(parts) > 1 and (key in model.model_fields or key in model.aliases):
            self.put((section, _entry_name(parts[:-1]), key), value, place)
        elif len(parts) == 1:
            self.put_entry(section, _entry_name(parts), value, place)
        else:
            self.problem(place, f"unknown setting{did_you_mean(key, spellings(model))}")


def _entry_name(parts: list[str]) -> str:
    name = "__".join(parts)
    return name.lower() if name.isupper() else name


def _expanded(value: object, environ: Mapping[str, str]) -> object:
    if isinstance(value, list):
        return [_expanded(item, environ) for item in value]
    return expand(value, environ) if isinstance(value, str) else value


def _real_name(model: type[Section], key: str) -> str:
    return model.aliases.get(key, key)


def _sections() -> tuple[str, ...]:
    return (*MAIN_SECTIONS, *ENTRY_SECTIONS)


def _at(place: Problem, key: str) -> Problem:
    return Problem(place.file, place.line, key if place.file != "environment" else place.key, "")

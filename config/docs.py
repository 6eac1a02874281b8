"""The README's tables of settings and the JSON schema, both made from the models.

python -m config.docs --write README.md     replace the tables between the two marks
python -m config.docs --check README.md     exit 1 when they are out of date
python -m config.docs --schema              print the schema of the TOML file
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from .databases import DatabaseSettings, PeerSettings
from .keys import Keys
from .section import ANYTHING, Section, extra_of, kind_of, needs_restart, show
from .users import UserSettings

BEGIN = "<!-- settings:begin -->"
END = "<!-- settings:end -->"
_TABLES: tuple[tuple[str, type[Section]], ...] = (
    ("`[pgbouncer]` in an ini, `[howdah]` in TOML", Keys),
    ("One entry of `[databases]`", DatabaseSettings),
    ("One entry of `[users]`", UserSettings),
)


def settings_table() -> str:
    """Return Markdown: one table per section, keys in alphabetical order."""
    parts: list[str] = []
    for title, model in _TABLES:
        parts += [f"**{title}**", "", *_table(model), ""]
    return "\n".join(parts)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a TOML configuration file, for editors and charts."""
    entries: dict[str, type[Section]] = {
        "databases": DatabaseSettings,
        "users": UserSettings,
        "peers": PeerSettings,
    }
    main = Keys.model_json_schema()
    properties: dict[str, Any] = {"howdah": {"$ref": "#/$defs/Keys"}, "pgbouncer": {"$ref": "#/$defs/Keys"}}
    definitions: dict[str, Any] = {"Keys": main}
    definitions |= main.pop("$defs", {})
    for section, model in entries.items():
        schema = model.model_json_schema()
        definitions |= schema.pop("$defs", {})
        definitions[model.__name__] = schema
        either = [{"$ref": f"#/$defs/{model.__name__}"}, {"type": "string"}]
        properties[section] = {"type": "object", "additionalProperties": {"anyOf": either}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Howdah",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "$defs": definitions,
    }


def replaced(text: str) -> str:
    """Return the text with fresh tables between the marks; ValueError when a mark is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{BEGIN} and {END} are needed around the tables")
    return f"{before}{BEGIN}\n{settings_table()}{END}{after}"


def _table(model: type[Section]) -> list[str]:
    heads = ["key", "type", "default", "change by", "meaning"]
    rows = [_row(key, field) for key, field in sorted(model.model_fields.items())]
    return [_line(heads), _line(["---"] * len(heads)), *map(_line, rows)]


def _row(key: str, field: FieldInfo) -> list[str]:
    return [
        f"`{key}`",
        _escape(kind_of(field).name),
        _default(field),
        "restart" if needs_restart(field) else "reload",
        _escape((field.description or "") + _refusal(field)),
    ]


def _default(field: FieldInfo) -> str:
    text = show(field, field.default)
    return "unset" if text is None else f"`{_escape(text)}`" if text else "empty"


def _refusal(field: FieldInfo) -> str:
    refused = extra_of(field).get("not_supported")
    if refused is None:
        return ""
    what = "" if refused == ANYTHING else f": {', '.join(refused)}"
    return f" (not supported yet{what})"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m config.docs", description="documentation of the settings"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", metavar="FILE", type=Path, help="replace the tables in the file")
    what.add_argument("--check", metavar="FILE", type=Path, help="exit 1 when the tables are out of date")
    what.add_argument("--schema", action="store_true", help="print the JSON schema")
    chosen = parser.parse_args(arguments)
    if chosen.write:
        chosen.write.write_text(replaced(chosen.write.read_text()))
    elif chosen.check:
        text = chosen.check.read_text()
        if text != replaced(text):
            print(f"{chosen.check}: the tables of settings are out of date", file=sys.stderr)
            return 1
    else:
        print(json.dumps(json_schema(), indent=2) if chosen.schema else settings_table())
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The base of every settings model, and how a field says what it is.

A field is declared with `live(...)` (SET and RELOAD change it) or `fixed(...)` (only a restart does). What
the present build cannot honour stands beside the field as `refused`: the values that stop the start, or
ANYTHING for every value but the default. Supporting more means deleting such an argument, nothing else.
"""

from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from .types import Choice, Kind

ANYTHING: Final = "anything"
"""As `refused`: any value but the default is refused."""

Refused = tuple[str, ...] | Literal["anything"]
T = TypeVar("T")


def live(default: T, description: str, *, refused: Refused = ()) -> T:
    """Declare a setting that can change while running."""
    return _setting(default, description, False, refused)


def fixed(default: T, description: str, *, refused: Refused = ()) -> T:
    """Declare a setting that only a restart can change."""
    return _setting(default, description, True, refused)


def _setting(default: T, description: str, needs_restart: bool, refused: Refused) -> T:
    extra: dict[str, Any] = {"needs_restart": needs_restart}
    if refused:
        extra["not_supported"] = refused if isinstance(refused, str) else list(refused)
    field: T = Field(default, description=description, json_schema_extra=extra)
    return field


class Section(BaseModel):
    """A frozen table of settings that knows all its keys and refuses what this build cannot do."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True
    )

    aliases: ClassVar[dict[str, str]] = {}
    """Spellings PgBouncer accepts beside the real name."""

    @field_validator("*", mode="after")
    @classmethod
    def _refuse_unsupported(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields[str(info.field_name)]
        refused = extra_of(field).get("not_supported", ())
        if refused == ANYTHING:
            if value != field.default:
                raise ValueError("is not supported by this version, leave it unset")
        elif value in refused:
            raise ValueError(f'"{value}" is not supported by this version')
        return value


def extra_of(field: FieldInfo) -> dict[str, Any]:
    """Return what `live` or `fixed` noted about the field."""
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def needs_restart(field: FieldInfo) -> bool:
    return bool(extra_of(field).get("needs_restart"))


def kind_of(field: FieldInfo) -> Kind:
    """Return how the README names the type of the field's values and how they are shown."""
    return _kind(field.annotation, field.metadata) or Kind("text")


def show(field: FieldInfo, value: object) -> str | None:
    """Return the value as SHOW CONFIG prints it; None (SQL's NULL) when it is unset."""
    return None if value is None else kind_of(field).show(value)


def _kind(annotation: object, metadata: Iterable[object] = ()) -> Kind | None:
    for item in metadata:
        if isinstance(item, Kind):
            return item
    if isinstance(annotation, type) and issubclass(annotation, Choice):
        return Kind(" | ".join(annotation))
    if get_origin(annotation) is Annotated:
        inner, *rest = get_args(annotation)
        return _kind(inner, rest)
    if get_origin(annotation) in (Union, UnionType):
        return next(filter(None, map(_kind, get_args(annotation))), None)
    return None

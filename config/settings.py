"""`Settings`: all that the daemon can be told, in one frozen object.

Built directly it reads neither files nor environment; `load` reads both. Nothing changes in place: SET and
RELOAD make a new object.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import Field, PlainSerializer, PlainValidator, SkipValidation, ValidationError

from . import effective
from .databases import FALLBACK, RESERVED, DatabaseName, DatabaseSettings, PeerSettings
from .effective import PoolSettings
from .files import read_auth_file, read_rule_files
from .hba import Rule
from .ident import Mapping as UserMapping
from .keys import Keys
from .messages import message_of
from .problems import ConfigError, NotChangeable, Problem, Severity, UnknownSetting
from .secret import Secret, to_secret
from .section import ANYTHING, live, needs_restart, show
from .users import Credentials, UserName, UserSettings


def to_credentials(value: object) -> Credentials:
    """Check `{user: secret or secrets}`; secrets may be text, bytes or `Secret`."""
    if not isinstance(value, Mapping):
        raise ValueError("must be a table of user names and secrets")
    return {str(user): tuple(_secrets(secrets)) for user, secrets in value.items()}


def _secrets(value: object) -> Iterable[Secret]:
    items = value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]
    for item in items:
        secret = to_secret(item)
        if isinstance(secret, Secret):
            yield secret


class Settings(Keys):
    """The keys of the main section, and the entries of the other sections by name."""

    databases: dict[DatabaseName, DatabaseSettings] = live({}, "what clients may ask for, by name")
    users: dict[UserName, UserSettings] = live({}, "what is different for some users")
    peers: dict[str, PeerSettings] = live({}, "other poolers of a group", refused=ANYTHING)
    credentials: Annotated[
        Credentials, PlainValidator(to_credentials, dict[str, list[str]]), PlainSerializer(sorted)
    ] = Field(default={}, exclude=True, repr=False, description="the content of `auth_file`")
    hba: Annotated[tuple[Rule, ...], SkipValidation] = Field(
        default=(), exclude=True, repr=False, description="the content of `auth_hba_file`"
    )
    ident: Annotated[tuple[UserMapping, ...], SkipValidation] = Field(
        default=(), exclude=True, repr=False, description="the content of `auth_ident_file`"
    )

    def database(self, name: str) -> DatabaseSettings | None:
        """Return the entry for the name, else the `*` entry, else None; the console's names have none."""
        return None if name in RESERVED else self.databases.get(name) or self.databases.get(FALLBACK)

    def for_pool(self, database: str, user: str) -> PoolSettings:
        """Resolve everything for clients of `user` on `database`; see `effective.for_pool`."""
        return effective.for_pool(self, database, user)

    def with_value(self, key: str, text: str) -> "Settings":
        """Return a copy in which one key has another value, read as in the ini file (the console's SET).

        Raises UnknownSetting, NotChangeable for what needs a restart, or ConfigError when the value is wrong
        or cannot be honoured. A new file of users or rules is read at once.
        """
        name = Keys.aliases.get(key, key)
        field = Keys.model_fields.get(name)
        if field is None:
            raise UnknownSetting(key, Keys.model_fields)
        if needs_restart(field):
            raise NotChangeable(key)
        values: dict[str, object] = {**dict(self), name: text}
        try:
            changed = Settings.model_validate(values)
        except ValidationError as error:
            raise ConfigError(
                [Problem("SET", 0, key, message_of(item, Keys)) for item in error.errors()]
            ) from None
        if name in ("auth_hba_file", "auth_ident_file"):
            return changed.with_rules()
        return changed.with_auth_file() if name == "auth_file" else changed

    def with_auth_file(self) -> "Settings":
        """Return a copy whose credentials were read from `auth_file` just now.

        Raises ConfigError when the file cannot be read or has lines that make no sense.
        """
        credentials, problems = read_auth_file(self)
        if problems:
            raise ConfigError(problems)
        return self.model_copy(update={"credentials": credentials})

    def with_rules(self) -> "Settings":
        """Return a copy whose rules and maps were read from their files just now. Raises ConfigError."""
        rules, mappings, problems = read_rule_files(self)
        if errors := [problem for problem in problems if problem.severity is Severity.ERROR]:
            raise ConfigError(errors)
        return self.model_copy(update={"hba": rules, "ident": mappings})

    def rows(self) -> list[tuple[str, str | None, str | None, str]]:
        """Return (key, value, default, "yes" or "no") for SHOW CONFIG, in alphabetical order.

        Unset values are None. No key of the main section holds a secret.
        """
        return [
            (
                key,
                show(field, getattr(self, key)),
                show(field, field.default),
                "no" if needs_restart(field) else "yes",
            )
            for key, field in sorted(Keys.model_fields.items())
        ]

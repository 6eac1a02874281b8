"""What differs between two settings, and what a reload has to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .keys import Keys
from .section import needs_restart
from .settings import Settings

DESTINATION = frozenset(
    {"dbname", "host", "port", "user", "connect_query", "client_encoding", "datestyle", "timezone"}
    | {"application_name"}
)
"""Keys of a database that an open server connection cannot follow: it has to be replaced."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference of two settings; all names in alphabetical order.

    `keys` take effect at once, `restart_keys` only after a restart; no key is in both. `databases_moved` are
    those of `databases_changed` whose open server connections lead to the wrong place or began the wrong
    way. `credentials_changed` are users whose secrets in the auth file came, went or differ.
    """

    keys: tuple[str, ...] = ()
    restart_keys: tuple[str, ...] = ()
    databases_added: tuple[str, ...] = ()
    databases_removed: tuple[str, ...] = ()
    databases_changed: tuple[str, ...] = ()
    databases_moved: tuple[str, ...] = ()
    users_changed: tuple[str, ...] = ()
    credentials_changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in Changes.__slots__)


def changes(old: Settings, new: Settings) -> Changes:
    """Compare two settings."""
    differing = [key for key in sorted(Keys.model_fields) if getattr(old, key) != getattr(new, key)]
    fixed = [key for key in differing if needs_restart(Keys.model_fields[key])]
    before, after = old.databases, new.databases
    changed = [name for name in _differing(before, after) if name in before and name in after]
    return Changes(
        keys=tuple(key for key in differing if key not in fixed),
        restart_keys=tuple(fixed),
        databases_added=tuple(sorted(after.keys() - before.keys())),
        databases_removed=tuple(sorted(before.keys() - after.keys())),
        databases_changed=tuple(changed),
        databases_moved=tuple(
            name
            for name in changed
            if any(getattr(before[name], key) != getattr(after[name], key) for key in DESTINATION)
        ),
        users_changed=_differing(old.users, new.users),
        credentials_changed=_differing(old.credentials, new.credentials),
    )


def applicable(old: Settings, new: Settings) -> Settings:
    """Return `new` with the old values of everything that only a restart can change."""
    keep = {key: getattr(old, key) for key, field in Keys.model_fields.items() if needs_restart(field)}
    return new.model_copy(update=keep)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)))

"""What differs between two settings, and what of it has to wait for a restart."""

from dataclasses import dataclass

from .keys import Keys
from .section import needs_restart
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Changes:
    """The keys of the main section in which two settings differ, in alphabetical order.

    `keys` take effect at once, `restart_keys` only after a restart; no key is in both.
    """

    keys: tuple[str, ...] = ()
    restart_keys: tuple[str, ...] = ()


def changes(old: Settings, new: Settings) -> Changes:
    """Compare two settings."""
    differing = [key for key in sorted(Keys.model_fields) if getattr(old, key) != getattr(new, key)]
    fixed = [key for key in differing if needs_restart(Keys.model_fields[key])]
    return Changes(tuple(key for key in differing if key not in fixed), tuple(fixed))


def applicable(old: Settings, new: Settings) -> Settings:
    """Return `new` with the old values of everything that only a restart can change."""
    keep = {key: getattr(old, key) for key, field in Keys.model_fields.items() if needs_restart(field)}
    return new.model_copy(update=keep)

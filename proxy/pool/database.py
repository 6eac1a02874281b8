"""The run-time side of a database and of a user: what orders set, and what is counted."""

from collections.abc import Callable

from config.databases import DatabaseSettings


class Database:
    """A database clients can name. `settings` is replaced as a whole by a reload.

    `paused`: no checkout. `disabled`: no login. `dead`: removed from the configuration, closed when its
    clients left. `automatic`: made by the `*` entry, dropped after autodb_idle_timeout without clients and
    servers. `ddl` counts the changes of its schema that were seen, `altered` is told of those. `renewed_at`
    is when (ns) all servers were told to close: one that comes from another worker may be older.
    """

    __slots__ = (
        "altered",
        "automatic",
        "clients",
        "ddl",
        "dead",
        "disabled",
        "idle_since",
        "name",
        "paused",
        "renewed_at",
        "settings",
    )

    def __init__(self, name: str, settings: DatabaseSettings, *, automatic: bool, now: int) -> None:
        self.name = name
        self.settings = settings
        self.automatic = automatic
        self.paused = False
        self.disabled = False
        self.dead = False
        self.clients = 0
        self.ddl = 0
        self.renewed_at = 0
        self.idle_since = now
        self.altered: Callable[[str], None] = _nobody

    def alter(self) -> None:
        """The schema has changed, for all who prepare something from now on."""
        self.ddl += 1
        self.altered(self.name)


def _nobody(name: str) -> None:
    """There is nobody else."""


class User:
    """A user clients log in as, or one that is forced on a database."""

    __slots__ = ("clients", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.clients = 0

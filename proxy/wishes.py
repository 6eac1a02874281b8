"""What a client asks for in its startup packet: who it is, where it wants to go, which settings it wants.

PgBouncer's rules and texts. Nothing here is believed before the client has logged in.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from config.databases import MAX_DATABASE_NAME
from config.pattern import LONGEST_NAME
from config.settings import Settings
from config.types import UnknownParameters
from protocol import sqlstate
from protocol.startup import Startup, parse_options
from proxy.errors import PoolerError
from proxy.log import printable
from proxy.names import from_wire
from proxy.pool.parameters import Applied, Tracked, clean_application_name

# Names that RESET can say as set_config does: PostgreSQL cuts each part of a quoted name at 63 bytes, and
# reads other characters in the client's encoding. What cannot be reset must not be set on a server that
# others get.
_NAME: Final = re.compile(rb"[a-z_][a-z0-9_$]{0,62}(\.[a-z_][a-z0-9_$]{0,62})*")

_SAME_CONNECTION: Final = frozenset((b"user", b"database", b"options", b"replication"))
_NO_REPLICATION: Final = frozenset((b"false", b"off", b"no", b"0", b""))


class BadStartup(PoolerError):
    """The startup packet asks for what cannot be."""


@dataclass(init=False)
class Wishes:
    """`tracked` and `applied` hold names in lower case; `extensions` are the protocol options (`_pq_.`)."""

    user: str
    database: str
    tracked: dict[bytes, bytes]
    applied: Applied
    extensions: tuple[bytes, ...]

    # What dataclasses write themselves is never compiled: each login would pay for it.
    def __init__(
        self,
        user: str,
        database: str,
        tracked: dict[bytes, bytes] | None = None,
        applied: Applied = (),
        extensions: tuple[bytes, ...] = (),
    ) -> None:
        self.user = user
        self.database = database
        self.tracked = {} if tracked is None else tracked
        self.applied = applied
        self.extensions = extensions

    def __str__(self) -> str:
        """Who wants where, for a line of the log."""
        return f"db={printable(self.database)} user={printable(self.user)}"

    def settings(self) -> Iterable[tuple[bytes, bytes]]:
        """Every setting asked for, by name."""
        return (*self.tracked.items(), *self.applied)

    def boot(self) -> Applied:
        """What a server started for this client alone is told at its own startup.

        application_name is left out: it differs from client to client, means nothing to RESET, and would keep
        clients from sharing servers.
        """
        kept = tuple(item for item in self.tracked.items() if item[0] != b"application_name")
        return kept + self.applied

    def with_host(self, address: str) -> "Wishes":
        """PgBouncer's application_name_add_host."""
        name = self.tracked.get(b"application_name", b"app")
        full = clean_application_name(name + b" - " + address.encode())
        return replace(self, tracked={**self.tracked, b"application_name": full})


def read_wishes(startup: Startup, settings: Settings, tracked: Tracked) -> Wishes:
    """Sort the parameters of a startup packet. Raises BadStartup, and ProtocolError for malformed options."""
    parameters = startup.parameters
    if not parameters.get(b"user"):
        raise BadStartup("no username supplied", sqlstate.INVALID_AUTHORIZATION)
    user = parameters[b"user"]
    database = parameters.get(b"database") or user
    if len(user) > LONGEST_NAME:
        raise BadStartup("username too long", sqlstate.INVALID_AUTHORIZATION)
    if len(database) > MAX_DATABASE_NAME:
        raise BadStartup("database name too long", sqlstate.INVALID_CATALOG_NAME)
    if parameters.get(b"replication", b"").lower() not in _NO_REPLICATION:
        raise BadStartup("replication connections are not supported", sqlstate.FEATURE_NOT_SUPPORTED)
    sorter = _Sorter(settings, tracked)
    ignored = settings.ignore_startup_parameters
    if b"options" in parameters and "options" not in ignored:
        for name, value in parse_options(parameters[b"options"]):
            sorter.add(name, value, "unsupported startup parameter in options: ")
    for name, value in parameters.items():
        if name not in _SAME_CONNECTION:
            sorter.add(name, value, "unsupported startup parameter: ")
    return Wishes(
        from_wire(user),
        from_wire(database),
        sorter.tracked,
        tuple(sorter.applied.items()),
        tuple(sorter.extensions),
    )


class _Sorter:
    """Puts each parameter where it belongs; what comes later wins."""

    def __init__(self, settings: Settings, tracked: Tracked) -> None:
        self._names = tracked
        self._ignored = {name.lower() for name in settings.ignore_startup_parameters}
        self._apply = settings.unknown_startup_parameters is UnknownParameters.APPLY
        self.tracked: dict[bytes, bytes] = {}
        self.applied: dict[bytes, bytes] = {}
        self.extensions: list[bytes] = []

    def add(self, name: bytes, value: bytes, refusal: str) -> None:
        key = name.lower()
        if key.startswith(b"_pq_."):
            self.extensions.append(name)
        elif self._names.index(key) >= 0:
            self.tracked[key] = value
        elif from_wire(key) in self._ignored:
            return
        elif self._apply and _NAME.fullmatch(key):
            self.applied[key] = value
        elif self._apply:
            text = name.decode("utf-8", "backslashreplace")
            raise BadStartup(f'invalid configuration parameter name "{text}"', sqlstate.INVALID_NAME)
        else:
            text = name.decode("utf-8", "backslashreplace")
            raise BadStartup(refusal + text, sqlstate.UNDEFINED_OBJECT)

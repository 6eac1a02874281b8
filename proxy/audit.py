"""What sessions leave behind on their servers: found by a query of ours at each release (audit_release).

Laws of this file:
- It reports, and changes nothing of what becomes of the server.
- A session is blamed for what is there after it, was not there before it, and is not there in a fresh one.
- The query needs no privilege, and names everything so that no search_path puts something else in its place.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

from protocol.backend import DataRow
from protocol.errors import ProtocolError
from protocol.trace import Trace
from proxy.log import Prefix, printable
from proxy.pool.parameters import Applied, Tracked, Values
from proxy.pool.statements import PREFIX

logger = logging.getLogger("howdah")

MOST_APPLICATIONS: Final = 50
"""So many applications are told apart; the leaks of all others are counted under OTHER."""
OTHER: Final = "other"
_NAME_MOST: Final = 64


class Leak(Enum):
    """What a session can leave behind. In this order they are the columns of PROBE."""

    ROLE = "role"
    SEARCH_PATH = "search_path"
    TEMP_SCHEMA = "temp_schema"
    ADVISORY_LOCK = "advisory_lock"
    LISTEN = "listen"
    PREPARED_STATEMENT = "prepared_statement"
    CURSOR = "cursor"


# What a parameter of a client may explain, which follows the client to any server.
_BY_PARAMETER: Final = (
    (b"role", Leak.ROLE),
    (b"session_authorization", Leak.ROLE),
    (b"search_path", Leak.SEARCH_PATH),
)


def _count(of: str, where: str = "") -> str:
    return f"(SELECT pg_catalog.count(*) FROM pg_catalog.{of}{where})"


_IN_TEMP_SCHEMA: Final = " WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"
_OWN_ADVISORY: Final = (
    " WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) "
    "pg_catalog.pg_backend_pid()"
)
_NOT_OURS: Final = (
    f" WHERE from_sql OR pg_catalog.left(name, {len(PREFIX)}) OPERATOR(pg_catalog.<>) '{PREFIX.decode()}'"
)
PROBE: Final = (
    "SELECT pg_catalog.concat(current_user, ' ', session_user, ' ', pg_catalog.current_setting('role')), "
    "pg_catalog.current_setting('search_path'), "
    # Whoever had a temporary table once has the schema for ever: what counts is what is in it.
    "CASE WHEN pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.=) '0' THEN '0' ELSE "
    f"{_count('pg_class', _IN_TEMP_SCHEMA)} END, "
    f"{_count('pg_locks', _OWN_ADVISORY)}, "
    f"{_count('pg_listening_channels()')}, "
    f"{_count('pg_prepared_statements', _NOT_OURS)}, "
    f"{_count('pg_cursors')}"
).encode()
"""One row: what Leak names, the settings as text, the others as numbers."""

_SETTINGS: Final = 2
State = tuple[bytes | int | None, ...]
"""What PROBE found; None where it is not known."""
_UNKNOWN: Final[State] = (None, None, 0, 0, 0, 0, 0)


class Suspect(NamedTuple):
    """The session that had a server last. `application` is what the server reports as application_name."""

    client: int
    user: str
    application: bytes


class Leaks:
    """Counts what was left behind, by kind and application, for the whole worker."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._applications: set[str] = set()

    def add(self, leaks: Iterable[Leak], application: bytes) -> None:
        """An application has left this behind."""
        name = printable(application, _NAME_MOST)
        if name not in self._applications and len(self._applications) >= MOST_APPLICATIONS:
            name = OTHER
        self._applications.add(name)
        for leak in leaks:
            self.counts[leak.value, name] += 1


class Watch:
    """Of one server: what a fresh session has there, as far as that is known, and what was found last."""

    __slots__ = ("fresh", "seen")

    def __init__(self) -> None:
        self.fresh = self.seen = _UNKNOWN

    def learn(self, state: State) -> None:
        """This is what a fresh session has."""
        self.fresh = self.seen = state

    def compare(self, state: State, excused: frozenset[Leak]) -> list[Leak]:
        """What the last session has left behind. A setting of which nobody knows what it is in a fresh
        session, for this one was open before anybody looked, is taken to be as it should be now.
        """
        leaks = []
        fresh, seen = list(self.fresh), list(self.seen)
        for at, leak in enumerate(Leak):
            now = state[at]
            if leak in excused:
                now = fresh[at]
            elif fresh[at] is None:
                fresh[at] = now
            elif _worse(now, seen[at]) and _worse(now, fresh[at]):
                leaks.append(leak)
            seen[at] = now
        self.fresh, self.seen = tuple(fresh), tuple(seen)
        return leaks


def _worse(now: bytes | int | None, than: bytes | int | None) -> bool:
    """Whether a setting is another, or a number larger."""
    if isinstance(now, int) and isinstance(than, int):
        return now > than
    return now != than


def read(row: bytes | None) -> State | None:
    """What the body of a DataRow says; None if it does not answer PROBE."""
    try:
        values = DataRow.decode(row or b"").values
        numbers = [int(value or b"") for value in values[_SETTINGS:]]
    except (ProtocolError, ValueError):
        return None
    return (*values[:_SETTINGS], *numbers) if len(values) == len(Leak) else None


def excused(tracked: Tracked, values: Values, applied: Applied) -> frozenset[Leak]:
    """What of the state is no leak: settings that are undone, or set anew, when another client comes."""
    following = {name for name, _ in applied}
    for name, _ in _BY_PARAMETER:
        at = tracked.index(name)
        if at >= 0 and values[at] is not None:
            following.add(name)
    return frozenset(leak for name, leak in _BY_PARAMETER if name in following)


def log_leaks(server: Prefix, suspect: Suspect, leaks: Iterable[Leak]) -> None:
    """Say who left what behind."""
    user, application = printable(suspect.user), printable(suspect.application, _NAME_MOST)
    who = f"C-{suspect.client:#x} (user {user}, application {application or 'unnamed'})"
    logger.warning("%s%s left behind session state: %s", server, who, ", ".join(leak.value for leak in leaks))


def log_failure(server: Prefix, error: bytes | None) -> None:
    """Say that nothing was found out."""
    why = "no answer" if error is None else Trace(redacted=True).backend(error[0], error[5:])
    logger.warning("%saudit_release failed: %s", server, " ".join(why.split()))

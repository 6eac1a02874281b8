"""How many clients a database and a user have over all workers.

Laws of this file: where a limit is set, a client is counted before it is let in; elsewhere it is only
reported, so that a limit that is set later counts it, too. A worker that is lost takes its clients with it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from config import effective
from config.settings import Settings
from proxy.errors import TooManyClients
from proxy.link import Calls, Link, LinkLost
from proxy.pool.leased import add
from proxy.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Seat:
    """May one more client of this database and user come in? The answer is which limit is reached, or
    nothing; then the client is counted.
    """

    database: str
    user: str


@dataclass(frozen=True, slots=True)
class Seated:
    """A client has come in for which there is no limit."""

    database: str
    user: str


@dataclass(frozen=True, slots=True)
class Left:
    """A client that was counted has gone."""

    database: str
    user: str


class Seats:
    """A worker's side. `settings` gives the present settings."""

    def __init__(self, link: Link, calls: Calls, settings: Callable[[], Settings]) -> None:
        self._link = link
        self._calls = calls
        self._settings = settings
        self._asking = Tasks()

    async def take(self, database: str, user: str) -> None:
        """Have a client counted. Raises TooManyClients where a limit is reached."""
        settings = self._settings()
        if not any(limits_on(settings, database, user)):
            self._link.send(Seated(database, user))
            return
        task = self._asking.share(self._ask(Seat(database, user)))
        try:
            limit = await asyncio.shield(task)
        except asyncio.CancelledError:
            # It may have been counted, or be about to.
            task.add_done_callback(lambda task: self._undo(task, database, user))
            raise
        if limit:
            raise TooManyClients(f"client connections exceeded ({limit})")

    async def _ask(self, seat: Seat) -> str:
        try:
            return str(await self._calls.ask(seat))
        except LinkLost:
            # Without a supervisor nobody new comes in anyway.
            return ""

    def _undo(self, task: "asyncio.Task[str]", database: str, user: str) -> None:
        if not task.cancelled() and task.exception() is None and not task.result():
            self.leave(database, user)

    def leave(self, database: str, user: str) -> None:
        """A client that was counted has gone."""
        self._link.send(Left(database, user))


class Seating:
    """The supervisor's side. `settings` gives the present settings."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._databases: Counter[str] = Counter()
        self._users: Counter[str] = Counter()
        self._workers: dict[int, Counter[tuple[str, str]]] = {}

    def of_database(self, name: str) -> int:
        """Clients of a database."""
        return self._databases[name]

    def of_user(self, name: str) -> int:
        """Clients of a user."""
        return self._users[name]

    def ask(self, worker: int, seat: Seat) -> str:
        """Count a client; or which limit is reached."""
        by_database, by_user = limits_on(self._settings(), seat.database, seat.user)
        if by_database and self._databases[seat.database] >= by_database:
            return "max_db_client_connections"
        if by_user and self._users[seat.user] >= by_user:
            return "max_user_client_connections"
        self.count(worker, seat.database, seat.user, 1)
        return ""

    def count(self, worker: int, database: str, user: str, by: int) -> None:
        """So many clients more."""
        of_worker = self._workers.setdefault(worker, Counter())
        if of_worker[database, user] + by < 0:
            return
        add(of_worker, (database, user), by)
        add(self._databases, database, by)
        add(self._users, user, by)

    def lost(self, worker: int) -> None:
        """A worker is lost, and its clients with it."""
        for (database, user), count in self._workers.pop(worker, Counter()).items():
            add(self._databases, database, -count)
            add(self._users, user, -count)


def limits_on(settings: Settings, database: str, user: str) -> tuple[int, int]:
    """How many clients a database and a user may have; 0 is unlimited."""
    return (
        effective.max_db_client_connections(settings, database),
        effective.max_user_client_connections(settings, user),
    )

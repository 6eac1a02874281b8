"""What all clients of a worker share: the pools, the keys, the counts, the way to the console."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from config.settings import Settings
from protocol.errors import ProtocolError
from protocol.looks import frontend_caps
from proxy.auth_query import AuthQuery
from proxy.cancel import CancelKeys
from proxy.credentials import usual_iterations
from proxy.derive import Deriver
from proxy.doorkeeper import Doorkeeper
from proxy.errors import PoolerError
from proxy.log import printable
from proxy.mock_keys import MockKeys
from proxy.patience import Patience
from proxy.pool.database import Database, User
from proxy.pool.manager import PoolManager
from proxy.reasons import ClientClosed
from proxy.rotation import Rotation
from proxy.seats import Seats
from proxy.tls_contexts import TlsContexts
from proxy.turnstile import Turnstile
from proxy.welcome import Welcomes

if TYPE_CHECKING:
    from proxy.client import Client
    from proxy.wishes import Wishes

logger = logging.getLogger("howdah")


class ConsoleSession(Protocol):
    """The session of a client on the admin database, as its client sees it."""

    def receive(self, data: bytes) -> None: ...
    def lost(self) -> None: ...
    async def settled(self) -> None: ...
    def cancel(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


OpenConsole = Callable[["Client", str, bool], tuple[ConsoleSession, dict[bytes, bytes]]]
"""Makes the session of a client on the admin database, for a user; True for the system user we run as.
Returns it with the parameters of its greeting; raises PoolerError for users who have no business there."""


PassOn = Callable[[int, bytes], Awaitable[bool]]
"""Deals with a cancel request whose key is another worker's; False if nobody has it."""


async def _nowhere(pid: int, secret: bytes) -> bool:
    return False


class Lobby:
    """Every connection from a listener is in `clients`, from accept to close. `elsewhere`: where other
    workers are asked for what is not here.
    """

    def __init__(
        self,
        manager: PoolManager,
        deriver: Deriver,
        open_console: OpenConsole,
        clock: Callable[[], int],
        numbers: Iterator[int],
    ) -> None:
        self.manager = manager
        self.deriver = deriver
        self.open_console = open_console
        self.clock = clock
        self.cancel_keys = CancelKeys()
        self.elsewhere: PassOn = _nowhere
        self.turnstile = Turnstile()
        self.patience = Patience(clock)
        self.welcomes = Welcomes()
        self.auth_query = AuthQuery(manager, clock)
        self.rotation = Rotation()
        self.doorkeeper = Doorkeeper(lambda: manager.settings)
        self.clients: dict[int, Client] = {}
        self.shutting_down = False
        self.cancel_requests = 0
        self.special_clients = 0
        self.seats: Seats | None = None
        """Where clients are counted over all workers, if there are others."""
        self.others = 0
        """Ordinary clients of other workers."""
        self.closed_clients: Counter[ClientClosed] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()
        self.logins: Counter[str] = Counter()
        self.login_failures: Counter[str] = Counter()
        self.tls = TlsContexts()
        self.on_leave: Callable[[], None] = lambda: None
        self._numbers = numbers
        self.apply()

    @property
    def settings(self) -> Settings:
        """The present settings."""
        return self.manager.settings

    def apply(self) -> None:
        """The settings have changed: make anew what was made of them."""
        self.frontend_caps = frontend_caps(
            self.settings.max_packet_size, simple_query=not self.settings.disable_pqexec
        )
        self.mock_keys = MockKeys(self.settings)
        self.usual_iterations = usual_iterations(self.settings)
        self.auth_query.apply()
        self.doorkeeper.apply()

    def next_id(self) -> int:
        """A number that no other client or server has or had, as in PgBouncer."""
        return next(self._numbers)

    def ordinary_clients(self) -> int:
        """Clients that count for max_client_conn: all but the console's and those that only cancel."""
        return len(self.clients) - self.special_clients

    def enter(self, client: "Client") -> None:
        """A connection was accepted."""
        self.clients[client.id] = client

    async def admit(self, wishes: "Wishes") -> tuple[Database, User]:
        """Count a client that has logged in, among those of all workers. Raises TooManyClients when one of
        its limits is reached, UnknownDatabase, DatabaseDisabled.
        """
        manager = self.manager
        if self.seats is not None:
            await self.seats.take(wishes.database, wishes.user)
        try:
            database, user = manager.database(wishes.database, self.clock()), manager.user(wishes.user)
            manager.admit(database, user)
        except PoolerError:
            if self.seats is not None:
                self.seats.leave(wishes.database, wishes.user)
            raise
        return database, user

    def dismiss(self, database: Database, user: User) -> None:
        """A client that was admitted has gone."""
        self.manager.dismiss(database, user)
        if self.seats is not None:
            self.seats.leave(database.name, user.name)

    async def cancel(self, pid: int, secret: bytes) -> bool:
        """Deal with a cancel request, here or elsewhere; False if nobody has this key."""
        target = self.cancel_keys.find(pid, secret)
        if target is None:
            return not self.cancel_keys.own(pid) and await self.elsewhere(pid, secret)
        if (dealt_with := target.cancel_requested()) is not None:
            await dealt_with
        return True

    def set_apart(self, client: "Client") -> None:
        """The client turns out to be one that does not count."""
        if client.id in self.clients:
            client.is_special = True
            self.special_clients += 1

    def leave(self, client: "Client", reason: ClientClosed, text: str) -> bool:
        """A connection is over; False if that was known already."""
        if self.clients.pop(client.id, None) is None:
            return False
        self.special_clients -= client.is_special
        self.closed_clients[reason] += 1
        if self.settings.log_disconnections and client.connection.heard and not client.is_cancel:
            age = (self.clock() - client.connected_at) // 1_000_000_000
            logger.info("%sclosing because: %s (age=%ds)", client.prefix, printable(text), age)
        self.on_leave()
        return True

    def count_error(self, client: "Client", error: PoolerError | ProtocolError) -> None:
        """An error of ours was sent to a client."""
        database = client.wishes.database if client.wishes is not None else ""
        known = database if database in self.settings.databases else ""
        self.errors[known, error.sqlstate[:2]] += 1
        if self.settings.log_pooler_errors:
            logger.warning("%spooler error: %s", client.prefix, printable(str(error)))

    def count_login_failure(self, client: "Client") -> None:
        """A client did not prove who it is."""
        self.login_failures[client.method or self.settings.auth_type.value] += 1

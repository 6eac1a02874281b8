"""What holds for one database and user: the only place that knows which level wins.

Sizes and the pool mode: the user's value beats the database's, which beats the global one. The user is the
one the server knows, so a forced user's. Client timeouts: the user's beats the global one. As in PgBouncer,
a limit or timeout of 0 in [users] or [databases] means "not set here", except for pool sizes and
query_wait_timeout, where 0 is a value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .databases import RESERVED, DatabaseSettings
from .secret import Secret
from .tls import ServerTls, server_tls
from .types import ChannelBinding, LoadBalance, PoolMode
from .users import UserSettings

if TYPE_CHECKING:
    from .settings import Settings

T = TypeVar("T")
_NOTHING_SPECIAL = UserSettings()
_NO_ENTRY = DatabaseSettings()


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Everything a pool needs to know, resolved. Times are seconds, 0 = off unless noted.

    `hosts` is empty for the unix socket in `unix_socket_dir`. `user` is the forced user, None when servers
    log in as the client's user. `pool_size` 0 is unlimited; `min_pool_size` never exceeds it.
    `server_lifetime` 0 means that a server is used once. `startup_parameters` are sent at login.
    """

    dbname: str
    hosts: tuple[str, ...]
    port: int
    user: str | None
    password: Secret | None
    pool_mode: PoolMode
    pool_size: int
    min_pool_size: int
    reserve_pool_size: int
    reserve_pool_timeout: float
    query_wait_timeout: float
    query_timeout: float
    idle_transaction_timeout: float
    transaction_timeout: float
    client_idle_timeout: float
    server_lifetime: float
    connect_query: str | None
    startup_parameters: Mapping[str, str]
    load_balance_hosts: LoadBalance
    server_auth_methods: tuple[str, ...]
    server_channel_binding: ChannelBinding
    tls: ServerTls


def user_entry(settings: "Settings", user: str) -> UserSettings:
    """Return the [users] entry of the user, or one that sets nothing."""
    return settings.users.get(user, _NOTHING_SPECIAL)


def for_pool(settings: "Settings", database: str, user: str) -> PoolSettings:
    """Resolve everything for clients of `user` on `database` (the name clients ask for).

    Raises LookupError when there is neither such a database nor `*`.
    """
    entry = settings.database(database)
    if entry is None:
        raise LookupError(f"no such database: {database}")
    owner = user_entry(settings, entry.user or user)
    client = user_entry(settings, user)
    size = pool_size(settings, entry, owner)
    least = _first(entry.min_pool_size, default=settings.min_pool_size)
    return PoolSettings(
        dbname=entry.dbname or database,
        hosts=entry.hosts,
        port=entry.port,
        user=entry.user,
        password=entry.password,
        pool_mode=pool_mode(settings, entry, owner),
        pool_size=size,
        min_pool_size=min(least, size) if size else least,
        reserve_pool_size=reserve_pool_size(settings, entry, owner),
        reserve_pool_timeout=settings.reserve_pool_timeout,
        query_wait_timeout=_first(
            client.query_wait_timeout, entry.query_wait_timeout, default=settings.query_wait_timeout
        ),
        query_timeout=client.query_timeout or settings.query_timeout,
        idle_transaction_timeout=client.idle_transaction_timeout or settings.idle_transaction_timeout,
        transaction_timeout=client.transaction_timeout or settings.transaction_timeout,
        client_idle_timeout=client.client_idle_timeout or settings.client_idle_timeout,
        server_lifetime=entry.server_lifetime or settings.server_lifetime,
        connect_query=entry.connect_query,
        startup_parameters=entry.startup_parameters,
        load_balance_hosts=entry.load_balance_hosts,
        server_auth_methods=_first(entry.require_auth, default=settings.server_auth_methods),
        server_channel_binding=_first(entry.channel_binding, default=settings.server_channel_binding),
        tls=server_tls(settings, entry),
    )


class AuthSource(NamedTuple):
    """Where the secrets of users are asked for whom the auth file does not name."""

    database: str
    user: str
    query: str


def auth_source(settings: "Settings", database: str) -> AuthSource | None:
    """Whom `auth_query` asks for clients of a database; None where nobody is asked.

    The console has no entry of its own, so the global settings hold for it. A database that does not exist
    has none.
    """
    entry = settings.database(database)
    if entry is None and database not in RESERVED:
        return None
    entry = entry or _NO_ENTRY
    user = entry.auth_user or settings.auth_user
    where = entry.auth_dbname or settings.auth_dbname or database
    return AuthSource(where, user, entry.auth_query or settings.auth_query) if user else None


def for_auth_pool(settings: "Settings", database: str, user: str) -> PoolSettings:
    """Resolve everything for the one connection on which `user` asks `auth_query` in a database.

    It logs in as nobody else, and needs no second. Raises LookupError as `for_pool`.
    """
    return replace(
        for_pool(settings, database, user),
        user=None,
        password=None,
        pool_mode=PoolMode.TRANSACTION,
        pool_size=1,
        min_pool_size=0,
        reserve_pool_size=0,
        query_timeout=0,
    )


def pool_size(settings: "Settings", entry: DatabaseSettings, owner: UserSettings) -> int:
    """Servers of one pool; 0 is unlimited. `owner` is the entry of the user the server knows."""
    return _first(owner.pool_size, entry.pool_size, default=settings.default_pool_size)


def reserve_pool_size(settings: "Settings", entry: DatabaseSettings, owner: UserSettings) -> int:
    """Further servers of one pool for clients that wait too long."""
    return _first(owner.reserve_pool_size, entry.reserve_pool_size, default=settings.reserve_pool_size)


def pool_mode(settings: "Settings", entry: DatabaseSettings, owner: UserSettings) -> PoolMode:
    """When a server goes back to its pool."""
    return _first(owner.pool_mode, entry.pool_mode, default=settings.pool_mode)


def max_db_connections(settings: "Settings", database: str) -> int:
    """Servers of the database over all users; 0 is unlimited."""
    entry = settings.database(database)
    return (entry.max_db_connections if entry else None) or settings.max_db_connections


def max_db_client_connections(settings: "Settings", database: str) -> int:
    """Clients of the database; 0 is unlimited."""
    entry = settings.database(database)
    return (entry.max_db_client_connections if entry else None) or settings.max_db_client_connections


def max_user_connections(settings: "Settings", user: str) -> int:
    """Servers of the user over all databases; 0 is unlimited."""
    return user_entry(settings, user).max_user_connections or settings.max_user_connections


def max_user_client_connections(settings: "Settings", user: str) -> int:
    """Clients of the user; 0 is unlimited."""
    return user_entry(settings, user).max_user_client_connections or settings.max_user_client_connections


def _first(*values: T | None, default: T) -> T:
    return next((value for value in values if value is not None), default)

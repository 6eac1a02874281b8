"""One entry of [databases] and of [peers], and how its connection string is read.

`None` means "not set here": the user's, the global or the client's value counts then (see `effective`).
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from .secret import OptionalSecret, check_form
from .section import Section, live
from .types import (
    AuthMethods,
    ChannelBinding,
    InheritedCount,
    InheritedSeconds,
    LoadBalance,
    OptionalText,
    PoolMode,
    ServerPort,
    SslMode,
    SslNegotiation,
    TlsVersion,
)

FALLBACK = "*"
CONSOLE = "pgbouncer"
RESERVED = (CONSOLE, "howdah")
"""Names of the console, as databases; the first is what it is called by rules and by SHOW."""

MAX_DATABASE_NAME = 63
_BLANK = " \t\n\r\v\f"


def check_database_name(name: str) -> str:
    if name in RESERVED:
        raise ValueError(f'the database name "{name}" is reserved for the console')
    if not 0 < len(name.encode()) <= MAX_DATABASE_NAME:
        raise ValueError(f"a database name has 1 to {MAX_DATABASE_NAME} bytes")
    return name


def check_hosts(value: str | None) -> str | None:
    if value is not None and not all(host.strip() for host in value.split(",")):
        raise ValueError("must not contain an empty name between commas")
    return value


def check_auth_database(name: str | None) -> str | None:
    if name in RESERVED:
        raise ValueError(f'cannot use the reserved "{name}" database as an auth_dbname')
    return name


AuthDatabase = Annotated[OptionalText, AfterValidator(check_auth_database)]
DatabaseName = Annotated[str, AfterValidator(check_database_name)]
Hosts = Annotated[OptionalText, AfterValidator(check_hosts)]
Password = Annotated[OptionalSecret, AfterValidator(lambda secret: secret and check_form(secret))]


class DatabaseSettings(Section):
    """How to reach one database, and what is different for it."""

    aliases: ClassVar[dict[str, str]] = {"reserve_pool": "reserve_pool_size"}

    dbname: OptionalText = live(None, "name on the server; unset: the name the client asked for")
    host: Hosts = live(None, "name, address, `/directory`, `@abstract`, or a comma list; unset: unix socket")
    port: ServerPort = live(5432, "port of the server")
    user: OptionalText = live(None, "role for every connection; unset: the client's")
    password: Password = live(None, "password of `user`; unset: from `auth_file`")
    auth_user: OptionalText = live(None, "role that asks `auth_query` for clients of this database")
    auth_query: OptionalText = live(None, "query that fetches a user's name and secret")
    auth_dbname: OptionalText = live(None, "database that `auth_query` runs in")
    pool_size: InheritedCount = live(None, "servers per pool; 0 is unlimited")
    min_pool_size: InheritedCount = live(None, "servers a pool keeps open")
    reserve_pool_size: InheritedCount = live(None, "further servers; also written `reserve_pool`")
    pool_mode: PoolMode | None = live(None, "when a server goes back to its pool")
    load_balance_hosts: LoadBalance = live(LoadBalance.ROUND_ROBIN, "which host a new connection goes to")
    max_db_connections: InheritedCount = live(None, "servers over all users; 0: the global setting")
    max_db_client_connections: InheritedCount = live(None, "clients; 0: the global setting")
    server_lifetime: InheritedSeconds = live(None, "close servers older than this; 0: the global setting")
    require_auth: AuthMethods | None = live(None, "what its servers may ask of us; see `server_auth_methods`")
    sslmode: SslMode | None = live(None, "whether servers must encrypt, and prove who they are")
    sslnegotiation: SslNegotiation | None = live(None, "how TLS begins: `postgres` or `direct`")
    sslrootcert: OptionalText = live(None, "authorities for the server's certificate; `system`: the system's")
    sslcert: OptionalText = live(None, "certificate shown to the server; replaces the global one and its key")
    sslkey: OptionalText = live(None, "key of `sslcert`")
    ssl_min_protocol_version: TlsVersion | None = live(
        None, "oldest TLS version; with it or the next the global list does not count"
    )
    ssl_max_protocol_version: TlsVersion | None = live(None, "newest TLS version")
    server_tls_ciphers: OptionalText = live(None, "ciphers up to TLS 1.2")
    server_tls13_ciphers: OptionalText = live(None, "TLS 1.3 suites")
    channel_binding: ChannelBinding | None = live(
        None, "whether SCRAM logins are tied to the server's TLS certificate"
    )
    query_wait_timeout: InheritedSeconds = live(None, "end clients that get no server in time; 0 is never")
    connect_query: OptionalText = live(None, "run on each new server connection; its failure is only logged")
    client_encoding: OptionalText = live(None, "sent to the server at login")
    datestyle: OptionalText = live(None, "sent to the server at login")
    timezone: OptionalText = live(None, "sent to the server at login")
    application_name: OptionalText = live(None, "sent to the server at login")

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts in order; empty means the unix socket in `unix_socket_dir`."""
        return tuple(host.strip() for host in self.host.split(",")) if self.host is not None else ()

    @property
    def startup_parameters(self) -> dict[str, str]:
        """What every server of this database is told at login, in PgBouncer's order."""
        names = ("client_encoding", "datestyle", "timezone", "application_name")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class PeerSettings(Section):
    """Where another pooler of the group is reached, for cancel requests."""

    host: Hosts = live(None, "name, address or `/directory` of the peer")
    port: ServerPort = live(6432, "its port")
    pool_size: InheritedCount = live(None, "cancel requests under way at once")


def parse_connection_string(text: str) -> Iterator[tuple[str, str]]:
    """Yield the `key=value` pairs of a connection string, by PgBouncer's rules.

    A value ends at a space (a tab is part of it) unless it begins with a single quote; inside quotes `''`
    stands for one quote. Blanks may surround the `=`. Empty values do not exist. Raises ValueError at the
    first mistake, after the pairs before it have been yielded.
    """
    at = _skip_blanks(text, 0)
    while at < len(text):
        start = at
        while at < len(text) and text[at] not in _BLANK and text[at] != "=":
            at += 1
        key = text[start:at]
        at = _skip_blanks(text, at)
        if not key or text[at : at + 1] != "=":
            raise ValueError(f'expected key=value, found "{key or text[at]}"')
        value, at = _take_value(text, _skip_blanks(text, at + 1), key)
        yield key, value
        at = _skip_blanks(text, at)


def _take_value(text: str, at: int, key: str) -> tuple[str, int]:
    """Return the value that begins at `at`, and where it ends."""
    if text[at : at + 1] == "'":
        value, at = _take_quoted(text, at + 1, key)
    else:
        end = text.find(" ", at)
        end = len(text) if end < 0 else end
        value, at = text[at:end], end
    if not value:
        raise ValueError(f'"{key}" has no value')
    return value, at


def _take_quoted(text: str, at: int, key: str) -> tuple[str, int]:
    parts: list[str] = []
    while True:
        end = text.find("'", at)
        if end < 0:
            raise ValueError(f'the quote around the value of "{key}" is not closed')
        parts.append(text[at:end])
        if text[end + 1 : end + 2] != "'":
            break
        parts.append("'")
        at = end + 2
    if end + 1 < len(text) and text[end + 1] not in _BLANK:
        raise ValueError(f'expected a blank after the quoted value of "{key}"')
    return "".join(parts), end + 1


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at

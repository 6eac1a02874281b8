"""Which rule of auth_hba_file is for a client; whether it is who it says, where others know that.

Laws of this file:
- The client hears PgBouncer's few words; why it was refused is for the log.
- Rules were read with the settings; what they depend on besides is asked only where it decides. Where roles
  cannot be known nobody comes in; a host whose name is not found in time has none, as in PostgreSQL.
"""

import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Protocol

from config.databases import CONSOLE
from config.hba import (
    Address,
    AnyWhere,
    Arrival,
    Ask,
    ClientCert,
    Interface,
    Method,
    Rule,
    forms_of,
    match,
)
from config.ident import may_be
from config.settings import Settings
from protocol import sqlstate
from protocol.login import LoginFailed
from proxy.host_names import HostNames
from proxy.identity import NoName, certificate_name, system_user
from proxy.interfaces import interfaces
from proxy.log import Prefix, printable
from proxy.names import ADMIN_DATABASES

if TYPE_CHECKING:
    from proxy.connection import Connection
    from proxy.wishes import Wishes

logger = logging.getLogger("howdah")

Roles = Callable[[], Awaitable[frozenset[str]]]
"""Asks for the roles that the user is a member of. Raises PoolerError where they cannot be known."""

MEMBERSHIP: Final = """WITH RECURSIVE membership(role) AS (
  SELECT oid FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) $1::pg_catalog.name
  UNION
  SELECT m.roleid FROM pg_catalog.pg_auth_members m
  JOIN membership ON m.member OPERATOR(pg_catalog.=) membership.role)
SELECT r.rolname FROM pg_catalog.pg_roles r JOIN membership ON r.oid OPERATOR(pg_catalog.=) membership.role"""
"""The roles of a user, itself among them; a superuser's are no more than others', as in pg_hba.conf."""

NO_PEER: Final = "unix socket login rejected"
NO_CERTIFICATE: Final = "certificate authentication failed"
"""What a client hears whom the system or a certificate does not know as the user, or whom we do not know."""

_THREADS: Final = 2
_BY_PLACE: Final = (AnyWhere.SAMEHOST, AnyWhere.SAMENET)


class Visitor(Protocol):
    """What is seen of a client before it has logged in."""

    @property
    def connection(self) -> "Connection": ...
    @property
    def peer(self) -> tuple[str, int]: ...
    @property
    def prefix(self) -> Prefix: ...


class Doorkeeper:
    """Of one worker. `settings` gives the present settings."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self.host_names = HostNames(settings)
        self._interfaces: tuple[Interface, ...] = ()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="systemuser")

    def apply(self) -> None:
        """The settings have changed."""
        if any(rule.place in _BY_PLACE for rule in self._settings().hba):
            try:
                self._interfaces = interfaces()
            except OSError as error:
                self._interfaces = ()
                logger.error("samehost and samenet fit nobody: %s", error)

    async def rule_for(self, client: Visitor, wishes: "Wishes", roles: Roles) -> Rule:
        """The rule that says how the client proves who it is. Raises LoginFailed where none lets it try."""
        arrival = self._arrival(client, wishes)
        while isinstance(found := match(self._settings().hba, arrival), Ask):
            if found is Ask.HOST and arrival.address is not None:
                address = forms_of(arrival.address)[0]
                arrival = replace(arrival, host=await self.host_names.find(str(address)))
            else:
                arrival = replace(arrival, roles=await roles())
        if found is None:
            logger.info("%sno rule of auth_hba_file is for %s", client.prefix, _described(arrival))
            raise _refused("no authentication method is found")
        place = f"{printable(found.file)}:{found.line}"
        if found.method is Method.REJECT:
            logger.info("%srejected by %s: %s", client.prefix, place, _described(arrival))
            raise _refused("login rejected")
        logger.debug("%sthe rule in %s applies: %s", client.prefix, place, found.method)
        wants_certificate = found.clientcert is not ClientCert.NONE and found.method is not Method.CERT
        if wants_certificate and _certificate(client) is None:
            logger.info("%sno certificate was shown, which %s wants", client.prefix, place)
            raise _refused("connection requires a valid client certificate")
        return found

    async def check_peer(self, client: Visitor, wishes: "Wishes", rule: Rule, roles: Roles) -> None:
        """Raises LoginFailed unless the system user on the other side may be the user."""
        try:
            name = await system_user(client.connection.socket(), self._threads)
            await self._check(name, wishes.user, rule.map, roles)
        except NoName as error:
            logger.info("%speer login refused: %s", client.prefix, printable(str(error)))
            raise _refused(NO_PEER) from None

    async def check_certificate(
        self, client: Visitor, wishes: "Wishes", rule: Rule | None, roles: Roles
    ) -> None:
        """Raises LoginFailed unless the certificate is in the name of the user, or of one mapped to it."""
        kind = rule.clientname if rule is not None else "CN"
        try:
            certificate = _certificate(client)
            if certificate is None:
                raise NoName(
                    "no certificate was shown" if client.connection.tls else "TLS connection required"
                )
            name = certificate_name(certificate, kind)
            await self._check(name, wishes.user, rule.map if rule is not None else None, roles)
        except NoName as error:
            logger.info("%scertificate login refused: %s", client.prefix, printable(str(error)))
            raise _refused(NO_CERTIFICATE) from None

    async def _check(self, name: str, user: str, map_name: str | None, roles: Roles) -> None:
        if map_name is None:
            if name != user:
                raise NoName(f'"{name}" is not the user "{user}"')
            return
        allowed = may_be(self._settings().ident, map_name, name, user, None)
        if isinstance(allowed, Ask):
            allowed = may_be(self._settings().ident, map_name, name, user, await roles())
        if allowed is not True:
            raise NoName(f'ident map: {map_name} does not have a match: "{name}" as user "{user}"')

    def _arrival(self, client: Visitor, wishes: "Wishes") -> Arrival:
        return Arrival(
            CONSOLE if wishes.database in ADMIN_DATABASES else wishes.database,
            wishes.user,
            _address(client),
            client.connection.tls is not None,
            interfaces=self._interfaces,
        )

    def close(self) -> None:
        """Let go of what it holds."""
        self.host_names.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _address(client: Visitor) -> Address | None:
    """Where the client is; None on the unix socket."""
    if client.connection.is_local():
        return None
    return ip_address(client.peer[0].partition("%")[0])


def _certificate(client: Visitor) -> bytes | None:
    tls = client.connection.tls
    return tls.peer_certificate() if tls is not None else None


def _described(arrival: Arrival) -> str:
    where = "the unix socket" if arrival.address is None else f"host {arrival.address}"
    if arrival.host:
        where += f" ({printable(arrival.host)})"
    how = "" if arrival.address is None else ", TLS" if arrival.tls else ", no encryption"
    return f"{where}, user {printable(arrival.user)}, database {printable(arrival.database)}{how}"


def _refused(text: str) -> LoginFailed:
    return LoginFailed(sqlstate.INVALID_AUTHORIZATION, text)

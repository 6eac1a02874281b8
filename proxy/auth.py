"""Who a client is: the method that applies to it, the secrets it is checked against, the conversation.

Laws of this file:
- Nothing is said of why somebody may not come in before the exchange is over: the method depends on what is
  configured, and on what is usual, never on whether the user exists.
- What a client asked for in its startup packet is used here for its two names and for nothing else.
"""

import contextlib
import logging
import os
import secrets as random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from config.hba import ClientCert, Method, Rule
from config.types import AuthType
from protocol import sqlstate
from protocol.authentication import SALT_LENGTH
from protocol.login import (
    AuthMethod,
    Conversation,
    LoginFailed,
    LoginResult,
    ScramVerifier,
    Secret,
    client_login,
    is_empty,
    made_up_salt,
)
from protocol.scram import new_nonce
from proxy.credentials import secrets_of
from proxy.doorkeeper import MEMBERSHIP, NO_CERTIFICATE, NO_PEER
from proxy.errors import PoolerError
from proxy.identity import peer_of
from proxy.log import printable
from proxy.names import ADMIN_DATABASES, from_wire, to_wire
from proxy.recheck import AskedOtherwise, Said, judged, noted

if TYPE_CHECKING:
    from protocol.framer import Collector
    from proxy.client import Client
    from proxy.connection import Connection
    from proxy.wishes import Wishes

logger = logging.getLogger("howdah")

T = TypeVar("T")

_WITHOUT_SECRETS = frozenset((AuthMethod.ANY,))
_WITHOUT_PROOF = frozenset((AuthMethod.ANY, AuthMethod.TRUST))
_OF_TYPES = {AuthType(method.value): method for method in AuthMethod}
_METHODS = {
    Method.TRUST: AuthMethod.TRUST,
    Method.PASSWORD: AuthMethod.PLAIN,
    Method.MD5: AuthMethod.MD5,
    Method.SCRAM_SHA_256: AuthMethod.SCRAM_SHA_256,
}


async def authenticate(client: "Client", wishes: "Wishes", collector: "Collector") -> LoginResult:
    """Have the client prove that it is the user it names. Raises LoginFailed, ProtocolError, PoolerError."""
    if is_our_own_user(client.connection, wishes):
        return LoginResult()
    user = _User(client, wishes)
    result = await _let_in(user, collector)
    if asks(client, wishes):
        client.lobby.auth_query.logged_in(wishes.user, client.peer[0])
    return result


async def _let_in(user: "_User", collector: "Collector") -> LoginResult:
    client, wishes = user.client, user.wishes
    rule = await _rule_for(user)
    auth_type = client.lobby.settings.auth_type
    # A member of these is its own value, which to ask for is a call.
    client.method = str(auth_type if rule is None else rule.method)
    if rule is None and auth_type is not AuthType.CERT:
        return await _by_password(user, _OF_TYPES[auth_type], collector)
    if rule is None or rule.method in (Method.CERT, Method.PEER):
        return await _by_others_word(user, rule)
    result = await _by_password(user, _METHODS[rule.method], collector)
    if rule.clientcert is ClientCert.VERIFY_FULL:
        await client.lobby.doorkeeper.check_certificate(client, wishes, rule, user.roles)
    return result


class _User:
    """What is found out about a client's user in the course of one login; nothing is asked twice."""

    def __init__(self, client: "Client", wishes: "Wishes") -> None:
        self.client = client
        self.wishes = wishes
        self._secrets: list[Secret] | None = None
        self._roles: frozenset[str] | None = None

    async def secrets(self) -> list[Secret]:
        """What it is checked against, from the auth file or by auth_query; empty for an unknown user.

        Raises PoolerError where it cannot be known.
        """
        if self._secrets is None:
            client, wishes = self.client, self.wishes
            if asks(client, wishes):
                ask = partial(client.lobby.auth_query.secrets, wishes.database, wishes.user, client.peer[0])
                self._secrets = await _waiting(client, ask) or []
            else:
                self._secrets = secrets_of(client.lobby.settings, wishes.user)
        return self._secrets

    async def roles(self) -> frozenset[str]:
        """Which roles it is a member of; only users who are known are asked about."""
        if self._roles is None:
            rows: list[tuple[bytes | None, ...]] = []
            if await self.secrets():
                asking = self.client.lobby.auth_query
                ask = partial(asking.rows, self.wishes.database, MEMBERSHIP, [self.wishes.user])
                rows = await _waiting(self.client, ask)
            self._roles = frozenset(from_wire(row[0]) for row in rows if row[0] is not None)
        return self._roles


async def _waiting(client: "Client", ask: Callable[[], Awaitable[T]]) -> T:
    """The answer of a server; whoever looks meanwhile sees what the client waits for."""
    await client.in_task()
    client.waits_for_server = True
    try:
        return await ask()
    finally:
        client.waits_for_server = False


async def _rule_for(user: _User) -> Rule | None:
    """The rule of auth_hba_file that says how this client has to prove who it is; None where auth_type does.

    Raises LoginFailed where there is none, or it says no.
    """
    client = user.client
    if client.lobby.settings.auth_type is not AuthType.HBA:
        return None
    await client.in_task()
    return await client.lobby.doorkeeper.rule_for(client, user.wishes, user.roles)


async def _by_password(user: _User, method: AuthMethod, collector: "Collector") -> LoginResult:
    client, wishes = user.client, user.wishes
    if method is AuthMethod.ANY:
        _check_forced_user(client, wishes)
    secrets = [] if method in _WITHOUT_SECRETS else await user.secrets()
    if not secrets and method is AuthMethod.TRUST and asks(client, wishes):
        raise LoginFailed(sqlstate.INVALID_AUTHORIZATION, "no such user")
    mock_key = client.lobby.mock_keys.of(wishes.user)
    if method not in _WITHOUT_PROOF and all(is_empty(secret) for secret in secrets):
        secrets = _decoys(client, wishes, mock_key)
    return await _Login(client, wishes, method, mock_key).run(secrets, collector)


def _check_forced_user(client: "Client", wishes: "Wishes") -> None:
    """Where names are not proven, servers are for the database's own user; without one, a client that names
    somebody of the auth file would be that one. Raises PoolerError.
    """
    entry = client.lobby.settings.database(wishes.database)
    if entry is not None and entry.user is None:
        logger.warning("%sauth_type=any requires forced user", client.prefix)
        raise PoolerError("bouncer config error", sqlstate.CONFIG_FILE_ERROR)


async def _by_others_word(user: _User, rule: Rule | None) -> LoginResult:
    """By what the system or a certificate says; the user must be one we know, too."""
    client, wishes, doorkeeper = user.client, user.wishes, user.client.lobby.doorkeeper
    if rule is not None and rule.method is Method.PEER:
        text = NO_PEER
        await doorkeeper.check_peer(client, wishes, rule, user.roles)
    else:
        text = NO_CERTIFICATE
        await doorkeeper.check_certificate(client, wishes, rule, user.roles)
    secrets = await user.secrets()
    if not secrets:
        logger.info("%sno such user: %s", client.prefix, printable(wishes.user))
        raise LoginFailed(sqlstate.INVALID_AUTHORIZATION, text)
    return LoginResult(secret=secrets[0])


def asks(client: "Client", wishes: "Wishes") -> bool:
    """Whether the client's user is one whom auth_query is asked about."""
    lobby = client.lobby
    return (
        wishes.user not in lobby.settings.credentials and lobby.auth_query.source(wishes.database) is not None
    )


def _decoys(client: "Client", wishes: "Wishes", mock_key: bytes) -> list[Secret]:
    """In place of a secret that nobody has: of the kind that is usually found there, opened by nothing.

    So who cannot come in meets the same exchange, in the same time, as who can. The same name always meets
    the same salt.
    """
    lobby = client.lobby
    iterations = lobby.auth_query.usual_iterations if asks(client, wishes) else lobby.usual_iterations
    if iterations is None:
        return []
    # As a stored key that one will do as well: nobody knows what it is the hash of.
    return [ScramVerifier(iterations, made_up_salt(mock_key, to_wire(wishes.user)), mock_key, b"")]


class _Login:
    """One exchange, which is always the same for the same secrets."""

    def __init__(self, client: "Client", wishes: "Wishes", method: AuthMethod, mock_key: bytes) -> None:
        self._mock_key = mock_key
        self._client = client
        self._wishes = wishes
        self._method = method
        self._nonce = new_nonce()
        self._md5_salt = random.token_bytes(SALT_LENGTH) if method is AuthMethod.MD5 else None

    async def run(self, secrets: list[Secret], collector: "Collector") -> LoginResult:
        """Raises LoginFailed, ProtocolError."""
        rotation, user, address = self._client.lobby.rotation, self._wishes.user, self._client.peer[0]
        secrets = rotation.ordered(user, address, secrets)
        try:
            return await self._exchange(secrets, collector)
        except LoginFailed:
            rotation.failed(user, address, secrets)
            raise

    async def _exchange(self, secrets: list[Secret], collector: "Collector") -> LoginResult:
        lobby = self._client.lobby
        conversation = self._begin(secrets)
        converse, derive = self._client.connection.converse, lobby.deriver.derive
        if not (asks(self._client, self._wishes) and lobby.settings.auth_query_cache):
            return await converse(conversation, collector, derive)
        said: Said = []
        try:
            return await converse(noted(conversation, said), collector, derive)
        except LoginFailed as error:
            newer = await self._newer()
            if newer is not None:
                with contextlib.suppress(AskedOtherwise):
                    return await judged(self._begin(newer), said, derive)
            # Not behind the handler, by another name: error and frame would hold each other, and the client.
            raise error

    def _begin(self, secrets: list[Secret]) -> Conversation[LoginResult]:
        lobby = self._client.lobby
        tls = self._client.connection.tls
        return client_login(
            self._method,
            to_wire(self._wishes.user),
            secrets,
            mock_key=self._mock_key,
            iterations=lobby.settings.scram_iterations,
            nonce=self._nonce,
            md5_salt=self._md5_salt,
            binding=tls.binding() if tls is not None else None,
        )

    async def _newer(self) -> list[Secret] | None:
        """What the server says by now, where what was remembered is not too young to be doubted."""
        client, wishes = self._client, self._wishes
        ask = partial(client.lobby.auth_query.newer, wishes.database, wishes.user, client.peer[0])
        try:
            return await _waiting(client, ask)
        except PoolerError as error:
            logger.debug("%sasking again failed: %s", self._client.prefix, error)
            return None


def is_our_own_user(connection: "Connection", wishes: "Wishes") -> bool:
    """PgBouncer's back door to the console: the system user we run as, on the unix socket, as `pgbouncer`."""
    if wishes.user != "pgbouncer" or wishes.database not in ADMIN_DATABASES:
        return False
    peer = peer_of(connection.socket())
    return peer is not None and peer.is_known and peer.uid == os.getuid()

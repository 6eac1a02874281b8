"""Who a client is: the method that applies to it, the secrets it is checked against, the conversation.

Laws of this file:
- Nothing is said of why somebody may not come in before the exchange is over: the method depends on what is
  configured, and on what is usual, never on whether the user exists.
- What a client asked for in its startup packet is used here for its two names and for nothing else.
"""

import logging
import os
import secrets as random
import socket
import struct
from typing import TYPE_CHECKING

from protocol import sqlstate
from protocol.authentication import SALT_LENGTH
from protocol.login import AuthMethod, Conversation, LoginFailed, LoginResult, Secret, client_login
from protocol.scram import new_nonce
from proxy.credentials import NO_PASSWORD, secrets_of
from proxy.errors import PoolerError
from proxy.names import ADMIN_DATABASES, to_wire
from proxy.recheck import AskedOtherwise, Said, judged, noted

if TYPE_CHECKING:
    from protocol.framer import Collector
    from proxy.client import Client
    from proxy.connection import Connection
    from proxy.wishes import Wishes

logger = logging.getLogger("howdah")

_WITHOUT_SECRETS = frozenset((AuthMethod.ANY,))


async def authenticate(client: "Client", wishes: "Wishes", collector: "Collector") -> LoginResult:
    """Have the client prove that it is the user it names. Raises LoginFailed, ProtocolError, PoolerError."""
    if is_our_own_user(client.connection, wishes):
        return LoginResult()
    method = method_for(client, wishes)
    secrets = [] if method in _WITHOUT_SECRETS else await secrets_for(client, wishes)
    if not secrets and method is AuthMethod.TRUST and asks(client, wishes):
        raise LoginFailed(sqlstate.INVALID_AUTHORIZATION, "no such user")
    return await _Login(client, wishes, _usual(client, wishes, method, secrets)).run(secrets, collector)


def method_for(client: "Client", wishes: "Wishes") -> AuthMethod:
    """How this client has to prove who it is."""
    return AuthMethod(client.lobby.settings.auth_type.value)


async def secrets_for(client: "Client", wishes: "Wishes") -> list[Secret]:
    """What the client is checked against, from the auth file or by auth_query; empty for an unknown user.

    Raises PoolerError where it cannot be known.
    """
    lobby = client.lobby
    if not asks(client, wishes):
        return secrets_of(lobby.settings, wishes.user)
    client.waits_for_server = True
    found = await lobby.auth_query.secrets(wishes.database, wishes.user, client.peer[0])
    client.waits_for_server = False
    return found or []


def asks(client: "Client", wishes: "Wishes") -> bool:
    """Whether the client's user is one whom auth_query is asked about."""
    lobby = client.lobby
    return (
        wishes.user not in lobby.settings.credentials and lobby.auth_query.source(wishes.database) is not None
    )


def _usual(client: "Client", wishes: "Wishes", method: AuthMethod, secrets: list[Secret]) -> AuthMethod:
    """With auth_type md5 a user's secret decides whether SCRAM is spoken; without one, what is usual does."""
    if method is AuthMethod.MD5 and all(secret == NO_PASSWORD for secret in secrets) and asks(client, wishes):
        return AuthMethod.SCRAM_SHA_256 if client.lobby.auth_query.scram_usual else method
    return method


class _Login:
    """One exchange, which is always the same for the same secrets."""

    def __init__(self, client: "Client", wishes: "Wishes", method: AuthMethod) -> None:
        self._client = client
        self._wishes = wishes
        self._method = method
        self._nonce = new_nonce()
        self._md5_salt = random.token_bytes(SALT_LENGTH)

    async def run(self, secrets: list[Secret], collector: "Collector") -> LoginResult:
        """Raises LoginFailed, ProtocolError."""
        lobby = self._client.lobby
        conversation = self._begin(secrets)
        converse, derive = self._client.connection.converse, lobby.deriver.derive
        if not (asks(self._client, self._wishes) and lobby.settings.auth_query_cache):
            return await converse(conversation, collector, derive)
        said: Said = []
        try:
            return await converse(noted(conversation, said), collector, derive)
        except LoginFailed:
            newer = await self._newer()
            if newer is None:
                raise
            try:
                return await judged(self._begin(newer), said, derive)
            except AskedOtherwise:
                pass
            raise

    def _begin(self, secrets: list[Secret]) -> Conversation[LoginResult]:
        lobby = self._client.lobby
        tls = self._client.connection.tls
        return client_login(
            self._method,
            to_wire(self._wishes.user),
            secrets,
            mock_key=lobby.mock_key,
            iterations=lobby.settings.scram_iterations,
            nonce=self._nonce,
            md5_salt=self._md5_salt,
            binding=tls.binding() if tls is not None else None,
        )

    async def _newer(self) -> list[Secret] | None:
        """What the server says by now, where what was remembered is not too young to be doubted."""
        wishes = self._wishes
        try:
            return await self._client.lobby.auth_query.newer(
                wishes.database, wishes.user, self._client.peer[0]
            )
        except PoolerError as error:
            logger.debug("%sasking again failed: %s", self._client.prefix, error)
            return None


def is_our_own_user(connection: "Connection", wishes: "Wishes") -> bool:
    """PgBouncer's back door to the console: the system user we run as, on the unix socket, as `pgbouncer`."""
    sock = connection.socket()
    if wishes.user != "pgbouncer" or wishes.database not in ADMIN_DATABASES:
        return False
    if sock is None or sock.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return False
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", credentials)[1] == os.getuid())

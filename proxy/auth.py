"""Who a client is: the method that applies to it, the secrets it is checked against, the conversation.

Laws of this file:
- Nothing is said of why somebody may not come in before the exchange is over: the method depends on what is
  configured, never on whether the user exists.
- What a client asked for in its startup packet is used here for its two names and for nothing else.
"""

import os
import socket
import struct
from typing import TYPE_CHECKING

from protocol.login import AuthMethod, LoginResult, Secret, client_login
from proxy.credentials import secrets_of
from proxy.names import ADMIN_DATABASES, to_wire

if TYPE_CHECKING:
    from protocol.framer import Collector
    from proxy.client import Client
    from proxy.connection import Connection
    from proxy.wishes import Wishes


async def authenticate(client: "Client", wishes: "Wishes", collector: "Collector") -> LoginResult:
    """Have the client prove that it is the user it names. Raises LoginFailed, ProtocolError, PoolerError."""
    if is_our_own_user(client.connection, wishes):
        return LoginResult()
    method = method_for(client, wishes)
    secrets = await secrets_for(client, wishes)
    lobby = client.lobby
    conversation = client_login(
        method,
        to_wire(wishes.user),
        secrets,
        mock_key=lobby.mock_key,
        iterations=lobby.settings.scram_iterations,
    )
    return await client.connection.converse(conversation, collector, lobby.deriver.derive)


def method_for(client: "Client", wishes: "Wishes") -> AuthMethod:
    """How this client has to prove who it is."""
    return AuthMethod(client.lobby.settings.auth_type.value)


async def secrets_for(client: "Client", wishes: "Wishes") -> list[Secret]:
    """What the client is checked against; empty for a user nobody knows."""
    return secrets_of(client.lobby.settings, wishes.user)


def is_our_own_user(connection: "Connection", wishes: "Wishes") -> bool:
    """PgBouncer's back door to the console: the system user we run as, on the unix socket, as `pgbouncer`."""
    sock = connection.socket()
    if wishes.user != "pgbouncer" or wishes.database not in ADMIN_DATABASES:
        return False
    if sock is None or sock.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return False
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", credentials)[1] == os.getuid())

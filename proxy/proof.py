"""What we prove to a server: the login conversation with one, under the terms of its pool.

The one place where settings and the connection at hand become what a server may ask of us.
"""

from typing import TYPE_CHECKING, Final

from protocol import tags
from protocol.login import AuthMethod, ChannelBinding, Conversation, Greeting, ScramKeys, Secret, server_login

if TYPE_CHECKING:
    from config.effective import PoolSettings
    from proxy.connection import Connection

METHODS: Final = {
    "scram-sha-256": AuthMethod.SCRAM_SHA_256,
    "md5": AuthMethod.MD5,
    "password": AuthMethod.PLAIN,
    "none": AuthMethod.TRUST,
}
"""The words of server_auth_methods, which are libpq's, and what they are to the protocol."""


def login_at(
    connection: "Connection",
    settings: "PoolSettings",
    user: bytes,
    credential: Secret | ScramKeys | None,
    version: int = tags.PROTOCOL_3_0,
) -> Conversation[Greeting]:
    """Converse with the server at the other end, to which the startup packet was sent; see `server_login`."""
    tls = connection.tls
    return server_login(
        user,
        credential,
        allowed=[METHODS[word] for word in settings.server_auth_methods],
        version=version,
        tls=tls is not None,
        local=connection.is_local(),
        binding=tls.binding() if tls is not None else None,
        channel_binding=ChannelBinding(settings.server_channel_binding.value),
    )
